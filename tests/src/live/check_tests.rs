//! The checks must find faults: each test adds one fault to a correct stream.

use super::*;
use crate::{
    live::counters::Counter,
    truth::{Blind, Moved, Truth},
};

const GOOD: &str = r#"{"v":1,"seq":0,"time":"2025-01-01T00:00:00.000000000Z","type":"status","coverage":[{"capability":"app bytes by process","backend":"tracepoint","limits":"splice"}]}
{"v":1,"seq":1,"time":"t","type":"process.exec","process":{"pid":7,"start_time":5,"name":"gen","exe":"/x/gen","cmdline":["/x/gen","tcp-up"]}}
{"v":1,"seq":2,"time":"t","type":"flow.open","flow":{"id":"a-1.2.3.4:5","socket":10,"protocol":"tcp","direction":"outbound","remote":{"ip":"1.2.3.4","port":5},"interface":"veth0"},"process":{"pid":7,"start_time":5,"name":"gen"},"app":{"tx_bytes":0,"rx_bytes":0,"tx_calls":0,"rx_calls":0}}
{"v":1,"seq":3,"time":"t","type":"flow.update","flow":{"id":"a-1.2.3.4:5","socket":10},"process":{"pid":7,"start_time":5},"app":{"tx_bytes":600,"rx_bytes":10,"tx_calls":1,"rx_calls":1},"wire":{"tx_bytes":640,"rx_bytes":50,"tx_packets":1,"rx_packets":1}}
{"v":1,"seq":4,"time":"t","type":"flow.open","flow":{"id":"b-1.2.3.4:6","socket":11,"remote":{"ip":"::ffff:1.2.3.4","port":6}},"process":{"pid":7,"start_time":5},"app":{"tx_bytes":400,"rx_bytes":0,"tx_calls":1,"rx_calls":0}}
{"v":1,"seq":5,"time":"t","type":"flow.close","flow":{"id":"a-1.2.3.4:5","socket":10},"process":{"pid":7,"start_time":5},"app":{"tx_bytes":600,"rx_bytes":10,"tx_calls":1,"rx_calls":1},"reason":"closed"}
{"v":1,"seq":6,"time":"t","type":"process.exit","process":{"pid":7,"start_time":5},"app":{"tx_bytes":1000,"rx_bytes":10,"tx_calls":2,"rx_calls":1}}
{"v":1,"seq":7,"time":"t","type":"ledger","interface":{"name":"veth0","index":3},"ingress":{"frames":64,"socket":64,"forwarded":0,"kernel":0,"packet_socket":0,"not_ip":0,"offload":0,"unexplained":0},"egress":{"frames":700,"socket":654,"forwarded":0,"kernel":40,"packet_socket":0,"not_ip":6,"offload":0,"unexplained":0}}
"#;

fn truth() -> Truth {
    Truth {
        pid: 7,
        mode: "tcp-up".into(),
        exe: "/x/gen".into(),
        comm: "gen".into(),
        argv: vec!["/x/gen".into(), "tcp-up".into()],
        argv_bytes: 14,
        moved: Moved {
            tx_bytes: 1000,
            rx_bytes: 10,
            tx_calls: 2,
            rx_calls: 1,
        },
        ..Truth::default()
    }
}

fn readings() -> Readings {
    let at = |ingress, egress| Counters::from([("veth0".into(), Counter { ingress, egress })]);
    Readings {
        before_start: at(100, 200),
        after_start: at(100, 200),
        before_stop: at(164, 900),
        after_stop: at(164, 900),
    }
}

/// All differences of a stream.
fn all(text: &str) -> Vec<Difference> {
    let parsed = Stream::parse(text.as_bytes());
    let mut found = stream(&parsed, false);
    found.extend(processes(&parsed, &[truth()], Backend::Fexit));
    found.extend(ledgers(&parsed, &readings(), &["veth0"]));
    found.extend(interface(&parsed, "veth0", Precision::Bounds));
    found
}

/// The differences once `from` is replaced by `to`.
fn broken(from: &str, to: &str) -> Vec<String> {
    assert!(GOOD.contains(from), "{from} is not in the stream");
    let found = all(&GOOD.replace(from, to));
    found
        .into_iter()
        .map(|difference| difference.what)
        .collect()
}

#[test]
fn a_right_stream_has_no_differences() {
    assert_eq!(all(GOOD), []);
    let parsed = Stream::parse(GOOD.as_bytes());
    assert_eq!(parsed.backend.as_deref(), Some("tracepoint"));
}

