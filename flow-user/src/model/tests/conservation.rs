//! Random scripts: bytes are conserved, every opened flow is closed once, the order of reports
//! does not matter.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::model::{
    snapshot::{FlowKey, Rate},
    tombstone,
};

/// A step of a script.
#[derive(Clone, Debug)]
enum Step {
    Event(Event),
    /// An event that comes this many milliseconds late.
    Late(Event, u64),
    Tick(u64),
}

fn remote() -> impl Strategy<Value = Option<&'static str>> {
    prop::sample::select(vec![None, Some("10.0.0.9:443"), Some("10.0.0.8:53")])
}

fn app_event() -> impl Strategy<Value = Event> {
    (1..5_u64, 10..14_u32, remote(), 0..100_u64, 0..100_u64)
        .prop_map(|(socket, pid, remote, tx, rx)| app(socket, pid, remote, tx, rx))
}

fn socket_event() -> impl Strategy<Value = Event> {
    let owner = prop::option::of(10..14_u32);
    (1..5_u64, owner, 0..7_u8).prop_map(|(socket, owner, shape)| {
        let owned = |fact: SocketFact| SocketFact {
            owner: owner.map(process),
            ..fact
        };
        Event::Socket(match shape {
            0 => connection(socket, owner),
            1 => accepted(socket, owner),
            2 => owned(listener(socket, "0.0.0.0:80", 10)),
            3 => owned(udp(socket, 10)),
            4 => SocketFact {
                local: address("0.0.0.0:53"),
                wire: wire(40),
                ..owned(udp(socket, 10))
            },
            5 => SocketFact {
                remote: Some(address("10.0.0.8:53")),
                state: State::Established,
                ..owned(udp(socket, 10))
            },
            _ => owned(fact(socket, Protocol::Tcp, State::Closed)),
        })
    })
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => app_event(),
        4 => socket_event(),
        1 => (1..5_u64).prop_map(|cookie| Event::SocketEnd {
            cookie: SocketCookie(cookie),
            reason: CloseReason::Closed,
        }),
        1 => (10..14_u32, 0..100_u64).prop_map(|(pid, tx)| Event::Overflow {
            process: process(pid),
            totals: totals(tx, 0),
        }),
        1 => (10..14_u32).prop_map(|pid| Event::ProcessExit {
            id: process(pid),
            status: 0,
        }),
        1 => (10..14_u32).prop_map(|pid| Event::ProcessNamed {
            id: process(pid),
            program: program("worker"),
        }),
        1 => (10..14_u32, 10..14_u32).prop_map(|(pid, parent)| {
            Event::ProcessFork(process_fact(pid, Some(parent), Program::default()))
        }),
        1 => (10..14_u32).prop_map(|pid| {
            Event::ProcessExec(process_fact(pid, None, program("curl")))
        }),
        1 => prop::sample::select(vec![None, Some("deploy"), Some("guest")]).prop_map(|name| {
            Event::User { uid: 1000, name: name.map(Into::into) }
        }),
    ]
}

/// Seconds that an event comes late at most.
const LATEST: u64 = 3;

fn script() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => event().prop_map(Step::Event),
        1 => (event(), 0..LATEST * 1000).prop_map(|(event, late)| Step::Late(event, late)),
        2 => (0..4_u64).prop_map(Step::Tick),
    ];
    // What comes after a tombstone was forgotten counts as new.
    prop::collection::vec(step, 0..60).prop_filter("no longer than a tombstone", |script| {
        let ticks = script.iter().map(|step| match step {
            Step::Tick(seconds) => *seconds,
            _ => 0,
        });
        ticks.sum::<u64>() + LATEST < tombstone::AGE.as_secs()
    })
}

/// Sums over what was reported, kept the plain way.
#[derive(Default)]
struct Truth {
    counters: BTreeMap<(u64, ProcessId, Option<SocketAddr>), AppTotals>,
    overflow: BTreeMap<ProcessId, AppTotals>,
}

impl Truth {
    fn receive(&mut self, event: &Event) {
        let (known, totals) = match event {
            Event::App(app) => {
                let key = (app.socket.0, app.process, app.remote);
                (self.counters.entry(key).or_default(), app.totals)
            }
            Event::Overflow { process, totals } => {
                (self.overflow.entry(*process).or_default(), *totals)
            }
            _ => return,
        };
        known.tx_bytes = known.tx_bytes.max(totals.tx_bytes);
        known.rx_bytes = known.rx_bytes.max(totals.rx_bytes);
        known.tx_calls = known.tx_calls.max(totals.tx_calls);
        known.rx_calls = known.rx_calls.max(totals.rx_calls);
    }

