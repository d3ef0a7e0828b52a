//! Records of the ring buffer, from bytes.

use flow_common::{
    RecordHeader, RecordKind,
    record::{AppRecord, EXEC_FIXED_BYTES, ExecRecord, ExitRecord, ForkRecord, SocketRecord},
};
use zerocopy::FromBytes;

/// A decoded record.
#[derive(Debug)]
pub enum Record<'a> {
    App(AppRecord),
    Socket { record: SocketRecord, ended: bool },
    Exec(Exec<'a>),
    Fork(ForkRecord),
    Exit(ExitRecord),
}

/// An exec record: its numbers, and the texts it carries.
#[derive(Debug)]
pub struct Exec<'a> {
    pub fixed: ExecFixed,
    /// Names in the path of the program, its own first, each ended by a zero byte; empty where the
    /// path had no room.
    pub exe: &'a [u8],
    /// Arguments, each ended by a zero byte.
    pub args: &'a [u8],
    /// Whether the arguments were too long for the record.
    pub args_cut: bool,
}

/// The numbers at the start of an [`ExecRecord`].
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes)]
pub struct ExecFixed {
    pub header: RecordHeader,
    pub process: flow_common::ProcessKey,
    pub parent: flow_common::ProcessKey,
    pub cgroup: u64,
    pub uid: u32,
    pub exe_len: u32,
    pub args_len: u32,
    pub args_total: u32,
    pub comm: [u8; flow_common::limits::COMM_BYTES],
}
const _: () = assert!(size_of::<ExecFixed>() == std::mem::offset_of!(ExecRecord, exe));

/// Decodes a record. `None` where it is cut short or of no known kind.
pub fn decode(bytes: &[u8]) -> Option<Record<'_>> {
    let header: RecordHeader = read(bytes)?;
    Some(match RecordKind::from_u32(header.kind)? {
        RecordKind::App => Record::App(read(bytes)?),
        RecordKind::Socket => Record::Socket {
            record: read(bytes)?,
            ended: false,
        },
        RecordKind::SocketEnd => Record::Socket {
            record: read(bytes)?,
            ended: true,
        },
        RecordKind::Exec => Record::Exec(exec(bytes)?),
        RecordKind::Fork => Record::Fork(read(bytes)?),
        RecordKind::Exit => Record::Exit(read(bytes)?),
    })
}

fn exec(bytes: &[u8]) -> Option<Exec<'_>> {
    let fixed: ExecFixed = read(bytes)?;
    let room = bytes.get(size_of::<ExecFixed>()..EXEC_FIXED_BYTES)?;
    let exe = room.get(..fixed.exe_len as usize)?;
    let args = bytes
        .get(EXEC_FIXED_BYTES..)?
        .get(..fixed.args_len as usize)?;
    Some(Exec {
        fixed,
        exe,
        args,
        args_cut: fixed.args_total > fixed.args_len,
    })
}

fn read<T: FromBytes>(bytes: &[u8]) -> Option<T> {
    let (value, _) = T::read_from_prefix(bytes).ok()?;
    Some(value)
}

#[cfg(test)]
mod tests {
    use flow_common::{
        ProcessKey,
        limits::{ARGS_BYTES, EXE_BYTES},
    };
    use proptest::prelude::*;
    use zerocopy::IntoBytes as _;

    use super::*;

    /// The inputs that the fuzz targets begin with have the layout of now.
    #[test]
    fn seeds_are_records() {
        let seeds = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fuzz/seeds/ring");
        for seed in std::fs::read_dir(seeds).unwrap() {
            let seed = seed.unwrap().path();
            let bytes = std::fs::read(&seed).unwrap();
            assert!(decode(&bytes).is_some(), "{}", seed.display());
        }
    }

    fn exec_record() -> ExecRecord {
        let mut record = ExecRecord {
            header: RecordHeader {
                time: 7,
                kind: RecordKind::Exec as u32,
                padding: 0,
            },
            process: ProcessKey {
                start: 5,
                tgid: 42,
                padding: 0,
            },
            parent: ProcessKey::default(),
            cgroup: 1,
            uid: 1000,
            exe_len: 8,
            args_len: 8,
            args_total: 9000,
            comm: *b"cat\0\0\0\0\0\0\0\0\0\0\0\0\0",
            exe: [0; EXE_BYTES],
            args: [0; ARGS_BYTES],
        };
        record.exe[..8].copy_from_slice(b"cat\0bin\0");
        record.args[..8].copy_from_slice(b"cat\0/etc");
        record
    }

    #[test]
    fn an_exec_record_is_cut_after_its_arguments() {
        let record = exec_record();
        let bytes = &record.as_bytes()[..EXEC_FIXED_BYTES + 8];
        let Some(Record::Exec(exec)) = decode(bytes) else {
            panic!("not an exec record");
        };
        assert_eq!(exec.fixed.process.tgid, 42);
        assert_eq!(exec.exe, b"cat\0bin\0");
        assert_eq!(exec.args, b"cat\0/etc");
        assert!(exec.args_cut);
        assert!(decode(&bytes[..bytes.len() - 1]).is_none(), "cut short");
    }

    proptest! {
        #[test]
        fn texts_of_an_exec_record_have_the_length_they_tell(
            exe_len in 0..2000_u32, args_len in 0..5000_u32, length in 0..=size_of::<ExecRecord>()
        ) {
            let record = ExecRecord { exe_len, args_len, ..exec_record() };
            let bytes = &record.as_bytes()[..length];
            let fits = exe_len as usize <= EXE_BYTES && EXEC_FIXED_BYTES + args_len as usize <= length;
            match decode(bytes) {
                Some(Record::Exec(exec)) => {
                    prop_assert!(fits);
                    prop_assert_eq!(exec.exe, &record.exe[..exe_len as usize]);
                    prop_assert_eq!(exec.args, &record.args[..args_len as usize]);
                }
                Some(other) => prop_assert!(false, "{:?}", other),
                None => prop_assert!(!fits),
            }
        }

        #[test]
        fn any_bytes_decode_or_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..6000), kind in 0u32..10) {
            let _ = decode(&bytes);
            let mut bytes = bytes;
            if bytes.len() >= 16 {
                bytes[8..12].copy_from_slice(&kind.to_ne_bytes());
                let _ = decode(&bytes);
            }
        }
    }
}