#[test]
fn one_byte_too_few_is_found() {
    let found = broken(r#""app":{"tx_bytes":400"#, r#""app":{"tx_bytes":399"#);
    assert_eq!(found, ["app.tx_bytes", "process.exit"]);
}

#[test]
fn one_byte_too_many_is_found() {
    let found = broken(
        r#""tx_bytes":600,"rx_bytes":10"#,
        r#""tx_bytes":600,"rx_bytes":11"#,
    );
    assert_eq!(found, ["app.rx_bytes", "process.exit"]);
}

#[test]
fn a_gap_and_a_line_that_is_no_json_are_found() {
    assert_eq!(broken(r#""seq":6"#, r#""seq":8"#), ["seq", "seq"]);
    assert_eq!(
        broken(r#""type":"process.exit""#, r#""type":"process.exi"#)[0],
        "line"
    );
    let cut = &GOOD[..GOOD.len() - 1];
    assert_eq!(all(cut)[0].what, "last line");
}

#[test]
fn a_counter_that_goes_down_is_found() {
    let found = broken(
        r#""flow.close","flow":{"id":"a-1.2.3.4:5","socket":10},"process":{"pid":7,"start_time":5},"app":{"tx_bytes":600"#,
        r#""flow.close","flow":{"id":"a-1.2.3.4:5","socket":10},"process":{"pid":7,"start_time":5},"app":{"tx_bytes":500"#,
    );
    assert!(
        found.contains(&"app.tx_bytes of flow a-1.2.3.4:5 of process 7 5".to_owned()),
        "{found:?}"
    );
}

#[test]
fn loss_is_found() {
    assert_eq!(
        broken(r#""type":"status""#, r#""type":"lost""#),
        ["records"]
    );
}

#[test]
fn returns_are_missed_exactly_where_that_is_expected() {
    let lost = GOOD.replace(
        r#""type":"status""#,
        r#""type":"lost","cause":"return_missed""#,
    );
    let found = |text: &str, misses| stream(&Stream::parse(text.as_bytes()), misses).len();
    assert_eq!(found(&lost, true), 0);
    assert_eq!(found(&lost, false), 1);
    assert_eq!(found(GOOD, true), 1);
}

#[test]
fn a_wrong_or_missing_name_is_found() {
    assert_eq!(broken(r#""name":"gen""#, r#""name":"ge""#), ["name"]);
    assert_eq!(broken(r#""exe":"/x/gen""#, r#""exe":"/y/gen""#), ["exe"]);
    assert_eq!(broken(r#","cmdline":["/x/gen","tcp-up"]"#, ""), ["cmdline"]);
    assert_eq!(
        broken(r#"["/x/gen","tcp-up"]"#, r#"["/x/gen","tcp-u"]"#),
        ["cmdline"]
    );
}

#[test]
fn a_process_that_was_not_seen_is_found() {
    let found = broken(r#""pid":7"#, r#""pid":8"#);
    assert_eq!(
        found,
        ["app.tx_bytes", "app.rx_bytes", "processes with this id"]
    );
}

#[test]
fn long_arguments_may_be_cut_but_not_changed() {
    let mut long = truth();
    long.argv = vec!["a".repeat(3000), "é".repeat(50_000)];
    long.argv_bytes = 103_002;
    let identity = |text: &str| Identity {
        name: Some("gen".into()),
        exe: Some("/x/gen".into()),
        cmdline: Some(text.split('\0').map(str::to_owned).collect()),
        exit: None,
    };
    let cut = format!("{}\0{}\u{fffd}", "a".repeat(3000), "é".repeat(500));
    assert_eq!(named("", &identity(&cut), &long), []);
    assert_eq!(named("", &identity(&cut.replace('é', "e")), &long).len(), 1);
    assert_eq!(named("", &identity("a"), &long).len(), 1);
}

#[test]
fn a_ledger_that_does_not_add_up_is_found() {
    assert_eq!(
        broken(r#""kernel":40"#, r#""kernel":39"#),
        ["sum of causes"]
    );
    assert_eq!(
        broken(
            r#""kernel":40,"packet_socket":0,"not_ip":6,"offload":0,"unexplained":0"#,
            r#""kernel":39,"packet_socket":0,"not_ip":6,"offload":0,"unexplained":1"#
        ),
        ["unexplained"]
    );
    assert_eq!(
        broken(r#""frames":64,"socket":64"#, r#""frames":65,"socket":65"#),
        ["frames", "ingress socket"]
    );
}

#[test]
fn traffic_while_starting_may_be_unexplained() {
    let text = GOOD.replace(r#""frames":64,"socket":64"#, r#""frames":65,"socket":64"#);
    let text = text.replacen(r#""unexplained":0"#, r#""unexplained":1"#, 1);
    let parsed = Stream::parse(text.as_bytes());
    assert_eq!(ledgers(&parsed, &readings(), &["veth0"]).len(), 2);
    let mut readings = readings();
    readings.before_start.get_mut("veth0").unwrap().ingress = 99;
    assert_eq!(ledgers(&parsed, &readings, &["veth0"]), []);
}

#[test]
fn bytes_of_a_bulk_transfer_must_have_left_the_interface() {
    let found = broken(
        r#""frames":700,"socket":654"#,
        r#""frames":645,"socket":599"#,
    );
    assert!(found.contains(&"egress socket".to_owned()), "{found:?}");
    let found = broken(r#""wire":{"tx_bytes":640"#, r#""wire":{"tx_bytes":639"#);
    assert_eq!(found, ["egress socket"]);

    let exact = |text: &str| interface(&Stream::parse(text.as_bytes()), "veth0", Precision::Exact);
    assert_eq!(exact(GOOD), []);
    let merged = GOOD.replace(r#""tx_packets":1"#, r#""tx_packets":2"#);
    assert_eq!(exact(&merged)[0].what, "egress socket");
}

#[test]
fn what_a_backend_cannot_see_is_not_expected_of_it() {
    let mut truth = truth();
    let waiting = Moved {
        rx_bytes: 5,
        ..Moved::default()
    };
    truth.moved.rx_bytes += 5;
    truth.blind.insert(Blind::CallsUnderWay, waiting);
    assert_eq!(visible(&truth, Backend::Fexit).most.rx_bytes, 10);
    assert_eq!(visible(&truth, Backend::Tracepoint).least.rx_bytes, 15);
    let parsed = Stream::parse(GOOD.as_bytes());
    assert_eq!(processes(&parsed, &[truth.clone()], Backend::Fexit), []);
    assert_eq!(
        processes(&parsed, &[truth], Backend::Tracepoint)[0].what,
        "app.rx_bytes"
    );
}

#[test]
fn remotes_are_compared_one_by_one() {
    let mut truth = truth();
    let moved = |tx_bytes, rx_bytes| Moved {
        tx_bytes,
        rx_bytes,
        ..Moved::default()
    };
    truth.remotes.insert("1.2.3.4:5".into(), moved(600, 10));
    // The stream's v4-mapped form is the same remote.
    truth.remotes.insert("1.2.3.4:6".into(), moved(400, 0));
    let text = GOOD.replace(r#""protocol":"tcp""#, r#""protocol":"udp""#);
    let parsed = Stream::parse(text.as_bytes());
    assert_eq!(processes(&parsed, &[truth.clone()], Backend::Fexit), []);
    truth.remotes.insert("1.2.3.4:6".into(), moved(399, 0));
    let found = processes(&parsed, &[truth], Backend::Fexit);
    assert_eq!(found[0].what, "bytes with 1.2.3.4:6");
}

#[test]
fn a_process_that_became_another_program_is_one() {
    let (mut first, mut second) = (truth(), truth());
    first.argv = vec!["before".into()];
    first.moved.tx_bytes = 400;
    first.moved.rx_bytes = 0;
    second.moved.tx_bytes = 600;
    let parsed = Stream::parse(GOOD.as_bytes());
    assert_eq!(processes(&parsed, &[first, second], Backend::Fexit), []);
}

#[test]
fn what_a_backend_is_said_not_to_see_it_must_not_show() {
    let mut truth = truth();
    let spliced = Moved {
        rx_bytes: 5,
        ..Moved::default()
    };
    truth.blind.insert(Blind::SpliceFromTls, spliced);
    let parsed = Stream::parse(GOOD.as_bytes());
    let found = processes(&parsed, &[truth], Backend::Tracepoint);
    assert_eq!(found[0].what, "app.rx_bytes");
}

#[test]
fn some_returns_are_missed_where_probes_run_out_but_not_none() {
    let mut truth = truth();
    let waiting = |rx_bytes| Moved {
        rx_bytes,
        ..Moved::default()
    };
    let found = |truth: &Truth, backend| {
        let parsed = Stream::parse(GOOD.as_bytes());
        processes(&parsed, std::slice::from_ref(truth), backend).len()
    };
    truth.blind.insert(Blind::ReturnProbesExhausted, waiting(4));
    assert_eq!(found(&truth, Backend::Kprobe), 1, "all were seen");
    truth.moved.rx_bytes = 12;
    assert_eq!(found(&truth, Backend::Kprobe), 0);
    assert_eq!(found(&truth, Backend::Fexit), 1);
    truth.moved.rx_bytes = 15;
    assert_eq!(
        found(&truth, Backend::Kprobe),
        1,
        "more than those were missed"
    );
}

#[test]
fn processes_that_shared_a_pid_are_distinguished() {
    let second = r#"{"v":1,"seq":8,"time":"t","type":"process.exec","process":{"pid":7,"start_time":9,"name":"gen","exe":"/x/gen","cmdline":["/x/gen","tcp-up"]}}
{"v":1,"seq":9,"time":"t","type":"flow.open","flow":{"id":"a-1.2.3.4:5","socket":10},"process":{"pid":7,"start_time":9},"app":{"tx_bytes":3,"rx_bytes":0,"tx_calls":1,"rx_calls":0}}
{"v":1,"seq":10,"time":"t","type":"process.exit","process":{"pid":7,"start_time":9},"app":{"tx_bytes":3,"rx_bytes":0,"tx_calls":1,"rx_calls":0}}
"#;
    let (mut younger, text) = (truth(), format!("{GOOD}{second}"));
    younger.start = 1;
    younger.moved = Moved {
        tx_bytes: 3,
        ..Moved::default()
    };
    let found = |text: &str, truths: &[Truth]| {
        processes(&Stream::parse(text.as_bytes()), truths, Backend::Fexit)
    };
    let both = [younger.clone(), truth()];
    assert_eq!(found(&text, &both), []);
    assert_eq!(found(GOOD, &both)[0].what, "processes with this id");
    younger.moved.tx_bytes = 4;
    assert_eq!(found(&text, &[younger, truth()])[0].what, "app.tx_bytes");
}
