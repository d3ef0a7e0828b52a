//! Totals of what is no longer listed, so that the sums which rows show never fall.
//!
//! There are few users, cgroups and listeners, and their sums are kept for good, but for datagrams
//! at a port that the kernel chose, which another socket may get next. Of remotes there may be many.
//! Each table is bounded. What finds no room in it is in no sum but the grand total.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use super::{
    snapshot::{Flow, FlowKey, PastRemote, Process, Rate, SeenTimes},
    sums::{Failures, SocketSums},
    totals::moved,
};
use crate::event::{
    AppTotals, CgroupId, CloseReason, Direction, Instant, Netns, ProcessId, Program, Protocol,
    SocketCookie, State, WireTotals,
};

/// Rows of each table at most.
const ROWS: usize = 4_096;
/// Of these, remotes that were only called in vain.
const IN_VAIN: usize = ROWS / 4;

/// Dropped processes, put together by user and cgroup.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct RetiredProcesses {
    #[serde(with = "as_list")]
    rows: BTreeMap<(Option<u32>, Option<CgroupId>), Arc<Process>>,
    #[serde(skip)]
    shown: Option<Arc<[Arc<Process>]>>,
}

impl RetiredProcesses {
    /// Takes a process that is dropped.
    pub(super) fn add(&mut self, process: &Process) {
        let key = (process.uid, process.cgroup);
        let has_room = self.rows.len() < ROWS || self.rows.contains_key(&key);
        let leaves_nothing = !moved(&process.totals) && process.failures == Failures::default();
        if leaves_nothing || !has_room {
            return;
        }
        self.shown = None;
        let row = self.rows.entry(key).or_insert_with(|| {
            Arc::new(Process {
                id: ProcessId {
                    pid: 0,
                    start: Instant(0),
                },
                program: Program::default(),
                parent: None,
                lineage: Vec::new(),
                totals: AppTotals::default(),
                before: AppTotals::default(),
                overflow: AppTotals::default(),
                rate: Rate::default(),
                open_flows: 0,
                failures: Failures::default(),
                past_sockets: None,
                exited: process.exited,
                ..process.clone()
            })
        });
        let row = Arc::make_mut(row);
        row.totals += process.totals;
        row.failures += process.failures;
    }

    /// Changes what is known of users or cgroups.
    pub(super) fn identify(
        &mut self,
        are: impl Fn(&Process) -> bool,
        change: impl Fn(&mut Process),
    ) {
        for row in self.rows.values_mut().filter(|row| are(row)) {
            change(Arc::make_mut(row));
            self.shown = None;
        }
    }

    pub(super) fn shown(&mut self) -> Arc<[Arc<Process>]> {
        let rows = &self.rows;
        let shown = self
            .shown
            .get_or_insert_with(|| rows.values().cloned().collect());
        Arc::clone(shown)
    }
}

/// Dropped flows that have something in common.
#[derive(Debug, Serialize, Deserialize)]
#[serde(bound(serialize = "K: Serialize", deserialize = "K: Deserialize<'de> + Ord"))]
struct Flows<K: Ord> {
    #[serde(with = "as_list")]
    rows: BTreeMap<K, Sum>,
    #[serde(skip)]
    shown: Option<Arc<[Arc<Flow>]>>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Sum {
    totals: AppTotals,
    /// Of the sockets, each once.
    #[serde(default)]
    wire: WireTotals,
    /// When one of them last moved bytes.
    #[serde(default)]
    last: Instant,
    #[serde(skip)]
    shown: Option<Arc<Flow>>,
}

impl<K: Ord> Default for Flows<K> {
    fn default() -> Self {
        Self {
            rows: BTreeMap::new(),
            shown: None,
        }
    }
}

impl<K: Ord> Flows<K> {
    fn add(&mut self, key: K, flow: &Flow, wire: Option<WireTotals>) {
        if self.rows.len() >= ROWS && !self.rows.contains_key(&key) {
            return;
        }
        let sum = self.rows.entry(key).or_default();
        sum.totals += flow.app;
        sum.wire += wire.unwrap_or_default();
        sum.last = sum.last.max(flow.last);
        sum.shown = None;
        self.shown = None;
    }

    fn remove(&mut self, key: &K) {
        if self.rows.remove(key).is_some() {
            self.shown = None;
        }
    }

