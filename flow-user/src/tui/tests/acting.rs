//! Actions on the host.

use nix::sys::signal::Signal;

use super::*;
use crate::event::{Netns, ProcessId, Protocol, SocketCookie};
use crate::sink::export::Format;

/// curl of the scene.
fn curl() -> Target {
    Target {
        id: ProcessId {
            pid: 41007,
            start: Instant(80_000_000_000),
        },
        name: "41007 curl".to_owned(),
    }
}

#[test]
fn without_a_choice_nothing_is_done_to_the_first_row() {
    let mut state = with_scene((120, 40));
    assert_eq!(press(&mut state, "K"), []);
    assert!(state.popups.is_empty());
    assert!(text(&state).contains("select a row first"));
}

#[test]
fn a_signal_is_asked_for_and_then_sent_to_the_process_of_the_row() {
    let mut state = with_scene((120, 40));
    assert_eq!(press(&mut state, "Down Down K"), []);
    let shown = text(&state);
    assert!(shown.contains("Signal 41007 curl"), "{shown}");
    assert!(shown.contains("curl --retry 3"), "{shown}");
    assert!(shown.contains("Enter send"), "{shown}");
    assert_eq!(
        press(&mut state, "Enter"),
        [Effect::Signal(curl(), Signal::SIGTERM)]
    );
    assert!(state.popups.is_empty());
    assert_eq!(
        press(&mut state, "F9 Down Down Down Up Down Enter"),
        [Effect::Signal(curl(), Signal::SIGKILL)]
    );
    assert_eq!(
        press(&mut state, "K End Enter"),
        [Effect::Signal(curl(), Signal::SIGUSR2)]
    );
    // Whatever happens meanwhile, it is the process that was asked about.
    press(&mut state, "K");
    reduce(&mut state, scene::moment(43));
    assert_eq!(
        press(&mut state, "Enter"),
        [Effect::Signal(curl(), Signal::SIGTERM)]
    );
}

#[test]
fn who_leaves_the_question_does_nothing() {
    let mut state = with_scene((120, 40));
    for keys in ["Down Down K Esc", "K q", "K s Esc"] {
        assert_eq!(press(&mut state, keys), []);
        assert!(state.popups.is_empty());
        assert!(text(&state).contains("cancelled"));
    }
    // Nor who cannot see it.
    press(&mut state, "K");
    reduce(&mut state, Event::Resize(20, 5));
    assert_eq!(press(&mut state, "Enter"), []);
}

#[test]
fn the_chosen_signal_is_seen_on_the_smallest_screen() {
    let mut state = with_scene((60, 15));
    press(&mut state, "Down Down K");
    assert!(line_with(&state, "▸  TERM").contains("terminate (default)"));
    press(&mut state, "End");
    assert!(line_with(&state, "▸  USR2").contains("application-defined"));
}

#[test]
fn a_signal_goes_to_the_process_of_a_flow_and_of_a_detail_and_not_to_one_that_exited() {
    let mut state = with_scene((120, 40));
    press(&mut state, "/");
    type_in(&mut state, "process curl");
    press(&mut state, "Enter 2 Down");
    let sent = [Effect::Signal(curl(), Signal::SIGTERM)];
    assert_eq!(press(&mut state, "K Enter"), sent);
    assert_eq!(press(&mut state, "Enter K Enter"), sent);
    // The detail is still there.
    assert_eq!(state.popups.len(), 1);
    press(&mut state, "Esc 1 Down Enter");
    assert_eq!(press(&mut state, "K Enter"), sent);
    press(&mut state, "Esc Esc f");
    type_in(&mut state, "make");
    press(&mut state, "Enter");
    assert_eq!(press(&mut state, "K Enter"), []);
    press(&mut state, "Esc K");
    assert!(text(&state).contains("40990 make has already exited"));
    // Rows of many.
    press(&mut state, "6 Down K");
    assert!(text(&state).contains("not a single process"));
}

#[test]
fn closing_a_connection_is_asked_and_means_that_socket() {
    let mut state = with_scene((120, 40));
    press(&mut state, "2 Down");
    assert_eq!(press(&mut state, "X"), []);
    let shown = text(&state);
    assert!(shown.contains("10.0.3.7:5432 10.0.3.21:50122"), "{shown}");
    assert!(shown.contains("of 8123 postgres"), "{shown}");
    assert!(shown.contains("Enter close"), "{shown}");
    let closed = [Effect::Close(Connection {
        socket: SocketCookie(1),
        protocol: Protocol::Tcp,
        netns: Some(Netns(4_026_531_840)),
        name: "tcp 10.0.3.7:5432 10.0.3.21:50122".to_owned(),
    })];
    assert_eq!(press(&mut state, "Enter"), closed);
    assert_eq!(press(&mut state, "X Esc"), []);
    // From its detail, and where it stands under its process.
    assert_eq!(press(&mut state, "Enter X Enter"), closed);
    assert_eq!(press(&mut state, "Esc 1 Down Right Down X Enter"), closed);
}

