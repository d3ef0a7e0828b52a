//! The picker of a view's columns and their order.

use std::ops::Range;

use ratatui::{buffer::Buffer, layout::Rect};

use super::{
    help::Help,
    list::{List, MARK},
    popup_layout::{Place, centred},
};
use crate::{
    event::Instant,
    query::columns::Column,
    tui::{
        effect::Effect,
        key::{Code, Key, Mouse},
        keymap::Action,
        layout,
        line::Line,
        preferences::Table,
        state::{Popup, Reply, State},
        theme::Role,
        views::ViewId,
    },
};

/// Columns of the content, and of the names.
const COLUMNS: u16 = 52;
const NAMES: usize = 14;
/// The columns of the box to tick in a line.
const BOX: Range<u16> = MARK..MARK + 3;
/// Its keys, under the list.
const HINTS: [&str; 2] = [
    "Space show or hide   J K move   r defaults",
    "Enter save   Esc cancel",
];

/// The columns of a view to choose from.
#[derive(Debug)]
pub(in crate::tui) struct ColumnPicker {
    view: ViewId,
    /// Visible ones come first when it opens.
    choices: Vec<Choice>,
    list: List,
}

#[derive(Clone, Copy, Debug)]
struct Choice {
    column: &'static Column,
    shown: bool,
}

impl Popup for ColumnPicker {
    /// Its own keys come first, then those for moving that the user has.
    fn key(&mut self, state: &mut State, key: Key) -> Reply {
        let place = self.place(state);
        let count = self.choices.len();
        state.note = None;
        match (key.code, key.typed()) {
            (_, Some(' ')) => self.toggle(state),
            (_, Some('J')) | (Code::ShiftDown, _) => self.carry(1),
            (_, Some('K')) | (Code::ShiftUp, _) => self.carry(-1),
            (_, Some('r')) => self.usual(),
            (Code::Enter, _) => return self.keep(state),
            (Code::Esc, _) => return Reply::Close,
            _ => match state.keys.action(key) {
                Some(Action::Help) => return Reply::Open(Box::new(Help::default())),
                Some(Action::Redraw) => return Reply::Do(Effect::Clear),
                Some(Action::Back | Action::Quit | Action::Columns) => return Reply::Close,
                Some(action) if self.list.act(action, &place, count) => {}
                _ => state.refuse_here(key),
            },
        }
        Reply::Stay
    }

    /// A click selects a line; on the selected line, or on the mark, it shows or hides the column.
    fn click(&mut self, state: &mut State, mouse: Mouse, _: Instant) -> Reply {
        let place = self.place(state);
        if !place.has(mouse) {
            return Reply::Close;
        }
        state.note = None;
        if let Some(line) = self.list.line_at(&place, mouse, self.choices.len()) {
            let was_there = std::mem::replace(&mut self.list.at, line) == line;
            if was_there || BOX.contains(&mouse.column.saturating_sub(place.list.x)) {
                self.toggle(state);
            }
        }
        Reply::Stay
    }

    fn scroll(&mut self, _: &State, lines: isize) {
        self.list.step(lines.signum(), self.choices.len());
    }

    fn clamp_scroll(&mut self, state: &State) {
        let place = self.place(state);
        self.list.keep_visible(state, &place, self.choices.len());
    }

    fn draw(&self, state: &State, buffer: &mut Buffer) {
        let title = format!("Columns of {}", self.view.def().title);
        let place = self.place(state);
        let Place { inside, list, .. } = place;
        place.draw_frame(state.theme, &title, buffer);
        let placed = layout::place(&self.columns(), &state.here().widths, state.size.0);
        let has_room = |column: &Column| placed.iter().any(|slot| slot.column.name == column.name);
        let put = |choice: &Choice, line: &mut Line| choice.put(has_room(choice.column), line);
        self.list.draw(state, &self.choices, list, put, buffer);
        for (y, hint) in (list.bottom() + 1..inside.bottom()).zip(HINTS) {
            let mut line = Line::new(Rect { y, ..inside }, state.theme);
            line.put(hint, Role::Dim);
            line.draw(buffer);
        }
    }
}

impl Choice {
    fn put(&self, has_room: bool, line: &mut Line) {
        let Self { column, shown } = self;
        let (mark, role) = match shown {
            true => ("[x] ", Role::Plain),
            false => ("[ ] ", Role::Dim),
        };
        line.put(mark, role);
        line.put(&format!("{:NAMES$} ", column.name), role);
        line.put(&format!("{:12} ", column.header), Role::Dim);
        if *shown && !has_room {
            line.put_whole("no room", Role::Dim);
        }
    }
}

impl ColumnPicker {
    /// Of a view that shows these columns; `None` if the view has none.
    pub fn open(view: ViewId, shown: &[&'static Column]) -> Option<Self> {
        let choices = choices(view, shown);
        (!choices.is_empty()).then_some(Self {
            view,
            choices,
            list: List::default(),
        })
    }

    /// The selected columns, in order.
    fn columns(&self) -> Vec<&'static Column> {
        let shown = self.choices.iter().filter(|choice| choice.shown);
        shown.map(|choice| choice.column).collect()
    }

    /// Moves the column under the cursor, and the cursor with it.
    fn carry(&mut self, lines: isize) {
        let to = self.list.beside(lines, self.choices.len());
        let carried = self.choices.remove(self.list.at);
        self.choices.insert(to, carried);
        self.list.at = to;
    }

    /// Shows or hides the column under the cursor.
    fn toggle(&mut self, state: &mut State) {
        let others = self.choices.iter().enumerate();
        let is_last = !others
            .into_iter()
            .any(|(at, it)| at != self.list.at && it.shown);
        let choice = &mut self.choices[self.list.at];
        if choice.shown && is_last {
            state.set_note("at least one column is required");
        } else {
            choice.shown = !choice.shown;
        }
    }

    /// Sets the columns of the view, and saves them for later runs.
    fn keep(&self, state: &mut State) -> Reply {
        let columns = self.columns();
        let names = columns.iter().map(|column| column.name).collect();
        state.views[self.view.index()].columns = columns;
        Reply::CloseAndDo(Effect::SaveColumns(self.view, names))
    }

    /// The default columns of the view.
    fn usual(&mut self) {
        self.choices = choices(self.view, &Table::usual(self.view).columns);
        self.list = List::default();
    }

    /// A blank line and hints are under the list.
    fn place(&self, state: &State) -> Place {
        let below = HINTS.len() + 1;
        let mut place = centred(state, COLUMNS, self.choices.len() + below);
        let below = u16::try_from(below).unwrap_or(u16::MAX);
        place.list.height = place.list.height.saturating_sub(below);
        place
    }
}

fn choices(view: ViewId, shown: &[&'static Column]) -> Vec<Choice> {
    let is_shown = |column: &Column| shown.iter().any(|it| it.name == column.name);
    let mut hidden = Table::choices(view);
    hidden.retain(|column| !is_shown(column));
    let choice = |shown| move |column| Choice { column, shown };
    let first = shown.iter().copied().map(choice(true));
    first.chain(hidden.into_iter().map(choice(false))).collect()
}
