//! Records in any order, all the way to what people and machines read.

use flow_common::AppKey;

use super::outputs;
use crate::{
    event::{Instant, ProcessFact, Program, Timed},
    model::{Config, Model},
    source::kernel::{
        convert,
        ring::{Record, decode},
        tracker::{Listing, Tracker, UnmappedSockets, memory::Maps},
    },
};

/// Most records that one run reads.
const RECORDS: usize = 64;
/// What no counter and no clock of the kernel's reaches: sums of these do not overflow.
const MOST: u64 = 1 << 48;

/// Each record has its length before it, in two bytes, the low one first. A length of zero is a tick and a whole sweep; a single
/// byte is a loss of records, and what processes there are after it, with which a sweep begins; two bytes are a step of a sweep,
/// how many entries that reads, and whether the sweep begins with it.
pub fn run(bytes: &[u8]) {
    let mut model = Model::new(Config::default(), Instant(0));
    let (mut tracker, mut maps) = (Tracker::default(), Maps::default());
    let (mut rest, mut now, mut epoch) = (bytes, Instant(0), 1);
    let mut out = Vec::new();
    for _ in 0..RECORDS {
        let Some((head, tail)) = rest.split_first_chunk() else {
            break;
        };
        let length = usize::from(u16::from_le_bytes(*head)).min(tail.len());
        let (record, tail) = tail.split_at(length);
        rest = tail;
        match decode(record).and_then(plausible) {
            Some(record) => {
                hold(&mut maps, &record);
                tracker.record(record, &mut maps, &mut out);
            }
            None => match record {
                [] => {
                    now = Instant(now.0 + 1_000_000_000);
                    epoch += 1;
                    tracker.tick(epoch, now, &mut maps, &mut out);
                    tracker.sweep(unmapped(&maps), None, now, &mut maps, &mut out);
                    tracker.close_due(now, &mut maps, &mut out);
                    apply(&mut model, &mut out);
                    model.tick(now);
                }
                [present] => {
                    maps.lost.traffic += 1;
                    maps.lost.process += 1;
                    let listing = listing(&maps, now, *present);
                    tracker.begin_sweep(unmapped(&maps), Some(listing), now, &maps);
                }
                [most, begins] => {
                    if begins % 2 == 1 {
                        tracker.begin_sweep(unmapped(&maps), None, now, &maps);
                    }
                    let most = usize::from(*most % 8) + 1;
                    tracker.step(most, now, &mut maps, &mut out);
                    tracker.close_due(now, &mut maps, &mut out);
                }
                _ => {}
            },
        }
        apply(&mut model, &mut out);
    }
    tracker.finish(epoch, unmapped(&maps), None, now, &mut maps, &mut out);
    apply(&mut model, &mut out);
    model.finish(now);
    let changes = model.changes();
    outputs::check(&changes, &model.snapshot());
}

fn apply(model: &mut Model, events: &mut Vec<Timed>) {
    for event in events.drain(..) {
        model.apply(event);
    }
}

/// The record with counters and times that a kernel can have counted.
fn plausible(record: Record<'_>) -> Option<Record<'_>> {
    Some(match record {
        Record::App(mut it) => {
            it.header.time %= MOST;
            let counters = &mut it.counters;
            for counter in [
                &mut counters.tx_bytes,
                &mut counters.rx_bytes,
                &mut counters.tx_calls,
                &mut counters.rx_calls,
            ] {
                *counter %= MOST;
            }
            Record::App(it)
        }
        Record::Socket {
            record: mut it,
            ended,
        } => {
            it.header.time %= MOST;
            let socket = &mut it.socket;
            for counter in [
                &mut socket.wire_tx_bytes,
                &mut socket.wire_rx_bytes,
                &mut socket.wire_tx_packets,
                &mut socket.wire_rx_packets,
            ] {
                *counter %= MOST;
            }
            Record::Socket { record: it, ended }
        }
        // Without a path the process would be looked up in `/proc`.
        Record::Exec(it) if it.exe.is_empty() => return None,
        other => other,
    })
}

/// The sockets that may have no entry: those that were reported, once records were lost.
fn unmapped(maps: &Maps) -> UnmappedSockets {
    if maps.lost.traffic == 0 {
        UnmappedSockets::None
    } else {
        UnmappedSockets::Among(maps.sockets.keys().copied().collect())
    }
}

/// The processes that moved bytes and that `present` has a bit for.
fn listing(maps: &Maps, time: Instant, present: u8) -> Listing {
    let processes = maps.app.keys().map(AppKey::process);
    let processes = processes.filter(|process| present & 1 << (process.tgid % 8) != 0);
    let ids = processes.filter_map(convert::process_id);
    let facts = ids.map(|id| ProcessFact {
        id,
        parent: None,
        program: Program::default(),
        uid: None,
        cgroup: None,
    });
    Listing {
        time,
        processes: facts.collect(),
    }
}

/// Puts what a record reports into the maps.
fn hold(maps: &mut Maps, record: &Record<'_>) {
    match record {
        Record::App(it) => {
            maps.app.insert(it.key, it.counters);
        }
        Record::Socket { record, .. } => {
            maps.sockets.insert(record.cookie, record.socket);
        }
        Record::Exec(_) | Record::Fork(_) | Record::Exit(_) => {}
    }
}
