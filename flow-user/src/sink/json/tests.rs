//! The stream against its schema.

use std::{fs, path::PathBuf, sync::Arc};

use serde_json::{Value, json};

use super::*;
use crate::{
    event::{CloseReason, Direction, Loss, RoundTrip, TcpFacts},
    model::{change::Change, snapshot::Process},
    query::fixture,
    sink::json::record::FlowRecord,
};

fn clock() -> Clock {
    Clock {
        boot: "2026-05-01T14:00:00Z".parse().unwrap(),
    }
}

/// Every kind of change, with everything known and with as little as can be.
fn changes() -> Vec<Change> {
    let hostile = "x\u{1b}]0;\n\u{202e}\u{0}";
    let mut full = Process::clone(&fixture::process(7, "/usr/bin/curl", &["curl", hostile]));
    full.user = Some("user1000".into());
    let full = Arc::new(full);
    let mut ended = Process::clone(&full);
    ended.totals = fixture::totals(9, 8);
    ended.overflow = fixture::totals(1, 0);
    let mut bare = Process::clone(&full);
    bare.program = crate::event::Program::default();
    bare.program.cmdline_cut = true;
    bare.parent = None;
    bare.lineage.clear();
    bare.uid = None;
    bare.user = None;
    bare.cgroup_path = None;
    let mut flow = fixture::flow(0x1f3, &full, "10.0.0.2:5000", Some("[2001:db8::1]:443"));
    flow.direction = Some(Direction::Outbound);
    flow.tcp = Some(TcpFacts {
        rtt: RoundTrip::from_micros(400),
        min_rtt: None,
        retransmits: 2,
    });
    let mut unowned = flow.clone();
    unowned.process = None;
    unowned.key.process = None;
    unowned.key.remote = None;
    unowned.direction = None;
    unowned.netns = None;
    unowned.interface = None;
    unowned.wire = None;
    unowned.tcp = None;
    let mut closed = flow.clone();
    closed.closed = Some((Instant(5_000_000_000), CloseReason::Refused));
    let mut interface = fixture::interface(hostile, 100, 90).as_ref().clone();
    interface.egress_ledger.unexplained = -3;
    let mut changes = vec![
        Change::Status(fixture::snapshot(vec![], vec![], vec![]).coverage),
        Change::FlowOpened(Arc::new(unowned)),
        Change::FlowOpened(Arc::new(flow.clone())),
        Change::FlowUpdated(Arc::new(flow)),
        Change::FlowClosed(Arc::new(closed)),
        Change::ProcessExec(full),
        Change::ProcessExec(Arc::new(bare)),
        Change::ProcessExit {
            process: Arc::new(ended),
            status: Some(256),
        },
        Change::Ledger(Arc::new(interface)),
    ];
    changes.extend(Loss::ALL.map(|cause| Change::Lost { cause, count: 3 }));
    changes
}

fn encoded(encoder: &mut Encoder, change: &TimedChange) -> String {
    let mut line = BytesMut::new();
    encoder.encode(change, &mut line);
    String::from_utf8(line.into()).unwrap()
}

fn lines() -> Vec<String> {
    let mut encoder = Encoder::new(clock());
    let mut lines = Vec::new();
    for change in changes() {
        let time = Instant(60_000_000_001);
        lines.push(encoded(&mut encoder, &TimedChange { time, change }));
    }
    let mut line = BytesMut::new();
    encoder.coalesced(Instant(1), 5, &mut line);
    lines.push(String::from_utf8(line.into()).unwrap());
    lines
}

#[test]
fn every_line_is_valid_numbered_and_without_null() {
    let schema = schema();
    let validator = jsonschema::validator_for(&schema).unwrap();
    for (index, line) in lines().iter().enumerate() {
        assert!(!line.contains('\n') && !line.contains('\u{1b}'), "{line}");
        assert!(!line.contains("null"), "{line}");
        let value: Value = serde_json::from_str(line).unwrap();
        let errors: Vec<_> = validator
            .iter_errors(&value)
            .map(|it| it.to_string())
            .collect();
        assert!(errors.is_empty(), "{line}: {errors:?}");
        assert_eq!(value["seq"], index + 1);
        let head = format!("{{\"v\":1,\"seq\":{},\"time\":\"2026-05-01T14:0", index + 1);
        assert!(line.starts_with(&head), "{line}");
    }
}

