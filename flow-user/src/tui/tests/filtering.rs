//! The filter as people type it: plain words, mistakes, earlier ones, and the way back.

use super::*;

/// What applies, and in how many rows it results.
fn applies(state: &State) -> (&str, usize) {
    (state.filter.text.as_str(), state.rows.len())
}

fn prompted(size: (u16, u16), typed: &str) -> State {
    let mut state = with_scene(size);
    press(&mut state, "/");
    type_in(&mut state, typed);
    state
}

#[test]
fn a_plain_word_is_searched_for() {
    let mut state = prompted((120, 40), "CUR");
    assert_eq!(applies(&state), ("CUR", 1));
    assert!(text(&state).contains("41007 curl"));
    press(&mut state, "Enter /");
    type_in(&mut state, " port https");
    assert_eq!(applies(&state), ("CUR port https", 1));
    press(&mut state, "ctrl-u");
    type_in(&mut state, "41007");
    assert_eq!(applies(&state), ("41007", 1));
    press(&mut state, "ctrl-u");
    type_in(&mut state, "curl port 80");
    assert_eq!(applies(&state), ("curl port 80", 0));
}

#[test]
fn names_on_the_screen_complete_a_plain_word() {
    let mut state = prompted((120, 40), "chr");
    press(&mut state, "Tab");
    assert_eq!(applies(&state), ("chronyd ", 1));
    type_in(&mut state, "port nt");
    press(&mut state, "Tab");
    assert_eq!(state.filter.text, "chronyd port ntp ");
}

#[test]
fn what_may_become_a_word_waits_and_is_no_mistake() {
    let mut state = with_scene((80, 24));
    let rows = state.rows.len();
    press(&mut state, "/");
    for letter in ["p", "o", "r", "t", " "] {
        type_in(&mut state, letter);
        assert_eq!(applies(&state), ("", rows), "{letter}");
        assert_eq!(state.prompt.as_ref().unwrap().error, None, "{letter}");
        assert!(!text(&state).contains("column "), "{letter}");
        assert!(
            line_with(&state, " Tab ").contains(|it: char| it.is_ascii_digit()) == (letter == " ")
        );
    }
    press(&mut state, "ctrl-u");
    type_in(&mut state, "net ");
    assert!(text(&state).contains(" a network, such as 10.0.0.0/8"));
    // Enter takes it as it stands.
    press(&mut state, "ctrl-u");
    type_in(&mut state, "cu");
    press(&mut state, "ctrl-u");
    type_in(&mut state, "por");
    press(&mut state, "Enter");
    assert!(state.prompt.is_none());
    assert_eq!(applies(&state), ("por", 0));
}

#[test]
fn a_mistake_shows_after_a_blank_or_enter_and_can_be_read_in_full() {
    for size in [(60, 15), (80, 24), (120, 40)] {
        let mut state = prompted(size, "state open");
        assert!(!text(&state).contains("column "));
        type_in(&mut state, " ");
        let error = |state: &State| {
            let screen = text(state);
            let lines: Vec<&str> = screen.lines().collect();
            let first = lines.iter().position(|it| it.contains("column ")).unwrap();
            let lines = lines[first..lines.len() - 1].iter();
            lines.map(|it| it.trim()).collect::<Vec<_>>().join(" ")
        };
        let shown = error(&state);
        assert!(shown.starts_with("column 7: expected a state"), "{shown}");
        assert!(shown.ends_with("found `open`"), "{shown}");
        assert!(!shown.contains('…'), "{shown}");
        press(&mut state, "ctrl-u");
        type_in(&mut state, "curl port");
        assert!(!text(&state).contains("column "));
        press(&mut state, "Enter");
        let shown = error(&state);
        assert!(shown.starts_with("column 10: expected a port"), "{shown}");
        assert!(shown.ends_with("found the end"), "{shown}");
        // Typing goes on.
        type_in(&mut state, " 443");
        assert!(!text(&state).contains("column "));
        press(&mut state, "Enter");
        assert_eq!(applies(&state), ("curl port 443", 1));
    }
}

#[test]
fn earlier_filters_are_recalled() {
    let mut state = with_scene((80, 24));
    for typed in ["curl", "port 53", "curl"] {
        press(&mut state, "/ ctrl-u");
        type_in(&mut state, typed);
        press(&mut state, "Enter");
    }
    press(&mut state, "Esc /");
    type_in(&mut state, "chr");
    press(&mut state, "Up");
    assert_eq!(applies(&state), ("curl", 1));
    press(&mut state, "Up");
    assert_eq!(state.filter.text, "port 53");
    press(&mut state, "Up Down Down");
    assert_eq!(applies(&state), ("chr", 1));
    // A cancelled one is not remembered.
    press(&mut state, "Esc / Up Up Up");
    assert_eq!(state.filter.text, "port 53");
}

#[test]
fn esc_takes_back_what_was_typed_and_says_so() {
    let mut state = prompted((80, 24), "curl");
    press(&mut state, "Esc");
    assert!(line_with(&state, "cancelled").contains("filter"));
    press(&mut state, "/");
    type_in(&mut state, "curl");
    press(&mut state, "Enter Esc");
    assert_eq!(state.filter.text, "");
    assert!(text(&state).contains("filter cleared"));
}

#[test]
fn esc_never_drops_the_filter_of_the_command_line() {
    let mut state = with_scene((80, 24));
    let all = state.rows.len();
    state.filter.given = "curl".to_owned();
    press(&mut state, "/");
    type_in(&mut state, "chronyd");
    press(&mut state, "Enter Esc");
    assert_eq!(applies(&state), ("curl", 1));
    assert!(text(&state).contains("back to the filter of the command line: curl"));
    assert!(line_with(&state, " filter ").contains("curl from the command line"));
    press(&mut state, "Down Esc");
    assert!(state.here().chosen.is_none());
    press(&mut state, "Esc");
    assert_eq!(applies(&state), ("curl", 1));
    assert!(text(&state).contains("stays; / changes it"));
    // It can be taken out on purpose, and comes back with Esc.
    press(&mut state, "/ ctrl-u Enter");
    assert_eq!(applies(&state), ("", all));
    press(&mut state, "Esc");
    assert_eq!(applies(&state), ("curl", 1));
}