#[test]
fn in_a_detail_keys_act_on_the_chosen_row_or_on_what_the_detail_is_of() {
    let mut state = with_scene((120, 40));
    let name = "tcp 10.0.3.7:5432 10.0.3.21:50122";
    let closed = [Effect::Close(Connection {
        socket: SocketCookie(1),
        protocol: Protocol::Tcp,
        netns: Some(Netns(4_026_531_840)),
        name: name.to_owned(),
    })];
    let copied = |text: &str| [Effect::Copy(text.to_owned())];
    // Without a row in it, a detail of a process is of no connection.
    press(&mut state, "Down Enter");
    assert_eq!(press(&mut state, "X"), []);
    assert!(text(&state).contains("select a connection to close it"));
    assert_eq!(press(&mut state, "y"), copied("postgres: walsender"));
    // Its first flow, whatever moves meanwhile.
    press(&mut state, "Down");
    reduce(&mut state, scene::moment(41));
    assert_eq!(press(&mut state, "y"), copied(name));
    assert_eq!(press(&mut state, "X"), []);
    assert!(text(&state).contains("Close the connection"));
    assert_eq!(press(&mut state, "Enter"), closed);
    assert_eq!(press(&mut state, "Y"), copied("8123"));
    // A remote is none; the process is still meant.
    press(&mut state, "Tab Tab Down");
    assert_eq!(press(&mut state, "y"), copied("10.0.3.21"));
    assert_eq!(press(&mut state, "X"), []);
    assert!(text(&state).contains("select a connection to close it"));
    let target = Target {
        id: ProcessId {
            pid: 8123,
            start: Instant(2_000_000_000),
        },
        name: "8123 postgres".to_owned(),
    };
    let sent = [Effect::Signal(target, Signal::SIGTERM)];
    assert_eq!(press(&mut state, "K Enter"), sent);
    // From the process to its flow, and there to whoever uses it.
    press(&mut state, "BackTab BackTab Enter");
    assert_eq!(state.popups.len(), 2);
    assert_eq!(press(&mut state, "X Enter"), closed);
    press(&mut state, "Down");
    assert_eq!(press(&mut state, "y"), copied("postgres: walsender"));
    assert_eq!(press(&mut state, "K Enter"), sent);
    assert_eq!(press(&mut state, "X Enter"), closed);
    assert_eq!(state.popups.len(), 2);
}

#[test]
fn what_cannot_be_closed_is_reported() {
    let mut state = with_scene((120, 40));
    let mut check = |found: &str, why: &str| {
        press(&mut state, "2 f");
        type_in(&mut state, found);
        press(&mut state, "Enter X");
        assert!(state.popups.is_empty(), "{found}");
        assert!(text(&state).contains(why), "{}", text(&state));
    };
    check("[::]:5432", "listens");
    check("203.0.113.5", "is already closed");
    press(&mut state, "1 Home X");
    assert!(text(&state).contains("select a connection to close it"));
    // One that would end more than one conversation.
    press(&mut state, "2 f");
    type_in(&mut state, ":123");
    press(&mut state, "Enter X");
    assert!(text(&state).contains("traffic with others too"));
}

