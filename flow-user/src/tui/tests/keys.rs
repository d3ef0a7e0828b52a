//! What each key does.

use super::*;
use crate::{
    event::Bytes,
    query::{entry::Id, groups::By},
    tui::views::ViewId,
};

fn pid(state: &State) -> Option<u32> {
    match state.chosen()?.id {
        Id::Process(id) => Some(id.pid),
        _ => None,
    }
}

fn scened() -> State {
    with_scene((120, 40))
}

#[test]
fn digits_and_tab_choose_the_view() {
    let mut state = scened();
    press(&mut state, "3");
    assert_eq!(state.view, ViewId::Group(By::Remote));
    press(&mut state, "Tab");
    assert_eq!(state.view, ViewId::Group(By::Listener));
    press(&mut state, "BackTab BackTab BackTab BackTab");
    assert_eq!(state.view, ViewId::Events);
    press(&mut state, "Tab");
    assert_eq!(state.view, ViewId::Group(By::Process));
}

#[test]
fn the_cursor_moves_and_stays_within_the_rows() {
    let mut state = scened();
    assert_eq!(state.chosen(), None);
    press(&mut state, "Down");
    assert_eq!(pid(&state), Some(8123));
    press(&mut state, "j k k k");
    assert_eq!(pid(&state), Some(8123));
    press(&mut state, "End");
    let last = state.rows.len() - 1;
    assert_eq!(state.here().line, last);
    press(&mut state, "PgDn Down");
    assert_eq!(state.here().line, last);
    press(&mut state, "g");
    assert_eq!(state.here().line, 0);
    press(&mut state, "G PgUp Home");
    assert_eq!(pid(&state), Some(8123));
    press(&mut state, "Esc");
    assert_eq!(state.chosen(), None);
}

#[test]
fn the_chosen_row_is_followed_by_its_identity_when_the_order_changes() {
    let mut state = scened();
    press(&mut state, "Down Down");
    assert_eq!(pid(&state), Some(41007));
    // By pid from the smallest, then from the largest.
    press(&mut state, "> > > > >");
    assert_eq!((pid(&state), state.here().line), (Some(41007), 4));
    press(&mut state, "S");
    assert_eq!((pid(&state), state.here().line), (Some(41007), 0));
    reduce(&mut state, scene::moment(41));
    assert_eq!(pid(&state), Some(41007));
    // Another view has its own.
    press(&mut state, "2 Down 1");
    assert_eq!(pid(&state), Some(41007));
}

#[test]
fn a_filter_that_nothing_passes_leaves_the_choice() {
    let mut state = scened();
    press(&mut state, "Down Down /");
    type_in(&mut state, "pid 4");
    assert!(state.rows.is_empty());
    // Nothing to act on is shown.
    assert_eq!(press(&mut state, "Enter K"), []);
    press(&mut state, "/ Esc Esc");
    assert_eq!(pid(&state), Some(41007));
}

#[test]
fn when_the_chosen_row_goes_the_one_in_its_place_is_chosen() {
    let mut state = scened();
    press(&mut state, "Down Down");
    let mut snapshot = scene::snapshot(41);
    snapshot.processes.retain(|process| process.id.pid != 41007);
    let event = Event::Snapshot {
        snapshot: snapshot.into(),
        changes: Vec::new(),
        states: Vec::new(),
        own: OwnUse::default(),
    };
    reduce(&mut state, event);
    assert_eq!((pid(&state), state.here().line), (Some(912), 1));
}

#[test]
fn what_is_followed_is_seen_and_the_rest_stays_where_it_is() {
    let mut state = with_scene((80, 15));
    press(&mut state, "* End");
    assert!(state.here().offset > 0);
    let offset = state.here().offset;
    reduce(&mut state, scene::moment(41));
    assert_eq!(state.here().offset, offset);
    // Turned round the selected row is among the last; only who follows it sees it at once.
    press(&mut state, "Home S");
    assert!(line_with(&state, "selected row").contains('↓'));
    press(&mut state, "F");
    assert!(!text(&state).contains("row ↓"));
    assert!(state.here().offset > 0);
}

