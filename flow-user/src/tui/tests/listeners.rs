//! The view of listeners, with sockets of datagrams among them.

use std::sync::Arc;

use super::*;
use crate::{
    event::{CloseReason, Instant},
    model::snapshot::Flow,
    query::fixture,
};

/// The scene, with a name server that serves four remotes, of which one is idle.
fn with_server(size: (u16, u16)) -> State {
    let mut state = with_scene(size);
    let Event::Snapshot {
        mut snapshot,
        changes,
        states,
        own,
    } = scene::moment(40)
    else {
        panic!("a moment is a snapshot");
    };
    let dnsmasq = fixture::process(953, "/usr/sbin/dnsmasq", &["dnsmasq", "-k"]);
    let of = |remote| fixture::served(90, &dnsmasq, remote);
    let endpoint = Flow {
        app: fixture::totals(0, 0),
        backlog: Some(fixture::DATAGRAMS),
        ..of(None)
    };
    let idle = Flow {
        closed: Some((Instant(70_000_000_000), CloseReason::Idle)),
        ..of(Some("10.0.3.30:40000"))
    };
    let remotes = ["10.0.3.31:41001", "10.0.3.32:42002", "[2001:db8::33]:43003"];
    let served = remotes.map(|remote| of(Some(remote)));
    let flows = [endpoint, idle].into_iter().chain(served).map(Arc::new);
    let shown = Arc::make_mut(&mut snapshot);
    shown.flows.extend(flows);
    shown.processes.push(dnsmasq.clone());
    reduce(
        &mut state,
        Event::Snapshot {
            snapshot,
            changes,
            states,
            own,
        },
    );
    state
}

#[test]
fn sockets_of_datagrams_are_among_them() {
    for size in [(60, 15), (80, 24), (120, 40), (200, 60)] {
        let mut state = with_server(size);
        press(&mut state, "4 *");
        let name = format!("datagram_listeners_{}x{}", size.0, size.1);
        insta::assert_snapshot!(name, text(&state));
    }
}

#[test]
fn the_detail_of_their_process_lists_them_and_opens_the_socket() {
    let mut state = with_server((120, 40));
    press(&mut state, "1 f");
    type_in(&mut state, "dnsmasq");
    press(&mut state, "Enter Enter Tab");
    let title = line_with(&state, "─ Listeners ");
    assert!(title.contains("Listeners 1"), "{title}");
    press(&mut state, "Enter");
    assert!(text(&state).contains("listening for"), "{}", text(&state));
}

#[test]
fn age_last_seen_and_packets_can_be_chosen_and_sorted_by() {
    let mut state = with_server((200, 60));
    press(&mut state, "4");
    assert!(!text(&state).contains("PACKETS"));
    let all = state.view.columns().iter();
    let wanted = all.filter(|column| ["local", "age", "last", "packets"].contains(&column.name));
    state.here_mut().columns = wanted.collect();
    press(&mut state, "s Down Down Down Enter");
    let header = line_with(&state, "LISTENS AT");
    assert!(
        header.contains("LAST SEEN") && header.contains("▾PACKETS"),
        "{header}"
    );
    let line = line_with(&state, "0.0.0.0:53");
    // Of the one socket, however many remotes it has.
    let cells: Vec<&str> = line.split_whitespace().skip(1).collect();
    let time = state.shown.time.0 / 1_000_000_000;
    let age = crate::query::human::duration(std::time::Duration::from_secs(time - 2));
    assert_eq!(cells[1..].join(" "), format!("{age} {age} 5"));
}