#[test]
fn rows_of_every_kind_are_copied_as_somebody_would_type_them() {
    let mut state = with_scene((120, 40));
    let copied = |text: &str| [Effect::Copy(text.to_owned())];
    assert_eq!(press(&mut state, "y"), []);
    let command = "/usr/sbin/chronyd -F";
    assert_eq!(press(&mut state, "Down Down Down y"), copied(command));
    assert!(line_with(&state, "copied").contains("(terminal must allow OSC 52): /usr"));
    assert_eq!(press(&mut state, "Y"), copied("912"));
    press(&mut state, "Up");
    assert_eq!(press(&mut state, "Y"), copied("41007"));
    assert_eq!(press(&mut state, "Enter Y"), copied("41007"));
    let flow = "tcp 10.0.3.7:5432 10.0.3.21:50122";
    assert_eq!(press(&mut state, "Esc 2 Down y"), copied(flow));
    assert_eq!(press(&mut state, "Y"), copied("8123"));
    assert_eq!(press(&mut state, "3 Down y"), copied("10.0.3.21"));
    assert_eq!(press(&mut state, "Y"), []);
    assert!(text(&state).contains("not a single process"));
    assert_eq!(press(&mut state, "a Home y"), copied("10.0.3.0/24"));
    assert_eq!(press(&mut state, "4 Down y"), copied("tcp [::]:5432"));
    assert_eq!(press(&mut state, "5 Down y"), copied("eth0"));
    assert_eq!(press(&mut state, "6 Down y"), copied("70"));
    let cgroup = "/system.slice/postgresql.service";
    assert_eq!(press(&mut state, "7 Down y"), copied(cgroup));
    let flow = "udp [2001:db8:1::7]:41022 [2001:db8:ffff:1234:5678:9abc:def0:1]:123";
    assert_eq!(press(&mut state, "9 Down y"), copied(flow));
    // No bytes of a hostile command line come to where it is pasted.
    press(&mut state, "1 f");
    type_in(&mut state, "666");
    let hostile = press(&mut state, "Enter y");
    assert_eq!(hostile, copied("evil\\n\\x1b]0;title\\x07"));
}

#[test]
fn the_view_is_written_as_it_is_filtered_ordered_and_with_its_columns() {
    let mut state = with_scene((60, 15));
    assert_eq!(press(&mut state, "e"), []);
    assert!(line_with(&state, "6 rows").contains("current directory"));
    assert_eq!(press(&mut state, "Enter"), [Effect::Export(Format::Json)]);
    let written = press(&mut state, "e Down Enter");
    assert_eq!(written, [Effect::Export(Format::Csv)]);
    let csv = |state: &State| state.sheet().text(Format::Csv);
    let all = csv(&state);
    let header = "pid,process,user,cgroup,flows,rx_rate,tx_rate,rx_bytes,tx_bytes,command";
    assert_eq!(all.lines().next(), Some(header));
    assert!(all.contains("\n41007,curl,deploy,/user.slice"), "{all}");
    // Sorted by pid, rates only, filtered.
    press(&mut state, "> > > U /");
    type_in(&mut state, "process curl or process chronyd");
    press(&mut state, "Enter");
    let some = csv(&state);
    let lines: Vec<&str> = some.lines().collect();
    assert_eq!(lines.len(), 3, "{some}");
    assert_eq!(
        lines[0],
        "pid,process,user,cgroup,flows,rx_rate,tx_rate,command"
    );
    assert!(lines[1].starts_with("912,chronyd,110,"), "{some}");
    assert!(lines[2].contains(",780000,2100,curl --retry"), "{some}");
    let sheet = state.sheet();
    assert_eq!((sheet.sort.as_str(), sheet.view), ("pid", "processes"));
    assert_eq!(sheet.filter, "process curl or process chronyd");
    assert_eq!(state.sheet_name(), "flow-processes-20260501-140219");
    // Held still, the file has what is seen.
    press(&mut state, "p");
    let frozen = csv(&state);
    reduce(&mut state, scene::moment(44));
    assert_eq!(csv(&state), frozen);
}

#[test]
fn every_view_can_be_written_and_one_without_rows_says_so() {
    let mut state = with_scene((120, 40));
    press(&mut state, "*");
    for view in '1'..='9' {
        press(&mut state, &view.to_string());
        if state.rows.is_empty() {
            assert_eq!(press(&mut state, "e"), []);
            assert!(text(&state).contains("no rows to write"));
            continue;
        }
        let sheet = state.sheet();
        let csv = sheet.text(Format::Csv);
        assert_eq!(csv.lines().count(), state.rows.len() + 1, "{csv}");
        let json = sheet.text(Format::Json);
        let read: serde_json::Value = serde_json::from_str(&json).unwrap();
        let rows = read["rows"].as_array().unwrap();
        assert_eq!(rows.len(), state.rows.len());
    }
    press(&mut state, "5");
    let csv = state.sheet().text(Format::Csv);
    assert!(csv.contains("unexplained,owned,forwarded"), "{csv}");
    // Of a detail there is no file.
    press(&mut state, "1 Down Enter e");
    assert_eq!(state.popups.len(), 1);
    assert!(text(&state).contains("not a detail"));
}

#[test]
fn what_came_of_it_is_shown_until_the_next_key() {
    let mut state = with_scene((80, 24));
    let message = "not permitted to signal 41007 curl: start Flow as root, or with CAP_KILL";
    reduce(&mut state, Event::Status(message.to_owned()));
    assert!(state.take_changed());
    assert!(line_with(&state, "not permitted").contains(message));
    press(&mut state, "Down");
    assert!(!text(&state).contains("not permitted"));
}
