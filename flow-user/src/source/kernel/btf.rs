//! Where are the fields of the kernel's structs, and which functions does it have?
//!
//! A small reader of the kernel's BTF, the type information that it publishes about itself. It
//! answers questions by name and is dropped once they are answered: it holds the whole file (some
//! 5 MB) while it lives, and only an index of four bytes a type and eight a name on top.
//!
//! The bytes are not trusted: whatever they hold, a question ends with an answer or without one.

#[cfg(test)]
mod tests;

use std::{fs::File, io, io::Read, ops::ControlFlow};

/// Where the kernel publishes its own BTF.
const KERNEL_BTF: &str = "/sys/kernel/btf/vmlinux";
/// Largest BTF that is read; distributions' kernels have 4 to 8 MB.
const MAX_BYTES: u64 = 64 << 20;
/// Longest chain of typedefs, qualifiers or nested types that is followed.
const MAX_DEPTH: u32 = 32;
/// Longest name; the kernel takes none of more (`KSYM_NAME_LEN`).
const MAX_NAME_BYTES: usize = 512;
/// Most members that one question visits; the largest kernel struct has some 1,000.
const MAX_VISITS: u32 = 100_000;
/// Size of a pointer in the kernels Flow supports.
const POINTER_BYTES: u32 = 8;

/// The kernel's types, indexed by name.
#[derive(Debug)]
pub struct Btf {
    data: Vec<u8>,
    /// Start of the string section in `data`.
    strings: usize,
    /// Offset in `data` of each type; index 0 is type 1.
    types: Vec<u32>,
    /// (hash of the name, type id) of structs, unions, enums, functions and tracepoints; sorted.
    names: Vec<(u32, u32)>,
}

/// Place of a member within its outermost struct.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Byte in which the member begins.
    pub byte_offset: u32,
    /// Bits from the start of the struct; `8 * byte_offset` unless it is a bit field.
    pub bit_offset: u32,
    /// Bits of the member.
    pub bit_size: u32,
    /// Bytes of its type; for a bit field those of the type it was declared with.
    pub byte_size: u32,
}

impl Member {
    /// Whether the member is narrower than its type or does not begin at a byte.
    pub const fn is_bit_field(&self) -> bool {
        !self.bit_offset.is_multiple_of(8) || self.bit_size != self.byte_size.saturating_mul(8)
    }
}

/// A function of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Function {
    /// BTF id, as tracing programs name the function they attach to.
    pub type_id: u32,
    /// Number of its parameters.
    pub parameters: usize,
}

/// Why BTF could not be read.
#[derive(Debug, thiserror::Error)]
pub enum BtfError {
    #[error(
        "cannot read {KERNEL_BTF}: {0}; a kernel built with CONFIG_DEBUG_INFO_BTF publishes it"
    )]
    Read(#[from] io::Error),
    #[error("BTF of {0} bytes is larger than the {MAX_BYTES} that are read")]
    TooLarge(usize),
    #[error("not BTF, or of another byte order (magic {0:#06x})")]
    Magic(u16),
    #[error("BTF version {0} is not known")]
    Version(u8),
    #[error("BTF is cut short or its sections lie outside of it")]
    Truncated,
    #[error("BTF type {id} is of kind {kind}, which is not known")]
    Kind { id: usize, kind: u32 },
}

impl Btf {
    /// Reads the running kernel's BTF.
    ///
    /// # Errors
    /// The kernel has none, or it is not BTF as this reader knows it.
    pub fn from_kernel() -> Result<Self, BtfError> {
        let file = File::open(KERNEL_BTF)?;
        let size = file.metadata()?.len().min(MAX_BYTES);
        let mut data = Vec::with_capacity(usize::try_from(size).unwrap_or(0) + 1);
        file.take(MAX_BYTES + 1).read_to_end(&mut data)?;
        Self::from_vec(data)
    }

