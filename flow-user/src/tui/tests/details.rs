//! Details: content, keys and mouse.

mod groups;
mod lasting;
mod long;
mod random;
mod totals;

use std::{sync::Arc, time::Duration};

use super::{scene::snapshot, *};
use crate::{
    event::{CloseReason, RoundTrip, State as SocketEntry, TcpInfo},
    model::snapshot::{Flow, Limits, Path, Process, Snapshot},
    query::{entry::Id, fixture, history::Span, states::Passed},
    tui::detail::{Detail, Of, detail_layout, facts},
};

const SIZES: [(u16, u16); 4] = [(60, 15), (80, 24), (120, 40), (200, 60)];

fn event(snapshot: Snapshot) -> Event {
    Event::Snapshot {
        snapshot: Arc::new(snapshot),
        changes: Vec::new(),
        states: Vec::new(),
        own: OwnUse::default(),
    }
}

/// A screen that shows the detail of a process, whose connection another shares.
fn process_detail(size: (u16, u16)) -> State {
    let mut state = with_scene(size);
    press(&mut state, "Down Down Enter");
    assert!(text(&state).contains(" 41007 curl"));
    state
}

fn detail(state: &State) -> &Detail {
    let top = state.popups.last().unwrap();
    popup_as(&**top).expect("a detail on top")
}

fn chosen(state: &State) -> Option<Id> {
    let detail = detail(state);
    detail.panels[detail.focus].chosen.clone()
}

fn change_flows(snapshot: &mut Snapshot, change: impl Fn(&mut Flow)) {
    for flow in &mut snapshot.flows {
        change(Arc::make_mut(flow));
    }
}

fn change_process(snapshot: &mut Snapshot, pid: u32, change: impl Fn(&mut Process)) {
    let mut processes = snapshot.processes.iter_mut();
    let process = processes.find(|process| process.id.pid == pid).unwrap();
    change(Arc::make_mut(process));
}

/// A moment later the process has exited and its flow was reset.
fn ended(step: u64) -> Snapshot {
    let mut snapshot = snapshot(step);
    let time = Instant(139_500_000_000);
    change_process(&mut snapshot, 41007, |process| process.exited = Some(time));
    change_flows(&mut snapshot, |flow| {
        if flow.key.socket.0 == 4 {
            flow.state = SocketEntry::Closed;
            flow.closed = Some((time, CloseReason::Reset));
            flow.rate = Default::default();
        }
    });
    snapshot
}

#[test]
fn what_details_look_like() {
    for size in SIZES {
        let check = |name: &str, state: &State| {
            let (columns, rows) = size;
            insta::assert_snapshot!(format!("{name}_{columns}x{rows}"), text(state));
        };
        let mut state = process_detail(size);
        check("process", &state);
        press(&mut state, "Tab Tab z Down");
        check("process_remotes", &state);
        press(&mut state, "Tab Tab z");
        check("process_about", &state);
        press(&mut state, "Tab z Enter");
        check("flow", &state);
        press(&mut state, "BackTab");
        check("flow_about", &state);
        press(&mut state, "Tab");
        reduce(&mut state, event(ended(40)));
        check("flow_closed", &state);
        press(&mut state, "Esc");
        check("process_exited", &state);
        press(&mut state, "Esc End Up Enter");
        check("process_hostile", &state);
    }
}

/// The kernel reports the last change of state, and the model the end with its reason: they are
/// one.
#[test]
fn the_end_of_a_flow_is_listed_once() {
    let mut state = process_detail((120, 40));
    press(&mut state, "Tab Tab Tab Tab Tab z Enter");
    reduce(&mut state, event(ended(40)));
    let mut detail = detail(&state).clone();
    let known = facts::passed(&state, &detail);
    let last = detail.states.last().unwrap().time;
    detail.states.push(Passed {
        state: SocketEntry::Closed,
        time: last,
    });
    assert!(known.contains(" › reset "), "{known}");
    assert_eq!(facts::passed(&state, &detail), known);
}

