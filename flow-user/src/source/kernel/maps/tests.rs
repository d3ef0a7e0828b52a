//! A sweep over maps of the kernel.

use flow_common::IpAddress;

use super::*;
use crate::{
    event::{Event, EventSink, Instant, Timed},
    model::{Config, Model},
    source::kernel::tracker::{STEP, Tracker, UnmappedSockets},
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

#[test]
#[ignore = "makes maps of the kernel, which needs root"]
fn a_sweep_in_steps_reads_every_entry() {
    let count = 3 * STEP as u32;
    let mut maps = filled(count);
    let mut sink = Applied(Model::new(Config::default(), Instant(0)));
    let mut tracker = Tracker::default();
    let now = Instant(10_000_000_000);
    tracker.begin_sweep(UnmappedSockets::None, None, now, &maps);
    let mut steps = 0;
    while tracker.step(STEP, now, &mut maps, &mut sink).is_none() {
        steps += 1;
        assert!(steps < 100, "the sweep does not end");
    }
    // Three for the sockets and three for the counters, at least.
    assert!(steps >= 5, "{steps} steps before the last");
    sink.0.tick(now);
    let sent: u64 = (1..=u64::from(count)).sum();
    assert_eq!(sink.0.snapshot().totals.app.tx_bytes.0, sent);
}