    /// Reads BTF as it stands in `bytes`.
    ///
    /// # Errors
    /// The bytes are not BTF, are cut, or hold a kind of type that is not known.
    pub fn parse(bytes: &[u8]) -> Result<Self, BtfError> {
        Self::from_vec(bytes.to_vec())
    }

    /// Place of the member of a struct or union.
    ///
    /// `path` may lead through members that are structs themselves (`__sk_common.skc_family`) and
    /// pick elements of arrays (`rtt_min.s[0].v`). Anonymous structs and unions are searched, and
    /// typedefs and qualifiers are looked through; pointers are not followed. `None` when there is
    /// no such struct or member.
    pub fn member(&self, struct_name: &str, path: &str) -> Option<Member> {
        let mut visits = MAX_VISITS;
        self.named(struct_name)
            .filter(|ty| matches!(ty.kind, kind::STRUCT | kind::UNION))
            .find_map(|ty| self.member_of(ty.id, path, &mut visits))
    }

    /// The function of this name, if it is a function the kernel lets programs attach to by type.
    pub fn function(&self, name: &str) -> Option<Function> {
        let function = self.named(name).find(|ty| ty.kind == kind::FUNC)?;
        let prototype = self.ty(function.size_or_type)?;
        (prototype.kind == kind::FUNC_PROTO).then_some(Function {
            type_id: function.id,
            parameters: prototype.vlen,
        })
    }

    /// BTF id of a struct.
    pub fn structure(&self, name: &str) -> Option<u32> {
        self.named(name)
            .find(|ty| ty.kind == kind::STRUCT)
            .map(|ty| ty.id)
    }

    /// Value of an enumerator, where its enum has 32 bits. `None` when there is no such enum or
    /// value.
    pub fn enumerator(&self, enum_name: &str, name: &str) -> Option<u32> {
        let ty = self
            .named(enum_name)
            .find(|ty| ty.kind == kind::ENUM && ty.vlen != 0)?;
        (0..ty.vlen).find_map(|index| {
            let at = ty.tail + index * ENUMERATOR_BYTES;
            let is_it = self.name(read_u32(&self.data, at)?) == name.as_bytes();
            is_it.then(|| read_u32(&self.data, at + 4))?
        })
    }

    /// Number of arguments of the kernel's tracepoint of this name, if it has that tracepoint.
    pub fn tracepoint(&self, name: &str) -> Option<usize> {
        let full_name = format!("{TRACEPOINT_PREFIX}{name}");
        let typedef = self.named(&full_name).find(|ty| ty.kind == kind::TYPEDEF)?;
        let pointer = self.ty(typedef.size_or_type)?;
        let prototype = self.ty(pointer.size_or_type)?;
        // The first parameter is the tracepoint's own data, which programs do not get.
        (pointer.kind == kind::PTR && prototype.kind == kind::FUNC_PROTO)
            .then(|| prototype.vlen.saturating_sub(1))
    }
}

/// A tracepoint `x` is known by the typedef of its handlers, `btf_trace_x`.
const TRACEPOINT_PREFIX: &str = "btf_trace_";

/// Kinds of types, as in the kernel's `include/uapi/linux/btf.h`.
mod kind {
    pub(super) const INT: u32 = 1;
    pub(super) const PTR: u32 = 2;
    pub(super) const ARRAY: u32 = 3;
    pub(super) const STRUCT: u32 = 4;
    pub(super) const UNION: u32 = 5;
    pub(super) const ENUM: u32 = 6;
    pub(super) const FWD: u32 = 7;
    pub(super) const TYPEDEF: u32 = 8;
    pub(super) const VOLATILE: u32 = 9;
    pub(super) const CONST: u32 = 10;
    pub(super) const RESTRICT: u32 = 11;
    pub(super) const FUNC: u32 = 12;
    pub(super) const FUNC_PROTO: u32 = 13;
    pub(super) const VAR: u32 = 14;
    pub(super) const DATASEC: u32 = 15;
    pub(super) const FLOAT: u32 = 16;
    pub(super) const DECL_TAG: u32 = 17;
    pub(super) const TYPE_TAG: u32 = 18;
    pub(super) const ENUM64: u32 = 19;
}

