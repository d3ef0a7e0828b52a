//! The screen from outside: events in, effects and text out.

mod acting;
mod columns;
mod completion;
mod details;
mod events;
mod filtering;
mod help;
mod keys;
mod listeners;
mod looks;
mod mouse;
mod pages;
mod programs;
mod random;
mod scale;
mod scene;
mod symbols;

use std::{
    any::Any,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use jiff::tz::TimeZone;
use ratatui::{Terminal, backend::TestBackend, buffer::Buffer};

use super::{state::Popup, *};
use crate::{
    event::{Clock, Host, Instant},
    source::interfaces::facts::LinkFacts,
};

/// Knows one user, and another one once the test says so.
#[derive(Default)]
struct Nowhere {
    knows_guest: AtomicBool,
}

impl World for Nowhere {
    fn uid(&self, name: &str) -> Option<u32> {
        match name {
            "deploy" => Some(1000),
            "guest" => self.knows_guest.load(Ordering::Relaxed).then_some(1001),
            _ => None,
        }
    }

    fn link(&self, ifindex: u32) -> Option<LinkFacts> {
        (ifindex == 2).then(|| LinkFacts {
            mtu: 1500,
            kind: None,
            speed: Some(1_000_000_000),
            addresses: vec![
                ([10, 0, 3, 7].into(), 24),
                ("2001:db8:1::7".parse().unwrap(), 64),
            ],
        })
    }
}

/// A screen without a snapshot.
fn blank(size: (u16, u16)) -> State {
    beginning_with(Preferences::default(), size)
}

/// The same for a user who likes it otherwise.
fn beginning_with(preferences: Preferences, size: (u16, u16)) -> State {
    let settings = Settings {
        preferences,
        filter: String::new(),
        interfaces: Vec::new(),
        depth: Depth::Full,
        host: Host {
            name: "web-3".to_owned(),
            kernel: "6.18.44".to_owned(),
        },
        clock: Clock {
            boot: "2026-05-01T14:00:00Z".parse().unwrap(),
        },
        zone: TimeZone::UTC,
    };
    State::new(settings, Arc::new(Nowhere::default()), size).unwrap()
}

/// A screen that shows the scene.
fn with_scene(size: (u16, u16)) -> State {
    let mut state = blank(size);
    for step in 0..40 {
        reduce(&mut state, scene::moment(step));
    }
    state
}

/// Presses keys, as the key map writes them; a key that is none is an error of the test. Returns
/// what is to be done.
fn press(state: &mut State, keys: &str) -> Vec<Effect> {
    let mut effects = Vec::new();
    for key in keys.split(' ') {
        let key = Input::Key(key.parse().unwrap());
        effects.extend(reduce(state, Event::Input(key, Instant(0))));
    }
    effects
}

/// Types text.
fn type_in(state: &mut State, text: &str) {
    for character in text.chars() {
        let key = Input::Key(Key::plain(Code::Char(character)));
        reduce(state, Event::Input(key, Instant(0)));
    }
}

/// A popup, if it is of this kind.
fn popup_as<T: Popup>(popup: &dyn Popup) -> Option<&T> {
    let popup: &dyn Any = popup;
    popup.downcast_ref()
}

/// What is on the screen.
fn drawn(state: &State) -> Buffer {
    let (columns, rows) = state.size;
    let mut terminal = Terminal::new(TestBackend::new(columns, rows)).unwrap();
    terminal.draw(|frame| draw(state, frame)).unwrap();
    terminal.backend().buffer().clone()
}

/// Its text, without blanks at the ends of lines.
fn text(state: &State) -> String {
    let buffer = drawn(state);
    let area = buffer.area;
    let line = |y| {
        let mut text = String::new();
        let mut hidden = 0;
        for x in 0..area.width {
            let symbol = buffer[(x, y)].symbol();
            // The cell after a wide character belongs to it.
            if hidden == 0 {
                text.push_str(symbol);
            }
            hidden = match hidden {
                0 => crate::sink::text::width(symbol).saturating_sub(1),
                more => more - 1,
            };
        }
        text.trim_end().to_owned()
    };
    let lines: Vec<String> = (0..area.height).map(line).collect();
    lines.join("\n")
}

/// The line on the screen that has `part`.
fn line_with(state: &State, part: &str) -> String {
    let text = text(state);
    let mut lines = text.lines();
    let line = lines.find(|line| line.contains(part));
    line.unwrap_or_else(|| panic!("no line has {part}:\n{text}"))
        .to_owned()
}
