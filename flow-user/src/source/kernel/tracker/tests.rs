//! What it emits of records, ticks, sweeps and ends, and what it deletes.

use flow_common::{IpAddress, RecordHeader, record::AppRecord, record::SocketRecord};

mod random;
mod steps;

use super::{memory::Maps, *};
use crate::event::{Bytes, ProcessFact, ProcessId, Program, Timed};

const KEY: AppKey = AppKey {
    cookie: 9,
    start: 30_000_000,
    tgid: 7,
    remote_port: 0,
    remote_known: 0,
    remote: IpAddress::NONE,
    zone: 0,
    padding: 0,
};

const ALIAS: u64 = flow_common::socket_id::ALIAS_BIT | 9;

fn maps(bytes: u64, socket: SocketEntry) -> Maps {
    let app = AppCounters {
        tx_bytes: bytes,
        epoch: 1,
        ..AppCounters::default()
    };
    Maps {
        app: [(KEY, app)].into(),
        sockets: [(KEY.cookie, socket)].into(),
        ..Maps::default()
    }
}

fn tcp() -> SocketEntry {
    SocketEntry {
        family: 2,
        protocol: 6,
        state: 1,
        epoch: 1,
        ..SocketEntry::default()
    }
}

fn header() -> RecordHeader {
    RecordHeader {
        time: 5,
        kind: 0,
        padding: 0,
    }
}

fn app_record(key: AppKey) -> Record<'static> {
    Record::App(AppRecord {
        header: header(),
        key,
        counters: AppCounters {
            epoch: 1,
            ..AppCounters::default()
        },
        comm: [0; 16],
    })
}

fn exit_record() -> Record<'static> {
    Record::Exit(ExitRecord {
        header: header(),
        process: KEY.process(),
        status: 0,
        padding: 0,
        comm: [0; 16],
    })
}

fn end_record() -> Record<'static> {
    Record::Socket {
        record: SocketRecord {
            header: header(),
            cookie: KEY.cookie,
            socket: tcp(),
        },
        ended: true,
    }
}

fn sent(out: &[Timed]) -> Vec<u64> {
    out.iter()
        .filter_map(|timed| match &timed.event {
            Event::App(fact) => Some(fact.totals.tx_bytes.0),
            _ => None,
        })
        .collect()
}

#[test]
fn the_tick_brings_what_the_record_did_not_hold() {
    let mut maps = maps(100, tcp());
    let mut tracker = Tracker::default();
    let mut out = Vec::new();
    tracker.record(app_record(KEY), &mut maps, &mut out);
    tracker.tick(2, Instant(10), &mut maps, &mut out);
    assert_eq!(sent(&out), [0, 100]);
    out.clear();
    tracker.tick(3, Instant(20), &mut maps, &mut out);
    assert!(out.is_empty(), "nothing reported, nothing read");
}

#[test]
fn what_told_in_the_new_epoch_is_read_at_the_next_tick_too() {
    let mut maps = maps(100, tcp());
    let mut tracker = Tracker::default();
    let mut out = Vec::new();
    // Its record came between the beginning of epoch 1 and the tick.
    tracker.record(app_record(KEY), &mut maps, &mut out);
    tracker.tick(1, Instant(10), &mut maps, &mut out);
    maps.app.get_mut(&KEY).unwrap().tx_bytes = 120;
    out.clear();
    tracker.tick(2, Instant(20), &mut maps, &mut out);
    assert_eq!(sent(&out), [120]);
}

#[test]
fn a_process_has_its_last_totals_before_its_exit() {
    let mut maps = maps(100, tcp());
    let mut tracker = Tracker::default();
    let mut out = Vec::new();
    tracker.record(app_record(KEY), &mut maps, &mut out);
    out.clear();
    tracker.record(exit_record(), &mut maps, &mut out);
    assert_eq!(sent(&out), [100]);
    assert!(matches!(out[1].event, Event::ProcessExit { .. }));
    assert!(maps.app.is_empty(), "nobody adds to it any more");
    assert!(!maps.sockets.is_empty(), "another process may hold it");
}