const TYPE_BYTES: usize = 12;
const MEMBER_BYTES: usize = 12;
const ENUMERATOR_BYTES: usize = 8;

/// The fixed part of a type.
#[derive(Clone, Copy)]
struct Type {
    id: u32,
    name: u32,
    kind: u32,
    vlen: usize,
    /// In structs: member offsets carry the size of bit fields.
    kind_flag: bool,
    /// Size or referred type, as the kind has it.
    size_or_type: u32,
    /// Offset in the data of what follows the fixed part.
    tail: usize,
}

/// A member found, with its type still to be resolved.
#[derive(Clone, Copy)]
struct Found {
    bit_offset: u32,
    /// Bits of a bit field; 0 if it is not one.
    bits: u32,
    type_id: u32,
}

impl Btf {
    fn from_vec(data: Vec<u8>) -> Result<Self, BtfError> {
        if data.len() as u64 > MAX_BYTES {
            return Err(BtfError::TooLarge(data.len()));
        }
        let header = |offset| read_u32(&data, offset).ok_or(BtfError::Truncated);
        let first = header(0)?.to_ne_bytes();
        let magic = u16::from_ne_bytes([first[0], first[1]]);
        if magic != 0xeb9f {
            return Err(BtfError::Magic(magic));
        }
        if first[2] != 1 {
            return Err(BtfError::Version(first[2]));
        }
        let section = |offset: u32, length: u32| {
            let start = (header(4)? as usize).checked_add(offset as usize);
            let end = start.and_then(|start| start.checked_add(length as usize));
            match (start, end) {
                (Some(start), Some(end)) if end <= data.len() => Ok(start..end),
                _ => Err(BtfError::Truncated),
            }
        };
        let types = section(header(8)?, header(12)?)?;
        let strings = section(header(16)?, header(20)?)?;
        // A string must end within the data: nothing is read beyond the last section.
        let mut data = data;
        data.truncate(types.end.max(strings.end));
        let mut btf = Self {
            strings: strings.start,
            data,
            types: Vec::new(),
            names: Vec::new(),
        };
        btf.index(types.start, types.end)?;
        Ok(btf)
    }

    /// Finds where each type begins, and indexes those that are asked for by name.
    fn index(&mut self, start: usize, end: usize) -> Result<(), BtfError> {
        let mut offset = start;
        while offset < end {
            let id = self.types.len() + 1;
            let place = u32::try_from(offset).map_err(|_| BtfError::TooLarge(self.data.len()))?;
            self.types.push(place);
            let ty = u32::try_from(id)
                .ok()
                .and_then(|id| self.ty(id))
                .ok_or(BtfError::Truncated)?;
            offset = ty
                .tail
                .checked_add(tail_bytes(&ty).ok_or(BtfError::Kind { id, kind: ty.kind })?)
                .filter(|next| *next <= end)
                .ok_or(BtfError::Truncated)?;
            let name = self.name(ty.name);
            let wanted = match ty.kind {
                kind::STRUCT | kind::UNION | kind::FUNC | kind::ENUM => !name.is_empty(),
                kind::TYPEDEF => name.starts_with(TRACEPOINT_PREFIX.as_bytes()),
                _ => false,
            };
            if wanted {
                let entry = (hash(name), ty.id);
                self.names.push(entry);
            }
        }
        self.names.sort_unstable();
        Ok(())
    }

