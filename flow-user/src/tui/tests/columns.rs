//! Selecting and ordering columns.

use super::*;
use crate::{
    query::groups::By,
    tui::{popups::columns::ColumnPicker, views::ViewId},
};

fn names(state: &State) -> Vec<&'static str> {
    let columns = state.here().columns.iter();
    columns.map(|column| column.name).collect()
}

fn is_open(state: &State) -> bool {
    let top = state.popups.last();
    top.is_some_and(|popup| popup_as::<ColumnPicker>(&**popup).is_some())
}

#[test]
fn columns_are_hidden_moved_and_kept() {
    let mut state = with_scene((200, 60));
    assert_eq!(press(&mut state, "o Space Down Down J"), []);
    assert!(is_open(&state));
    // Nothing holds before Enter.
    assert_eq!(names(&state)[..4], ["pid", "process", "user", "cgroup"]);
    let effects = press(&mut state, "Enter");
    assert!(!is_open(&state));
    assert_eq!(names(&state)[..4], ["process", "cgroup", "user", "flows"]);
    assert_eq!(
        effects,
        [Effect::SaveColumns(
            ViewId::Group(By::Process),
            names(&state)
        )]
    );
    let header = line_with(&state, "CGROUP");
    assert!(!header.contains("PID"), "{header}");
    assert!(header.find("CGROUP") < header.find("USER"), "{header}");
    // It opens as it was left: what is hidden comes last, and can come back.
    press(&mut state, "o End K K Space Enter");
    let at = names(&state).iter().position(|name| *name == "pid");
    assert_eq!(at, Some(names(&state).len() - 3));
    // Another view has its own.
    press(&mut state, "2");
    assert_eq!(names(&state)[0], "protocol");
}

#[test]
fn age_and_packets_of_flows_can_be_chosen() {
    let mut state = with_scene((200, 60));
    press(&mut state, "2");
    assert!(!text(&state).contains("PACKETS"));
    let all = state.view.columns().iter();
    let wanted = all.filter(|column| ["remote", "age", "packets"].contains(&column.name));
    state.here_mut().columns = wanted.collect();
    press(&mut state, "s Esc");
    let line = line_with(&state, "198.51.100.9:443");
    assert!(line.contains("59 s") && line.contains("347757"), "{line}");
    // The most packets first.
    press(&mut state, "s Down Down Enter");
    assert!(
        line_with(&state, "REMOTE").contains("▾PACKETS"),
        "{}",
        text(&state)
    );
}

#[test]
fn leaving_changes_nothing() {
    let mut state = with_scene((120, 40));
    let before = names(&state);
    for leave in ["Esc", "q", "o"] {
        let keys = format!("o Space J shift-Down shift-Up {leave}");
        assert_eq!(press(&mut state, &keys), []);
        assert!(!is_open(&state), "{leave}");
        assert_eq!(names(&state), before);
    }
    assert_eq!(press(&mut state, "o ctrl-c"), [Effect::Quit]);
}

#[test]
fn shift_with_arrows_moves_as_j_and_k_do() {
    let mut state = with_scene((120, 40));
    press(&mut state, "o shift-Down shift-Down shift-Up Enter");
    assert_eq!(names(&state)[..2], ["process", "pid"]);
    // At the ends there is nowhere to go.
    press(&mut state, "o K K shift-Up End J J Enter");
    assert_eq!(names(&state)[..2], ["process", "pid"]);
}

#[test]
fn one_column_stays_and_r_brings_back_what_is_usual() {
    let mut state = with_scene((120, 40));
    let before = names(&state);
    press(&mut state, "o");
    for _ in &before {
        press(&mut state, "Space Down");
    }
    press(&mut state, "Space");
    assert!(text(&state).contains("at least one column is required"));
    press(&mut state, "Enter");
    assert_eq!(names(&state), before[before.len() - 1..]);
    assert!(!text(&state).contains("PROCESS "));
    press(&mut state, "o r Enter");
    assert_eq!(names(&state), before);
}

