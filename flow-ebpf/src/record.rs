//! Headers of the records in the ring buffer.

use flow_common::{RecordHeader, RecordKind};

use crate::clock;

/// The header of a record made now.
#[inline(always)]
pub fn header(kind: RecordKind) -> RecordHeader {
    RecordHeader {
        time: clock::now(),
        kind: kind as u32,
        padding: 0,
    }
}
