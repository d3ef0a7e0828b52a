//! One record of the ring buffer.

use crate::source::{
    kernel::{
        convert,
        ring::{Record, decode},
    },
    proc::process_start,
};

/// A record is read from its own bytes alone, and its facts are whole.
pub fn run(bytes: &[u8]) {
    let Some(record) = decode(bytes) else {
        return;
    };
    // The ring buffer hands over records with what the kernel reserved beyond them.
    let longer = [bytes, &[0xa5; 64]].concat();
    assert_eq!(
        format!("{:?}", decode(&longer)),
        format!("{:?}", Some(&record)),
        "what follows a record changed it"
    );
    match record {
        Record::Exec(exec) => {
            for text in [exec.exe, exec.args] {
                let (all, part) = (bytes.as_ptr_range(), text.as_ptr_range());
                assert!(all.start <= part.start && part.end <= all.end);
            }
            assert_eq!(exec.exe.len(), exec.fixed.exe_len as usize);
            assert_eq!(exec.args.len(), exec.fixed.args_len as usize);
            if let Some(fact) = convert::executed(&exec) {
                assert_eq!(fact.id.start, process_start(exec.fixed.process.start));
                assert!(fact.program.exe.is_none_or(|exe| exe.is_absolute()));
            }
        }
        Record::App(record) => {
            if let Some(fact) = convert::app(&record.key, &record.counters, Some(&record.comm)) {
                assert!(fact.comm.is_none_or(|comm| !comm.contains('\0')));
                assert_eq!(fact.totals.tx_bytes.0, record.counters.tx_bytes);
            }
        }
        Record::Socket { record, .. } => {
            if let Some(fact) = convert::socket(record.cookie, &record.socket) {
                assert_eq!(fact.cookie.0, record.cookie);
                for end in fact.remote.into_iter().chain([fact.local]) {
                    assert_eq!(end.ip().to_canonical(), end.ip(), "IPv4 is shown as such");
                }
            }
        }
        Record::Fork(fork) => {
            if let Some(fact) = convert::forked(&fork) {
                assert_eq!(fact.id.pid, fork.process.tgid);
            }
        }
        Record::Exit(exit) => {
            let id = convert::process_id(exit.process);
            assert_eq!(id.is_some(), exit.process.tgid != 0);
        }
    }
}
