//! Clicks, double clicks and the wheel.

use super::*;
use crate::{query::groups::By, tui::views::ViewId};

fn mouse(
    state: &mut State,
    action: MouseAction,
    column: u16,
    row: u16,
    milliseconds: u64,
) -> Vec<Effect> {
    let mouse = Mouse {
        action,
        column,
        row,
    };
    let time = Instant(milliseconds * 1_000_000);
    reduce(state, Event::Input(Input::Mouse(mouse), time))
}

/// Clicks where `part` stands on the screen.
fn click(state: &mut State, part: &str, milliseconds: u64) -> Vec<Effect> {
    let text = text(state);
    let (row, line) = text
        .lines()
        .enumerate()
        .find(|(_, line)| line.contains(part))
        .unwrap_or_else(|| panic!("{part} is not there:\n{text}"));
    let column = crate::sink::text::width(&line[..line.find(part).unwrap()]);
    let place = (column.try_into().unwrap(), row.try_into().unwrap());
    mouse(state, MouseAction::Click, place.0, place.1, milliseconds)
}

#[test]
fn tabs_headers_and_rows() {
    let mut state = with_scene((120, 40));
    click(&mut state, "Interfaces", 0);
    assert_eq!(state.view, ViewId::Group(By::Interface));
    click(&mut state, "1 Processes", 0);
    click(&mut state, "PID", 0);
    assert!(line_with(&state, "PROCESS").contains("▴PID"));
    click(&mut state, "PID", 0);
    assert!(line_with(&state, "PROCESS").contains("▾PID"));
    click(&mut state, "curl", 0);
    assert_eq!(state.here().line, 0);
    // Between two columns, and below the rows: nothing.
    mouse(&mut state, MouseAction::Click, 119, 38, 0);
    assert_eq!(state.here().line, 0);
}

#[test]
fn a_click_on_a_key_in_the_last_line_presses_it() {
    let mut state = with_scene((120, 40));
    click(&mut state, "p pause", 0);
    assert!(state.is_paused());
    click(&mut state, "p pause", 0);
    assert!(!state.is_paused());
    assert_eq!(click(&mut state, "q quit", 0), [Effect::Quit]);
    // Under a box it closes that, and under a message there is none.
    press(&mut state, "Down K");
    let row = state.size.1 - 1;
    assert_eq!(mouse(&mut state, MouseAction::Click, 2, row, 0), []);
    assert!(state.popups.is_empty() && state.note.is_some());
    mouse(&mut state, MouseAction::Click, 2, row, 0);
    assert!(state.prompt.is_none());
    // Of a detail.
    press(&mut state, "Down Enter");
    click(&mut state, "Esc back", 0);
    assert!(state.popups.is_empty());
}

#[test]
fn two_clicks_on_a_row_open_it() {
    let mut state = with_scene((120, 40));
    click(&mut state, "curl", 0);
    click(&mut state, "chronyd", 100);
    click(&mut state, "chronyd", 900);
    assert!(state.popups.is_empty());
    click(&mut state, "chronyd", 1_200);
    assert!(text(&state).contains("912 chronyd"));
    // Clicks on what lies over the table are not for the table.
    let chosen = state.chosen().cloned();
    click(&mut state, "executable", 2_000);
    click(&mut state, "lineage", 3_000);
    assert_eq!(state.chosen().cloned(), chosen);
    assert_eq!(state.popups.len(), 1);
}

#[test]
fn a_click_on_a_candidate_takes_it() {
    let mut state = with_scene((120, 40));
    press(&mut state, "/");
    type_in(&mut state, "process c");
    for (part, taken) in [("  curl", "curl"), ("  chronyd", "chronyd")] {
        let line = line_with(&state, " Tab");
        let column = crate::sink::text::width(&line[..line.find(part).unwrap()]);
        let foot = state.size.1 - 2;
        // Its sign is a part of it.
        mouse(
            &mut state,
            MouseAction::Click,
            column.try_into().unwrap(),
            foot,
            0,
        );
        assert_eq!(state.filter.text, format!("process {taken}"));
        // Tab goes on from there.
        assert!(line_with(&state, " Tab").contains(&format!(" ›{taken}")));
    }
    // Beside them is nothing to take.
    mouse(&mut state, MouseAction::Click, 1, 38, 0);
    mouse(&mut state, MouseAction::Click, 100, 38, 0);
    assert_eq!(state.filter.text, "process chronyd");
    press(&mut state, "Tab");
    assert_eq!(state.filter.text, "process curl");
}

#[test]
fn a_row_opened_while_a_filter_is_typed_ends_the_typing() {
    let mut state = with_scene((120, 40));
    press(&mut state, "/");
    type_in(&mut state, "process chronyd and");
    click(&mut state, "912", 0);
    assert!(state.prompt.is_some());
    click(&mut state, "912", 100);
    assert!(text(&state).contains("912 chronyd"));
    // The last filter that made sense holds.
    assert!(state.prompt.is_none());
    assert_eq!(state.filter.text, "process chronyd ");
    press(&mut state, "Esc");
    assert!(state.popups.is_empty());
}

