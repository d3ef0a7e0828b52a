//! Event -> state: processes, flows, interfaces, the ledger, rates. Pure and deterministic.
//!
//! Counters in events are cumulative, so the maximum of each is true, whatever the order and number
//! of reports. The model is built from these maxima alone, and at any moment the grand total is
//! their sum.
//!
//! - [`snapshot`]: the state for readers; [`change`]: what changed, in order.
//! - `process`, `flow`, `interface`: the tables. `socket`, `fact`: how a socket's
//!   counters and facts become rows.
//! - [`sums`]: sums over sockets.
//! - [`programs`]: what processes moved that are no longer listed, by name.
//! - `ledger`: causes of an interface's bytes.

pub mod change;
mod fact;
mod flow;
mod interface;
mod keyed;
mod ledger;
mod process;
pub mod programs;
mod rate;
mod retired;
pub mod snapshot;
mod socket;
pub mod sums;
#[cfg(test)]
mod tests;
mod tombstone;
pub(crate) mod totals;

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use self::{
    change::{Change, Changes, StateChange, TimedChange},
    flow::FlowTable,
    interface::InterfaceTable,
    process::ProcessTable,
    rate::Meter,
    snapshot::{Rate, Retired, Snapshot, Totals, zone_index},
    socket::{NamedZone, Names},
};
use crate::event::{
    Coverage, EphemeralPorts, Event, EventSink, Instant, Loss, Netns, ProcessId, SocketFact, Timed,
};

/// Settings of a model.
#[derive(Clone, Debug)]
pub struct Config {
    /// How long closed flows, exited processes and gone interfaces stay in snapshots. Of closed
    /// flows at most 65,536 and of exited processes at most 16,384 stay, the latest.
    pub history: Duration,
    /// How long a flow of a datagram socket without a peer of its own may move nothing before it is
    /// over.
    pub udp_idle: Duration,
    /// The network namespace of the host, whose interfaces events report. Flows of other
    /// namespaces have no interface name; without this, none has.
    pub host_netns: Option<Netns>,
    /// Whether users have names, where events bring these.
    pub user_names: bool,
    /// Whether a consumer reads [`Model::changes`].
    pub changes: bool,
    /// Whether a consumer reads [`Model::states`].
    pub states: bool,
}

/// As connection tracking has it for datagrams that nobody answered or that were answered once.
pub const UDP_IDLE: Duration = Duration::from_secs(60);

impl Default for Config {
    fn default() -> Self {
        Self {
            history: Duration::from_secs(60),
            udp_idle: UDP_IDLE,
            host_netns: None,
            user_names: true,
            changes: true,
            states: false,
        }
    }
}

/// Index and name of the interface that is an address's zone, if the host has one with this index.
fn named_zone(remote: Option<SocketAddr>, interfaces: &InterfaceTable) -> Option<NamedZone> {
    let index = zone_index(remote?)?;
    Some((index, interfaces.name(index)?))
}

/// The state of everything, built from events.
#[derive(Debug, Serialize, Deserialize)]
pub struct Model {
    #[serde(skip)]
    config: Config,
    started: Instant,
    /// The time of the latest event or tick.
    now: Instant,
    /// When rates were last taken.
    measured: Instant,
    processes: ProcessTable,
    flows: FlowTable,
    interfaces: InterfaceTable,
    losses: [Lost; Loss::ALL.len()],
    coverage: Arc<[Coverage]>,
    /// Of the network namespaces where this was reported.
    #[serde(default)]
    ephemeral_ports: BTreeMap<Netns, EphemeralPorts>,
    meter: Meter,
    rate: Rate,
    #[serde(skip)]
    changes: Changes,
    generation: u64,
    /// The last snapshot, while nothing changed since.
    #[serde(skip)]
    current: Option<Arc<Snapshot>>,
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Lost {
    count: u64,
    reported: u64,
}

/// A model's state as it was written. It may come from a file: nothing in it is relied upon.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub struct Keyframe(Model);

impl Keyframe {
    /// When the state was this.
    pub fn time(&self) -> Instant {
        self.0.now
    }

