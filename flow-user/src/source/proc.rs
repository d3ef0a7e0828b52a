//! temp
use crate::event::Instant;
pub fn process_start(ns: u64) -> Instant {
    Instant(ns / 10_000_000 * 10_000_000)
}
