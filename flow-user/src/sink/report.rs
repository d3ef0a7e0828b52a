//! `flow snapshot`: the traffic of a period, by process, flow, remote and interface.

use std::{
    collections::{BTreeMap, HashSet},
    net::IpAddr,
    sync::Arc,
};

use schemars::JsonSchema;
use serde::Serialize;

use super::json::{
    self,
    record::{AppRecord, FlowRecord, LedgerBody, LostBody, ProcessRecord, WireRecord, nanoseconds},
    tcp::TcpRecord,
    to_pretty,
};
use crate::{
    event::{AppTotals, Clock, CloseReason, Coverage, Host, Instant},
    model::{
        snapshot::{Flow, Process, Snapshot},
        sums::Failures,
    },
    query::filter::Filter,
};

/// Version of the report.
pub const VERSION: u32 = 1;

/// A report. An absent field is unknown; bytes are integers.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(title = "Flow report, version 1")]
pub struct Report<'a> {
    #[schemars(range(min = 1, max = 1))]
    pub v: u32,
    /// Version of the program that wrote it.
    pub flow_version: &'a str,
    pub host: &'a str,
    /// Release of the kernel.
    pub kernel: &'a str,
    /// RFC 3339, UTC, nanoseconds.
    #[schemars(extend("format" = "date-time"))]
    pub started: String,
    #[schemars(extend("format" = "date-time"))]
    pub ended: String,
    pub duration_ns: u64,
    /// Selects the processes and flows that are listed; absent if all are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    pub coverage: &'a [Coverage],
    pub totals: TotalsRecord,
    pub omitted: OmittedRecord,
    pub processes: Vec<ProcessEntry<'a>>,
    pub flows: Vec<FlowEntry<'a>>,
    pub remotes: Vec<RemoteEntry>,
    pub interfaces: Vec<InterfaceEntry<'a>>,
    pub losses: Vec<LostBody>,
}

/// Totals of everything, whatever the filter.
#[derive(Debug, Serialize, JsonSchema)]
pub struct TotalsRecord {
    pub app: AppRecord,
    pub processes: usize,
    pub open_flows: usize,
}

/// What `processes` and `flows` omit from the totals. Without a filter, the `app` of all rows of
/// either list and the one here add up to that of `totals` exactly. What only the filter excludes
/// is not counted here.
#[derive(Debug, Serialize, JsonSchema)]
pub struct OmittedRecord {
    /// Processes that exited. The latest 16,384 or so are listed.
    pub processes: OmittedRows,
    /// Flows that ended. The latest 65,536 or so are listed. `app` also has the bytes without a
    /// known flow, so it may be more than zero if `count` is zero.
    pub flows: OmittedRows,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct OmittedRows {
    pub count: u64,
    pub app: AppRecord,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct ProcessEntry<'a> {
    pub process: ProcessRecord<'a>,
    pub app: AppRecord,
    /// Part of `app` without a flow, because a table of the kernel side was full.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overflow: Option<AppRecord>,
    pub open_flows: usize,
    /// Its connections that failed; absent if none did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failures: Option<FailuresRecord>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub exited: Option<String>,
}

/// Connections that failed, by reason.
#[derive(Debug, Serialize, JsonSchema)]
pub struct FailuresRecord {
    pub refused: u32,
    pub timeout: u32,
    pub unreachable: u32,
    /// By the remote, established ones too.
    pub reset: u32,
}

impl FailuresRecord {
    fn of(failures: Failures) -> Option<Self> {
        let Failures {
            refused,
            timeout,
            unreachable,
            reset,
        } = failures;
        (failures != Failures::default()).then_some(Self {
            refused,
            timeout,
            unreachable,
            reset,
        })
    }
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct FlowEntry<'a> {
    pub flow: FlowRecord<'a>,
    /// One of `processes`, by pid and start time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub process: Option<ProcessReference<'a>>,
    pub app: AppRecord,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wire: Option<WireRecord>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp: Option<TcpRecord>,
    #[schemars(extend("format" = "date-time"))]
    pub opened: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub closed: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration_ns: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<CloseReason>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct ProcessReference<'a> {
    pub pid: u32,
    #[schemars(extend("format" = "date-time"))]
    pub start_time: String,
    pub name: &'a str,
}

/// A remote address, with all its ports.
#[derive(Debug, Serialize, JsonSchema)]
pub struct RemoteEntry {
    pub ip: IpAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<Arc<str>>,
    /// Sockets and processes that exchanged bytes with it.
    pub sockets: usize,
    pub processes: usize,
    pub app: AppRecord,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct InterfaceEntry<'a> {
    #[serde(flatten)]
    pub ledger: LedgerBody<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub gone: Option<String>,
}

/// What a report needs besides the snapshot.
#[derive(Clone, Copy, Debug)]
pub struct Sources<'a> {
    pub host: &'a Host,
    pub flow_version: &'a str,
    pub clock: Clock,
    /// Start of counting. Its end is the time of the snapshot.
    pub started: Instant,
    pub filter: &'a Filter,
}

