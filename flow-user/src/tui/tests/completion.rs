//! Completion while a filter is typed.

use super::*;

fn candidates(state: &State) -> &[String] {
    let prompt = state.prompt.as_ref().unwrap();
    &prompt.completion.candidates
}

fn typed(state: &State) -> &str {
    &state.prompt.as_ref().unwrap().text
}

#[test]
fn tab_takes_one_after_the_other_and_typing_goes_on_from_there() {
    let mut state = with_scene((120, 40));
    press(&mut state, "/");
    type_in(&mut state, "process c");
    assert_eq!(candidates(&state), ["chronyd", "curl"]);
    press(&mut state, "Tab");
    assert_eq!(typed(&state), "process chronyd");
    // It works at once.
    assert_eq!(state.rows.len(), 1);
    assert!(line_with(&state, " Tab").contains(" ›chronyd  curl"));
    press(&mut state, "Tab");
    assert_eq!(state.filter.text, "process curl");
    assert!(line_with(&state, " Tab").contains("  chronyd ›curl"));
    press(&mut state, "Tab BackTab");
    assert_eq!(typed(&state), "process curl");
    type_in(&mut state, " o");
    assert_eq!(candidates(&state), ["or", "outbound"]);
    type_in(&mut state, "r");
    assert_eq!(candidates(&state), ["or"]);
    press(&mut state, "Tab");
    assert_eq!(typed(&state), "process curl or ");
    assert_eq!(candidates(&state)[0], "process");
    press(&mut state, "BackTab");
    assert_eq!(typed(&state), "process curl or (");
    press(&mut state, "Esc");
    assert!(state.filter.text.is_empty());
    assert!(state.prompt.is_none());
}

#[test]
fn a_filter_can_be_made_of_tabs() {
    let mut state = with_scene((80, 24));
    press(&mut state, "/ Tab");
    assert_eq!(typed(&state), "process");
    assert!(line_with(&state, " Tab").contains(" ›process  port"));
    type_in(&mut state, " ");
    press(&mut state, "BackTab");
    assert_eq!(typed(&state), "process postgres");
    press(&mut state, "Enter");
    assert_eq!(state.rows.len(), 1);
    press(&mut state, "/");
    type_in(&mut state, " ");
    assert_eq!(candidates(&state)[..3], ["and", "or", "process"]);
    // Within a word nothing can stand, and Tab is for nothing else.
    let view = state.view;
    press(&mut state, "Left Left Tab BackTab");
    assert_eq!(typed(&state), "process postgres ");
    assert_eq!(state.view, view);
    assert!(line_with(&state, "Enter apply").contains("Esc cancel"));
}

#[test]
fn names_of_other_processes_are_quoted_and_shown_as_text() {
    let mut state = with_scene((120, 40));
    press(&mut state, "/");
    type_in(&mut state, "cgroup /do");
    press(&mut state, "Tab");
    let quoted = "cgroup \"/docker/\\u{9b}31m日本語/e\u{301}\" ";
    assert_eq!(typed(&state), quoted);
    press(&mut state, "Enter");
    assert_eq!(state.rows.len(), 1);
    press(&mut state, "/ ctrl-u");
    type_in(&mut state, "process ");
    press(&mut state, "Tab");
    assert_eq!(state.rows.len(), 1);
    assert!(line_with(&state, " Tab").contains(r#" ›"\u{1b}[2J日本語\u{202e}é"#));
    let hostile = |c: char| c != '\n' && crate::sink::text::is_hostile(c);
    assert!(!text(&state).contains(hostile));
}

#[test]
fn users_and_interfaces_of_the_snapshot_that_is_shown() {
    let mut state = with_scene((120, 40));
    press(&mut state, "/");
    type_in(&mut state, "user ");
    assert_eq!(candidates(&state), ["110", "70", "deploy"]);
    press(&mut state, "ctrl-u");
    type_in(&mut state, "interface e");
    assert_eq!(candidates(&state), ["eth0"]);
    // A text to go to has no words of its own.
    press(&mut state, "Esc f");
    type_in(&mut state, "c");
    assert_eq!(candidates(&state), [""; 0]);
}

#[test]
fn every_candidate_comes_into_sight() {
    let mut state = with_scene((60, 15));
    press(&mut state, "/");
    let all = candidates(&state).to_vec();
    for candidate in all.iter().chain(&all[..1]) {
        press(&mut state, "Tab");
        let line = line_with(&state, " Tab");
        let taken = format!("›{candidate}");
        assert!(line.split(' ').any(|it| it == taken), "{candidate}: {line}");
        assert!(crate::sink::text::width(&line) <= 60, "{line}");
    }
}

#[test]
fn a_user_whose_name_is_known_later_is_found_then() {
    let mut state = with_scene((120, 30));
    let world = Arc::new(Nowhere::default());
    state.world = world.clone();
    press(&mut state, "/");
    type_in(&mut state, "user guest");
    assert!(state.prompt.as_ref().unwrap().expected.is_some());
    assert_eq!(state.filter.text, "");
    world.knows_guest.store(true, Ordering::Relaxed);
    reduce(&mut state, scene::moment(40));
    assert_eq!(state.prompt.as_ref().unwrap().expected, None);
    assert_eq!(state.filter.text, "user guest");
}
