//! The picker of the column that a view's rows are sorted by.

use ratatui::{buffer::Buffer, layout::Rect};

use super::{
    list::List,
    popup_layout::{Place, centred},
};
use crate::{
    event::Instant,
    query::columns::{Column, Measure},
    tui::{
        actions::BUSIEST,
        effect::Effect,
        key::{Code, Key, Mouse},
        keymap::Action,
        line::Line,
        preferences::Table,
        state::{Popup, Reply, State},
        theme::Role,
    },
};

/// Columns of the content.
const COLUMNS: u16 = 44;
/// Its keys, under the list.
const HINT: &str = "Enter sort   Esc cancel";

/// The columns to choose from; `None` is the default order.
#[derive(Debug)]
pub(in crate::tui) struct SortPicker {
    title: String,
    choices: Vec<Option<&'static Column>>,
    /// Text of the default order.
    usual: &'static str,
    list: List,
}

/// The columns that rows can be sorted by: the rates first, then the totals, then all others that
/// have a header.
pub(in crate::tui) fn sortable(
    columns: impl Iterator<Item = &'static Column>,
) -> Vec<&'static Column> {
    let mut columns: Vec<_> = columns.filter(|it| !it.header.is_empty()).collect();
    columns.sort_by_key(|column| match column.measure {
        Some(Measure::Rate) => 0,
        Some(Measure::Total) => 1,
        None => 2,
    });
    columns
}

impl SortPicker {
    /// Of the current view: the columns that are shown, then the others. The cursor is on the column
    /// in use, else on the first one. `None` if the view has no columns.
    pub fn open(state: &State) -> Option<Self> {
        let here = state.here();
        let is_shown = |column: &Column| here.columns.iter().any(|it| it.name == column.name);
        let mut hidden = Table::choices(state.view);
        hidden.retain(|column| !is_shown(column));
        let mut columns = sortable(here.columns.iter().copied());
        columns.extend(sortable(hidden.into_iter()));
        let choices: Vec<_> = std::iter::once(None)
            .chain(columns.into_iter().map(Some))
            .collect();
        if choices.len() < 2 {
            return None;
        }
        let now = here.sort.map(|(column, _)| column.name);
        let mut names = choices.iter().map(|it| it.map(|column| column.name));
        let at = match here.sort {
            Some(_) => names.position(|name| name == now).unwrap_or(0),
            // The next one that is likely to be wanted.
            None => 1,
        };
        Some(Self {
            title: format!("Sort {} by", state.view.def().title),
            choices,
            usual: match here.first_sort {
                Some(_) => "default order",
                None => BUSIEST,
            },
            list: List::at(at),
        })
    }

    fn choose(&self, state: &mut State) -> Reply {
        state.sort_by(self.choices[self.list.at]);
        Reply::Close
    }

    /// A blank line and a hint are under the list.
    fn place(&self, state: &State) -> Place {
        let mut place = centred(state, COLUMNS, self.choices.len() + 2);
        place.list.height = place.list.height.saturating_sub(2);
        place
    }
}

impl Popup for SortPicker {
    fn key(&mut self, state: &mut State, key: Key) -> Reply {
        let place = self.place(state);
        let count = self.choices.len();
        state.note = None;
        if key.code == Code::Enter {
            return self.choose(state);
        }
        match state.keys.action(key) {
            // The key that opens it goes on, so that pressing it again is not in vain.
            Some(Action::Sort | Action::NextSort) => self.list.step(1, count),
            Some(Action::PreviousSort) => self.list.step(-1, count),
            Some(Action::Redraw) => return Reply::Do(Effect::Clear),
            Some(Action::Back | Action::Quit) => return Reply::Close,
            Some(action) if self.list.act(action, &place, count) => {}
            _ => state.refuse_here(key),
        }
        Reply::Stay
    }

    /// A click chooses: an order can be undone.
    fn click(&mut self, state: &mut State, mouse: Mouse, _: Instant) -> Reply {
        let place = self.place(state);
        if !place.has(mouse) {
            return Reply::Close;
        }
        match self.list.line_at(&place, mouse, self.choices.len()) {
            Some(line) => {
                self.list.at = line;
                self.choose(state)
            }
            None => Reply::Stay,
        }
    }

    fn scroll(&mut self, _: &State, lines: isize) {
        self.list.step(lines.signum(), self.choices.len());
    }

    fn clamp_scroll(&mut self, state: &State) {
        let place = self.place(state);
        self.list.keep_visible(state, &place, self.choices.len());
    }

    fn draw(&self, state: &State, buffer: &mut Buffer) {
        let place = self.place(state);
        let Place { inside, list, .. } = place;
        place.draw_frame(state.theme, &self.title, buffer);
        let used = state.here().sort;
        let put = |choice: &Option<&'static Column>, line: &mut Line| {
            let name = choice.map(|column| column.name);
            let is_used = name == used.map(|(column, _)| column.name)
                || (name.is_none() && used.is_some_and(|(column, _)| column.header.is_empty()));
            line.put(
                choice.map_or(self.usual, |column| column.header),
                if is_used { Role::Sorted } else { Role::Plain },
            );
            if let Some(column) = choice {
                line.go_to(18);
                line.put(column.name, Role::Dim);
            }
        };
        self.list.draw(state, &self.choices, list, put, buffer);
        let hint = Rect {
            y: inside.bottom().saturating_sub(1),
            ..inside
        };
        let mut line = Line::new(hint, state.theme);
        line.put(HINT, Role::Dim);
        line.draw(buffer);
    }
}