#[test]
fn folding() {
    let mut state = scened();
    let rows = state.rows.len();
    press(&mut state, "Down +");
    assert_eq!(state.rows.len(), rows + 3);
    press(&mut state, "Down");
    assert!(state.chosen().unwrap().under.is_some());
    // From a row under another to that one, and then folded.
    press(&mut state, "Left");
    assert_eq!(pid(&state), Some(8123));
    press(&mut state, "Left");
    assert_eq!(state.rows.len(), rows);
    press(&mut state, "*");
    assert!(state.rows.len() > rows + 5);
    press(&mut state, "*");
    assert_eq!(state.rows.len(), rows);
}

#[test]
fn the_tree_has_the_ancestors_and_folds_families() {
    let mut state = scened();
    press(&mut state, "a a");
    assert!(line_with(&state, "systemd").contains('▾'));
    let bash = line_with(&state, " bash");
    assert!(
        bash.find("bash") > line_with(&state, "systemd").find("systemd"),
        "{bash}"
    );
    let rows = state.rows.len();
    press(&mut state, "Home Left");
    assert!(line_with(&state, "systemd").contains('▸'));
    assert!(state.rows.len() < rows);
    press(&mut state, "Right");
    assert_eq!(state.rows.len(), rows);
    press(&mut state, "a");
    assert!(!text(&state).contains("systemd"));
}

#[test]
fn rows_have_a_detail_and_unfold() {
    let mut state = scened();
    press(&mut state, "Down Enter");
    assert!(text(&state).contains("8123 postgres"));
    press(&mut state, "Esc 3 Down Right");
    assert!(state.popups.is_empty());
    assert!(state.rows.len() > state.rows.top);
    press(&mut state, "2 Down Enter q");
    assert!(state.popups.is_empty());
}

#[test]
fn a_detail_keeps_what_was_known_when_its_process_goes() {
    let mut state = scened();
    press(&mut state, "Down Enter");
    let mut snapshot = scene::snapshot(41);
    snapshot.processes.clear();
    snapshot.flows.clear();
    let event = Event::Snapshot {
        snapshot: snapshot.into(),
        changes: Vec::new(),
        states: Vec::new(),
        own: OwnUse::default(),
    };
    reduce(&mut state, event);
    assert!(text(&state).contains("postgres: walsender"));
}

#[test]
fn a_filter_works_while_it_is_typed_and_a_wrong_one_changes_nothing() {
    let mut state = scened();
    press(&mut state, "/");
    type_in(&mut state, "process curl");
    assert_eq!(state.rows.len(), 1);
    type_in(&mut state, " and state open ");
    assert!(text(&state).contains("column 24: expected a state"));
    assert_eq!(state.rows.len(), 1);
    press(&mut state, "Enter");
    assert!(state.prompt.is_some(), "a wrong filter is not accepted");
    press(&mut state, "ctrl-w ctrl-w ctrl-w Enter");
    assert!(state.prompt.is_none());
    assert_eq!(state.filter.text, "process curl ");
    // Esc while typing brings back what was; in the table it clears.
    press(&mut state, "/");
    type_in(&mut state, "or port 443");
    press(&mut state, "Esc");
    assert_eq!(
        (state.filter.text.as_str(), state.rows.len()),
        ("process curl ", 1)
    );
    press(&mut state, "Esc");
    assert!(state.filter.text.is_empty());
    assert!(state.rows.len() > 3);
}

#[test]
fn interfaces_of_the_command_line_narrow_every_filter() {
    let mut state = scened();
    state.filter.interfaces = vec!["wlan0".to_owned()];
    press(&mut state, "2 /");
    type_in(&mut state, "tcp");
    assert!(state.rows.is_empty());
    press(&mut state, "Esc Esc");
    assert!(state.rows.is_empty());
}

#[test]
fn searching_goes_to_the_next_row_and_round() {
    let mut state = scened();
    press(&mut state, "f");
    type_in(&mut state, "CHRON");
    assert_eq!(pid(&state), Some(912));
    press(&mut state, "Enter f");
    type_in(&mut state, "postg");
    press(&mut state, "Enter");
    assert_eq!(pid(&state), Some(8123));
    press(&mut state, "n");
    assert_eq!(pid(&state), Some(8123));
    press(&mut state, "f");
    type_in(&mut state, "nobody has this");
    assert!(text(&state).contains("no row has"));
}

