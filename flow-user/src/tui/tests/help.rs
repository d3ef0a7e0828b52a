//! The help on the screen.

use super::*;

#[test]
fn the_help_has_every_key() {
    let mut state = with_scene((100, 120));
    press(&mut state, "F1");
    let text = text(&state);
    for binding in state.keys.bindings() {
        assert!(text.contains(binding.help), "{}", binding.help);
        for key in &binding.keys {
            assert!(text.contains(&key.to_string()), "{key}");
        }
    }
}

#[test]
fn the_help_can_be_read_on_the_smallest_screen_whatever_keys_there_are() {
    let mut preferences = Preferences::default();
    let many: Vec<Key> = (1..=20).map(|number| Key::plain(Code::F(number))).collect();
    preferences.keys.bind("sort", &many);
    let mut state = beginning_with(preferences, (60, 15));
    press(&mut state, "?");
    let mut seen = String::new();
    for _ in 0..100 {
        seen.push_str(&text(&state));
        press(&mut state, "Down");
    }
    for part in ["header", "F20", "the wheel", "alert threshold"] {
        assert!(seen.contains(part), "{part}");
    }
    assert!(!seen.contains('…'), "{seen}");
}

#[test]
fn the_help_ends_at_its_last_page() {
    let mut state = with_scene((60, 15));
    press(&mut state, "?");
    let first = text(&state);
    press(&mut state, "End PgDn Down PgDn");
    assert!(text(&state).contains("Signs in other views"));
    // One key back shows other lines at once.
    let last = text(&state);
    press(&mut state, "Up");
    assert_ne!(text(&state), last);
    press(&mut state, "Down");
    assert_eq!(text(&state), last);
    press(&mut state, "Home");
    assert_eq!(text(&state), first);
    press(&mut state, "End");
    // On a larger screen all of it may be seen.
    reduce(&mut state, Event::Resize(120, 90));
    assert!(text(&state).contains("this help") && text(&state).contains("Signs in other views"));
}