impl<'a> Report<'a> {
    /// The report of everything in `snapshot` that passes the filter.
    pub fn new(snapshot: &'a Snapshot, sources: Sources<'a>) -> Self {
        let Sources {
            host,
            flow_version,
            clock,
            started,
            filter,
        } = sources;
        let passing: Vec<&Flow> = snapshot
            .flows
            .iter()
            .map(|flow| &**flow)
            .filter(|flow| filter.matches_flow(flow))
            .collect();
        let with_flows: HashSet<_> = passing.iter().filter_map(|flow| flow.key.process).collect();
        let passes = |process: &Process| {
            filter
                .process_verdict(process)
                .unwrap_or_else(|| with_flows.contains(&process.id))
        };
        Self {
            v: VERSION,
            flow_version,
            host: &host.name,
            kernel: &host.kernel,
            started: clock.rfc3339(started),
            ended: clock.rfc3339(snapshot.time),
            duration_ns: nanoseconds(snapshot.time.since(started)),
            filter: (!filter.is_all()).then(|| filter.to_string()),
            coverage: &snapshot.coverage,
            totals: TotalsRecord {
                app: snapshot.totals.app.into(),
                processes: snapshot.totals.processes,
                open_flows: snapshot.totals.open_flows,
            },
            omitted: omitted(snapshot),
            processes: snapshot
                .processes
                .iter()
                .filter(|process| passes(process))
                .map(|process| ProcessEntry {
                    process: ProcessRecord::new(process, clock),
                    app: process.totals.into(),
                    overflow: AppRecord::unless_zero(process.overflow),
                    open_flows: process.open_flows,
                    failures: FailuresRecord::of(process.failures),
                    exited: process.exited.map(|at| clock.rfc3339(at)),
                })
                .collect(),
            remotes: remotes(&passing),
            flows: passing
                .iter()
                .map(|flow| FlowEntry::new(flow, clock))
                .collect(),
            interfaces: snapshot
                .interfaces
                .iter()
                .filter(|interface| filter.matches_interface(interface))
                .map(|interface| InterfaceEntry {
                    ledger: LedgerBody::from(&**interface),
                    gone: interface.gone.map(|at| clock.rfc3339(at)),
                })
                .collect(),
            losses: snapshot
                .losses
                .iter()
                .filter(|(_, count)| *count > 0)
                .map(|(cause, count)| LostBody {
                    cause: (*cause).into(),
                    count: *count,
                })
                .collect(),
        }
    }

    /// Pretty-printed JSON that ends with a line feed.
    pub fn to_json(&self) -> String {
        to_pretty(self) + "\n"
    }
}

/// The JSON Schema of a report.
pub fn schema() -> serde_json::Value {
    json::schema::of::<Report<'_>>()
}

impl<'a> FlowEntry<'a> {
    fn new(flow: &'a Flow, clock: Clock) -> Self {
        Self {
            flow: FlowRecord::new(flow),
            process: flow.process.as_deref().map(|process| ProcessReference {
                pid: process.id.pid,
                start_time: clock.rfc3339(process.id.start),
                name: process.name(),
            }),
            app: flow.app.into(),
            wire: WireRecord::of(flow),
            tcp: TcpRecord::of(flow),
            opened: clock.rfc3339(flow.opened),
            closed: flow.closed.map(|(at, _)| clock.rfc3339(at)),
            duration_ns: flow
                .closed
                .map(|(at, _)| nanoseconds(at.since(flow.opened))),
            reason: flow.closed.map(|(_, reason)| reason),
        }
    }
}

fn omitted(snapshot: &Snapshot) -> OmittedRecord {
    let totals = &snapshot.totals;
    let processes = snapshot.processes.iter().map(|process| process.totals);
    let flows = snapshot.flows.iter().map(|flow| flow.app);
    OmittedRecord {
        processes: OmittedRows {
            count: totals.dropped_processes,
            app: rest(totals.app, processes).into(),
        },
        flows: OmittedRows {
            count: totals.dropped_flows,
            app: rest(totals.app, flows).into(),
        },
    }
}

/// `whole` minus `parts`.
fn rest(whole: AppTotals, parts: impl Iterator<Item = AppTotals>) -> AppTotals {
    parts.fold(whole, |rest, part| AppTotals {
        tx_bytes: rest.tx_bytes.since(part.tx_bytes),
        rx_bytes: rest.rx_bytes.since(part.rx_bytes),
        tx_calls: rest.tx_calls.saturating_sub(part.tx_calls),
        rx_calls: rest.rx_calls.saturating_sub(part.rx_calls),
    })
}