    fn shown(&mut self, facts: impl Fn(&K) -> Facts) -> Arc<[Arc<Flow>]> {
        let rows = &mut self.rows;
        let shown = self.shown.get_or_insert_with(|| {
            let flows = rows.iter_mut().map(|(key, sum)| {
                let Sum {
                    totals,
                    wire,
                    last,
                    shown,
                } = sum;
                let flow = || Flow {
                    wire: Some(*wire),
                    last: *last,
                    ..facts(key).flow(*totals)
                };
                Arc::clone(shown.get_or_insert_with(|| Arc::new(flow())))
            });
            flows.collect()
        });
        Arc::clone(shown)
    }
}

/// The own end of flows of a listener, and whether that serves datagrams.
type Accepted = (Option<Netns>, Protocol, SocketAddr, bool);

/// Dropped flows: by the address of their remote, and those of listeners by their own end.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct RetiredFlows {
    remotes: Flows<IpAddr>,
    accepted: Flows<Accepted>,
    #[serde(default, with = "as_shared_list")]
    past_remotes: Arc<BTreeMap<IpAddr, PastRemote>>,
    /// Flows in whose place another began.
    replaced: u64,
}

impl RetiredFlows {
    /// Takes a flow that is dropped, and the packets of its socket, if that is dropped with it.
    pub(super) fn add(&mut self, flow: &Flow, packets: Option<WireTotals>) {
        if let Some(remote) = flow.key.remote
            && moved(&flow.app)
        {
            let address = remote.ip().to_canonical();
            self.remotes.add(address, flow, None);
        }
        let is_of_listener = flow.direction == Some(Direction::Inbound) || flow.serves;
        let packets = packets.filter(|it| *it != WireTotals::default());
        if is_of_listener && (moved(&flow.app) || packets.is_some()) {
            self.accepted.add(accepted(flow), flow, packets);
        }
    }

    /// A socket that served datagrams at a port that the kernel chose is dropped: the next one there
    /// has nothing to do with it.
    pub(super) fn forget_port(&mut self, flow: &Flow) {
        self.accepted.remove(&accepted(flow));
    }

    /// Takes what else is known of the remote of a flow that is dropped: `is_used` says whether its
    /// socket moved anything; `sockets` are the sums over that, with one of its flows. Remotes that
    /// only knocked here leave nothing.
    pub(super) fn add_past_remote(
        &mut self,
        flow: &Flow,
        is_used: bool,
        sockets: Option<SocketSums>,
    ) {
        let Some(remote) = flow.key.remote else {
            return;
        };
        let is_outbound = flow.direction == Some(Direction::Outbound);
        if !is_used && !is_outbound {
            return;
        }
        let address = remote.ip().to_canonical();
        // A scan leaves room for others.
        let most = if is_used { ROWS } else { IN_VAIN };
        let has_room = self.past_remotes.len() < most || self.past_remotes.contains_key(&address);
        if !has_room {
            return;
        }
        let seen = SeenTimes::of(flow);
        let past = Arc::make_mut(&mut self.past_remotes)
            .entry(address)
            .or_insert_with(|| PastRemote {
                sockets: SocketSums::default(),
                failures: Failures::default(),
                seen,
            });
        past.seen = past.seen.and(seen);
        if let Some(sockets) = sockets {
            past.sockets += sockets;
            if let Some((_, reason)) = flow.closed.filter(|_| is_outbound) {
                past.failures.count(reason);
            }
        }
    }

    pub(super) fn past_remotes(&self) -> Arc<BTreeMap<IpAddr, PastRemote>> {
        Arc::clone(&self.past_remotes)
    }

    /// Another flow begins in the place of one that was listed still.
    pub(super) fn count_replaced(&mut self) {
        self.replaced = self.replaced.saturating_add(1);
    }

    pub(super) fn replaced(&self) -> u64 {
        self.replaced
    }

    pub(super) fn remotes(&mut self) -> Arc<[Arc<Flow>]> {
        self.remotes.shown(|address| Facts {
            remote: Some(SocketAddr::new(*address, 0)),
            ..Facts::default()
        })
    }