#[test]
fn an_alias_ends_with_its_process_unless_it_has_states() {
    let key = AppKey {
        cookie: ALIAS,
        ..KEY
    };
    for (protocol, ends) in [(6, false), (262, false), (17, true)] {
        let socket = SocketEntry { protocol, ..tcp() };
        let mut maps = Maps {
            app: [(key, AppCounters::default())].into(),
            sockets: [(key.cookie, socket)].into(),
            ..Maps::default()
        };
        let mut tracker = Tracker::default();
        let mut out = Vec::new();
        tracker.record(app_record(key), &mut maps, &mut out);
        tracker.record(exit_record(), &mut maps, &mut out);
        assert_eq!(tracker.next_due(Instant(5)).is_some(), ends, "{protocol}");
    }
}

#[test]
fn an_alias_with_states_ends_when_it_stands_still_after_its_process() {
    let key = AppKey {
        cookie: ALIAS,
        ..KEY
    };
    let heir = AppKey { tgid: 8, ..key };
    let mut maps = Maps {
        sockets: [(ALIAS, tcp())].into(),
        ..Maps::default()
    };
    let mut tracker = Tracker::default();
    let mut out = Vec::new();
    let mut stays_until = |seconds: u64, tracker: &mut Tracker, leaves: Option<AppKey>| {
        if let Some(key) = leaves {
            let lost = maps.lost;
            tracker.exited(key.process(), Instant(5), &lost, &mut maps, &mut out);
        }
        let now = Instant(seconds * 1_000_000_000);
        tracker.sweep(UnmappedSockets::None, None, now, &mut maps, &mut out);
        !maps.sockets.is_empty()
    };
    tracker.index(key);
    assert!(stays_until(0, &mut tracker, None));
    assert!(stays_until(200, &mut tracker, None));
    assert!(stays_until(210, &mut tracker, Some(key)));
    tracker.index(heir);
    assert!(stays_until(400, &mut tracker, None));
    assert!(stays_until(410, &mut tracker, Some(heir)));
    assert!(stays_until(589, &mut tracker, None));
    assert!(!stays_until(590, &mut tracker, None));
}

#[test]
fn what_has_ended_is_closed_by_a_sweep_though_losses_go_on() {
    let mut maps = maps(100, tcp());
    let mut tracker = Tracker::default();
    let mut out = Vec::new();
    tracker.record(end_record(), &mut maps, &mut out);
    maps.lost.traffic += 1;
    let later = Instant(60_000_000_000);
    out.clear();
    tracker.close_due(later, &mut maps, &mut out);
    assert!(out.is_empty(), "it waits for a sweep");
    tracker.sweep(UnmappedSockets::None, None, later, &mut maps, &mut out);
    let is_end = |event: &Timed| matches!(event.event, Event::SocketEnd { .. });
    assert!(out.iter().any(is_end));
    assert_eq!(
        sent(&out).last(),
        Some(&100),
        "with what no record reported"
    );
}

#[test]
fn without_room_for_sockets_nothing_is_deleted() {
    let mut maps = maps(100, tcp());
    maps.sockets.clear();
    let mut tracker = Tracker::default();
    let mut out = Vec::new();
    tracker.record(app_record(KEY), &mut maps, &mut out);
    for seconds in 0..4 {
        let listed = HashSet::from_iter([KEY.cookie]);
        let now = Instant(seconds * 10_000_000_000);
        tracker.sweep(UnmappedSockets::Any, None, now, &mut maps, &mut out);
        tracker.sweep(
            UnmappedSockets::Among(listed),
            None,
            now,
            &mut maps,
            &mut out,
        );
    }
    assert!(!maps.app.is_empty());
    // The system has no such socket any more.
    for seconds in 4..6 {
        let gone = UnmappedSockets::Among(HashSet::default());
        let now = Instant(seconds * 10_000_000_000);
        tracker.sweep(gone, None, now, &mut maps, &mut out);
    }
    assert!(maps.app.is_empty());
}

