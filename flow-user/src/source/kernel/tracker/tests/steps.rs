//! What happens between two steps of a sweep.

use super::*;

/// Sockets that there are, each with a process of its own.
const SOCKETS: u64 = 8;
/// More steps of one entry than a sweep of those takes.
const STEPS: usize = 100;
/// The one that something happens to.
const IT: u64 = 5;

fn key(cookie: u64) -> AppKey {
    AppKey {
        cookie,
        tgid: cookie as u32,
        ..KEY
    }
}

/// A tracker that knows some sockets, and has begun a sweep.
struct Play {
    maps: Maps,
    tracker: Tracker,
    out: Vec<Timed>,
    now: Instant,
}

impl Play {
    fn new() -> Self {
        let mut play = Self {
            maps: Maps::default(),
            tracker: Tracker::default(),
            out: Vec::new(),
            now: Instant(KEY.start + 1_000_000_000),
        };
        for cookie in 1..=SOCKETS {
            play.maps.sockets.insert(cookie, tcp());
            play.moves(key(cookie), 100);
            play.record(app_record(key(cookie)));
        }
        play
    }

    fn moves(&mut self, key: AppKey, bytes: u64) {
        let entry = self.maps.app.entry(key).or_default();
        entry.epoch = 1;
        entry.tx_bytes += bytes;
    }

    fn record(&mut self, record: Record<'_>) {
        self.tracker.record(record, &mut self.maps, &mut self.out);
    }

    fn begin(&mut self, unmapped: UnmappedSockets, listing: Option<Listing>) {
        self.tracker
            .begin_sweep(unmapped, listing, self.now, &self.maps);
    }

    fn step(&mut self) -> Option<bool> {
        self.now.0 += 1_000_000;
        let step = self
            .tracker
            .step(1, self.now, &mut self.maps, &mut self.out);
        step.map(|swept| swept.all_mapped)
    }

    /// Goes so many steps; whether the sweep is still under way.
    fn steps(&mut self, steps: usize) -> bool {
        (0..steps).all(|_| self.step().is_none())
    }

    fn end(&mut self) -> bool {
        let mut steps = (0..STEPS).map(|_| self.step());
        steps.find_map(|ended| ended).expect("the sweep ends")
    }

    fn whole_sweep(&mut self) {
        self.begin(UnmappedSockets::None, None);
        self.end();
    }

    /// Its end is reported now.
    fn socket_ends(&mut self) {
        let socket = self.maps.sockets.get_mut(&IT).unwrap();
        (socket.released, socket.closed) = (1, 1);
        let header = RecordHeader {
            time: self.now.0,
            ..header()
        };
        let record = SocketRecord {
            header,
            cookie: IT,
            socket: *socket,
        };
        self.record(Record::Socket {
            record,
            ended: true,
        });
    }

    fn close_due(&mut self) {
        self.now.0 += 100_000_000;
        self.tracker
            .close_due(self.now, &mut self.maps, &mut self.out);
    }

    fn process_ends(&mut self) {
        let Record::Exit(mut exit) = exit_record() else {
            unreachable!()
        };
        exit.process = key(IT).process();
        exit.header.time = self.now.0;
        self.record(Record::Exit(exit));
    }

    /// Whether anything of it is known.
    fn knows_it(&self) -> bool {
        let process = self.tracker.processes.get(&key(IT).process());
        self.tracker.sockets.contains_key(&IT) || process.is_some()
    }

    fn count(&self, is: impl Fn(&Event) -> bool) -> usize {
        self.out.iter().filter(|timed| is(&timed.event)).count()
    }
}

/// Plays something between any two steps of a sweep.
fn between_steps(play: impl Fn(Play, usize)) {
    for steps in 0..STEPS {
        let mut it = Play::new();
        it.begin(UnmappedSockets::None, None);
        if !it.steps(steps) {
            assert!(steps > 2 * SOCKETS as usize, "{steps} steps for all");
            return;
        }
        it.out.clear();
        play(it, steps);
    }
    panic!("the sweep has no end");
}

fn is_end_of_it(event: &Event) -> bool {
    matches!(event, Event::SocketEnd { cookie, .. } if cookie.0 == IT)
}

fn is_of_it(event: &Event) -> bool {
    match event {
        Event::Socket(fact) => fact.cookie.0 == IT,
        Event::App(fact) => fact.socket.0 == IT,
        _ => false,
    }
}

