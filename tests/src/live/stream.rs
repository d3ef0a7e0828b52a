//! Parses the event stream of `flow events --json` for the checks.
//!
//! Only the content of the stream is kept; nothing is corrected. Violations of the stream's own
//! rules (invalid JSON, a gap in `seq`, a cumulative value that fell) are kept as differences.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::{
    cumulative::{Cumulative, Fall},
    difference::Difference,
};
use crate::truth::Moved;

/// A process as the stream identifies it: pid and start time.
pub type Process = (u32, String);

/// The final state of everything that a stream reported.
#[derive(Debug, Default)]
pub struct Stream {
    /// By flow id and process; the process is absent for a socket that no process used.
    pub flows: HashMap<(String, Option<Process>), Flow>,
    pub processes: HashMap<Process, Identity>,
    /// By name.
    pub interfaces: HashMap<String, Ledger>,
    /// Records of type `lost`, in order.
    pub lost: Vec<Value>,
    pub records: u64,
    /// The backend of app bytes, from the first `status` record.
    pub backend: Option<String>,
    /// The limits of that backend, as text.
    pub limits: String,
    /// Violations of the stream's own rules.
    pub faults: Vec<Difference>,
    next_seq: Option<u64>,
    cumulative: Cumulative,
}

/// A process's part of a flow.
#[derive(Clone, Debug, Default)]
pub struct Flow {
    pub socket: String,
    pub local: Option<String>,
    /// Its local address in the last record that opened it.
    pub opened_from: Option<String>,
    pub remote: Option<String>,
    pub direction: Option<String>,
    pub interface: Option<String>,
    pub protocol: Option<String>,
    pub app: Moved,
    pub wire: Wire,
    pub opened: bool,
    /// Whether it was there before Flow attached.
    pub existed: bool,
    /// Number of the last record that opened it.
    pub opened_at: u64,
    pub closed: bool,
    pub reason: Option<String>,
}

/// Layer-3 bytes and packets of a flow's socket, for all its processes together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wire {
    pub tx_bytes: u64,
    pub rx_bytes: u64,
    pub tx_packets: u64,
    pub rx_packets: u64,
}

/// A process's names in the stream.
#[derive(Clone, Debug, Default)]
pub struct Identity {
    pub name: Option<String>,
    pub exe: Option<String>,
    pub cmdline: Option<Vec<String>>,
    /// Totals of its `process.exit`.
    pub exit: Option<Moved>,
}

/// The ledger of an interface.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// Whether its packets are classified.
    pub classified: bool,
    pub ingress: Side,
    pub egress: Side,
}

/// One direction of a ledger; bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Side {
    pub frames: i128,
    pub socket: i128,
    pub forwarded: i128,
    pub kernel: i128,
    pub packet_socket: i128,
    pub not_ip: i128,
    pub offload: i128,
    pub unexplained: i128,
}

/// What the sockets of these flows moved, by socket. Each row has the totals of its socket until it
/// is closed: the largest is the newest.
pub fn wires<'a>(flows: impl IntoIterator<Item = &'a Flow>) -> BTreeMap<&'a str, Wire> {
    let mut wires = BTreeMap::<&str, Wire>::new();
    let packets = |wire: &Wire| wire.tx_packets + wire.rx_packets;
    for flow in flows {
        let newest = wires.entry(&flow.socket).or_default();
        if packets(&flow.wire) > packets(newest) {
            *newest = flow.wire;
        }
    }
    wires
}

impl Stream {
    /// Parses a whole stream.
    pub fn parse(text: &[u8]) -> Self {
        let mut stream = Self::default();
        if !text.is_empty() && !text.ends_with(b"\n") {
            stream.fault("last line", "ended by a newline", "it is not");
        }
        for line in text.split(|byte| *byte == b'\n') {
            if !line.is_empty() {
                stream.line(line);
            }
        }
        stream
    }

    /// The processes with this pid, in the order in which they started.
    pub fn processes_of(&self, pid: u32) -> Vec<&Process> {
        let mut found: Vec<_> = self.processes.keys().filter(|(id, _)| *id == pid).collect();
        // Times have one notation and one length, so text can be compared.
        found.sort();
        found
    }