#[test]
fn a_sweep_says_once_every_socket_has_its_entry_again() {
    let mut maps = maps(100, tcp());
    maps.sockets.clear();
    let mut tracker = Tracker::default();
    let mut out = Vec::new();
    tracker.record(app_record(KEY), &mut maps, &mut out);
    let listed = |cookies: &[u64]| UnmappedSockets::Among(cookies.iter().copied().collect());
    let mut is_mapped = |unmapped, maps: &mut Maps| {
        let swept = tracker.sweep(unmapped, None, Instant(1), maps, &mut out);
        swept.all_mapped
    };
    assert!(!is_mapped(UnmappedSockets::Any, &mut maps));
    assert!(!is_mapped(listed(&[KEY.cookie]), &mut maps));
    maps.sockets.insert(KEY.cookie, tcp());
    assert!(is_mapped(listed(&[KEY.cookie]), &mut maps));
    maps.sockets.clear();
    assert!(is_mapped(listed(&[]), &mut maps));
}

#[test]
fn a_closed_socket_that_nobody_releases_ends_when_it_stands_still() {
    let closed = SocketEntry { closed: 1, ..tcp() };
    let in_handshake = SocketEntry {
        state: tcp_state::SYN_RECV,
        ..tcp()
    };
    for socket in [closed, in_handshake] {
        let mut maps = maps(100, socket);
        let mut tracker = Tracker::default();
        let mut out = Vec::new();
        for seconds in [0, 100] {
            let now = Instant(seconds * 1_000_000_000);
            tracker.sweep(UnmappedSockets::None, None, now, &mut maps, &mut out);
        }
        maps.sockets.get_mut(&KEY.cookie).unwrap().wire_rx_bytes = 40;
        for seconds in [170, 180, 349] {
            let now = Instant(seconds * 1_000_000_000);
            tracker.sweep(UnmappedSockets::None, None, now, &mut maps, &mut out);
        }
        assert!(!maps.sockets.is_empty());
        let now = Instant(350_000_000_000);
        tracker.sweep(UnmappedSockets::None, None, now, &mut maps, &mut out);
        assert!(maps.app.is_empty() && maps.sockets.is_empty());
    }
}

#[test]
fn an_ended_socket_is_read_once_more_and_deleted() {
    let mut maps = maps(100, tcp());
    let mut tracker = Tracker::default();
    let mut out = Vec::new();
    tracker.record(app_record(KEY), &mut maps, &mut out);
    tracker.record(end_record(), &mut maps, &mut out);
    tracker.close_due(Instant(10), &mut maps, &mut out);
    assert!(!maps.sockets.is_empty(), "its grace is not over");
    maps.app.get_mut(&KEY).unwrap().tx_bytes = 120;
    out.clear();
    tracker.close_due(Instant(100_000_000), &mut maps, &mut out);
    assert_eq!(sent(&out), [120]);
    assert!(matches!(
        out.last().unwrap().event,
        Event::SocketEnd {
            reason: CloseReason::Closed,
            ..
        }
    ));
    assert!(maps.app.is_empty() && maps.sockets.is_empty());
}

#[test]
fn the_sweep_finds_what_no_record_told() {
    let ended = SocketEntry {
        released: 1,
        closed: 1,
        ..tcp()
    };
    let mut maps = maps(100, ended);
    let mut tracker = Tracker::default();
    let mut out = Vec::new();
    tracker.sweep(
        UnmappedSockets::None,
        None,
        Instant(10),
        &mut maps,
        &mut out,
    );
    assert_eq!(sent(&out), [100]);
    tracker.sweep(
        UnmappedSockets::None,
        None,
        Instant(20),
        &mut maps,
        &mut out,
    );
    assert!(maps.app.is_empty() && maps.sockets.is_empty());
    assert_eq!(sent(&out).last(), Some(&Bytes(100).0));
}