#[test]
fn tab_goes_round_the_panels_and_each_keeps_its_cursor() {
    let mut state = process_detail((120, 40));
    let titles = |state: &State| {
        let detail = detail(state);
        detail.table()[detail.focus].title
    };
    let mut seen = Vec::new();
    for _ in 0..5 {
        seen.push(titles(&state));
        press(&mut state, "Tab");
    }
    assert_eq!(
        seen,
        ["Flows", "Listeners", "Remotes", "Protocols", "About"]
    );
    assert_eq!(titles(&state), "Flows");
    press(&mut state, "Down Tab Right");
    assert_eq!((titles(&state), chosen(&state)), ("Remotes", None));
    press(&mut state, "Down BackTab Left");
    assert!(matches!(chosen(&state), Some(Id::Flow(_))));
}

#[test]
fn enter_opens_what_the_cursor_is_on_and_esc_goes_back() {
    let mut state = process_detail((120, 40));
    // Without a cursor the first row.
    press(&mut state, "Enter");
    assert!(text(&state).contains("tcp 10.0.3.7:50514 → 198.51.100.9:443"));
    // Who used the socket too: from there to that process.
    let users = &detail(&state).panels[0].entries;
    assert_eq!(users.len(), 2);
    press(&mut state, "End Enter");
    assert!(text(&state).contains(" 912 chronyd"));
    press(&mut state, "Esc Esc");
    assert!(text(&state).contains(" 41007 curl"));
    // A remote, and from there back.
    press(&mut state, "Tab Tab Enter");
    assert!(text(&state).contains(" remote 198.51.100.9  2 processes, 1 open flow"));
    press(&mut state, "q");
    // A protocol has no detail, and says so.
    press(&mut state, "Tab Enter");
    assert!(text(&state).contains("no detail"));
    press(&mut state, "q");
    assert!(state.popups.is_empty());
    // A listener is the socket that listens.
    press(&mut state, "Home Enter Tab Enter");
    assert!(line_with(&state, "listening for").contains("tcp [::]:5432"));
}

#[test]
fn details_over_details_have_an_end() {
    let mut state = process_detail((120, 40));
    for _ in 0..30 {
        // To the flow, and from there to its process.
        press(&mut state, "Enter Home Enter");
    }
    assert!(state.popups.len() <= 16, "{}", state.popups.len());
    for _ in 0..16 {
        press(&mut state, "Esc");
    }
    assert!(state.popups.is_empty());
}

#[test]
fn the_cursor_goes_where_its_row_goes() {
    let mut state = with_scene((120, 40));
    press(&mut state, "Down Enter Down");
    let first = chosen(&state).unwrap();
    let mut turned = snapshot(40);
    change_flows(&mut turned, |flow| {
        if flow.key.socket.0 == 2 {
            flow.rate.rx = 1e12;
        }
    });
    reduce(&mut state, event(turned));
    assert_eq!(chosen(&state), Some(first.clone()));
    assert_eq!(detail(&state).panels[0].line, 1);
    // When it goes, the one in its place is chosen.
    let mut without = snapshot(41);
    without.flows.retain(|flow| Id::Flow(flow.key) != first);
    reduce(&mut state, event(without));
    let panel = &detail(&state).panels[0];
    assert_eq!(panel.line, 1);
    assert_eq!(panel.chosen, Some(panel.entries[1].subject.id()));
}

#[test]
fn graphs_go_back_as_far_as_wanted() {
    let mut state = process_detail((120, 40));
    assert_eq!(state.span, Span::Minute);
    let minute = text(&state);
    assert!(minute.contains("[1 min]"));
    press(&mut state, "z");
    assert!(text(&state).contains("[10 min]"));
    press(&mut state, "z");
    let ten = text(&state);
    assert!(ten.contains("[10 s]"));
    press(&mut state, "z");
    assert_eq!(text(&state), minute);
    let graph = |text: &str| {
        text.lines()
            .find(|it| it.contains("▼    ") && it.contains("wire"))
            .unwrap()
            .to_owned()
    };
    assert_ne!(graph(&minute), graph(&ten));
}