    /// Everything the stream reports of these processes, summed over their flows.
    pub fn app_of(&self, processes: &[&Process]) -> Moved {
        let mut sum = Moved::default();
        for ((_, process), flow) in &self.flows {
            if process.as_ref().is_some_and(|it| processes.contains(&it)) {
                sum += flow.app;
            }
        }
        sum
    }

    fn line(&mut self, line: &[u8]) {
        self.records += 1;
        let record: Value = match serde_json::from_slice(line) {
            Ok(record) => record,
            Err(error) => {
                let shown: String = String::from_utf8_lossy(line).chars().take(120).collect();
                self.fault("line", "JSON", &format!("{error}: {shown}"));
                return;
            }
        };
        self.sequence(&record);
        if record["v"] != 1 {
            self.fault("v", "1", &record["v"].to_string());
        }
        if !record["time"].is_string() {
            self.fault("time", "a string", &record["time"].to_string());
        }
        let Some(kind) = record["type"].as_str() else {
            self.fault("type", "a string", &record["type"].to_string());
            return;
        };
        for Fall { what, before, now } in self.cumulative.take(&record) {
            self.fault(&what, &format!("{before} or more"), &now.to_string());
        }
        match kind {
            "flow.open" | "flow.update" | "flow.close" => self.flow(kind, &record),
            "process.exec" => {
                self.process(&record);
            }
            "process.exit" => {
                let process = self.process(&record);
                match process.and_then(|process| self.processes.get_mut(&process)) {
                    Some(identity) => identity.exit = Some(moved(&record["app"])),
                    None => self.fault("process.exit", "a process", "none"),
                }
            }
            "ledger" => self.ledger(&record),
            "lost" => self.lost.push(record),
            "status" => {
                if self.backend.is_none()
                    && let Some((backend, limits)) = app_backend(&record)
                {
                    self.backend = Some(backend);
                    self.limits = limits;
                }
            }
            other => self.fault("type", "a known type", other),
        }
    }

    fn sequence(&mut self, record: &Value) {
        let Some(seq) = record["seq"].as_u64() else {
            self.fault("seq", "a number", &record["seq"].to_string());
            return;
        };
        if let Some(expected) = self.next_seq
            && seq != expected
        {
            self.fault("seq", &expected.to_string(), &seq.to_string());
        }
        self.next_seq = Some(seq + 1);
    }

    fn flow(&mut self, kind: &str, record: &Value) {
        let process = self.process(record);
        let facts = &record["flow"];
        let Some(id) = text(&facts["id"]) else {
            self.fault(kind, "flow.id", "none");
            return;
        };
        let app = moved(&record["app"]);
        let flow = self.flows.entry((id.clone(), process)).or_default();
        let before = flow.app;
        let opens = kind == "flow.open";
        if opens {
            flow.opened_at = self.records;
            flow.opened_from = endpoint(&facts["local"]);
        }
        let reopened = opens && flow.opened && !flow.closed;
        // A row without bytes may move to another process or remote and back.
        let after_close = flow.closed && (!opens || before != Moved::default());
        keep(&mut flow.interface, text(&facts["interface"]));
        keep(&mut flow.direction, text(&facts["direction"]));
        keep(&mut flow.protocol, text(&facts["protocol"]));
        keep(&mut flow.local, endpoint(&facts["local"]));
        keep(&mut flow.remote, endpoint(&facts["remote"]));
        keep(
            &mut flow.reason,
            text(&record["reason"]).or_else(|| text(&facts["reason"])),
        );
        if let Some(socket) = text(&facts["socket"]) {
            flow.socket = socket;
        }
        flow.opened |= opens;
        flow.existed |= facts["existed"] == true;
        flow.closed = kind == "flow.close" || (flow.closed && !opens);
        // Absent means unknown, not zero.
        if record["app"].is_object() {
            flow.app = app;
        }
        if record["wire"].is_object() {
            flow.wire = Wire {
                tx_bytes: number(&record["wire"]["tx_bytes"]),
                rx_bytes: number(&record["wire"]["rx_bytes"]),
                tx_packets: number(&record["wire"]["tx_packets"]),
                rx_packets: number(&record["wire"]["rx_packets"]),
            };
        }
        if reopened {
            let another = format!("another: {record}");
            self.fault(
                &format!("flow {id}"),
                "flow.close before another flow.open",
                &another,
            );
        }
        if after_close {
            let more = record.to_string();
            self.fault(&format!("flow {id}"), "nothing after flow.close", &more);
        }
    }

