//! What text looks like, and what has room.

use ratatui::style::{Color, Modifier};

use super::*;

const SIZES: [(u16, u16); 4] = [(60, 15), (80, 24), (120, 40), (200, 60)];

/// Whether the text is bold where it stands first below the header.
fn is_bold(state: &State, text: &str) -> bool {
    let buffer = drawn(state);
    let body = layout::parts(state).body;
    for y in body.y..body.bottom() {
        let row: String = (0..buffer.area.width)
            .map(|x| buffer[(x, y)].symbol())
            .collect();
        if let Some(at) = row.find(text) {
            let x = row[..at].chars().count().try_into().unwrap();
            return buffer[(x, y)].modifier.contains(Modifier::BOLD);
        }
    }
    panic!("no row has {text}")
}

#[test]
fn what_names_a_row_is_bold_and_nothing_else() {
    let mut state = with_scene((120, 40));
    assert!(is_bold(&state, "curl") && !is_bold(&state, "deploy"));
    reduce(&mut state, Event::Resize(200, 60));
    press(&mut state, "2");
    assert!(is_bold(&state, "198.51.100.9:443") && is_bold(&state, "curl"));
    assert!(!is_bold(&state, "tcp") && !is_bold(&state, "established"));
    press(&mut state, "4");
    assert!(is_bold(&state, "[::]:5432") && is_bold(&state, "postgres"));
    assert!(!is_bold(&state, "tcp"));
    press(&mut state, "9");
    assert!(!is_bold(&state, "open "));
}

#[test]
fn a_selected_row_has_no_grey() {
    for (keys, theme) in [("4 End", Theme::Dark), ("1 End Up Up", Theme::Light)] {
        let mut state = with_scene((120, 40));
        state.theme = theme;
        press(&mut state, keys);
        let row = layout::parts(&state).body.y + u16::try_from(state.here().line).unwrap();
        let buffer = drawn(&state);
        for x in 0..120 {
            let cell = &buffer[(x, row)];
            assert!(cell.modifier.contains(Modifier::REVERSED));
            assert!(!matches!(cell.fg, Color::Indexed(_)), "{keys} {x}");
        }
        // The greys of the other rows are of no palette.
        let greys = buffer.content.iter().map(|cell| cell.fg);
        assert!(greys.clone().any(|fg| matches!(fg, Color::Indexed(_))));
        assert!(!greys.into_iter().any(|fg| fg == Color::DarkGray));
    }
}

#[test]
fn addresses_of_ipv4_are_never_cut() {
    for size in SIZES {
        let mut state = with_scene(size);
        for keys in ["2", "4", "9", "2 a", "4 *"] {
            press(&mut state, keys);
            let text = text(&state);
            for word in text.split_whitespace().filter(|it| it.contains('…')) {
                let rest = word.trim_matches(|it: char| it.is_ascii_digit() || ".:…".contains(it));
                assert!(!rest.is_empty(), "{size:?} {keys}: {word}\n{text}");
            }
        }
    }
}

#[test]
fn names_lose_their_end() {
    let mut state = with_scene((60, 15));
    let mut snapshot = scene::snapshot(41);
    for process in &mut snapshot.processes {
        let process = Arc::make_mut(process);
        process.program.exe = Some(Arc::new(
            "/usr/bin/a-very-long-name-of-a-program-indeed".into(),
        ));
        process.program.comm = None;
        process.exited = Some(Instant(140_000_000_000));
    }
    let event = Event::Snapshot {
        snapshot: snapshot.into(),
        changes: Vec::new(),
        states: Vec::new(),
        own: OwnUse::default(),
    };
    reduce(&mut state, event);
    let line = line_with(&state, "a-very-long");
    assert!(
        line.contains("a-very-long-name-") && !line.contains("…d"),
        "{line}"
    );
}

/// What concerns neither a process nor a flow has the columns of both.
#[test]
fn a_status_event_can_be_read() {
    for size in SIZES {
        let mut state = with_scene(size);
        reduce(&mut state, scene::troubled());
        press(&mut state, "9");
        let line = line_with(&state, " status");
        assert!(
            line.contains("every capability is available"),
            "{size:?} {line}"
        );
    }
}

#[test]
fn both_graphs_have_one_scale() {
    let state = with_scene((120, 40));
    let text = text(&state);
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[2].contains("peak  69.0 MB/s") && lines[2].contains("peak   1.1 MB/s"));
    // What is sent is far below what is received.
    let sent = lines[1].split('▲').nth(1).unwrap();
    assert!(
        !sent.contains(|it| ('\u{2801}'..='\u{28ff}').contains(&it)),
        "{sent}"
    );
}

#[test]
fn blind_spots_are_a_mark_and_the_help_says_which() {
    let mut state = with_scene((120, 40));
    assert!(!text(&state).contains("partial"));
    reduce(&mut state, scene::troubled());
    assert!(text(&state).contains("partial, ? says what"));
    assert!(!text(&state).contains("splice"));
    press(&mut state, "?");
    assert!(text(&state).contains("bytes read with splice() from a kTLS socket"));
}

#[test]
fn an_interface_that_is_gone_leaves_the_sum_alone() {
    let mut state = with_scene((120, 40));
    press(&mut state, "5");
    let mut snapshot = scene::snapshot(41);
    for interface in &mut snapshot.interfaces {
        let interface = Arc::make_mut(interface);
        let missing = match &*interface.name {
            "docker0" => -341_000_000,
            _ => 0,
        };
        interface.ingress_ledger.unexplained = missing;
        interface.egress_ledger.unexplained = 0;
        interface.gone = (missing != 0).then_some(Instant(0));
    }
    let event = Event::Snapshot {
        snapshot: snapshot.into(),
        changes: Vec::new(),
        states: Vec::new(),
        own: OwnUse::default(),
    };
    reduce(&mut state, event);
    assert!(line_with(&state, "docker0").contains("gone"));
    assert!(!line_with(&state, "TOTAL").contains("341"));
}

#[test]
fn panels_without_rows_have_one_line_and_flows_their_columns() {
    let mut state = with_scene((120, 40));
    press(&mut state, "Down Down Enter");
    let title = line_with(&state, "─ Listeners 0 ");
    assert!(title.contains("No listening sockets."), "{title}");
    let flow = line_with(&state, "→ 198.51.100.9:443");
    for part in ["10.0.3.7:50514", "established", "12.5 ms"] {
        assert!(flow.contains(part), "{flow}");
    }
}

/// Whether a number has lost part of its unit, as in `15.6 Kibi…s`.
fn has_cut_unit(line: &str) -> bool {
    line.match_indices('…').any(|(at, _)| {
        let before = line[..at].trim_end_matches(char::is_alphabetic);
        let number = before.strip_suffix(' ').unwrap_or_default();
        before.len() < at && number.ends_with(|it: char| it.is_ascii_digit())
    })
}

#[test]
fn no_unit_is_cut() {
    assert!(has_cut_unit(" ▼ 15.6 Kibi…s  3 GB"));
    let views = ["1", "2", "3", "4", "5", "6", "7"];
    let details = [
        "1 Home Enter",
        "1 Home Down Enter",
        "Enter",
        "3 Home Enter",
        "5 Home Enter",
    ];
    for size in SIZES {
        let mut state = with_scene(size);
        for _ in 0..4 {
            press(&mut state, "u");
            for keys in views.into_iter().chain(details) {
                press(&mut state, keys);
                let text = text(&state);
                let cut = text.lines().find(|line| has_cut_unit(line));
                assert_eq!(cut, None, "{keys} at {size:?}:\n{text}");
            }
        }
    }
}
