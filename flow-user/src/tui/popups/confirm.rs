//! A dialog that asks before an action, with the facts to decide by.

use ratatui::{buffer::Buffer, layout::Rect};

use super::{
    list::List,
    popup_layout::{Pieces, Place, centred, draw_lines},
};
use crate::{
    event::Instant,
    tui::{
        clicks::Clicked,
        effect::Effect,
        key::{Code, Key, Mouse},
        keymap::Action,
        layout,
        state::{Popup, Reply, State},
        theme::Role,
    },
};

/// Columns of the content, and of the names of answers.
const COLUMNS: u16 = 66;
const NAMES: usize = 5;

/// A question with its answers. Its subject is fixed when it is asked: rows may come and go
/// meanwhile.
#[derive(Debug)]
pub(in crate::tui) struct Confirm {
    title: String,
    /// The facts to decide by. Not escaped yet.
    text: Vec<String>,
    answers: Vec<Answer>,
    /// What Enter does, for the hints.
    verb: &'static str,
    /// The cursor is on the answer that Enter gives.
    list: List,
    clicked: Clicked<usize>,
}

/// A possible answer.
#[derive(Clone, Debug)]
pub(in crate::tui) struct Answer {
    pub name: &'static str,
    pub help: &'static str,
    pub effect: Effect,
}

impl Confirm {
    /// A question whose first answer is the usual one. `verb` says what an answer does, for the
    /// hints.
    pub fn new(title: String, text: Vec<String>, answers: Vec<Answer>, verb: &'static str) -> Self {
        Self {
            title,
            text,
            answers,
            verb,
            list: List::default(),
            clicked: Clicked::default(),
        }
    }

    /// The facts to decide by, line by line.
    fn says(&self) -> impl Iterator<Item = &str> {
        let texts = self.text.iter().map(String::as_str);
        texts.filter(|text| !text.is_empty())
    }

    /// Gives the selected answer.
    fn answer(&self) -> Reply {
        match self.answers.get(self.list.at) {
            Some(answer) => Reply::CloseAndDo(answer.effect.clone()),
            None => Reply::Close,
        }
    }

    /// The facts are above the list of answers, which keeps room for one in any case.
    fn place(&self, state: &State) -> Place {
        let above = self.says().count();
        let mut place = centred(state, COLUMNS, above + self.answers.len());
        let above = u16::try_from(above).unwrap_or(u16::MAX);
        let above = above.min(place.list.height.saturating_sub(1));
        place.list.y += above;
        place.list.height -= above;
        place
    }
}

impl Popup for Confirm {
    fn key(&mut self, state: &mut State, key: Key) -> Reply {
        let place = self.place(state);
        let count = self.answers.len();
        state.note = None;
        match (key.code, state.keys.action(key)) {
            // No consent to an invisible dialog.
            (Code::Enter, _) if layout::fits(state.size) => return self.answer(),
            (_, Some(Action::Back | Action::Quit)) => return leave(state),
            (_, Some(Action::Redraw)) => return Reply::Do(Effect::Clear),
            (_, Some(action)) if self.list.act(action, &place, count) => {}
            _ => state.refuse_here(key),
        }
        Reply::Stay
    }

    /// A single click only selects: an answer cannot be undone.
    fn click(&mut self, state: &mut State, mouse: Mouse, time: Instant) -> Reply {
        let place = self.place(state);
        if !place.has(mouse) {
            return leave(state);
        }
        if let Some(line) = self.list.line_at(&place, mouse, self.answers.len()) {
            self.list.at = line;
            if self.clicked.is_second(time, line) {
                return self.answer();
            }
        }
        Reply::Stay
    }

    fn scroll(&mut self, _: &State, lines: isize) {
        self.list.step(lines.signum(), self.answers.len());
    }

    fn clamp_scroll(&mut self, state: &State) {
        let place = self.place(state);
        self.list.keep_visible(state, &place, self.answers.len());
    }

    fn draw(&self, state: &State, buffer: &mut Buffer) {
        let place = self.place(state);
        place.draw_frame(state.theme, &self.title, buffer);
        let says: Vec<Pieces> = self
            .says()
            .map(|text| vec![(text.to_owned(), Role::Plain)])
            .collect();
        let above = Rect {
            height: place.list.y - place.inside.y,
            ..place.inside
        };
        draw_lines(state.theme, &says, 0, above, buffer);
        let answer = |(at, answer): (usize, &Answer)| {
            let (sign, role) = match at == self.list.at {
                true => ("▸ ", Role::Chosen),
                false => ("  ", Role::Strong),
            };
            vec![
                (sign.to_owned(), Role::Accent),
                (format!(" {:NAMES$} ", answer.name), role),
                (format!(" {}", answer.help), Role::Plain),
            ]
        };
        let answers: Vec<Pieces> = self.list.seen(&self.answers).map(answer).collect();
        draw_lines(state.theme, &answers, 0, place.list, buffer);
    }

    fn hints(&self, _: &State) -> Vec<(String, &'static str)> {
        let keys = [("Enter", self.verb), ("Esc", "cancel"), ("↑ ↓", "choose")];
        keys.map(|(key, hint)| (key.to_owned(), hint)).into()
    }
}

/// Closes the dialog without an answer.
fn leave(state: &mut State) -> Reply {
    state.set_note("cancelled");
    Reply::Close
}