    fn ty(&self, id: u32) -> Option<Type> {
        let offset = *self.types.get(id.checked_sub(1)? as usize)? as usize;
        let info = read_u32(&self.data, offset + 4)?;
        Some(Type {
            id,
            name: read_u32(&self.data, offset)?,
            kind: (info >> 24) & 0x1f,
            vlen: (info & 0xffff) as usize,
            kind_flag: info >> 31 == 1,
            size_or_type: read_u32(&self.data, offset + 8)?,
            tail: offset + TYPE_BYTES,
        })
    }

    /// Every indexed type of this name; few, and almost always one.
    fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = Type> + 'a {
        let hash = hash(name.as_bytes());
        let first = self.names.partition_point(|(other, _)| *other < hash);
        self.names[first..]
            .iter()
            .take_while(move |(other, _)| *other == hash)
            .filter_map(|(_, id)| self.ty(*id))
            .filter(move |ty| self.name(ty.name) == name.as_bytes())
    }

    /// A string without its terminator; empty for whatever is not a string, or longer than a name.
    fn name(&self, offset: u32) -> &[u8] {
        let bytes = self
            .strings
            .checked_add(offset as usize)
            .and_then(|start| self.data.get(start..))
            .unwrap_or_default();
        // Every type has a name: without the bound, one long string would be read for each.
        let end = bytes
            .iter()
            .take(MAX_NAME_BYTES)
            .position(|byte| *byte == 0);
        match end {
            Some(end) => &bytes[..end],
            None => &[],
        }
    }

    fn member_of(&self, struct_id: u32, path: &str, visits: &mut u32) -> Option<Member> {
        let mut place = Found {
            bit_offset: 0,
            bits: 0,
            type_id: struct_id,
        };
        for step in path.split('.') {
            let (name, indices) = match step.find('[') {
                Some(bracket) => step.split_at(bracket),
                None => (step, ""),
            };
            let outer = self.resolve(place.type_id)?;
            let ControlFlow::Break(found) = self.search(&outer, name.as_bytes(), 0, visits) else {
                return None;
            };
            let found = found?;
            place = Found {
                bit_offset: place.bit_offset.checked_add(found.bit_offset)?,
                ..found
            };
            for index in indices.split_terminator(']') {
                let index = index.strip_prefix('[')?.parse().ok()?;
                place = self.element(place, index)?;
            }
        }
        self.measure(place)
    }

    /// Looks for a member by name, in the struct and in its anonymous members. Breaks with `None`
    /// when it has looked too long.
    fn search(
        &self,
        outer: &Type,
        name: &[u8],
        depth: u32,
        visits: &mut u32,
    ) -> ControlFlow<Option<Found>> {
        if !matches!(outer.kind, kind::STRUCT | kind::UNION) || depth > MAX_DEPTH {
            return ControlFlow::Continue(());
        }
        for index in 0..outer.vlen {
            if *visits == 0 {
                return ControlFlow::Break(None);
            }
            *visits -= 1;
            let offset = outer.tail + index * MEMBER_BYTES;
            let (Some(member_name), Some(type_id), Some(place)) = (
                read_u32(&self.data, offset),
                read_u32(&self.data, offset + 4),
                read_u32(&self.data, offset + 8),
            ) else {
                return ControlFlow::Break(None);
            };
            let (bit_offset, bits) = if outer.kind_flag {
                (place & 0xff_ffff, place >> 24)
            } else {
                (place, 0)
            };
            let member_name = self.name(member_name);
            if !member_name.is_empty() {
                if member_name == name {
                    return ControlFlow::Break(Some(Found {
                        bit_offset,
                        bits,
                        type_id,
                    }));
                }
                continue;
            }
            let Some(inner) = self.resolve(type_id) else {
                continue;
            };
            match self.search(&inner, name, depth + 1, visits) {
                ControlFlow::Continue(()) => {}
                ControlFlow::Break(found) => {
                    return ControlFlow::Break(found.and_then(|found| {
                        Some(Found {
                            bit_offset: found.bit_offset.checked_add(bit_offset)?,
                            ..found
                        })
                    }));
                }
            }
        }
        ControlFlow::Continue(())
    }

    fn element(&self, array: Found, index: u32) -> Option<Found> {
        let ty = self.resolve(array.type_id)?;
        if ty.kind != kind::ARRAY {
            return None;
        }
        let type_id = read_u32(&self.data, ty.tail)?;
        let count = read_u32(&self.data, ty.tail + 8)?;
        // A flexible array at the end of a struct has no elements to BTF.
        if count != 0 && index >= count {
            return None;
        }
        let bits = self
            .size(type_id, 0)?
            .checked_mul(8)?
            .checked_mul(index)?
            .checked_add(array.bit_offset)?;
        Some(Found {
            bit_offset: bits,
            bits: 0,
            type_id,
        })
    }

    fn measure(&self, place: Found) -> Option<Member> {
        let byte_size = self.size(place.type_id, 0)?;
        let ty = self.resolve(place.type_id)?;
        let mut bit_offset = place.bit_offset;
        let mut bit_size = byte_size.checked_mul(8)?;
        if place.bits != 0 {
            bit_size = place.bits;
        } else if ty.kind == kind::INT {
            // Older compilers describe bit fields by integers of their own.
            let encoding = read_u32(&self.data, ty.tail)?;
            bit_offset = bit_offset.checked_add((encoding >> 16) & 0xff)?;
            bit_size = encoding & 0xff;
        }
        Some(Member {
            byte_offset: bit_offset / 8,
            bit_offset,
            bit_size,
            byte_size,
        })
    }

    /// Looks through typedefs, qualifiers and tags.
    fn resolve(&self, mut id: u32) -> Option<Type> {
        for _ in 0..MAX_DEPTH {
            let ty = self.ty(id)?;
            match ty.kind {
                kind::TYPEDEF | kind::VOLATILE | kind::CONST | kind::RESTRICT | kind::TYPE_TAG => {
                    id = ty.size_or_type
                }
                _ => return Some(ty),
            }
        }
        None
    }

    fn size(&self, id: u32, depth: u32) -> Option<u32> {
        if depth > MAX_DEPTH {
            return None;
        }
        let ty = self.resolve(id)?;
        match ty.kind {
            kind::INT
            | kind::STRUCT
            | kind::UNION
            | kind::ENUM
            | kind::ENUM64
            | kind::FLOAT
            | kind::DATASEC => Some(ty.size_or_type),
            kind::PTR => Some(POINTER_BYTES),
            kind::ARRAY => {
                let element = read_u32(&self.data, ty.tail)?;
                let count = read_u32(&self.data, ty.tail + 8)?;
                self.size(element, depth + 1)?.checked_mul(count)
            }
            _ => None,
        }
    }
}

/// Bytes that follow the fixed part of a type; `None` for a kind that is not known, whose length
/// is therefore not known either.
fn tail_bytes(ty: &Type) -> Option<usize> {
    Some(match ty.kind {
        kind::INT | kind::VAR | kind::DECL_TAG => 4,
        kind::ARRAY => 12,
        kind::STRUCT | kind::UNION | kind::DATASEC | kind::ENUM64 => 12 * ty.vlen,
        kind::ENUM | kind::FUNC_PROTO => 8 * ty.vlen,
        kind::PTR
        | kind::FWD
        | kind::TYPEDEF
        | kind::VOLATILE
        | kind::CONST
        | kind::RESTRICT
        | kind::FUNC
        | kind::FLOAT
        | kind::TYPE_TAG => 0,
        _ => return None,
    })
}

fn read_u32(data: &[u8], offset: usize) -> Option<u32> {
    let bytes = data.get(offset..)?.first_chunk()?;
    Some(u32::from_ne_bytes(*bytes))
}

/// FNV-1a: short, and good enough for names.
fn hash(name: &[u8]) -> u32 {
    name.iter().fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    })
}