#[test]
fn the_type_is_the_name_of_the_kind() {
    for change in changes() {
        let (time, name) = (Instant(0), change.kind().name());
        let line = encoded(&mut Encoder::new(clock()), &TimedChange { time, change });
        assert!(line.contains(&format!(r#""type":"{name}""#)), "{line}");
    }
}

#[test]
fn what_does_not_follow_the_schema_is_refused() {
    let schema = schema();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let time = "2026-05-01T14:00:00.000000000Z";
    for bad in [
        json!({"v": 1, "seq": 1, "time": time, "type": "nonsense"}),
        json!({"v": 2, "seq": 1, "time": time, "type": "lost", "cause": "app_full", "count": 1}),
        json!({"v": 1, "seq": 0, "time": time, "type": "lost", "cause": "app_full", "count": 1}),
        json!({"v": 1, "seq": 1, "time": time, "type": "lost", "cause": "gremlins", "count": 1}),
        json!({"v": 1, "seq": 1, "time": time, "type": "flow.open"}),
    ] {
        assert!(!validator.is_valid(&bad), "{bad}");
    }
}

#[test]
fn a_closed_flow_in_full() {
    let lines = lines();
    let line = lines
        .iter()
        .find(|line| line.contains("flow.close"))
        .unwrap();
    let value: Value = serde_json::from_str(line).unwrap();
    assert_eq!(
        value,
        json!({
            "v": 1,
            "seq": 5,
            "time": "2026-05-01T14:01:00.000000001Z",
            "type": "flow.close",
            "flow": {
                "id": "1f3-[2001:db8::1]:443", "socket": "1f3", "protocol": "tcp", "direction": "outbound",
                "local": {"ip": "10.0.0.2", "port": 5000},
                "remote": {"ip": "2001:db8::1", "port": 443},
                "state": "established", "netns": 4_026_531_840_u32, "interface": "eth0",
            },
            "process": {
                "pid": 7, "start_time": "2026-05-01T14:00:01.000000000Z", "ppid": 1, "name": "curl",
                "exe": "/usr/bin/curl", "cmdline": ["curl", "x\u{1b}]0;\n\u{202e}\u{0}"],
                "uid": 1000, "user": "user1000", "cgroup": "/user.slice/session-44.scope",
                "lineage": [{"pid": 1, "start_time": "2026-05-01T14:00:00.000000000Z", "name": "systemd"}],
            },
            "app": {"tx_bytes": 100, "rx_bytes": 1000, "tx_calls": 3, "rx_calls": 5},
            "wire": {"tx_bytes": 200, "rx_bytes": 1200, "tx_packets": 2, "rx_packets": 3, "retransmits": 2},
            "tcp": {"rtt_us": 400},
            "duration_ns": 3_000_000_000_u64,
            "reason": "refused",
        })
    );
}

#[test]
fn names_of_causes_and_reasons_are_those_of_the_types() {
    for loss in Loss::ALL {
        let cause = LossCause::from(loss);
        assert_eq!(serde_json::to_value(cause).unwrap(), cause.name());
    }
    for reason in [
        CloseReason::Closed,
        CloseReason::Reset,
        CloseReason::Refused,
        CloseReason::Timeout,
        CloseReason::Unreachable,
        CloseReason::Aborted,
        CloseReason::Vanished,
    ] {
        assert_eq!(serde_json::to_value(reason).unwrap(), reason.name());
    }
}

#[test]
fn a_remote_has_its_zone_behind_its_address() {
    let process = fixture::process(7, "/usr/bin/ping", &["ping"]);
    let mut flow = fixture::flow(0x1f3, &process, "[fe80::11]:9", Some("[fe80::99%3]:7005"));
    let remote = |flow: &crate::model::snapshot::Flow| {
        serde_json::to_value(FlowRecord::new(flow)).unwrap()["remote"].clone()
    };
    assert_eq!(remote(&flow), json!({"ip": "fe80::99%3", "port": 7005}));
    flow.zone = Some("v0".into());
    assert_eq!(remote(&flow), json!({"ip": "fe80::99%v0", "port": 7005}));
    flow.key.remote = Some("192.0.2.1:0".parse().unwrap());
    assert_eq!(remote(&flow), json!({"ip": "192.0.2.1", "port": 0}));
}

#[test]
fn the_committed_schemas_are_up_to_date() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/json-schema");
    for (name, schema) in [
        ("events-v1.json", schema()),
        ("snapshot-v1.json", crate::sink::report::schema()),
    ] {
        let path = folder.join(name);
        let generated = serde_json::to_string_pretty(&schema).unwrap() + "\n";
        if std::env::var_os("UPDATE_SCHEMA").is_some() {
            fs::create_dir_all(&folder).unwrap();
            fs::write(&path, &generated).unwrap();
        }
        let committed = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            committed == generated,
            "docs/json-schema/{name} is not what the types say; \
             run: UPDATE_SCHEMA=1 cargo test -p flow-user schemas"
        );
    }
}
