//! Screens on terminals that lack symbols.

use super::*;
use crate::{
    sink::text::Symbols,
    tui::{symbols::translate, views::ViewId},
};

/// Screens with all that is drawn: every view, details, popups, the prompt.
fn screens() -> Vec<State> {
    let mut states = Vec::new();
    for view in ViewId::ALL {
        let mut state = with_scene((120, 40));
        state.view = view;
        state.stale = true;
        press(&mut state, "Down");
        states.push(state);
    }
    for keys in [
        "?", "Enter", "2 Enter", "a", "*", "o", "K", "/", "1 k U S", "p T r",
    ] {
        let mut state = with_scene((120, 40));
        press(&mut state, "Down");
        press(&mut state, keys);
        states.push(state);
    }
    states
}

#[test]
fn every_symbol_has_a_form_in_ascii() {
    for state in screens() {
        let drawn = drawn(&state);
        let mut ascii = drawn.clone();
        translate(Symbols::Ascii, &mut ascii);
        for (was, is) in drawn.content.iter().zip(&ascii.content) {
            let symbol = is.symbol();
            assert!(symbol.is_ascii(), "{symbol}");
            let is_letter = was.symbol().chars().any(char::is_alphanumeric);
            let unknown = symbol == "?" && was.symbol() != "?" && !is_letter;
            assert!(!unknown, "`{}` has no form in ASCII", was.symbol());
            assert_eq!(was.style(), is.style());
        }
    }
}

#[test]
fn the_linux_console_gets_no_braille() {
    for state in screens() {
        let mut blocks = drawn(&state);
        translate(Symbols::Blocks, &mut blocks);
        for cell in &blocks.content {
            let braille = |it: char| ('\u{2800}'..='\u{28ff}').contains(&it) || it == '…';
            assert!(!cell.symbol().contains(braille), "{}", cell.symbol());
        }
    }
}

#[test]
fn in_ascii_a_screen_reads_as_before() {
    let mut state = with_scene((80, 24));
    press(&mut state, "Down");
    let mut terminal = Terminal::new(TestBackend::new(80, 24)).unwrap();
    let frame = terminal
        .draw(|frame| {
            draw(&state, frame);
            translate(Symbols::Ascii, frame.buffer_mut());
        })
        .unwrap();
    let lines: Vec<String> = (0..24)
        .map(|y| {
            let cells = (0..80).map(|x| frame.buffer[(x, y)].symbol());
            cells.collect::<String>().trim_end().to_owned()
        })
        .collect();
    insta::assert_snapshot!("ascii", lines.join("\n"));
}
