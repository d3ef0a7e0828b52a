//! Processes: what programs they are, how long they stay, and what is reported of them; losses and
//! coverage.

use super::*;
use crate::event::{Capability, CgroupId, Coverage, Loss};

/// Changes of processes since the last call.
fn changes(play: &mut Play) -> Vec<String> {
    let changes = play.model.changes();
    let lines = changes.iter().filter_map(|timed| match &timed.change {
        Change::ProcessExec(process) => Some(format!("exec {} {}", process.id.pid, process.name())),
        Change::ProcessExit { process, status } => Some(format!(
            "exit {} {} {} {}",
            process.id.pid,
            process.name(),
            status.map_or("?".to_owned(), |status| status.to_string()),
            process.totals.tx_bytes.0
        )),
        _ => None,
    });
    lines.collect()
}

fn exit(pid: u32) -> Event {
    Event::ProcessExit {
        id: process(pid),
        status: 0,
    }
}

#[test]
fn a_list_of_processes_makes_up_for_lost_records() {
    let mut play = Play::new();
    let fact = |pid, name| process_fact(pid, None, program(name));
    for (pid, name) in [(5, "bash"), (6, "bash"), (7, "bash")] {
        play.apply(Event::ProcessSeen(fact(pid, name)));
        play.app(pid.into(), pid, None, 3, 0);
    }
    // 5 has ended, 6 has become another program, 8 is new; 9 began after the list.
    let list = vec![fact(6, "curl"), fact(7, "bash"), fact(8, "init")];
    play.apply(Event::ProcessesListed(list.clone()));
    play.app(8, 8, None, 1, 0);
    let mut later = fact(9, "late");
    later.id.start = Instant(u64::MAX);
    play.apply(Event::ProcessFork(later));
    play.apply(Event::ProcessesListed(list));
    play.apply(exit(5));
    assert_eq!(changes(&mut play), ["exit 5 bash ? 3"]);
    let program_of = |play: &mut Play, pid| play.process(pid).map(|row| row.program.clone());
    assert_eq!(program_of(&mut play, 6), Some(program("curl")));
    assert_eq!(program_of(&mut play, 8), Some(program("init")));
}

#[test]
fn a_list_that_comes_late_brings_no_earlier_program_back() {
    let mut play = Play::new();
    let fact = |pid, name| process_fact(pid, None, program(name));
    for pid in [5, 6] {
        play.apply(Event::ProcessSeen(fact(pid, "bash")));
        play.app(pid.into(), pid, None, 3, 0);
    }
    let listed = play.now;
    // 5 became another program after it was listed, 6 took another name after an exec that nobody
    // reported.
    play.apply(Event::ProcessExec(fact(5, "curl")));
    let mut renamed = program("worker");
    (renamed.exe, renamed.cmdline) = (None, None);
    play.apply(Event::ProcessNamed {
        id: process(6),
        program: renamed,
    });
    let list = vec![fact(5, "bash"), fact(6, "wget")];
    play.apply_at(listed, Event::ProcessesListed(list));
    assert_eq!(play.process(5).unwrap().program, program("curl"));
    let six = play.process(6).unwrap();
    assert_eq!(six.program.exe, program("wget").exe);
    assert_eq!(six.program.comm.as_deref(), Some("worker"));
}

#[test]
fn a_child_is_its_parents_program_until_it_calls_exec() {
    let mut play = Play::new();
    play.apply(Event::ProcessSeen(process_fact(1, None, program("init"))));
    play.apply(Event::ProcessSeen(process_fact(
        5,
        Some(1),
        program("bash"),
    )));
    let forked = process_fact(10, Some(5), Program::default());
    play.apply(Event::ProcessFork(forked));
    play.app(1, 10, None, 1, 0);
    let child = play.process(10).expect("it has traffic");
    assert_eq!(child.program, program("bash"));
    let lineage: Vec<_> = child
        .lineage
        .iter()
        .map(|(id, name)| (id.pid, &**name))
        .collect();
    assert_eq!(lineage, [(5, "bash"), (1, "init")]);

    play.apply(Event::ProcessExec(process_fact(
        10,
        Some(5),
        program("curl"),
    )));
    play.app(1, 10, None, 3, 0);
    play.apply(exit(10));
    play.apply(exit(10));
    assert_eq!(changes(&mut play), ["exec 10 curl", "exit 10 curl 0 3"]);
    assert!(play.process(10).expect("history").exited.is_some());
}