#[test]
fn nothing_is_closed_while_counters_may_be_unknown() {
    let mut maps = maps(100, tcp());
    // The record of the counters found no room.
    maps.lost.traffic = 1;
    let mut tracker = Tracker::default();
    let mut out = Vec::new();
    tracker.record(end_record(), &mut maps, &mut out);
    tracker.record(exit_record(), &mut maps, &mut out);
    tracker.close_due(Instant(100_000_000), &mut maps, &mut out);
    let is_end = |timed: &Timed| {
        matches!(
            timed.event,
            Event::SocketEnd { .. } | Event::ProcessExit { .. }
        )
    };
    assert!(!out.iter().any(is_end));
    tracker.sweep(
        UnmappedSockets::None,
        None,
        Instant(200_000_000),
        &mut maps,
        &mut out,
    );
    tracker.close_due(Instant(200_000_000), &mut maps, &mut out);
    let emitted = out
        .iter()
        .position(|timed| matches!(timed.event, Event::App(_)));
    let ended = out.iter().position(is_end);
    assert!(emitted.is_some() && emitted < ended, "{out:?}");
    assert_eq!(out.iter().filter(|timed| is_end(timed)).count(), 2);
    assert!(maps.app.is_empty() && maps.sockets.is_empty());
}

#[test]
fn the_end_closes_what_ended_without_having_told() {
    let ended = SocketEntry {
        released: 1,
        closed: 1,
        ..tcp()
    };
    let mut maps = maps(100, ended);
    let mut tracker = Tracker::default();
    let mut out = Vec::new();
    tracker.finish(
        2,
        UnmappedSockets::None,
        None,
        Instant(10),
        &mut maps,
        &mut out,
    );
    assert_eq!(sent(&out).last(), Some(&100));
    assert!(matches!(out.last().unwrap().event, Event::SocketEnd { .. }));
}

#[test]
fn a_socket_that_the_sweep_did_not_come_across_keeps_its_counters() {
    let mut maps = maps(100, tcp());
    maps.unlisted = Some(KEY.cookie);
    let mut tracker = Tracker::default();
    let mut out = Vec::new();
    tracker.record(app_record(KEY), &mut maps, &mut out);
    for seconds in 0..4 {
        let now = Instant(seconds * 10_000_000_000);
        tracker.sweep(UnmappedSockets::None, None, now, &mut maps, &mut out);
    }
    assert!(!maps.app.is_empty() && !maps.sockets.is_empty());
}

#[test]
fn a_process_that_is_gone_without_a_record_has_ended() {
    let mut maps = maps(100, tcp());
    maps.lost.app = 1;
    maps.overflow.insert(KEY.process(), AppCounters::default());
    let mut tracker = Tracker::default();
    let mut out = Vec::new();
    tracker.record(app_record(KEY), &mut maps, &mut out);
    let present = convert::process_id(KEY.process()).unwrap();
    let mut sweep = |processes: &[ProcessId], listed: u64, maps: &mut Maps| {
        let listing = listing(processes, listed);
        let now = Instant(listed + 1);
        tracker.sweep(UnmappedSockets::None, listing, now, maps, &mut out);
    };
    let before_it_began = KEY.start;
    sweep(&[], before_it_began, &mut maps);
    sweep(&[present], KEY.start + 1, &mut maps);
    assert!(!maps.app.is_empty());
    sweep(&[], KEY.start + 1, &mut maps);
    assert!(maps.app.is_empty() && maps.overflow.is_empty());
    assert_eq!(sent(&out).last(), Some(&100));
    assert!(matches!(
        &out.last().unwrap().event,
        Event::ProcessesListed(processes) if processes.is_empty()
    ));
}

fn listing(processes: &[ProcessId], time: u64) -> Option<Listing> {
    let processes = processes.iter().map(|id| ProcessFact {
        id: *id,
        parent: None,
        program: Program::default(),
        uid: None,
        cgroup: None,
    });
    Some(Listing {
        time: Instant(time),
        processes: processes.collect(),
    })
}