fn remotes(flows: &[&Flow]) -> Vec<RemoteEntry> {
    let mut remotes: BTreeMap<IpAddr, Vec<&Flow>> = BTreeMap::new();
    for flow in flows {
        if let Some(remote) = flow.key.remote {
            remotes
                .entry(remote.ip().to_canonical())
                .or_default()
                .push(flow);
        }
    }
    let entry = |(ip, flows): (IpAddr, Vec<&Flow>)| {
        let mut app = AppTotals::default();
        for flow in &flows {
            app += flow.app;
        }
        let sockets: HashSet<_> = flows.iter().map(|flow| flow.key.socket).collect();
        let processes: HashSet<_> = flows.iter().filter_map(|flow| flow.key.process).collect();
        RemoteEntry {
            ip,
            name: None,
            sockets: sockets.len(),
            processes: processes.len(),
            app: app.into(),
        }
    };
    remotes.into_iter().map(entry).collect()
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, time::Duration};

    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;
    use crate::{
        event::{
            AppFact, Event, Loss, ProcessId, Protocol, SocketCookie, SocketFact, State, Timed,
        },
        model::{Config, Model},
        query::fixture,
    };

    fn report(filter: &str) -> Value {
        let mut curl = Process::clone(&fixture::process(7, "/usr/bin/curl", &["\u{9b}\n"]));
        curl.totals = fixture::totals(207, 2000);
        curl.overflow = fixture::totals(7, 0);
        curl.exited = Some(Instant(50_000_000_000));
        let curl = Arc::new(curl);
        let mut closed = fixture::flow(2, &curl, "10.0.0.1:2", Some("10.0.0.9:80"));
        closed.closed = Some((Instant(3_000_000_000), CloseReason::Closed));
        let flows = vec![
            fixture::flow(1, &curl, "10.0.0.1:1", Some("10.0.0.9:443")),
            closed,
        ];
        let interfaces = vec![fixture::interface("eth0", 10, 10)];
        let mut snapshot = fixture::snapshot(vec![curl], flows, interfaces);
        snapshot.losses = vec![(Loss::AppFull, 1), (Loss::CallFull, 0)];
        let text = write(&snapshot, filter);
        assert!(!text.contains("null") && !text.contains('\u{9b}'), "{text}");
        let value = serde_json::from_str(&text).unwrap();
        let schema = schema();
        let validator = jsonschema::validator_for(&schema).unwrap();
        let errors: Vec<_> = validator
            .iter_errors(&value)
            .map(|error| error.to_string())
            .collect();
        assert!(errors.is_empty(), "{errors:?}");
        value
    }

    fn write(snapshot: &Snapshot, filter: &str) -> String {
        let host = Host {
            name: "web-3".to_owned(),
            kernel: "6.1".to_owned(),
        };
        let filter = Filter::parse(filter, &|_| None).unwrap();
        let sources = Sources {
            host: &host,
            flow_version: "0.1.0",
            clock: Clock {
                boot: "2026-05-01T14:00:00Z".parse().unwrap(),
            },
            started: Instant(30_000_000_000),
            filter: &filter,
        };
        Report::new(snapshot, sources).to_json()
    }

    /// What happens to a few sockets and processes.
    #[derive(Clone, Copy, Debug)]
    enum Step {
        Socket(u64),
        /// Socket, pid, and by how much each direction grows.
        Moved(u64, u32, u64, u64),
        Overflow(u32, u64),
        End(u64),
        Exit(u32),
        Tick,
    }

    fn step() -> impl Strategy<Value = Step> {
        let (socket, pid) = (1..6_u64, 1..4_u32);
        prop_oneof![
            socket.clone().prop_map(Step::Socket),
            (socket.clone(), pid.clone(), 0..9_u64, 0..9_u64)
                .prop_map(|(socket, pid, tx, rx)| Step::Moved(socket, pid, tx, rx)),
            (pid.clone(), 0..9_u64).prop_map(|(pid, tx)| Step::Overflow(pid, tx)),
            socket.prop_map(Step::End),
            pid.prop_map(Step::Exit),
            Just(Step::Tick),
        ]
    }

    /// A model after these steps; it keeps what ended until the next tick.
    fn model_after(steps: &[Step]) -> Model {
        let process = |pid| ProcessId {
            pid,
            start: Instant(u64::from(pid)),
        };
        let config = Config {
            history: Duration::ZERO,
            ..Config::default()
        };
        let mut model = Model::new(config, Instant(0));
        let mut moved = HashMap::<_, AppTotals>::new();
        let mut overflow = HashMap::<_, AppTotals>::new();
        for (time, step) in (1_000..).step_by(1_000).map(Instant).zip(steps) {
            let event = match *step {
                Step::Socket(cookie) => Event::Socket(SocketFact {
                    cookie: SocketCookie(cookie),
                    protocol: Protocol::Tcp,
                    local: "10.0.0.1:1".parse().unwrap(),
                    remote: Some("10.0.0.2:2".parse().unwrap()),
                    state: State::Established,
                    direction: None,
                    netns: None,
                    ifindex: None,
                    owner: None,
                    wire: None,
                    tcp: None,
                }),
                Step::Moved(socket, pid, tx, rx) => {
                    let totals = moved.entry((socket, pid)).or_default();
                    *totals += fixture::totals(tx, rx);
                    Event::App(AppFact {
                        socket: SocketCookie(socket),
                        process: process(pid),
                        remote: None,
                        totals: *totals,
                        uid: None,
                        cgroup: None,
                        comm: None,
                    })
                }
                Step::Overflow(pid, tx) => {
                    let totals = overflow.entry(pid).or_default();
                    *totals += fixture::totals(tx, 0);
                    Event::Overflow {
                        process: process(pid),
                        totals: *totals,
                    }
                }
                Step::End(socket) => Event::SocketEnd {
                    cookie: SocketCookie(socket),
                    reason: CloseReason::Closed,
                },
                Step::Exit(pid) => Event::ProcessExit {
                    id: process(pid),
                    status: 0,
                },
                Step::Tick => {
                    model.tick(time);
                    continue;
                }
            };
            model.apply(Timed { time, event });
        }
        model
    }

    proptest! {
        #[test]
        fn rows_and_what_is_omitted_are_the_totals(steps in prop::collection::vec(step(), 0..60)) {
            let text = write(&model_after(&steps).snapshot(), "");
            let report: Value = serde_json::from_str(&text).unwrap();
            for list in ["processes", "flows"] {
                for field in ["tx_bytes", "rx_bytes", "tx_calls", "rx_calls"] {
                    let of = |row: &Value| row["app"][field].as_u64().unwrap();
                    let rows: u64 = report[list].as_array().unwrap().iter().map(of).sum();
                    let sum = rows + of(&report["omitted"][list]);
                    prop_assert_eq!(sum, of(&report["totals"]), "{} of {}", field, list);
                }
            }
        }
    }

    #[test]
    fn what_the_history_dropped_is_counted() {
        let steps = [
            Step::Socket(1),
            Step::Moved(1, 1, 5, 6),
            Step::End(1),
            Step::Exit(1),
            Step::Tick,
            Step::Tick,
        ];
        let text = write(&model_after(&steps).snapshot(), "");
        let report: Value = serde_json::from_str(&text).unwrap();
        for list in ["processes", "flows"] {
            assert_eq!(report[list].as_array().unwrap().len(), 0);
            assert_eq!(report["omitted"][list]["count"], 1);
            assert_eq!(report["omitted"][list]["app"]["rx_bytes"], 6);
        }
    }

    #[test]
    fn everything_adds_up() {
        let report = report("");
        assert_eq!(report["duration_ns"], 30_000_000_000_u64);
        assert_eq!(report["ended"], "2026-05-01T14:01:00.000000000Z");
        assert_eq!(report["processes"][0]["app"]["tx_bytes"], 207);
        assert_eq!(report["processes"][0]["overflow"]["tx_bytes"], 7);
        assert_eq!(report["omitted"]["flows"]["app"]["tx_bytes"], 7);
        assert_eq!(report["omitted"]["flows"]["count"], 0);
        assert_eq!(report["omitted"]["processes"]["app"]["tx_bytes"], 0);
        assert_eq!(report["flows"][1]["reason"], "closed");
        assert_eq!(report["flows"][1]["duration_ns"], 1_000_000_000);
        assert_eq!(report["remotes"][0]["sockets"], 2);
        assert_eq!(report["remotes"][0]["app"]["rx_bytes"], 2000);
        assert_eq!(report["interfaces"][0]["ingress"]["socket"], 10);
        assert_eq!(report["losses"].as_array().unwrap().len(), 1);
        assert!(report.get("filter").is_none());
    }

    #[test]
    fn a_filter_is_reported_and_applied() {
        let report = report("tcp port 443");
        assert_eq!(report["filter"], "tcp and port 443");
        assert_eq!(report["flows"].as_array().unwrap().len(), 1);
        assert_eq!(report["processes"].as_array().unwrap().len(), 1);
        assert_eq!(report["totals"]["app"]["tx_bytes"], 207);
    }
}