#[test]
fn an_exec_reported_twice_or_late_is_reported_once_and_seen_only_fills() {
    let mut play = Play::new();
    let earlier = Instant(play.now.0 - 1);
    let exec = Event::ProcessExec(process_fact(10, None, program("curl")));
    play.apply_at(play.now, exec.clone());
    play.apply_at(play.now, exec);
    let older = Event::ProcessExec(process_fact(10, None, program("sh")));
    play.apply_at(earlier, older);
    play.apply(Event::ProcessSeen(process_fact(
        10,
        Some(1),
        program("wget"),
    )));
    play.app(1, 10, None, 1, 0);
    assert_eq!(changes(&mut play), ["exec 10 curl"]);
    let row = play.process(10).expect("it has traffic");
    assert_eq!(row.program, program("curl"));
    assert_eq!(row.parent, Some(process(1)));
}

#[test]
fn a_process_nobody_reported_of_has_the_name_of_its_bytes() {
    let mut play = Play::new();
    play.apply(app_of("worker", 1));
    let row = play.process(10).expect("it has traffic");
    assert_eq!((row.name(), row.uid), ("worker", Some(1000)));
}

/// Process 10 moved something, and has this name.
fn app_of(name: &str, tx: u64) -> Event {
    let Event::App(mut fact) = app(1, 10, None, tx, 0) else {
        unreachable!("app makes app facts");
    };
    fact.comm = Some(name.into());
    Event::App(fact)
}

/// A process has these names.
fn named(pid: u32, comm: &str, cmdline: &[&str]) -> Event {
    let cmdline: Vec<String> = cmdline.iter().map(|&text| text.to_owned()).collect();
    let program = Program {
        comm: Some(comm.into()),
        exe: None,
        cmdline: (!cmdline.is_empty()).then(|| cmdline.into()),
        cmdline_cut: false,
    };
    let id = process(pid);
    Event::ProcessNamed { id, program }
}

#[test]
fn a_process_has_its_names_of_now() {
    let mut play = Play::new();
    play.apply(Event::ProcessExec(process_fact(
        10,
        None,
        program("postgres"),
    )));
    play.apply(app_of("postgres", 1));
    let names = |play: &mut Play| {
        let row = play.process(10).expect("it has traffic");
        let title = row.program.cmdline.as_ref().map(|it| it.join("|"));
        format!("{} {}", row.name(), title.unwrap_or_default())
    };
    assert_eq!(names(&mut play), "postgres postgres");
    // With its bytes, and by a look at it; absent is unknown.
    play.apply(app_of("walsender", 2));
    assert_eq!(names(&mut play), "walsender postgres");
    play.apply(named(10, "walsender", &["postgres: walsender"]));
    play.apply(named(10, "walsender", &[]));
    assert_eq!(names(&mut play), "walsender postgres: walsender");
    // What is left of the arguments that a title was written over is no change.
    play.apply(named(10, "walsender", &["postgres: walsender", "", ""]));
    assert_eq!(names(&mut play), "walsender postgres: walsender");
    // A look from before it became another program comes late.
    let look = play.now;
    play.tick(1);
    play.apply(Event::ProcessExec(process_fact(10, None, program("sh"))));
    play.apply_at(look, named(10, "walsender", &["postgres: walsender"]));
    assert_eq!(names(&mut play), "sh sh");
    // Naming an unknown process makes no row.
    play.apply(named(11, "x", &["x"]));
    assert!(play.process(11).is_none());
    // Its rows of flows follow.
    play.apply(Event::Socket(connection(1, Some(10))));
    play.apply(app_of("sh", 3));
    play.apply(named(10, "last", &["last title"]));
    play.tick(1);
    let snapshot = play.model.snapshot();
    let flow = snapshot.flows.iter().find(|it| it.process.is_some());
    let shown = flow.and_then(|it| it.process.as_deref()).map(Process::name);
    assert_eq!(shown, Some("last"));
    play.apply(exit(10));
    assert!(changes(&mut play).contains(&"exit 10 last 0 3".to_owned()));
}