/// A process with so many keys on the socket, each with a remote of its own and counted; `maps` and
/// `tracker` know them.
fn process_with_remotes(
    tgid: u32,
    count: u16,
    maps: &mut Maps,
    tracker: &mut Tracker,
) -> ProcessKey {
    let counted = AppCounters {
        counted: 1,
        epoch: 1,
        ..AppCounters::default()
    };
    for remote_port in 1..=count {
        let key = AppKey {
            tgid,
            remote_known: 1,
            remote_port,
            ..KEY
        };
        maps.app.insert(key, counted);
        tracker.index(key);
    }
    let without_remote = AppKey { tgid, ..KEY };
    maps.app.insert(without_remote, AppCounters::default());
    tracker.index(without_remote);
    without_remote.process()
}

#[test]
fn remotes_of_processes_that_ended_are_free_until_their_socket_closes() {
    let step = FREED_REMOTES_STEP as u16;
    let mut maps = maps(100, tcp());
    let mut tracker = Tracker::default();
    let mut out = Vec::new();
    tracker.record(app_record(KEY), &mut maps, &mut out);
    let mut freed_after = |tgid, count, maps: &mut Maps, tracker: &mut Tracker| {
        let process = process_with_remotes(tgid, count, maps, tracker);
        tracker.exited(process, Instant(5), &Lost::default(), maps, &mut out);
        maps.freed_remotes.get(&KEY.cookie).copied()
    };
    // One that is not counted is not freed, and the kernel side learns of whole steps.
    assert_eq!(freed_after(8, step - 1, &mut maps, &mut tracker), None);
    let one_more = freed_after(9, 1, &mut maps, &mut tracker);
    assert_eq!(one_more, Some(u32::from(step)));
    let many = freed_after(10, 2 * step + 3, &mut maps, &mut tracker);
    assert_eq!(many, Some(3 * u32::from(step)));
    // The socket goes on: its first process has it still.
    assert_eq!(maps.app.len(), 1);

    tracker.record(end_record(), &mut maps, &mut out);
    tracker.close_due(Instant(100_000_000), &mut maps, &mut out);
    assert!(maps.sockets.is_empty() && maps.freed_remotes.is_empty());
}

#[test]
fn what_goes_with_its_socket_is_not_freed() {
    let mut maps = maps(100, tcp());
    let mut tracker = Tracker::default();
    let mut out = Vec::new();
    let process = process_with_remotes(8, 100, &mut maps, &mut tracker);
    tracker.record(end_record(), &mut maps, &mut out);
    tracker.close_due(Instant(100_000_000), &mut maps, &mut out);
    tracker.exited(process, Instant(5), &Lost::default(), &mut maps, &mut out);
    assert!(maps.app.keys().all(|key| key.tgid != 8));
    assert!(maps.freed_remotes.is_empty());
}

#[test]
fn memory_follows_the_load_down() {
    let mut maps = Maps::default();
    let mut tracker = Tracker::default();
    let mut out = Vec::new();
    let room = |tracker: &Tracker| {
        let keys = tracker.processes.values().map(HashSet::capacity);
        keys.sum::<usize>() + tracker.sockets.capacity() + tracker.ended.capacity()
    };
    for cookie in 0..10_000 {
        tracker.record(app_record(AppKey { cookie, ..KEY }), &mut maps, &mut out);
    }
    assert!(room(&tracker) >= 20_000);
    for cookie in 10..10_000 {
        tracker.end(cookie, Instant(5));
    }
    let later = Instant(1_000_000_000);
    while tracker.next_due(later).is_some() {
        tracker.close_due(later, &mut maps, &mut out);
    }
    tracker.tick(2, later, &mut maps, &mut out);
    assert_eq!(tracker.sockets.len(), 10);
    assert!(room(&tracker) < 2_000, "{}", room(&tracker));
}