#[test]
fn rates_alone_stay_when_only_totals_are_wanted() {
    let mut state = with_scene((120, 40));
    let rate = |column: &&crate::query::columns::Column| column.name.ends_with("_rate");
    state.here_mut().columns.retain(rate);
    // Rows under a process have no label then, and no column of theirs is missing.
    press(&mut state, "U U *");
    assert!(text(&state).contains("RECEIVED/s"));
}

#[test]
fn a_label_stands_where_the_names_are() {
    let mut state = with_scene((120, 40));
    press(&mut state, "Down +");
    let usual = line_with(&state, "10.0.3.22:41870");
    assert!(usual.starts_with("    tcp"), "{usual}");
    // The rates first: the label has what is behind them.
    let columns = &mut state.here_mut().columns;
    let is_measure = |it: &&crate::query::columns::Column| it.measure.is_none();
    columns.sort_by_key(|column| is_measure(column));
    let turned = line_with(&state, "10.0.3.22");
    let (rates, label) = turned.split_at(turned.find("tcp").unwrap());
    assert!(rates.trim_start().starts_with('0'), "{turned}");
    assert!(label.contains("10.0.3.22"), "{turned}");
}

#[test]
fn a_view_without_columns_has_none_to_choose() {
    let preferences = Preferences {
        view: ViewId::Names,
        ..Preferences::default()
    };
    let mut state = beginning_with(preferences, (120, 40));
    for key in ["o", "s"] {
        press(&mut state, key);
        assert!(state.popups.is_empty(), "{key}");
        assert!(text(&state).contains("this view has no columns yet"));
    }
}

#[test]
fn what_the_program_around_says_stands_at_the_foot() {
    let mut state = with_scene((120, 40));
    reduce(
        &mut state,
        Event::Status("columns saved in \u{1b}x".to_owned()),
    );
    assert!(state.take_changed());
    assert!(line_with(&state, "columns saved").contains("\\x1bx"));
}

#[test]
fn the_screen_begins_as_the_user_likes_it() {
    let mut preferences = Preferences {
        view: ViewId::Group(By::Flow),
        theme: Some(Theme::Light),
        compact: true,
        threshold: Some(100_000),
        ..Preferences::default()
    };
    preferences.units.bits = true;
    preferences.keys.bind("pause", &["x".parse().unwrap()]);
    let table = &mut preferences.tables[ViewId::Group(By::Flow).index()];
    let remote = |column: &&crate::query::columns::Column| column.name == "remote";
    let column = *table.columns.iter().find(|it| remote(it)).unwrap();
    table
        .columns
        .retain(|column| column.measure.is_some() || remote(column));
    table.sort = Some((column, true));
    let mut state = beginning_with(preferences, (120, 40));
    reduce(&mut state, scene::moment(40));
    assert_eq!(
        (state.view, state.theme),
        (ViewId::Group(By::Flow), Theme::Light)
    );
    assert!(state.compact);
    let header = line_with(&state, "RECEIVED/s");
    assert!(
        header.contains("REMOTE▾") && !header.contains("LOCAL"),
        "{header}"
    );
    assert!(
        line_with(&state, "198.51.100.9").contains("kbit/s") || text(&state).contains("Mbit/s")
    );
    assert!(text(&state).contains("alert from"));
    press(&mut state, "p");
    assert!(!state.is_paused());
    press(&mut state, "x");
    assert!(state.is_paused());
}

#[test]
fn what_it_looks_like() {
    for size in [(60, 15), (80, 24), (120, 40)] {
        let mut state = with_scene(size);
        press(&mut state, "o Down Space Down J");
        let shown = |name: &str, state: &State| {
            let (columns, rows) = state.size;
            insta::assert_snapshot!(format!("{name}_{columns}x{rows}"), text(state));
        };
        shown("processes", &state);
        press(&mut state, "Enter Down +");
        shown("chosen", &state);
        press(&mut state, "5 o End");
        shown("interfaces", &state);
    }
}