#[test]
fn a_name_that_changes_is_followed_below_it() {
    let mut play = Play::new();
    play.apply(Event::ProcessSeen(process_fact(5, None, program("bash"))));
    play.apply(Event::ProcessSeen(process_fact(
        10,
        Some(5),
        program("curl"),
    )));
    play.app(1, 10, None, 1, 0);
    play.apply(named(5, "session", &[]));
    play.tick(1);
    let lineage = play.process(10).expect("it has traffic").lineage.clone();
    assert_eq!(lineage, [(process(5), "session".into())]);
}

#[test]
fn forked_processes_are_to_be_looked_at_once_they_are_shown() {
    let mut play = Play::new();
    play.apply(Event::ProcessSeen(process_fact(5, None, program("nginx"))));
    for pid in [10, 11, 12] {
        play.apply(Event::ProcessFork(process_fact(
            pid,
            Some(5),
            Program::default(),
        )));
    }
    play.apply(Event::ProcessExec(process_fact(12, Some(5), program("sh"))));
    assert_eq!(play.model.untitled(), []);
    for pid in [5, 10, 12] {
        play.app(u64::from(pid), pid, None, 1, 0);
    }
    assert_eq!(play.model.untitled(), [process(10)]);
    assert_eq!(play.model.untitled(), []);
    assert_eq!(
        play.model.living(),
        [vec![process(5), process(10), process(12)], vec![]]
    );
    play.tick(1);
    play.tick(1);
    play.app(10, 10, None, 2, 0);
    play.apply(exit(12));
    assert_eq!(play.model.living(), [vec![process(10)], vec![process(5)]]);
}

#[test]
fn the_user_of_a_report_without_new_bytes_is_an_old_one() {
    let mut play = Play::new();
    play.app(1, 10, None, 1, 0);
    let root = ProcessFact {
        uid: Some(0),
        ..process_fact(10, None, program("su"))
    };
    play.apply(Event::ProcessExec(root));
    play.app(1, 10, None, 1, 0);
    assert_eq!(play.process(10).and_then(|p| p.uid), Some(0));
    play.app(1, 10, None, 2, 0);
    assert_eq!(play.process(10).and_then(|p| p.uid), Some(1000));
}

#[test]
fn the_lineage_outlives_the_ancestors() {
    let mut play = Play::new();
    play.apply(Event::ProcessSeen(process_fact(1, None, program("init"))));
    for (pid, parent) in [(5, 1), (6, 5), (7, 6)] {
        let fact = process_fact(pid, Some(parent), Program::default());
        play.apply(Event::ProcessFork(fact));
    }
    play.apply(exit(5));
    play.apply(exit(6));
    play.tick(HISTORY);
    play.app(1, 7, None, 1, 0);
    let row = play.process(7).expect("it has traffic");
    let lineage: Vec<_> = row.lineage.iter().map(|(id, _)| id.pid).collect();
    assert_eq!(lineage, [6, 5, 1]);
}

#[test]
fn the_lineage_is_bounded() {
    let mut play = Play::new();
    for pid in 1..100 {
        let fact = process_fact(pid + 1, Some(pid), program("sh"));
        play.apply(Event::ProcessFork(fact));
        play.apply(exit(pid));
        play.tick(2);
    }
    play.app(1, 100, None, 1, 0);
    let row = play.process(100).expect("it has traffic");
    assert_eq!(row.lineage.len(), 32);
    assert_eq!(row.lineage[31].0.pid, 68);
}

