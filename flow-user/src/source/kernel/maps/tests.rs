//! How long a sweep holds the thread up, measured on maps of the kernel.

use std::{
    net::UdpSocket,
    time::{Duration, Instant as Clock},
};

use flow_common::IpAddress;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::*;
use crate::{
    event::{Event, EventSink, Instant, Timed},
    model::{Config, Model},
    source::{
        kernel::tracker::{STEP, Tracker, UnmappedSockets},
        proc::Proc,
        seed,
    },
};

/// Takes events as the engine does.
struct Applied(Model);

impl EventSink for Applied {
    fn event(&mut self, time: Instant, event: Event) {
        self.0.apply(Timed { time, event });
    }
}

/// Maps of so many TCP connections, each with a process that moved bytes.
fn filled(count: u32) -> Maps {
    let mut maps = Maps {
        app: HashMap::create(count, 0).unwrap(),
        sockets: HashMap::create(count, 0).unwrap(),
        freed_remotes: HashMap::create(16, 0).unwrap(),
        overflow: HashMap::create(16, 0).unwrap(),
        epoch: Array::create(1, 0).unwrap(),
        losses: PerCpuArray::create(Loss::ALL.len() as u32, 0).unwrap(),
        most: 2 * count as usize,
    };
    for at in 1..=count {
        let cookie = u64::from(at);
        let socket = SocketEntry {
            family: 2,
            protocol: 6,
            state: 1,
            epoch: 1,
            local: IpAddress::mapped(at),
            remote: IpAddress::mapped(at),
            local_port: 80,
            remote_port: 40_000,
            wire_tx_bytes: cookie,
            ..SocketEntry::default()
        };
        maps.sockets.insert(cookie, socket, 0).unwrap();
        let key = AppKey {
            cookie,
            start: 10_000_000,
            tgid: at % 1_000 + 1,
            remote_port: 0,
            remote_known: 0,
            remote: IpAddress::NONE,
            zone: 0,
            padding: 0,
        };
        let counters = AppCounters {
            tx_bytes: cookie,
            epoch: 1,
            ..AppCounters::default()
        };
        maps.app.insert(key, counters, 0).unwrap();
    }
    maps
}

fn took<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = Clock::now();
    let result = work();
    (result, start.elapsed())
}

#[test]
#[ignore = "a measurement, which needs root: cargo test --release -p flow-user --lib \
            how_long_a_sweep_takes -- --ignored --nocapture"]
fn how_long_a_sweep_takes() {
    for count in [1 << 16, 1 << 20] {
        let mut maps = filled(count);
        let read = |maps: &Maps| (all(&maps.sockets, maps.most), all(&maps.app, maps.most));
        let ((sockets, app), read) = took(|| read(&maps));
        assert_eq!((sockets.len(), app.len()), (count as usize, count as usize));
        drop((sockets, app));
        println!("{count} sockets: {read:.1?} to read all");
        let mut sink = Applied(Model::new(Config::default(), Instant(0)));
        let mut tracker = Tracker::default();
        for (what, time) in [("all new", 1), ("nothing new", 2)] {
            let now = Instant(time * 10_000_000_000);
            tracker.begin_sweep(UnmappedSockets::None, None, now, &maps);
            let mut steps = Vec::new();
            loop {
                let (ended, step) = took(|| tracker.step(STEP, now, &mut maps, &mut sink));
                steps.push(step);
                if ended.is_some() {
                    break;
                }
            }
            let all: Duration = steps.iter().sum();
            steps.sort_unstable();
            let longest = steps.last().unwrap();
            let usual = steps[steps.len() / 2];
            println!(
                "  {what}: {all:.1?} for all, {longest:.1?} for the longest of {} steps, \
                 {usual:.1?} for half of them",
                steps.len()
            );
            sink.0.tick(now);
            sink.0.changes();
        }
    }
}

#[test]
#[ignore = "a measurement, which needs root"]
fn how_long_lists_take() {
    const MOST: u64 = 20_000;
    let (_, limit) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, limit, limit).unwrap();
    // Some descriptors are for others.
    let count = MOST.min(limit - 100);
    let (before, few) = took(|| seed::list(&Proc::new()));
    let sockets: Vec<_> = (0..count)
        .map(|_| UdpSocket::bind("127.0.0.1:0").unwrap())
        .collect();
    let (after, many) = took(|| seed::list(&Proc::new()));
    assert!(after.sockets.len() >= before.sockets.len() + sockets.len());
    println!(
        "{} sockets: {few:.1?}; {}: {many:.1?}",
        before.sockets.len(),
        after.sockets.len()
    );
    let (processes, all) = took(|| Proc::new().living().unwrap());
    println!("{} processes: {all:.1?}", processes.len());
}