#[test]
fn sorting_goes_through_the_columns_on_the_screen() {
    let mut state = scened();
    let header = |state: &State| line_with(state, "PROCESS ");
    assert!(header(&state).contains("▾RECEIVED/s"));
    // The rates first, then the totals, and one mark alone.
    for (column, others) in [
        ("▾RECEIVED/s", " SENT/s"),
        ("▾SENT/s", " RECEIVED/s"),
        ("▾RECEIVED ", " SENT/s"),
        ("▾SENT ", " SENT/s"),
    ] {
        press(&mut state, ">");
        let header = header(&state);
        assert!(
            header.contains(column) && header.contains(others),
            "{header}"
        );
    }
    // Numbers of processes rise.
    press(&mut state, ">");
    assert!(header(&state).contains("▴PID"));
    press(&mut state, "S");
    assert!(header(&state).contains("▾PID"));
    press(&mut state, ">");
    assert!(line_with(&state, "PID").contains("PROCESS▴"));
    press(&mut state, "< < < < < <");
    assert!(text(&state).contains("by total rate, highest first"));
    press(&mut state, "S");
    assert!(header(&state).contains("▴RECEIVED/s"));
    let rates: Vec<f64> = (0..state.rows.len())
        .filter_map(|line| state.rows.entry(line))
        .map(|entry| entry.rate.rx + entry.rate.tx)
        .collect();
    assert!(rates.is_sorted(), "{rates:?}");
}

#[test]
fn the_column_to_sort_by_is_chosen_from_a_list() {
    let mut state = scened();
    press(&mut state, "s");
    assert!(text(&state).contains("Sort Processes by"));
    // The cursor is on the first of the rates.
    press(&mut state, "Enter");
    assert!(state.popups.is_empty());
    assert!(text(&state).contains("sorted by RECEIVED/s"));
    // From there to one that has no room.
    press(&mut state, "F6");
    assert!(line_with(&state, "› ").contains("RECEIVED/s"));
    press(&mut state, "Down s End Up Enter");
    let sorted = |state: &State| state.here().sort.map(|(column, _)| column.name);
    assert_eq!(sorted(&state), Some("graph"));
    press(&mut state, "s Home Esc");
    assert_eq!(sorted(&state), Some("graph"));
    press(&mut state, "s Home Enter");
    assert_eq!(sorted(&state), None);
}

#[test]
fn keys_without_a_meaning_say_so() {
    let mut state = scened();
    press(&mut state, "x");
    assert!(text(&state).contains("`x` does nothing; ? lists the keys"));
    // In what is over the table too, also those that have a meaning in the table.
    for (opening, keys) in [
        ("Down Enter", ["x", "/", "s"]),
        ("?", ["x", "/", "2"]),
        ("s", ["x", "/", "2"]),
        ("o", ["x", "/", "2"]),
        ("Down K", ["x", "/", "2"]),
    ] {
        press(&mut state, opening);
        for key in keys {
            press(&mut state, key);
            let says = format!("`{key}` does nothing here; Esc goes back");
            assert!(text(&state).contains(&says), "{opening}: {}", text(&state));
        }
        press(&mut state, "Down");
        assert!(!text(&state).contains("does nothing"), "{opening}");
        press(&mut state, "Esc");
        assert!(state.popups.is_empty());
    }
}

#[test]
fn a_digit_goes_from_details_to_its_view() {
    let mut state = scened();
    press(&mut state, "Down Enter Enter 3");
    assert!(state.popups.is_empty());
    assert_eq!(state.view, ViewId::Group(By::Remote));
    // There is nothing to go to.
    press(&mut state, "1 Down Enter 8");
    assert_eq!(state.popups.len(), 1);
    assert!(text(&state).contains("Flow does not read names yet"));
}

#[test]
fn rows_without_more_to_show_say_so_and_others_say_nothing() {
    let mut state = scened();
    press(&mut state, "6 Down Right");
    assert_eq!(state.note, None);
    assert!(state.rows.len() > state.rows.top);
    // Flows that were closed earlier have no detail, and nothing is under them.
    let mut later = scene::snapshot(40);
    later.totals.app.rx_bytes += Bytes(1_000_000_000);
    let changed = Event::Snapshot {
        snapshot: Arc::new(later),
        changes: Vec::new(),
        states: Vec::new(),
        own: OwnUse::default(),
    };
    reduce(&mut state, changed);
    press(&mut state, "3 End Enter");
    assert!(
        text(&state).contains("nothing more to show"),
        "{}",
        text(&state)
    );
}

#[test]
fn a_view_that_can_have_no_rows_has_no_tab_and_its_key_says_why() {
    let mut state = scened();
    assert!(!text(&state).contains("8 Names"));
    press(&mut state, "8");
    assert_eq!(state.view, ViewId::Group(By::Process));
    assert!(text(&state).contains("Flow does not read names yet"));
}