    /// The model that goes on from here.
    pub fn resume(self, config: Config) -> Model {
        let Self(mut model) = self;
        let history = config.history;
        model.changes.want(config.changes, config.states);
        model.config = config;
        model.processes.resume(history);
        if !model.config.user_names {
            model.processes.forget_users();
        }
        let idle = model.config.udp_idle;
        model.flows.resume(history, idle, &mut model.processes);
        model.processes.queue_exited();
        model.interfaces.resume(history);
        model
    }
}

impl EventSink for Model {
    fn event(&mut self, time: Instant, event: Event) {
        self.apply(Timed { time, event });
    }
}

impl Model {
    /// A model that begins now.
    pub fn new(config: Config, now: Instant) -> Self {
        let mut changes = Changes::default();
        changes.want(config.changes, config.states);
        Self {
            started: now,
            now,
            measured: now,
            processes: ProcessTable::new(config.history),
            flows: FlowTable::new(config.history, config.udp_idle),
            interfaces: InterfaceTable::new(config.history),
            losses: Default::default(),
            coverage: Arc::new([]),
            ephemeral_ports: BTreeMap::new(),
            meter: Meter::default(),
            rate: Rate::default(),
            changes,
            generation: 0,
            current: None,
            config,
        }
    }

    /// The state as of the last tick, from which [`Keyframe::resume`] goes on.
    pub fn keyframe(&self) -> &impl Serialize {
        self
    }

    /// Takes an event. The same event twice, or an older one late, does no harm.
    pub fn apply(&mut self, timed: Timed) {
        let Timed { time, event } = timed;
        self.now = self.now.max(time);
        self.current = None;
        let Self {
            processes,
            flows,
            interfaces,
            changes,
            ..
        } = self;
        match event {
            Event::Coverage(coverage) => self.cover(coverage, time),
            Event::ProcessSeen(fact) => processes.seen(fact, time),
            Event::ProcessExec(fact) => {
                if let Some(process) = processes.exec(fact, time) {
                    changes.emit(time, Change::ProcessExec(process));
                }
            }
            Event::ProcessFork(fact) => processes.fork(fact, time),
            Event::ProcessNamed { id, program } => processes.named(id, program, time),
            Event::ProcessExit { id, status } => {
                if let Some(process) = processes.exit(id, time) {
                    let status = Some(status);
                    changes.emit(time, Change::ProcessExit { process, status });
                }
            }
            Event::ProcessesListed(facts) => {
                for process in processes.listed(facts, time) {
                    let status = None;
                    changes.emit(time, Change::ProcessExit { process, status });
                }
            }
            Event::Socket(fact) => self.socket(fact, false, time),
            Event::SocketFound(fact) => self.socket(fact, true, time),
            Event::SocketEnd { cookie, reason } => {
                flows.end(cookie, reason, time, processes, changes);
            }
            Event::EphemeralPorts { netns, ports } => {
                self.ephemeral_ports.insert(netns, ports);
            }
            Event::Listening { cookie, backlog } => flows.listening_with(cookie, backlog),
            Event::TcpInfo { cookie, info } => flows.tcp_info(cookie, *info, time),
            Event::App(fact) => {
                let zone = named_zone(fact.remote, interfaces);
                flows.app(&fact, zone, time, processes, changes);
            }
            Event::Overflow { process, totals } => processes.overflow(process, totals, time),
            Event::Interface(fact) => {
                let ifindex = fact.ifindex;
                if let Some(name) = interfaces.apply(*fact, time)
                    && let Some(netns) = self.config.host_netns
                {
                    flows.name_interface(netns, ifindex, &name);
                }
            }
            Event::InterfaceGone { ifindex } => interfaces.gone(ifindex, time),
            Event::Cgroup { id, path } => processes.cgroup(id, path),
            Event::User { uid, name } => {
                if self.config.user_names {
                    processes.user(uid, name);
                }
            }
            Event::Lost { cause, count } => {
                let lost = &mut self.losses[cause as usize];
                lost.count = lost.count.max(count);
            }
        }
    }

    /// Takes the rates since the last tick, emits what changed since then, and drops what left
    /// the history. Ticks need not be regular; one that comes at the time of the last leaves the
    /// rates as they are.
    pub fn tick(&mut self, now: Instant) {
        self.now = self.now.max(now);
        self.current = None;
        let now = self.now;
        self.flows
            .settle(now, &mut self.processes, &mut self.changes);
        let elapsed = now.since(self.measured);
        if !elapsed.is_zero() {
            self.measured = now;
            self.flows.rates(elapsed);
            self.processes.rates(elapsed);
            self.interfaces.rates(elapsed);
            let total = self.processes.total();
            self.rate = self.meter.tick(total.tx_bytes, total.rx_bytes, elapsed);
        }
        self.processes.trace_again();
        self.flows.forget_tcp_info(now);
        self.flows
            .end_idle(now, &mut self.processes, &mut self.changes);
        self.emit_changes();
        self.flows
            .expire(now, &mut self.processes, &mut self.changes);
        self.processes.expire(now);
        self.interfaces.expire(now);
    }

