//! The box in which columns are chosen.

use ratatui::{buffer::Buffer, layout::Rect};

use super::{popup, text::Line};
use crate::{
    query::columns::Column,
    tui::{
        boxes::{self, MARK, Place},
        chooser::{Choice, Chooser, HINTS},
        layout,
        state::State,
        theme::Role,
    },
};

/// Columns of the names.
const NAMES: usize = 14;

pub(super) fn draw(state: &State, chooser: &Chooser, buffer: &mut Buffer) {
    let title = format!("Columns of {}", chooser.view.def().title);
    let Place {
        frame,
        inside,
        list,
    } = boxes::columns(state, chooser);
    popup::frame(state, &title, frame, buffer);
    let placed = layout::place(&chooser.columns(), state.size.0);
    let has_room = |column: &Column| placed.iter().any(|slot| slot.column.name == column.name);
    let seen = chooser.choices.iter().enumerate().skip(chooser.top);
    for (y, (at, choice)) in (list.y..list.bottom()).zip(seen) {
        let place = Rect {
            y,
            height: 1,
            ..list
        };
        let mut line = Line::new(place);
        line.put(state, if at == chooser.at { "›" } else { "" }, Role::Accent);
        line.go_to(MARK.start);
        put(state, choice, has_room(choice.column), &mut line);
        line.draw(buffer);
        if at == chooser.at {
            buffer.set_style(place, state.theme.style(Role::Chosen));
        }
    }
    for (y, hint) in (list.bottom() + 1..inside.bottom()).zip(HINTS) {
        let mut line = Line::new(Rect {
            y,
            height: 1,
            ..inside
        });
        line.put(state, hint, Role::Dim);
        line.draw(buffer);
    }
}

fn put(state: &State, choice: &Choice, has_room: bool, line: &mut Line) {
    let Choice { column, shown } = choice;
    let (mark, role) = match shown {
        true => ("[x] ", Role::Plain),
        false => ("[ ] ", Role::Dim),
    };
    line.put(state, mark, role);
    line.put(state, &format!("{:NAMES$} ", column.name), role);
    line.put(state, &format!("{:12} ", column.header), Role::Dim);
    if *shown && !has_room {
        line.put_whole(state, "no room here", Role::Dim);
    }
}
