//! Details of remotes, interfaces, users and cgroups.

use super::*;

/// What opens the detail of the first row of a view that is of interest.
const OPENED: [(&str, &str); 5] = [
    ("remote", "3 Home Enter"),
    ("network", "3 a Home Enter"),
    ("interface", "5 Home Enter"),
    ("user", "6 Home Enter"),
    ("cgroup", "7 Home Enter"),
];

#[test]
fn what_details_of_groups_look_like() {
    for (columns, rows) in SIZES {
        for (name, keys) in OPENED {
            let mut state = with_scene((columns, rows));
            press(&mut state, keys);
            assert_eq!(state.popups.len(), 1, "{name}");
            let check = |part: &str, state: &State| {
                insta::assert_snapshot!(format!("{name}{part}_{columns}x{rows}"), text(state));
            };
            check("", &state);
            press(&mut state, "shift-Tab");
            check("_last_panel", &state);
        }
    }
}

#[test]
fn graphs_of_a_group_begin_with_what_its_members_moved() {
    let mut state = with_scene((120, 40));
    press(&mut state, "3 Home Enter");
    let graph = |state: &State| line_with(state, "▼    ");
    assert!(line_with(&state, "peak").contains('⣿'), "{}", text(&state));
    // They go on with the next moment, and are forgotten with the detail.
    let before = graph(&state);
    reduce(&mut state, scene::moment(40));
    assert_ne!(graph(&state), before);
    let group = match &detail(&state).of {
        Of::Group(group) => group.clone(),
        of => panic!("{of:?}"),
    };
    assert!(state.history.group(&group).is_some());
    press(&mut state, "Esc");
    reduce(&mut state, scene::moment(41));
    assert!(state.history.group(&group).is_none());
}

#[test]
fn enter_goes_on_to_what_a_row_names() {
    let mut state = with_scene((120, 40));
    press(&mut state, "6 Home Enter");
    assert!(text(&state).contains(" user "), "{}", text(&state));
    press(&mut state, "Enter");
    assert!(matches!(detail(&state).of, Of::Process(_)));
    press(&mut state, "Esc Tab Enter");
    assert!(matches!(detail(&state).of, Of::Group(_)));
    assert!(text(&state).contains(" remote "));
    // Of the remote the process, and its flow.
    press(&mut state, "Enter");
    assert!(matches!(detail(&state).of, Of::Process(_)));
    press(&mut state, "Esc Tab Enter");
    assert!(matches!(detail(&state).of, Of::Flow(_)));
    press(&mut state, "Esc Esc Esc");
    assert!(state.popups.is_empty());
    press(&mut state, "5 Home Enter shift-Tab Enter");
    assert!(matches!(detail(&state).of, Of::Flow(_)), "{}", text(&state));
}

#[test]
fn a_remote_has_its_failed_connections_and_when_it_was_seen() {
    let mut state = with_scene((120, 40));
    press(&mut state, "3 Home");
    while !line_with(&state, "203.0.113.5").is_empty() {
        press(&mut state, "Enter");
        if text(&state).contains(" remote 203.0.113.5") {
            break;
        }
        press(&mut state, "Esc Down");
    }
    assert!(line_with(&state, " failed ").contains("connections: 1 reset"));
    assert!(line_with(&state, " first seen ").contains("14:01:26.000, "));
    let wire = line_with(&state, "wire ");
    assert!(wire.contains("wire 1.2 kB"), "{wire}");
}

#[test]
fn an_interface_says_how_much_of_its_speed_is_used() {
    let mut state = with_scene((120, 40));
    press(&mut state, "5 Home Enter");
    assert!(
        text(&state).contains(" interface eth0  up"),
        "{}",
        text(&state)
    );
    assert!(line_with(&state, " packets ").contains("not measured yet"));
    reduce(&mut state, scene::moment(40));
    assert!(line_with(&state, " speed ").contains("1 Gbit/s"));
    assert!(line_with(&state, " ▼   75").contains("60% of its speed"));
    assert!(line_with(&state, " ▲   15").contains("12% of its speed"));
    let packets = line_with(&state, " packets ");
    assert!(
        packets.contains("▼ 53k/s ▲ 10k/s") || packets.contains("▼ 54k/s ▲ 11k/s"),
        "{packets}"
    );
    assert!(line_with(&state, " addresses ").contains("10.0.3.7/24 2001:db8:1::7/64"));
    assert!(line_with(&state, " MTU ").contains("1500 bytes"));
    assert!(line_with(&state, " forwarded ").contains("0.7%"));
}

#[test]
fn an_interface_that_is_gone_keeps_its_numbers_and_says_so() {
    let mut state = with_scene((120, 40));
    press(&mut state, "5 Home Enter");
    let before = detail(&state).sums.app;
    let mut gone = snapshot(45);
    let time = gone.time;
    let eth0 = gone
        .interfaces
        .iter_mut()
        .find(|it| it.ifindex == 2)
        .unwrap();
    let eth0 = Arc::make_mut(eth0);
    (eth0.gone, eth0.up) = (Some(time), false);
    reduce(&mut state, event(gone));
    assert!(
        text(&state).contains(" interface eth0  gone 0 ms ago"),
        "{}",
        text(&state)
    );
    assert_eq!(detail(&state).sums.rate, Default::default());
    assert!(detail(&state).sums.app.rx_bytes >= before.rx_bytes);
    assert!(!text(&state).contains("unexplained"));
    // Another one with its index is not it.
    let mut other = snapshot(46);
    let eth0 = other
        .interfaces
        .iter_mut()
        .find(|it| it.ifindex == 2)
        .unwrap();
    Arc::make_mut(eth0).name = "eth9".into();
    reduce(&mut state, event(other));
    assert!(!detail(&state).listed);
    assert!(text(&state).contains(" interface eth0 "));
}

#[test]
fn names_of_groups_do_no_harm() {
    let hostile = |c: char| c != '\n' && crate::sink::text::is_hostile(c);
    let mut state = with_scene((200, 60));
    press(&mut state, "7 Home");
    let mut seen = false;
    for _ in 0..8 {
        press(&mut state, "Enter");
        let text = text(&state);
        assert!(!text.contains(hostile), "{text}");
        seen |= text.contains("cgroup /docker/\\u{9b}31m");
        press(&mut state, "Esc Down");
    }
    assert!(seen);
}

#[test]
fn details_of_fifty_thousand_flows_have_them_all() {
    let process = fixture::process(7, "/usr/bin/server", &["server"]);
    let flow = |number: u64| {
        let local = format!("10.1.{}.{}:443", number >> 8 & 0xff, number & 0xff);
        fixture::flow(number, &process, &local, Some("192.0.2.7:5000"))
    };
    let flows = (0..50_000).map(flow).collect();
    let mut many = fixture::snapshot(vec![process.clone()], flows, Vec::new());
    many.totals.app = fixture::totals(50_000 * 100, 50_000 * 1_000);
    let mut state = blank((120, 40));
    reduce(&mut state, event(many.clone()));
    press(&mut state, "3 Home Enter");
    assert_eq!(detail(&state).sums.app.rx_bytes.0, 50_000_000);
    assert_eq!(detail(&state).sums.sockets.counted, 50_000);
    assert_eq!(detail(&state).panels[1].entries.len(), 50_000);
    reduce(&mut state, event(many));
    press(&mut state, "Esc 6 Home Enter");
    assert_eq!(detail(&state).sums.flows, 0, "as the process has it");
    assert_eq!(detail(&state).panels[1].entries.len(), 1);
}