    /// Records the process of a record.
    fn process(&mut self, record: &Value) -> Option<Process> {
        let facts = record.get("process")?;
        let Some(pid) = facts["pid"]
            .as_u64()
            .and_then(|pid| u32::try_from(pid).ok())
        else {
            self.fault("process.pid", "a number", &facts["pid"].to_string());
            return None;
        };
        let process = (pid, text(&facts["start_time"]).unwrap_or_default());
        let identity = self.processes.entry(process.clone()).or_default();
        keep(&mut identity.name, text(&facts["name"]));
        keep(&mut identity.exe, text(&facts["exe"]));
        if let Some(arguments) = facts["cmdline"].as_array() {
            identity.cmdline = Some(arguments.iter().filter_map(text).collect());
        }
        Some(process)
    }

    fn ledger(&mut self, record: &Value) {
        let Some(name) = text(&record["interface"]["name"]) else {
            self.fault("ledger", "interface.name", &record["interface"].to_string());
            return;
        };
        let ledger = Ledger {
            classified: record["interface"]["classified"] == true,
            ingress: side(&record["ingress"]),
            egress: side(&record["egress"]),
        };
        self.interfaces.insert(name, ledger);
    }

    fn fault(&mut self, what: &str, expected: &str, seen: &str) {
        self.faults.push(Difference {
            subject: format!("record {}", self.records),
            what: what.to_owned(),
            expected: expected.to_owned(),
            seen: seen.to_owned(),
        });
    }
}

/// The newest known value.
fn keep(known: &mut Option<String>, newer: Option<String>) {
    if newer.is_some() {
        *known = newer;
    }
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

fn moved(app: &Value) -> Moved {
    Moved {
        tx_bytes: number(&app["tx_bytes"]),
        rx_bytes: number(&app["rx_bytes"]),
        tx_calls: number(&app["tx_calls"]),
        rx_calls: number(&app["rx_calls"]),
    }
}

fn endpoint(value: &Value) -> Option<String> {
    let ip = value["ip"].as_str()?;
    let port = u16::try_from(value["port"].as_u64()?).ok()?;
    if let Some((address, zone)) = ip.split_once('%') {
        let address: std::net::Ipv6Addr = address.parse().ok()?;
        return Some(format!("[{address}%{zone}]:{port}"));
    }
    let ip: std::net::IpAddr = ip.parse().ok()?;
    Some(std::net::SocketAddr::new(ip.to_canonical(), port).to_string())
}

fn side(value: &Value) -> Side {
    let bytes = |name: &str| value[name].as_i64().map_or(0, i128::from);
    Side {
        frames: bytes("frames"),
        socket: bytes("socket"),
        forwarded: bytes("forwarded"),
        kernel: bytes("kernel"),
        packet_socket: bytes("packet_socket"),
        not_ip: bytes("not_ip"),
        offload: bytes("offload"),
        unexplained: bytes("unexplained"),
    }
}

/// The backend of app bytes and its limits, wherever in the record the capabilities are.
fn app_backend(value: &Value) -> Option<(String, String)> {
    match value {
        Value::Object(fields) => {
            let is_app = fields
                .get("capability")
                .and_then(Value::as_str)
                .is_some_and(|name| name.starts_with("app"));
            match fields.get("backend").and_then(text) {
                Some(backend) if is_app => {
                    let limits = fields.get("limits").and_then(text);
                    Some((backend, limits.unwrap_or_default()))
                }
                _ => fields.values().find_map(app_backend),
            }
        }
        Value::Array(values) => values.iter().find_map(app_backend),
        _ => None,
    }
}

/// Reads the records one by one; the last line may be incomplete.
///
/// # Errors
/// A line is not JSON.
pub fn records(stream: &[u8]) -> Result<Vec<Value>> {
    stream
        .split_inclusive(|byte| *byte == b'\n')
        .filter(|line| line.ends_with(b"\n"))
        .map(|line| serde_json::from_slice(line).context("a line of flow"))
        .collect()
}