    /// Forked processes that may have set a title of their own: with their first bytes or flow,
    /// and without an exec since. Each is returned once.
    pub fn untitled(&mut self) -> Vec<ProcessId> {
        self.processes.untitled()
    }

    /// The processes that are shown and have not ended, by pid: first those that moved bytes since
    /// the last tick or in the interval before it, then the others.
    pub fn living(&self) -> [Vec<ProcessId>; 2] {
        self.processes.living()
    }

    /// What changed since this was last called, in order; none where no consumer wants them.
    /// Changes are kept until then.
    pub fn changes(&mut self) -> Vec<TimedChange> {
        self.changes.drain()
    }

    /// The new states of connections since this was last called, in the order in which their reports
    /// came; none where no consumer wants them. They are kept until then.
    pub fn states(&mut self) -> Vec<StateChange> {
        self.changes.drain_states()
    }

    /// The state as of the last event or tick. Rows that did not change since the last snapshot are
    /// the same objects; if nothing happened at all, the whole snapshot is. In order of pid, socket
    /// cookie and interface index.
    pub fn snapshot(&mut self) -> Arc<Snapshot> {
        if let Some(current) = &self.current {
            return current.clone();
        }
        self.generation += 1;
        let processes: Vec<_> = self.processes.shown().cloned().collect();
        let losses = Loss::ALL.map(|cause| (cause, self.losses[cause as usize].count));
        let snapshot = Arc::new(Snapshot {
            generation: self.generation,
            time: self.now,
            running: self.now.since(self.started),
            totals: Totals {
                app: self.processes.total(),
                rate: self.rate,
                open_flows: self.flows.open_flows(),
                processes: processes.len(),
                dropped_processes: self.processes.dropped_count(),
                dropped_flows: self.flows.dropped_count(),
            },
            processes,
            flows: self.flows.rows(&self.processes),
            retired: Retired {
                processes: self.processes.retired(),
                remotes: self.flows.retired().remotes(),
                accepted: self.flows.retired().accepted(),
                past_remotes: self.flows.retired().past_remotes(),
            },
            interfaces: self.interfaces.rows(),
            programs: self.processes.programs(),
            losses: losses.into_iter().filter(|(_, count)| *count > 0).collect(),
            coverage: self.coverage.clone(),
        });
        self.processes.forget_renamed();
        self.current = Some(snapshot.clone());
        snapshot
    }

    /// The end: emits what changed since the last tick. Flows that are open stay open.
    pub fn finish(&mut self, now: Instant) {
        self.now = self.now.max(now);
        self.current = None;
        self.flows
            .settle(self.now, &mut self.processes, &mut self.changes);
        self.interfaces.finish();
        self.emit_changes();
    }

    fn emit_changes(&mut self) {
        let now = self.now;
        self.flows
            .emit_changes(now, &mut self.processes, &mut self.changes);
        self.interfaces.emit_changes(now, &mut self.changes);
        for (cause, lost) in Loss::ALL.into_iter().zip(&mut self.losses) {
            let count = lost.count;
            if count > std::mem::replace(&mut lost.reported, count) {
                self.changes.emit(now, Change::Lost { cause, count });
            }
        }
    }

    /// A socket is new or changed, or was `found`: it was there before its source began.
    fn socket(&mut self, fact: SocketFact, found: bool, time: Instant) {
        let host = fact.netns.is_some() && fact.netns == self.config.host_netns;
        let ifindex = fact.ifindex.filter(|_| host);
        let interface = ifindex.and_then(|ifindex| self.interfaces.name(ifindex));
        let ports = fact.netns.and_then(|it| self.ephemeral_ports.get(&it));
        let ephemeral = ports.copied().unwrap_or_default();
        let names = Names {
            interface,
            zone: named_zone(fact.remote, &self.interfaces),
            host,
            ephemeral: ephemeral.contain(fact.local.port()),
            found,
        };
        self.flows
            .socket(fact, names, time, &mut self.processes, &mut self.changes);
    }

    /// A source reports how it provides its capabilities; those of other sources stay.
    fn cover(&mut self, coverage: Vec<Coverage>, time: Instant) {
        let mut all = self.coverage.to_vec();
        for new in coverage {
            match all.iter_mut().find(|old| old.capability == new.capability) {
                Some(old) => *old = new,
                None => all.push(new),
            }
        }
        if *all != *self.coverage {
            self.coverage = all.into();
            let change = Change::Status(self.coverage.clone());
            self.changes.emit(time, change);
        }
    }
}