#[test]
fn a_process_without_traffic_is_reported_but_never_shown_and_soon_forgotten() {
    let mut play = Play::new();
    play.apply(Event::ProcessExec(process_fact(10, None, program("true"))));
    play.apply(exit(10));
    assert_eq!(changes(&mut play), ["exec 10 true", "exit 10 true 0 0"]);
    assert_eq!(play.process(10), None);
    play.tick(1);
    assert_eq!(play.model.processes.row(process(10)), None);
}

#[test]
fn an_exited_process_stays_for_the_history_after_its_last_flow() {
    let mut play = Play::new();
    play.apply(Event::Socket(connection(1, Some(10))));
    play.app(1, 10, None, 7, 0);
    play.apply(exit(10));
    play.tick(HISTORY + 1);
    assert_eq!(play.process(10).map(|p| p.open_flows), Some(1));
    play.end(1);
    play.tick(HISTORY - 1);
    assert_eq!(play.process(10).map(|p| p.open_flows), Some(0));
    play.tick(1);
    assert_eq!(play.process(10), None);
    assert_eq!(play.rows(), Vec::<String>::new());
    assert_eq!(play.total(), totals(7, 0));
}

#[test]
fn late_bytes_of_a_dropped_process_count_once() {
    let mut play = Play::new();
    let overflow = |tx| Event::Overflow {
        process: process(10),
        totals: totals(tx, 0),
    };
    play.apply(overflow(7));
    play.apply(exit(10));
    play.tick(HISTORY);
    assert_eq!(play.process(10), None);
    play.apply(overflow(7));
    assert_eq!(play.process(10), None);
    play.apply(overflow(9));
    assert_eq!(play.total().tx_bytes, Bytes(9));
    assert_eq!(
        play.process(10).map(|p| p.overflow),
        Some(totals(2, 0)).map(|mut t| {
            t.tx_calls = 0;
            t
        })
    );
    play.tick(1);
    assert_eq!(play.process(10), None);
    assert_eq!(play.total().tx_bytes, Bytes(9));
}

#[test]
fn overflow_is_part_of_the_totals() {
    let mut play = Play::new();
    play.app(1, 10, None, 5, 0);
    play.apply(Event::Overflow {
        process: process(10),
        totals: totals(0, 8),
    });
    let row = play.process(10).expect("it has traffic");
    assert_eq!(row.overflow, totals(0, 8));
    assert_eq!(row.totals.tx_bytes + row.totals.rx_bytes, Bytes(13));
}

#[test]
fn a_newer_process_with_the_same_pid_means_the_older_has_exited() {
    let mut play = Play::new();
    play.app(1, 10, None, 5, 0);
    let newer = ProcessId {
        pid: 10,
        start: Instant(99),
    };
    play.apply(Event::ProcessFork(ProcessFact {
        id: newer,
        ..process_fact(10, None, program("sh"))
    }));
    assert!(play.process(10).expect("history").exited.is_some());
    assert_eq!(changes(&mut play), Vec::<String>::new());
    let row = play.model.processes.row(newer).expect("it lives");
    assert_eq!(row.exited, None);
    // The kernel's report comes later, and counts once.
    play.apply(exit(10));
    assert_eq!(changes(&mut play).len(), 1);
    play.apply(exit(10));
    assert_eq!(changes(&mut play), Vec::<String>::new());
}

#[test]
fn a_cgroup_path_is_known_whenever_it_comes() {
    let mut play = Play::new();
    let cgroup = CgroupId(7);
    let path = |path: &str| Event::Cgroup {
        id: cgroup,
        path: path.into(),
    };
    for pid in [10, 11] {
        let fact = ProcessFact {
            cgroup: Some(cgroup),
            ..process_fact(pid, None, program("nginx"))
        };
        play.apply(Event::ProcessSeen(fact));
        play.app(u64::from(pid), pid, None, 1, 0);
        play.apply(path("/system.slice/nginx.service"));
    }
    for pid in [10, 11] {
        let row = play.process(pid).expect("it has traffic");
        let path = row.cgroup_path.as_deref();
        assert_eq!(path, Some("/system.slice/nginx.service"));
    }
}