    pub(super) fn accepted(&mut self) -> Arc<[Arc<Flow>]> {
        self.accepted
            .shown(|(netns, protocol, local, serves)| Facts {
                netns: *netns,
                protocol: Some(*protocol),
                local: Some(*local),
                serves: *serves,
                ..Facts::default()
            })
    }
}

/// The key of a flow of a listener.
fn accepted(flow: &Flow) -> Accepted {
    (flow.netns, flow.protocol, flow.local, flow.serves)
}

/// What flows have in common.
#[derive(Default)]
struct Facts {
    netns: Option<Netns>,
    protocol: Option<Protocol>,
    local: Option<SocketAddr>,
    remote: Option<SocketAddr>,
    serves: bool,
}

impl Facts {
    /// As one flow that has ended.
    fn flow(self, app: AppTotals) -> Flow {
        Flow {
            key: FlowKey {
                socket: SocketCookie(0),
                process: None,
                remote: self.remote,
            },
            process: None,
            zone: None,
            protocol: self.protocol.unwrap_or(Protocol::Raw),
            local: self
                .local
                .unwrap_or_else(|| SocketAddr::new(IpAddr::from([0; 4]), 0)),
            state: State::Closed,
            direction: self.local.map(|_| Direction::Inbound),
            serves: self.serves,
            netns: self.netns,
            interface: None,
            app,
            wire: None,
            tcp: None,
            path: None,
            connect: None,
            backlog: None,
            rate: Rate::default(),
            opened: Instant(0),
            last: Instant(0),
            found: None,
            closed: Some((Instant(0), CloseReason::Closed)),
        }
    }
}

/// As [`as_list`], of a shared map.
mod as_shared_list {
    use std::{collections::BTreeMap, sync::Arc};

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<K: Serialize, V: Serialize, S: Serializer>(
        map: &Arc<BTreeMap<K, V>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        super::as_list::serialize(map, serializer)
    }

    pub(super) fn deserialize<'de, K, V, D>(
        deserializer: D,
    ) -> Result<Arc<BTreeMap<K, V>>, D::Error>
    where
        K: Deserialize<'de> + Ord,
        V: Deserialize<'de>,
        D: Deserializer<'de>,
    {
        super::as_list::deserialize(deserializer).map(Arc::new)
    }
}

/// A map as a list of its entries: keys of JSON are text only.
mod as_list {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<K: Serialize, V: Serialize, S: Serializer>(
        map: &BTreeMap<K, V>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(map)
    }

    pub(super) fn deserialize<'de, K, V, D>(deserializer: D) -> Result<BTreeMap<K, V>, D::Error>
    where
        K: Deserialize<'de> + Ord,
        V: Deserialize<'de>,
        D: Deserializer<'de>,
    {
        let entries = Vec::<(K, V)>::deserialize(deserializer)?;
        Ok(entries.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::fixture;

    #[test]
    fn users_and_cgroups_keep_their_sums() {
        let mut retired = RetiredProcesses::default();
        for number in 0..10 {
            retired.add(&Process {
                uid: Some(number % 2),
                totals: fixture::totals(1, 0),
                ..Process::clone(&fixture::process(number + 1, "/bin/x", &[]))
            });
        }
        let shown = retired.shown();
        let sums: Vec<_> = shown
            .iter()
            .map(|it| (it.uid, it.totals.tx_bytes.0))
            .collect();
        assert_eq!(sums, [(Some(0), 5), (Some(1), 5)]);
    }

    #[test]
    fn remotes_are_bounded_and_never_fall() {
        let mut retired = RetiredFlows::default();
        let owner = fixture::process(1, "/bin/x", &[]);
        let add = |retired: &mut RetiredFlows, number: u32| {
            let remote = format!("{}:1", std::net::Ipv4Addr::from_bits(number));
            let flow = fixture::flow(1, &owner, "10.0.0.2:1", Some(&remote));
            retired.add(&flow, None);
        };
        for number in 1..=2 * ROWS as u32 {
            add(&mut retired, number);
        }
        let before = retired.remotes();
        assert_eq!(before.len(), ROWS);
        add(&mut retired, 1);
        let after = retired.remotes();
        assert_eq!(after[0].app.rx_bytes.0, 2 * before[0].app.rx_bytes.0);
        // What did not change is the same object.
        assert!(Arc::ptr_eq(&after[1], &before[1]));
        assert!(retired.accepted().is_empty());
    }
}
