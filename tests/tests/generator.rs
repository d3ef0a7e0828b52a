//! Tests of the generator: what one end reports as sent, the other reports as received.

#![expect(
    clippy::unwrap_used,
    reason = "a test panics, it does not return an error"
)]

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Write as _},
    net::SocketAddr,
    process::{Child, ChildStdout, Command, Stdio},
};

use flow_tests::{
    generate::MODES,
    truth::{Line, Truth},
};

/// A process of the generator. Ends on drop.
struct Process {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Process {
    fn start(mode: &str, arguments: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_flow-live"))
            .args(["generate", mode])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, output }
    }

    fn serve() -> (Self, SocketAddr) {
        let mut server = Self::start("serve", &["--listen", "127.0.0.1:0"]);
        let mut line = String::new();
        server.output.read_line(&mut line).unwrap();
        match serde_json::from_str(&line).unwrap() {
            Line::Listening { address } => (server, address),
            other => panic!("{other:?}"),
        }
    }

    /// Lets it continue, ends its input, and reads what its processes moved.
    fn finish(mut self) -> Vec<Truth> {
        let mut input = self.child.stdin.take().unwrap();
        // A mode that does not read its input may be gone already.
        let _ = input.write_all(b"go\n");
        drop(input);
        let lines = (&mut self.output).lines();
        let truths = lines
            .filter_map(|line| match serde_json::from_str(&line.unwrap()).unwrap() {
                Line::Moved(truth) => Some(*truth),
                _ => None,
            })
            .collect();
        assert!(self.child.wait().unwrap().success());
        truths
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn run(mode: &str, more: &[&str]) -> Vec<Truth> {
    let (server, address) = Process::serve();
    let peer = address.to_string();
    let mut arguments = vec!["--peer", &peer, "--bytes", "300000", "--count", "6"];
    arguments.extend(more);
    let mut truths = Process::start(mode, &arguments).finish();
    truths.extend(server.finish());
    truths
}

/// Modes that need root, that lose bytes, that wait for several words to go on, or that other modes
/// start.
const UNEVEN: [&str; 39] = [
    "accepted-idle",
    "addressless",
    "away",
    "exec-rest",
    "group-send",
    "group-take",
    "icmp-ping",
    "icmp-raw",
    "icmp6-raw",
    "idle-before",
    "ip-protocol",
    "kernel-reader",
    "kinds-before",
    "knock",
    "left-namespace",
    "mixed-senders",
    "never-accepted",
    "other-time",
    "packets",
    "portless-peers",
    "renamed",
    "same-pid",
    "serve",
    "splice-before",
    "stubborn",
    "tcp-failed",
    "tcp-fast-open",
    "tcp-reset",
    "tcp6-options",
    "two-namespaces",
    "udp-buffers",
    "udp-chatter",
    "udp-dropped",
    "udp-error-queue",
    "udp-heirs",
    "udp-truncated",
    "udp-unasked",
    "unspecified",
    "zones",
];

#[test]
fn every_byte_sent_is_received() {
    for mode in MODES.iter().filter(|mode| !UNEVEN.contains(&mode.name)) {
        let truths = run(mode.name, &[]);
        let sum = |field: fn(&Truth) -> u64| truths.iter().map(field).sum::<u64>();
        let sent = sum(|truth| truth.moved.tx_bytes);
        let received = sum(|truth| truth.moved.rx_bytes);
        assert_eq!(sent, received, "{}: {truths:?}", mode.name);
        let nothing = truths.iter().any(|truth| truth.lacks.is_some());
        let expected = nothing || mode.name == "tcp-refused";
        assert_eq!(sent == 0, expected, "{}", mode.name);
    }
}

#[test]
fn a_reset_loses_bytes_but_no_count() {
    let truths = run("tcp-reset", &[]);
    assert_eq!(truths[0].moved.tx_bytes, 300_009);
    assert!(truths[1].moved.rx_bytes <= 300_009);
}

#[test]
fn each_process_reports_its_own() {
    let truths = run("short-processes", &[]);
    let mut amounts = BTreeMap::new();
    for truth in truths.iter().filter(|truth| truth.mode == "tcp-both") {
        assert!(
            truth.exe.ends_with(&format!("/{}", truth.comm)),
            "{truth:?}"
        );
        assert!(amounts.insert(truth.comm.clone(), truth.moved).is_none());
    }
    assert_eq!(amounts.len(), 6);
    assert_eq!(amounts["short-3"].tx_bytes, 300_003 + 9);
    assert_eq!(amounts["short-3"].rx_bytes, 300_003);

    let truths = run("forked-sender", &[]);
    let senders: Vec<_> = truths
        .iter()
        .filter(|truth| truth.mode == "forked-sender")
        .collect();
    assert_eq!(senders.len(), 5);
}

#[test]
fn hostile_names_are_what_they_claim() {
    let truths = run("hostile", &[]);
    let hostile: Vec<_> = truths
        .iter()
        .filter(|truth| truth.mode == "tcp-both")
        .collect();
    assert_eq!(hostile.len(), 2);
    assert!(
        hostile[0].exe.contains("\u{1b}]0;x\u{7} \u{fffd}"),
        "{:?}",
        hostile[0].exe
    );
    assert!(hostile[0].argv_bytes < 4096);
    assert!(hostile[1].argv_bytes > 100_000);
}

#[test]
fn a_process_that_executes_another_program_reports_twice() {
    let truths = run("exec", &[]);
    let [first, second, _] = truths.as_slice() else {
        panic!("{truths:?}");
    };
    assert_eq!(first.pid, second.pid);
    assert_ne!(first.argv, second.argv);
}

#[test]
fn remotes_add_up() {
    let truths = run("udp-many", &[]);
    for truth in truths {
        let sum: u64 = truth.remotes.values().map(|moved| moved.tx_bytes).sum();
        assert_eq!(sum, truth.moved.tx_bytes);
    }
}
