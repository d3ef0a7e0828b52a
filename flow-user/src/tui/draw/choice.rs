//! A question and its answers.

use ratatui::{buffer::Buffer, layout::Rect};

use super::popup::{self, Pieces};
use crate::tui::{
    boxes,
    choice::{Answer, Choice},
    state::State,
    theme::Role,
};

/// Columns of the names of answers.
const NAMES: usize = 5;

pub(super) fn draw(state: &State, choice: &Choice, buffer: &mut Buffer) {
    let place = boxes::question(state, choice);
    popup::frame(state, &choice.title, place.frame, buffer);
    let says: Vec<Pieces> = choice
        .says()
        .map(|text| vec![(text.to_owned(), Role::Plain)])
        .collect();
    let above = Rect {
        height: place.list.y - place.inside.y,
        ..place.inside
    };
    popup::lines(state, &says, 0, above, buffer);
    let answer = |(at, answer): (usize, &Answer)| {
        let (sign, role) = match at == choice.chosen {
            true => ("▸ ", Role::Chosen),
            false => ("  ", Role::Strong),
        };
        vec![
            (sign.to_owned(), Role::Accent),
            (format!(" {:NAMES$} ", answer.name), role),
            (format!(" {}", answer.help), Role::Plain),
        ]
    };
    let answers: Vec<Pieces> = choice.answers.iter().enumerate().map(answer).collect();
    popup::lines(state, &answers, choice.top, place.list, buffer);
}
