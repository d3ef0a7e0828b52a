//! Snapshots of each view at each relevant size.

use strum::IntoEnumIterator as _;

use super::*;
use crate::tui::views::ViewId;

const SIZES: [(u16, u16); 4] = [(60, 15), (80, 24), (120, 40), (200, 60)];

/// Compares the screen with the one that was approved.
fn check(name: &str, state: &State) {
    let (columns, rows) = state.size;
    insta::assert_snapshot!(format!("{name}_{columns}x{rows}"), text(state));
}

#[test]
fn every_view() {
    for size in SIZES {
        let mut state = with_scene(size);
        for view in ViewId::shown() {
            press(&mut state, &(view.index() + 1).to_string());
            assert_eq!(state.view, view);
            check(view.name(), &state);
        }
    }
}

#[test]
fn rows_under_rows() {
    for size in SIZES {
        let mut state = with_scene(size);
        press(&mut state, "Down Right");
        check("unfolded_processes", &state);
        press(&mut state, "a a *");
        check("tree", &state);
        press(&mut state, "2 a");
        check("flows_by_process", &state);
        press(&mut state, "3 a *");
        check("networks", &state);
        press(&mut state, "4 *");
        check("accepted", &state);
        press(&mut state, "6 *");
        check("users_unfolded", &state);
    }
}

#[test]
fn the_help() {
    for size in SIZES {
        let mut state = with_scene(size);
        press(&mut state, "?");
        check("help", &state);
        press(&mut state, "Esc Down Enter K Down");
        check("signal", &state);
    }
}

#[test]
fn marks_and_lines_that_are_typed() {
    for size in SIZES {
        let mut state = with_scene(size);
        press(&mut state, "p r u /");
        type_in(&mut state, "process curl");
        check("filtering", &state);
        type_in(&mut state, " and porrt 80");
        check("wrong_filter", &state);
        press(&mut state, "Esc p T T c");
        check("compact", &state);
        press(&mut state, "T T T");
        press(&mut state, "/");
        type_in(&mut state, "port 1");
        press(&mut state, "Enter");
        check("nothing_passes", &state);
        press(&mut state, "H");
        check("nothing_passes_or_is_hidden", &state);
    }
}

#[test]
fn words_that_could_be_typed() {
    for size in SIZES {
        let mut state = with_scene(size);
        press(&mut state, "/");
        check("candidates", &state);
        type_in(&mut state, "not process ");
        press(&mut state, "Tab Tab");
        check("candidates_taken", &state);
        type_in(&mut state, " and p");
        check("candidates_and_error", &state);
    }
}

#[test]
fn before_the_first_numbers_and_with_losses() {
    check("blank", &blank((80, 24)));
    let mut state = with_scene((120, 40));
    reduce(&mut state, scene::troubled());
    check("troubled", &state);
    press(&mut state, "9");
    assert!(line_with(&state, " lost ").contains("7 reco"));
    press(&mut state, "1");
    // However little room there is.
    for (keys, size) in [("c", (120, 40)), ("c", (60, 15))] {
        press(&mut state, keys);
        reduce(&mut state, Event::Resize(size.0, size.1));
        assert!(line_with(&state, "LOST").contains("LOST 7 "), "{size:?}");
    }
}

#[test]
fn interfaces_that_were_chosen_are_reported() {
    let mut state = with_scene((80, 24));
    state.filter.interfaces = vec!["wg0".to_owned()];
    state.filter.filter = state.filter.parse("", &Nowhere::default()).unwrap();
    state.stale = true;
    press(&mut state, "2");
    let text = text(&state);
    assert!(text.contains("interface wg0"), "{text}");
    assert!(
        text.contains("No traffic on the selected interfaces"),
        "{text}"
    );
}

#[test]
fn a_screen_that_is_too_small_says_so() {
    let mut state = with_scene((59, 15));
    assert!(text(&state).starts_with("flow needs 60×15\nthis is 59×15"));
    for size in [(1, 1), (0, 0), (5, 2), (200, 1), (1, 60)] {
        reduce(&mut state, Event::Resize(size.0, size.1));
        drawn(&state);
        press(&mut state, "Down / x Esc ? Esc Enter Esc");
    }
    reduce(&mut state, Event::Resize(80, 24));
    assert!(text(&state).contains("PROCESS"));
}

#[test]
fn nothing_hostile_reaches_the_terminal() {
    let mut state = with_scene((200, 60));
    for keys in ["1", "a", "Enter", "Esc", "2", "7", "9"] {
        press(&mut state, keys);
        let text = text(&state);
        let hostile = |c: char| c != '\n' && crate::sink::text::is_hostile(c);
        assert!(!text.contains(hostile), "{text}");
    }
    assert!(line_with(&state, "666").contains("\\x1b[2J日本語"));
}

#[test]
fn every_theme_shows_the_same_text() {
    let mut state = with_scene((120, 40));
    let before = text(&state);
    for _ in Theme::iter() {
        state.theme = state.theme.next();
        assert_eq!(text(&state), before);
    }
}