#[test]
fn help_and_quit_are_always_in_the_last_line() {
    for size in [(60, 15), (80, 24), (200, 60)] {
        let mut state = with_scene(size);
        let last = |state: &State| text(state).lines().last().unwrap_or_default().to_owned();
        for keys in ["", "2", "a", "F Down End Down"] {
            if !keys.is_empty() {
                press(&mut state, keys);
            }
            let line = last(&state);
            assert!(line.contains("? help") && line.contains("q quit"), "{line}");
        }
        press(&mut state, "1 Down Enter");
        let line = last(&state);
        assert!(
            line.contains("? help") && line.contains("Esc back"),
            "{line}"
        );
    }
}

#[test]
fn the_grouping_is_in_the_line_of_modes_and_the_keys_stay() {
    let mut state = scened();
    press(&mut state, "a");
    assert!(text(&state).contains("grouped: by program"));
    assert!(text(&state).contains("? help"));
    while state.here().grouping != 0 {
        press(&mut state, "a");
    }
    assert!(!text(&state).contains("grouped:"));
}

#[test]
fn what_a_unit_or_a_measure_became_is_said() {
    let mut state = scened();
    press(&mut state, "u");
    assert!(text(&state).contains("units: binary"));
    press(&mut state, "U");
    assert!(text(&state).contains("rates only"));
    press(&mut state, "U");
    assert!(text(&state).contains("totals only"));
}

#[test]
fn tabs_stay_where_they_are() {
    for size in [(60, 15), (80, 24), (120, 40), (200, 60)] {
        let mut state = blank(size);
        let places = |state: &State| {
            let tabs = layout::tabs(state).into_iter();
            tabs.map(|tab| tab.x).collect::<Vec<_>>()
        };
        let before = places(&state);
        for step in 0..40 {
            reduce(&mut state, scene::moment(step));
        }
        for keys in ["1", "3", "9"] {
            press(&mut state, keys);
            assert_eq!(places(&state), before, "{size:?}");
        }
    }
}

#[test]
fn paused_the_rows_hold_still_and_the_rest_goes_on() {
    let mut state = scened();
    press(&mut state, "p");
    let before = line_with(&state, "8123");
    reduce(&mut state, scene::moment(43));
    assert_eq!(line_with(&state, "8123"), before);
    assert!(text(&state).contains("PAUSED"));
    assert!(text(&state).contains("14:02:23"));
    press(&mut state, "Space");
    assert!(!text(&state).contains("PAUSED"));
    assert_ne!(line_with(&state, "8123"), before);
}

#[test]
fn units_measures_compact_and_themes_go_round() {
    let mut state = scened();
    assert!(line_with(&state, "41007").contains("482 MB"));
    press(&mut state, "u");
    assert!(line_with(&state, "41007").contains("460 MiB"));
    press(&mut state, "u");
    assert!(line_with(&state, "41007").contains("Gbit"));
    press(&mut state, "u u");
    assert!(line_with(&state, "41007").contains("482 MB"));
    press(&mut state, "U");
    assert!(!line_with(&state, "41007").contains("482 MB"));
    press(&mut state, "U");
    assert!(!line_with(&state, "PROCESS").contains("RECEIVED/s"));
    press(&mut state, "U");
    let rows = layout::parts(&state).body.height;
    press(&mut state, "c");
    assert!(layout::parts(&state).body.height > rows);
    press(&mut state, "c ctrl-t");
    assert_eq!(state.theme, Theme::Light);
}

#[test]
fn counters_begin_anew_and_the_start_comes_back() {
    let mut state = scened();
    press(&mut state, "r");
    assert!(!line_with(&state, "41007").contains("482 MB"));
    assert!(text(&state).contains("since reset"));
    press(&mut state, "r");
    assert!(line_with(&state, "41007").contains("482 MB"));
}