#[test]
fn what_closes_while_a_sweep_goes_on_stays_closed() {
    between_steps(|mut it, steps| {
        it.socket_ends();
        it.close_due();
        it.end();
        it.whole_sweep();
        let end = it.out.iter().position(|timed| is_end_of_it(&timed.event));
        let after = &it.out[end.expect("an end") + 1..];
        let is_late = |timed: &Timed| is_of_it(&timed.event) || is_end_of_it(&timed.event);
        assert!(!after.iter().any(is_late), "{steps}: {after:?}");
        assert!(!it.knows_it(), "{steps}");
    });
}

#[test]
fn counters_that_come_late_do_not_open_a_socket_again() {
    between_steps(|mut it, steps| {
        it.socket_ends();
        it.close_due();
        it.moves(key(IT), 3);
        it.end();
        assert!(!it.knows_it(), "{steps}");
        it.whole_sweep();
        it.whole_sweep();
        assert!(!it.maps.app.contains_key(&key(IT)), "{steps}");
        assert_eq!(it.count(is_end_of_it), 1, "{steps}");
    });
}

#[test]
fn a_socket_ends_once_though_a_sweep_found_it_ended_too() {
    for closes_meanwhile in [true, false] {
        for steps in 0..STEPS {
            let mut it = Play::new();
            let socket = it.maps.sockets.get_mut(&IT).unwrap();
            (socket.released, socket.closed) = (1, 1);
            it.whole_sweep();
            it.begin(UnmappedSockets::None, None);
            if !it.steps(steps) || it.count(is_end_of_it) > 0 {
                assert!(steps > 2 * SOCKETS as usize);
                break;
            }
            it.socket_ends();
            if closes_meanwhile {
                it.close_due();
            }
            it.end();
            it.close_due();
            assert_eq!(it.count(is_end_of_it), 1, "{steps}");
        }
    }
}

#[test]
fn a_process_that_ends_while_a_sweep_goes_on_stays_ended() {
    between_steps(|mut it, steps| {
        it.process_ends();
        it.end();
        let is_exit = |event: &Event| matches!(event, Event::ProcessExit { .. });
        assert_eq!(it.count(is_exit), 1, "{steps}");
        let exit = it.out.iter().position(|timed| is_exit(&timed.event));
        let after = &it.out[exit.unwrap()..];
        let is_late = |timed: &Timed| matches!(&timed.event, Event::App(fact) if fact.process.pid == IT as u32);
        assert!(!after.iter().any(is_late), "{steps}");
        assert!(!it.tracker.processes.contains_key(&key(IT).process()));
        assert!(!it.maps.app.contains_key(&key(IT)));
    });
}

#[test]
fn a_socket_that_is_reported_meanwhile_has_not_vanished() {
    let new = SOCKETS + 1;
    let is_new_end =
        |event: &Event| matches!(event, Event::SocketEnd { cookie, .. } if cookie.0 == new);
    for is_mapped in [true, false] {
        between_steps(|mut it, steps| {
            if is_mapped {
                it.maps.sockets.insert(new, tcp());
            } else {
                it.maps.lost.sockets += 1;
            }
            it.moves(key(new), 7);
            it.record(app_record(key(new)));
            let all_mapped = it.end();
            assert_eq!(it.count(is_new_end), 0, "{steps}");
            assert!(it.tracker.sockets.contains_key(&new) && it.maps.app.contains_key(&key(new)));
            // What was reported once all was looked at is left to the next one.
            assert!(all_mapped || !is_mapped, "{steps}");
        });
    }
}

#[test]
fn a_loss_during_a_sweep_is_for_the_next_one() {
    between_steps(|mut it, steps| {
        it.maps.lost.traffic += 1;
        it.socket_ends();
        it.close_due();
        it.end();
        it.close_due();
        assert!(it.tracker.is_behind(&it.maps), "{steps}");
        assert_eq!(it.count(is_end_of_it), 0, "{steps}");
        it.begin(UnmappedSockets::None, None);
        while it.step().is_none() {
            assert!(it.tracker.is_behind(&it.maps), "until all is read");
        }
        assert!(!it.tracker.is_behind(&it.maps));
        assert_eq!(it.count(is_end_of_it), 1, "{steps}");
    });
}

#[test]
fn a_sweep_ends_though_losses_go_on() {
    let mut it = Play::new();
    it.begin(UnmappedSockets::None, None);
    let ended = (0..STEPS).any(|_| {
        it.maps.lost.traffic += 1;
        it.step().is_some()
    });
    assert!(ended && it.tracker.is_behind(&it.maps));
}