#[test]
fn round_trips_of_microseconds_are_shown_as_such() {
    let mut state = process_detail((120, 40));
    press(&mut state, "Enter");
    for step in 40..102 {
        let mut near = snapshot(step);
        change_flows(&mut near, |flow| {
            let short = RoundTrip::from_micros(9);
            if let Some(tcp) = &mut flow.tcp {
                (tcp.rtt, tcp.min_rtt) = (short, short);
            }
        });
        reduce(&mut state, event(near));
    }
    assert!(line_with(&state, " rtt ").contains("rtt 9 µs "));
    assert!(
        text(&state).contains(" min 9 µs  max 9 µs"),
        "{}",
        text(&state)
    );
}

#[test]
fn rows_of_a_detail_are_marked_by_their_rates_too() {
    let mut state = process_detail((120, 40));
    assert!(!text(&state).contains(" !  "));
    press(&mut state, "T");
    assert!(text(&state).contains("alert threshold 100 kB/s"));
    press(&mut state, "Down");
    assert!(line_with(&state, "→ 198.51.100.9:443").contains('!'));
}

#[test]
fn what_the_wire_carries_is_reported_with_what_it_is_over_the_app_bytes() {
    let mut state = process_detail((120, 40));
    assert!(line_with(&state, "▼  ").contains("6.9 MB/s"));
    // Of the shared socket: what both processes moved.
    let wire = "wire 504 MB (+4.6%)";
    assert!(text(&state).contains(wire), "{}", text(&state));
    assert!(text(&state).contains("retransmitted 40"));
    press(&mut state, "Enter");
    assert!(text(&state).contains(wire), "{}", text(&state));
    assert!(line_with(&state, " rtt ").contains("rtt 12.5 ms "));
    assert!(line_with(&state, " min ").contains("min 8.8 ms"));
    assert!(
        line_with(&state, " states ").contains("syn-sent 14:01:20.000 › established 14:01:21.000")
    );
}

#[test]
fn the_mouse_chooses_panels_and_rows_and_opens_them() {
    let mut state = with_scene((120, 40));
    press(&mut state, "Down Enter");
    let click = |state: &mut State, column: u16, row: u16, milliseconds: u64| {
        let mouse = Mouse {
            action: MouseAction::Click,
            column,
            row,
        };
        reduce(
            state,
            Event::Input(Input::Mouse(mouse), Instant(milliseconds * 1_000_000)),
        );
    };
    let places = detail_layout::places(&state, detail(&state));
    let tabs = detail_layout::tabs(detail(&state), 120);
    click(&mut state, tabs[3].x, places.tabs.y, 0);
    assert_eq!(detail(&state).focus, 3);
    let flows = places.panels[0].body;
    click(&mut state, flows.x + 5, flows.y + 1, 10);
    assert_eq!(
        (detail(&state).focus, detail(&state).panels[0].line),
        (0, 1)
    );
    // Too late for a second one, then soon enough.
    click(&mut state, flows.x + 5, flows.y + 1, 2_000);
    assert!(matches!(detail(&state).of, Of::Process(_)));
    click(&mut state, flows.x + 5, flows.y + 1, 2_100);
    assert!(matches!(detail(&state).of, Of::Flow(_)));
    // Below the rows there is nothing.
    press(&mut state, "Esc");
    click(&mut state, flows.x + 5, flows.bottom() - 1, 9_000);
    assert_eq!(detail(&state).panels[0].line, 1);
    press(&mut state, "BackTab");
    let wheel = Mouse {
        action: MouseAction::WheelDown,
        column: 1,
        row: 20,
    };
    reduce(&mut state, Event::Input(Input::Mouse(wheel), Instant(0)));
    drawn(&state);
}

