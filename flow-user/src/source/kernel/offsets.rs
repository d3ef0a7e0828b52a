//! Which members of kernel structures the programs read, and where they are on this kernel.

use super::btf::Btf;

/// A member: the global of the kernel side, the structure, the path, the size in bytes.
type Member = (&'static str, &'static str, &'static str, u32);

/// A bit field: the global for its first byte, the one for its first bit's number in that byte, the
/// structure, the member, how many bits there are at least.
type Bits = (&'static str, &'static str, &'static str, &'static str, u32);

macro_rules! tables {
    ($(
        $(#[$doc:meta])*
        $members:ident, $bits:ident {
            $($global:ident: $structure:literal $path:literal $size:literal,)*
        } {
            $($byte:ident $bit:ident: $of:literal $field:literal $least:literal,)*
        }
    )*) => {$(
        $(#[$doc])*
        const $members: &[Member] = &[$((stringify!($global), $structure, $path, $size)),*];
        const $bits: &[Bits] = &[$((stringify!($byte), stringify!($bit), $of, $field, $least)),*];
    )*};
}

flow_common::kernel_members!(tables);

/// Bytes at the start of a `struct sock` that the programs copy in one read;
/// `SOCK_COMMON_BYTES` of the kernel side.
const SOCK_COMMON_BYTES: u32 = 96;

/// Why the offsets can't be used.
#[derive(Debug, thiserror::Error)]
pub enum OffsetError {
    #[error("this kernel's BTF has no member {path} in struct {structure}")]
    Missing {
        structure: &'static str,
        path: &'static str,
    },
    #[error("member {path} of struct {structure} is not as expected: {found:?}")]
    Unexpected {
        structure: &'static str,
        path: &'static str,
        found: super::btf::Member,
    },
}

/// Offsets in bytes, by the name of the kernel side's global.
///
/// # Errors
/// A member is missing on this kernel, or has another size or place than the programs can read.
pub fn resolve(btf: &Btf) -> Result<Vec<(&'static str, u16)>, OffsetError> {
    group(btf, REQUIRED, REQUIRED_BITS)
}

/// The same for the members of packets and routes.
///
/// # Errors
/// As of [`resolve`]. Then the programs are to read none of them.
pub fn of_packets(btf: &Btf) -> Result<Vec<(&'static str, u16)>, OffsetError> {
    group(btf, PACKET, PACKET_BITS)
}

/// The same for what was decrypted, with the number of the extension that a decrypted packet has.
///
/// # Errors
/// As of [`resolve`]. Then the programs are to read none of them.
pub fn of_decrypted(btf: &Btf) -> Result<Vec<(&'static str, u16)>, OffsetError> {
    let mut offsets = group(btf, DECRYPTED, DECRYPTED_BITS)?;
    let (structure, path) = ("skb_ext_id", "SKB_EXT_SEC_PATH");
    let extension = btf.enumerator(structure, path);
    let extension = extension.and_then(|extension| u16::try_from(extension).ok());
    let missing = OffsetError::Missing { structure, path };
    offsets.push(("SEC_PATH_EXTENSION", extension.ok_or(missing)?));
    Ok(offsets)
}

/// The same for the system call a task is in, with the place of its number among the registers.
///
/// # Errors
/// As of [`resolve`]. Then the programs are to read none of them.
pub fn of_system_calls(btf: &Btf) -> Result<Vec<(&'static str, u16)>, OffsetError> {
    let number = if cfg!(target_arch = "aarch64") {
        ("SYSCALL_NUMBER", "pt_regs", "syscallno", 4)
    } else {
        ("SYSCALL_NUMBER", "pt_regs", "orig_ax", 8)
    };
    let mut offsets = group(btf, SYSCALL, SYSCALL_BITS)?;
    offsets.extend(group(btf, &[number], &[])?);
    Ok(offsets)
}

/// The same for what other programs of the cgroups returned.
///
/// # Errors
/// As of [`resolve`]. Then the programs are to read none of them.
pub fn of_verdicts(btf: &Btf) -> Result<Vec<(&'static str, u16)>, OffsetError> {
    group(btf, VERDICT, VERDICT_BITS)
}

fn group(
    btf: &Btf,
    members: &[Member],
    bit_fields: &[Bits],
) -> Result<Vec<(&'static str, u16)>, OffsetError> {
    let offset = |&(global, structure, path, size): &Member| {
        let member = btf
            .member(structure, path)
            .ok_or(OffsetError::Missing { structure, path })?;
        let end = member.byte_offset.saturating_add(size);
        let in_copy = !global.starts_with("SKC_")
            || (end <= SOCK_COMMON_BYTES && member.byte_offset.is_multiple_of(size.min(8)));
        u16::try_from(member.byte_offset)
            .ok()
            .filter(|_| in_copy && !member.is_bit_field() && member.byte_size == size)
            .map(|offset| (global, offset))
            .ok_or(OffsetError::Unexpected {
                structure,
                path,
                found: member,
            })
    };
    let mut offsets: Vec<_> = members.iter().map(offset).collect::<Result<_, _>>()?;
    for field in bit_fields {
        offsets.extend(bits(btf, *field)?);
    }
    Ok(offsets)
}

fn bits(btf: &Btf, bits: Bits) -> Result<[(&'static str, u16); 2], OffsetError> {
    let (byte, bit, structure, path, least) = bits;
    let member = btf
        .member(structure, path)
        .ok_or(OffsetError::Missing { structure, path })?;
    match u16::try_from(member.bit_offset / 8) {
        Ok(offset) if member.bit_size >= least => {
            Ok([(byte, offset), (bit, (member.bit_offset % 8) as u16)])
        }
        _ => Err(OffsetError::Unexpected {
            structure,
            path,
            found: member,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_member_is_found_in_the_running_kernel() {
        let btf = Btf::from_kernel().expect("the kernel's BTF");
        let offsets = resolve(&btf).expect("offsets");
        assert_eq!(offsets.len(), REQUIRED.len() + 2);
        assert!(offsets.contains(&("SKC_FAMILY", 16)), "{offsets:?}");
        let offsets = of_packets(&btf).expect("offsets of packets");
        assert_eq!(
            offsets.len(),
            PACKET.len() + 2 * PACKET_BITS.len(),
            "{offsets:?}"
        );
        let offsets = of_verdicts(&btf).expect("offsets of verdicts");
        assert_eq!(offsets.len(), VERDICT.len());
    }
}