#[test]
fn an_exit_after_a_loss_waits_for_the_sweep_that_began_after_it() {
    let is_exit = |event: &Event| matches!(event, Event::ProcessExit { .. });
    between_steps(|mut it, steps| {
        // Of a socket that the sweep may have passed, and no record says so.
        let unseen = AppKey {
            cookie: SOCKETS + 1,
            ..key(IT)
        };
        it.maps.sockets.insert(unseen.cookie, tcp());
        it.moves(unseen, 11);
        it.maps.lost.traffic += 1;
        it.process_ends();
        it.end();
        assert_eq!(it.count(is_exit), 0, "{steps}");
        it.whole_sweep();
        let exit = it.out.iter().position(|timed| is_exit(&timed.event));
        let before = sent(&it.out[..exit.expect("an exit")]);
        assert!(before.contains(&11), "{steps}: {before:?}");
    });
}

#[test]
fn an_exit_is_reported_after_the_list_that_the_process_may_be_in() {
    let is_exit = |event: &Event| matches!(event, Event::ProcessExit { .. });
    let is_list = |event: &Event| matches!(event, Event::ProcessesListed(_));
    let all: Vec<_> = (1..=SOCKETS)
        .filter_map(|cookie| convert::process_id(key(cookie).process()))
        .collect();
    for steps in 0..STEPS {
        let mut it = Play::new();
        it.begin(UnmappedSockets::None, listing(&all, it.now.0));
        if !it.steps(steps) {
            assert!(steps > 2 * SOCKETS as usize);
            return;
        }
        it.process_ends();
        it.end();
        let place = |is: &dyn Fn(&Event) -> bool| it.out.iter().position(|timed| is(&timed.event));
        let (list, exit) = (place(&is_list), place(&is_exit));
        assert!(list.is_some() && list < exit, "{steps}: {list:?} {exit:?}");
    }
}

#[test]
fn a_step_emits_no_more_than_it_may() {
    const MANY: u64 = 1_000;
    const MOST: usize = 50;
    let mut it = Play::new();
    let ended = SocketEntry {
        released: 1,
        closed: 1,
        ..tcp()
    };
    for cookie in 1..=MANY {
        it.maps.sockets.insert(cookie, ended);
        it.moves(key(cookie), 100);
        // Every third has vanished, with or without a process that ended unseen.
        match cookie % 3 {
            0 => drop(it.maps.sockets.remove(&cookie)),
            1 => it.maps.lost.traffic += 1,
            _ => {}
        }
        it.record(app_record(key(cookie)));
        if cookie % 5 == 0 {
            let Record::Exit(mut exit) = exit_record() else {
                unreachable!()
            };
            exit.process = key(cookie).process();
            it.record(Record::Exit(exit));
        }
    }
    for _ in 0..3 {
        let listed = listing(&[], it.now.0);
        it.begin(UnmappedSockets::None, listed);
        loop {
            it.out.clear();
            it.now.0 += 1;
            let ended = it
                .tracker
                .step(MOST, it.now, &mut it.maps, &mut it.out)
                .is_some();
            // A bucket of the maps, or what the last one of them takes.
            assert!(it.out.len() <= MOST + 30, "{} events", it.out.len());
            if ended {
                break;
            }
        }
    }
    assert!(it.maps.sockets.is_empty() && it.maps.app.is_empty());
}

#[test]
fn the_end_in_the_middle_of_a_sweep_brings_all() {
    between_steps(|mut it, steps| {
        it.maps.lost.traffic += 1;
        it.moves(key(IT), 20);
        it.process_ends();
        it.socket_ends();
        let (maps, out) = (&mut it.maps, &mut it.out);
        it.tracker
            .finish(2, UnmappedSockets::None, None, it.now, maps, out);
        assert_eq!(it.count(is_end_of_it), 1, "{steps}");
        let exit = |event: &Event| matches!(event, Event::ProcessExit { .. });
        assert_eq!(it.count(exit), 1, "{steps}");
        for cookie in 1..=SOCKETS {
            let of = |timed: &&Timed| matches!(&timed.event, Event::App(fact) if fact.socket.0 == cookie);
            let last: Vec<_> = it.out.iter().filter(of).cloned().collect();
            let expected = if cookie == IT { 120 } else { 100 };
            assert_eq!(sent(&last).last(), Some(&expected), "{steps}");
        }
    });
}

#[test]
fn an_exit_that_waited_for_a_sweep_is_not_lost_with_it() {
    let mut it = Play::new();
    it.maps.lost.traffic += 1;
    it.process_ends();
    it.begin(UnmappedSockets::None, None);
    assert!(it.steps(3));
    it.whole_sweep();
    let exit = |event: &Event| matches!(event, Event::ProcessExit { .. });
    assert_eq!(it.count(exit), 1);
}