#[test]
fn a_user_s_name_is_known_whenever_it_comes() {
    let mut play = Play::new();
    let user = |uid, name: Option<&str>| Event::User {
        uid,
        name: name.map(Into::into),
    };
    let name = |play: &mut Play, pid| play.process(pid).and_then(|row| row.user.clone());
    play.app(1, 10, None, 1, 0);
    play.apply(user(33, Some("www-data")));
    assert_eq!(name(&mut play, 10), None);
    play.apply(user(1000, Some("deploy")));
    play.app(2, 11, None, 1, 0);
    for pid in [10, 11] {
        assert_eq!(name(&mut play, pid).as_deref(), Some("deploy"));
    }
    // The program runs as another user.
    play.apply(Event::ProcessExec(ProcessFact {
        uid: Some(33),
        ..process_fact(11, None, program("nginx"))
    }));
    assert_eq!(name(&mut play, 11).as_deref(), Some("www-data"));
    play.apply(user(1000, None));
    assert_eq!(name(&mut play, 10), None);
}

#[test]
fn who_wants_numbers_gets_no_names() {
    let mut play = Play::new();
    let user = Event::User {
        uid: 1000,
        name: Some("deploy".into()),
    };
    play.app(1, 10, None, 1, 0);
    play.apply(user.clone());
    let keyframe = serde_json::to_vec(play.model.keyframe()).unwrap();
    let keyframe: Keyframe = serde_json::from_slice(&keyframe).unwrap();
    play.model = keyframe.resume(Config {
        user_names: false,
        ..config(HISTORY)
    });
    play.apply(user);
    play.app(2, 11, None, 1, 0);
    for pid in [10, 11] {
        assert_eq!(play.process(pid).expect("it has traffic").user, None);
    }
}

#[test]
fn losses_are_reported_when_they_grew() {
    let mut play = Play::new();
    let lost = |count| Event::Lost {
        cause: Loss::AppFull,
        count,
    };
    play.apply(lost(3));
    play.apply(lost(2));
    play.tick(1);
    play.apply(lost(3));
    play.tick(1);
    let changes = play.model.changes();
    assert_eq!(changes.len(), 1);
    assert!(matches!(
        changes[0].change,
        Change::Lost {
            cause: Loss::AppFull,
            count: 3
        }
    ));
    assert_eq!(play.model.snapshot().losses, [(Loss::AppFull, 3)]);
}

#[test]
fn coverage_of_several_sources_is_merged_by_capability() {
    let mut play = Play::new();
    let coverage = |capability: Capability, backend: &str| {
        Event::Coverage(vec![Coverage {
            capability,
            backend: Some(backend.into()),
            limits: String::new(),
        }])
    };
    play.apply(coverage(Capability::AppBytes, "fexit"));
    play.apply(coverage(Capability::Interfaces, "capture"));
    play.apply(coverage(Capability::AppBytes, "kprobe"));
    play.apply(coverage(Capability::AppBytes, "kprobe"));
    assert_eq!(play.model.changes().len(), 3);
    let snapshot = play.model.snapshot();
    let all: Vec<_> = snapshot
        .coverage
        .iter()
        .map(|c| c.backend.as_deref())
        .collect();
    assert_eq!(all, [Some("kprobe"), Some("capture")]);
}

#[test]
fn a_process_that_was_dropped_while_it_moved_has_a_rate_when_it_comes_back() {
    let mut play = Play::new();
    play.apply(exit(5));
    play.tick(HISTORY - 1);
    play.apply(Event::Overflow {
        process: process(5),
        totals: totals(1, 0),
    });
    play.tick(2);
    assert_eq!(play.process(5), None);
    play.app(1, 5, None, 0, 100);
    play.tick(1);
    play.app(1, 5, None, 0, 300);
    play.tick(1);
    let rate = play.process(5).expect("it moves").rate;
    assert!((199.0..201.0).contains(&rate.rx), "{rate:?}");
}