    fn total(&self) -> AppTotals {
        sum(self.counters.values().chain(self.overflow.values()))
    }

    fn of(&self, id: ProcessId) -> AppTotals {
        let counters = self.counters.iter().filter(|((_, of, _), _)| *of == id);
        let overflow = self.overflow.get(&id);
        sum(counters.map(|(_, totals)| totals).chain(overflow))
    }
}

fn sum<'a>(all: impl Iterator<Item = &'a AppTotals>) -> AppTotals {
    all.fold(AppTotals::default(), |mut sum, totals| {
        sum += *totals;
        sum
    })
}

/// Follows the stream of changes as a reader would.
#[derive(Default)]
struct Reader {
    open: BTreeSet<FlowKey>,
    exited: BTreeSet<ProcessId>,
}

impl Reader {
    fn read(&mut self, model: &mut Model) -> Result<(), TestCaseError> {
        for timed in model.changes() {
            match timed.change {
                Change::FlowOpened(flow) => {
                    prop_assert!(flow.closed.is_none());
                    prop_assert!(self.open.insert(flow.key), "opened twice: {:?}", flow.key);
                }
                Change::FlowUpdated(flow) => {
                    prop_assert!(self.open.contains(&flow.key), "not open: {:?}", flow.key);
                }
                Change::FlowClosed(flow) => {
                    prop_assert!(flow.closed.is_some());
                    prop_assert!(self.open.remove(&flow.key), "not open: {:?}", flow.key);
                }
                Change::ProcessExit { process, .. } => {
                    prop_assert!(self.exited.insert(process.id), "exited twice");
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn step(play: &mut Play, step: Step) {
    match step {
        Step::Event(event) => play.apply(event),
        Step::Late(event, late) => {
            let time = Instant(play.now.0 - late * 1_000_000);
            play.apply_at(time, event);
        }
        Step::Tick(seconds) => play.tick(seconds),
    }
}

/// A model that goes on from a keyframe, if that is one.
fn resume(keyframe: &[u8]) -> Option<Model> {
    let keyframe: Keyframe = serde_json::from_slice(keyframe).ok()?;
    Some(keyframe.resume(config(HISTORY)))
}

/// All that a model shows, but for the numbers of flows' processes: these are of an earlier moment.
fn state(model: &mut Model) -> String {
    let numberless = |flow: &Arc<Flow>| {
        let process = flow.process.as_ref().map(|process| {
            Arc::new(Process {
                totals: AppTotals::default(),
                overflow: AppTotals::default(),
                rate: Rate::default(),
                open_flows: 0,
                past_sockets: None,
                ..Process::clone(process)
            })
        });
        Arc::new(Flow {
            process,
            ..Flow::clone(flow)
        })
    };
    let mut changes = model.changes();
    for timed in &mut changes {
        if let Change::FlowOpened(flow) | Change::FlowUpdated(flow) | Change::FlowClosed(flow) =
            &mut timed.change
        {
            *flow = numberless(flow);
        }
    }
    let mut snapshot = Snapshot::clone(&model.snapshot());
    for flow in &mut snapshot.flows {
        *flow = numberless(flow);
    }
    format!("{snapshot:#?} {changes:#?}")
}

/// Invariants of any snapshot.
fn check(snapshot: &Snapshot) -> Result<(), TestCaseError> {
    let open = snapshot.flows.iter().filter(|flow| flow.is_open());
    prop_assert_eq!(snapshot.totals.open_flows, open.count());
    prop_assert_eq!(snapshot.totals.processes, snapshot.processes.len());
    let keys: BTreeSet<_> = snapshot.flows.iter().map(|flow| flow.key).collect();
    prop_assert_eq!(keys.len(), snapshot.flows.len(), "keys are unique");
    for flow in &snapshot.flows {
        prop_assert_eq!(flow.process.as_ref().map(|p| p.id), flow.key.process);
        if let Some(process) = &flow.process {
            let mut processes = snapshot.processes.iter();
            let shown = processes.find(|shown| shown.id == process.id);
            let shown = shown.expect("every flow's process is shown");
            // All but the numbers is of now.
            let numbers_apart = Process {
                totals: process.totals,
                overflow: process.overflow,
                rate: process.rate,
                open_flows: process.open_flows,
                past_sockets: process.past_sockets.clone(),
                ..Process::clone(shown)
            };
            prop_assert_eq!(&numbers_apart, &**process);
        }
    }
    for process in &snapshot.processes {
        let flows = flows_of(snapshot, process.id.pid);
        let open = flows.filter(|flow| flow.is_open()).count();
        prop_assert_eq!(process.open_flows, open);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn the_total_is_the_sum_of_all_that_was_reported(script in script(), history in 0..6_u64) {
        let mut play = Play::with_history(history);
        let mut truth = Truth::default();
        let mut reader = Reader::default();
        for next in script {
            if let Step::Event(event) | Step::Late(event, _) = &next {
                truth.receive(event);
            }
            step(&mut play, next);
            let snapshot = play.model.snapshot();
            prop_assert_eq!(snapshot.totals.app, truth.total());
            check(&snapshot)?;
            reader.read(&mut play.model)?;
        }
        for socket in 1..5 {
            play.end(socket);
        }
        play.model.finish(play.now);
        reader.read(&mut play.model)?;
        prop_assert!(reader.open.is_empty(), "never closed: {:?}", reader.open);
        // Nothing stays for ever.
        for pid in 10..14 {
            play.apply(Event::ProcessExit { id: process(pid), status: 0 });
        }
        play.tick(7);
        play.tick(7);
        let snapshot = play.model.snapshot();
        prop_assert!(snapshot.flows.is_empty());
        prop_assert!(snapshot.processes.is_empty());
        prop_assert_eq!(snapshot.totals.app, truth.total());
    }

    #[test]
    fn a_process_is_its_flows_and_its_overflow(script in script()) {
        let mut play = Play::with_history(1000);
        let mut truth = Truth::default();
        for next in script {
            if let Step::Event(event) | Step::Late(event, _) = &next {
                truth.receive(event);
            }
            step(&mut play, next);
            for process in &play.model.snapshot().processes {
                prop_assert_eq!(process.totals, truth.of(process.id));
            }
        }
        // Once every socket is known, nothing is deferred.
        for socket in 1..5 {
            play.apply(Event::Socket(connection(socket, None)));
        }
        play.tick(1);
        let snapshot = play.model.snapshot();
        for process in &snapshot.processes {
            let mut all = sum(flows_of(&snapshot, process.id.pid).map(|flow| &flow.app));
            all += process.overflow;
            prop_assert_eq!(process.totals, all);
        }
    }

    #[test]
    fn order_and_repetition_of_reports_do_not_matter(
        reports in prop::collection::vec(app_event(), 0..30),
        shuffled in any::<prop::sample::Index>(),
    ) {
        let run = |reports: &[Event]| {
            let mut play = Play::new();
            for socket in 1..5 {
                play.apply(Event::Socket(connection(socket, Some(10))));
            }
            for report in reports {
                play.apply(report.clone());
            }
            play.tick(1);
            let mut rows = play.rows();
            rows.retain(|row| !row.ends_with(" 0 0"));
            rows.sort();
            rows
        };
        let mut other = reports.clone();
        if !other.is_empty() {
            let middle = shuffled.index(other.len());
            other.rotate_left(middle);
            other.reverse();
        }
        other.extend(reports.clone());
        prop_assert_eq!(run(&reports), run(&other));
    }

    #[test]
    fn the_same_script_makes_the_same_state(script in script()) {
        let run = || {
            let mut play = Play::new();
            for next in script.clone() {
                step(&mut play, next);
            }
            let changes = play.model.changes();
            format!("{:?} {changes:?}", play.model.snapshot())
        };
        prop_assert_eq!(run(), run());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_goes_on_from_a_keyframe_is_the_same(before in script(), after in script()) {
        let mut play = Play::new();
        for next in before {
            step(&mut play, next);
        }
        play.tick(1);
        play.model.changes();
        play.model.snapshot();
        let mut resumed = Play {
            model: resume(&serde_json::to_vec(play.model.keyframe()).unwrap()).unwrap(),
            now: play.now,
        };
        for next in after.into_iter().chain([Step::Tick(1)]) {
            for play in [&mut play, &mut resumed] {
                step(play, next.clone());
            }
            prop_assert_eq!(state(&mut play.model), state(&mut resumed.model));
        }
    }

    /// A model resumes from any keyframe, whatever it contains.
    #[test]
    fn any_keyframe_is_refused_or_goes_on(
        before in script(),
        after in script(),
        faults in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 1..20),
    ) {
        let mut play = Play::new();
        for next in before {
            step(&mut play, next);
        }
        let mut text = serde_json::to_vec(play.model.keyframe()).unwrap();
        // Digits stay digits, and letters are seldom part of numbers.
        let digits: Vec<usize> = (0..text.len()).filter(|at| text[*at].is_ascii_digit()).collect();
        for (at, value) in faults {
            text[digits[at.index(digits.len())]] = b'0' + value.index(10) as u8;
        }
        if let Some(model) = resume(&text) {
            play.model = model;
            for next in after {
                step(&mut play, next);
                play.model.snapshot();
            }
        }
    }
}