#[test]
fn a_long_command_line_can_be_read_to_its_end() {
    for size in SIZES {
        let mut state = process_detail(size);
        press(&mut state, "BackTab");
        let mut seen = String::new();
        for _ in 0..40 {
            seen.push_str(&text(&state));
            press(&mut state, "Down");
        }
        for disc in 1..=12 {
            assert!(
                seen.contains(&format!("disc-{disc}.iso")),
                "{size:?} {disc}"
            );
        }
        assert!(seen.contains("\\x1b[31mred\\u{202e}"), "{seen}");
        press(&mut state, "End");
        assert!(text(&state).contains("retransmitted"));
    }
}

#[test]
fn nothing_hostile_reaches_the_terminal_from_a_detail() {
    let hostile = |c: char| c != '\n' && crate::sink::text::is_hostile(c);
    for keys in ["Down Down Enter", "End Up Enter"] {
        let mut state = with_scene((200, 60));
        press(&mut state, keys);
        for _ in 0..6 {
            let text = text(&state);
            assert!(!text.contains(hostile), "{text}");
            press(&mut state, "Tab");
        }
        press(&mut state, "Enter BackTab");
        assert!(!text(&state).contains(hostile));
    }
}

#[test]
fn the_process_of_fifty_thousand_flows_has_a_detail() {
    let process = fixture::process(7, "/usr/bin/server", &["server"]);
    let flow = |number: u64| {
        let remote = format!("10.1.{}.{}:443", number >> 8 & 0xff, number & 0xff);
        fixture::flow(number, &process, "10.0.0.2:80", Some(&remote))
    };
    let flows = (0..50_000).map(flow).collect();
    let many = fixture::snapshot(vec![process.clone()], flows, Vec::new());
    let mut state = blank((120, 40));
    reduce(&mut state, event(many));
    press(&mut state, "Down Enter End");
    assert!(text(&state).contains("50000 of 50000"));
    press(&mut state, "Tab Tab End");
    assert_eq!(detail(&state).panels[2].entries.len(), 50_000);
}

#[test]
fn the_verdict_is_never_cut_within_a_word() {
    for size in SIZES {
        let mut state = process_detail(size);
        press(&mut state, "Enter");
        let mut limited = snapshot(40);
        change_flows(&mut limited, |flow| {
            flow.app.rx_bytes = Default::default();
            flow.path = Some(Arc::new(Path {
                info: TcpInfo::default(),
                time: Instant(0),
                waits: 0,
                limits: Some(Limits {
                    of: Duration::from_secs(100),
                    busy: Duration::from_secs(90),
                    receiver: Duration::from_secs(83),
                    buffer: Duration::ZERO,
                }),
            }));
        });
        reduce(&mut state, event(limited));
        let speed = line_with(&state, " speed ");
        assert!(
            speed.contains("limited by the receiver's window, 83%"),
            "{speed}"
        );
        assert!(!speed.contains('…'), "{speed}");
        assert_eq!(speed.contains("of the time"), size.0 > 60, "{speed}");
    }
}

#[test]
fn only_connections_have_graphs_of_round_trips_and_retransmits() {
    let mut state = process_detail((120, 40));
    press(&mut state, "Enter");
    assert!(line_with(&state, " retransmits ").contains("retransmitted 40  1.1% of packets"));
    assert!(text(&state).contains(" peak 1 in 1 s"));
    press(&mut state, "z");
    assert!(
        text(&state).contains(" peak 10 in 10 s"),
        "{}",
        text(&state)
    );
    // A listener, and datagrams.
    press(&mut state, "1 Home Enter Tab Enter");
    assert!(text(&state).contains(" listening for "), "{}", text(&state));
    assert!(!text(&state).contains("retransmits"));
    press(&mut state, "Esc Esc 2 Home Down Down Enter");
    assert!(text(&state).contains(" udp "), "{}", text(&state));
    assert!(!text(&state).contains("retransmits"));
}