#[test]
fn rows_from_a_rate_on_are_marked_and_coloured() {
    let mut state = scened();
    let marked = |state: &State| -> Vec<String> {
        let text = text(state);
        let rows = text.lines().filter(|line| line.chars().nth(1) == Some('!'));
        rows.filter_map(|line| line.split_whitespace().nth(1).map(str::to_owned))
            .collect()
    };
    let body = layout::parts(&state).body.y;
    press(&mut state, "T");
    assert!(text(&state).contains(" ! alert from 100 kB/s"));
    assert_eq!(layout::parts(&state).body.y, body + 1);
    assert_eq!(marked(&state), ["alert", "8123", "41007"]);
    let colour = |state: &State| drawn(state)[(10, body + 1)].fg;
    let alarm = state.theme.style(Role::Alarm).fg;
    assert_eq!(Some(colour(&state)), alarm);
    press(&mut state, "T");
    assert_eq!(marked(&state), ["alert", "8123"]);
    press(&mut state, "T u");
    assert_eq!(marked(&state), ["alert"]);
    assert_ne!(Some(colour(&state)), alarm);
    press(&mut state, "T");
    assert_eq!(marked(&state), ["alert"]);
    press(&mut state, "T");
    assert!(marked(&state).is_empty());
    assert!(text(&state).contains("no alert threshold"));
    assert_eq!(layout::parts(&state).body.y, body);
}

#[test]
fn what_only_the_program_around_can_do() {
    let mut state = scened();
    assert_eq!(press(&mut state, "q"), [Effect::Quit]);
    assert_eq!(press(&mut state, "F10"), [Effect::Quit]);
    assert_eq!(press(&mut state, "ctrl-z"), [Effect::Suspend]);
    assert_eq!(press(&mut state, "ctrl-l"), [Effect::Clear]);
    // In a line q is a letter, and ctrl-c ends all the same.
    assert_eq!(press(&mut state, "/ q"), []);
    assert_eq!(press(&mut state, "ctrl-c"), [Effect::Quit]);
    press(&mut state, "Esc ?");
    assert_eq!(press(&mut state, "q"), []);
    assert!(state.popups.is_empty());
}

#[test]
fn every_flow_has_its_rates_on_the_smallest_screen() {
    let mut state = with_scene((60, 15));
    press(&mut state, "2");
    let line = line_with(&state, "198.51.100.9:443");
    assert!(line.contains("780 kB/s") && line.contains("curl"), "{line}");
}

#[test]
fn numbers_are_not_indented_nor_are_graphs() {
    let mut state = with_scene((60, 15));
    let here = state.here_mut();
    here.columns
        .retain(|column| ["pid", "rx_rate", "graph"].contains(&column.name));
    press(&mut state, "a a Right");
    let shown = text(&state);
    assert!(
        shown.contains("  41007  ") && !shown.contains('…'),
        "{shown}"
    );
}

#[test]
fn a_mark_at_a_header_has_its_own_cell() {
    let mut state = with_scene((120, 40));
    press(&mut state, "2 > > >");
    assert!(text(&state).contains("  PROTO▴ LOCAL"), "{}", text(&state));
    press(&mut state, "S");
    assert!(text(&state).contains("  PROTO▾ LOCAL"));
}

#[test]
fn pasted_text_is_no_keys() {
    let mut state = scened();
    let paste = |text: &str| Event::Input(Input::Paste(text.to_owned()), Instant(0));
    assert_eq!(reduce(&mut state, paste("qq")), []);
    press(&mut state, "/");
    reduce(&mut state, paste("process\ncurl"));
    assert_eq!(state.filter.text, "process curl");
}

#[test]
fn nothing_is_drawn_for_nothing() {
    let mut state = scened();
    assert!(state.take_changed());
    assert!(!state.take_changed());
    reduce(&mut state, scene::moment(44));
    assert!(state.take_changed());
}

#[test]
fn esc_and_a_key_right_after_it_are_no_key_with_alt_unless_one_is_bound() {
    let mut state = scened();
    press(&mut state, "/");
    type_in(&mut state, "process curl");
    // Out of the line, with the filter as it was, and down.
    press(&mut state, "alt-j");
    assert!(state.prompt.is_none() && state.filter.text.is_empty());
    assert_eq!(pid(&state), Some(8123));
    assert_eq!(press(&mut state, "alt-q"), [Effect::Quit]);
    // Who leaves a question does not answer it.
    assert_eq!(press(&mut state, "Down K alt-Enter"), []);
    assert!(!text(&state).contains("Signal 8123"));
    let mut preferences = Preferences::default();
    assert!(preferences.keys.bind("help", &["alt-x".parse().unwrap()]));
    let mut state = beginning_with(preferences, (120, 40));
    press(&mut state, "alt-x");
    assert!(!state.popups.is_empty());
}