#[test]
fn one_click_chooses_an_answer_and_a_double_click_gives_it() {
    for size in [(60, 15), (120, 40)] {
        let mut state = with_scene(size);
        press(&mut state, "Down K");
        for (part, milliseconds) in [("KILL", 0), ("HUP", 100), ("KILL", 200), ("KILL", 900)] {
            assert_eq!(click(&mut state, part, milliseconds), []);
            assert!(line_with(&state, part).contains('▸'), "{part}");
        }
        // What is asked is no answer, nor is the frame.
        assert_eq!(click(&mut state, "│ postgres: walsender", 950), []);
        assert_eq!(click(&mut state, "Signal 8123", 960), []);
        assert_eq!(click(&mut state, "HUP", 1_000), []);
        let effects = click(&mut state, "HUP", 1_300);
        let [Effect::Signal(target, signal)] = &effects[..] else {
            panic!("{effects:?}");
        };
        assert_eq!((target.id.pid, signal.as_str()), (8123, "SIGHUP"));
        assert!(state.popups.is_empty());
    }
}

#[test]
fn two_clicks_at_one_place_are_for_one_answer_however_far_the_list_is_scrolled() {
    let mut state = with_scene((60, 15));
    press(&mut state, "Down K End");
    let text = text(&state);
    let row = text
        .lines()
        .position(|line| line.contains(" INT "))
        .unwrap();
    let row = row.try_into().unwrap();
    assert_eq!(mouse(&mut state, MouseAction::Click, 20, row, 0), []);
    let effects = mouse(&mut state, MouseAction::Click, 20, row, 100);
    assert!(matches!(&effects[..], [Effect::Signal(_, signal)] if signal.as_str() == "SIGINT"));
}

#[test]
fn a_single_answer_needs_two_clicks_too() {
    let mut state = with_scene((80, 24));
    press(&mut state, "2 Down X");
    let answer = "its process gets an error";
    assert_eq!(click(&mut state, answer, 0), []);
    let effects = click(&mut state, answer, 100);
    assert!(matches!(effects[..], [Effect::Close(_)]));
}

#[test]
fn clicks_choose_columns() {
    let mut state = with_scene((120, 40));
    press(&mut state, "o");
    click(&mut state, "] user ", 0);
    // On the mark the first click is enough.
    assert!(line_with(&state, "] user ").contains("› [ ] user"));
    let name = "user           USER";
    click(&mut state, "process        PROCESS", 0);
    click(&mut state, name, 0);
    assert!(line_with(&state, "] user ").contains("› [ ] user"));
    // Elsewhere the second one is, whenever it comes.
    click(&mut state, name, 5_000);
    assert!(line_with(&state, "] user ").contains("› [x] user"));
    click(&mut state, "[x] cgroup", 0);
    click(&mut state, "Enter save", 0);
    let effects = press(&mut state, "Enter");
    let [Effect::SaveColumns(ViewId::Group(By::Process), names)] = &effects[..] else {
        panic!("{effects:?}");
    };
    assert_eq!(names[..4], ["pid", "process", "user", "flows"]);
}

#[test]
fn a_click_leaves_a_list_of_columns_where_it_is() {
    let mut state = with_scene((60, 15));
    press(&mut state, "o Down Down Down Down Down Down Down");
    let list = |state: &State| {
        let text = text(state);
        let lines = text
            .lines()
            .enumerate()
            .filter(|(_, it)| it.contains("[x]"));
        let lines = lines.map(|(row, line)| (row, line.replace('›', " ")));
        lines.collect::<Vec<_>>()
    };
    let before = list(&state);
    assert!(before.len() > 3);
    for (row, _) in &before {
        mouse(
            &mut state,
            MouseAction::Click,
            30,
            (*row).try_into().unwrap(),
            0,
        );
        assert!(text(&state).lines().nth(*row).unwrap().contains('›'));
        assert_eq!(list(&state), before);
    }
}

#[test]
fn a_click_beside_a_box_closes_it() {
    let mut state = with_scene((120, 40));
    for keys in ["?", "o", "Down K", "Enter ?"] {
        press(&mut state, keys);
        let open = state.popups.len();
        // Within its frame it stays.
        mouse(&mut state, MouseAction::Click, 60, 20, 0);
        assert_eq!(state.popups.len(), open, "{keys}");
        assert_eq!(mouse(&mut state, MouseAction::Click, 0, 20, 0), []);
        assert_eq!(state.popups.len(), open - 1, "{keys}");
        assert_eq!(text(&state).contains("cancelled"), keys == "Down K");
    }
}

#[test]
fn the_wheel_scrolls_and_leaves_the_choice() {
    let mut state = with_scene((80, 15));
    press(&mut state, "* Down");
    let chosen = state.chosen().cloned();
    mouse(&mut state, MouseAction::WheelDown, 5, 8, 0);
    assert_eq!(state.here().offset, 3);
    mouse(&mut state, MouseAction::WheelUp, 5, 8, 0);
    mouse(&mut state, MouseAction::WheelUp, 5, 8, 0);
    assert_eq!(state.here().offset, 0);
    assert_eq!(state.chosen().cloned(), chosen);
    press(&mut state, "?");
    let before = text(&state);
    mouse(&mut state, MouseAction::WheelDown, 5, 8, 0);
    assert_ne!(text(&state), before);
}

#[test]
fn a_click_on_a_tab_goes_from_a_detail_to_that_view() {
    let mut state = with_scene((120, 40));
    press(&mut state, "Down Enter Enter");
    assert_eq!(state.popups.len(), 2);
    let tabs = layout::tabs(&state);
    let remotes = tabs
        .iter()
        .find(|tab| tab.view == ViewId::Group(By::Remote))
        .unwrap();
    let click = Mouse {
        action: MouseAction::Click,
        column: remotes.x + 1,
        row: layout::parts(&state).tabs.y,
    };
    reduce(&mut state, Event::Input(Input::Mouse(click), Instant(0)));
    assert!(state.popups.is_empty());
    assert_eq!(state.view, ViewId::Group(By::Remote));
}
