//! A question over the table: what is to be done, with all that must be known before.

use super::{effect::Effect, keymap::Action};
use crate::event::Instant;

/// A question with its answers. What it is about was settled when it was asked: rows may come and go meanwhile.
#[derive(Clone, Debug)]
pub(super) struct Choice {
    pub title: String,
    /// What is to be known before. May hold anything.
    pub text: Vec<String>,
    pub answers: Vec<Answer>,
    /// The answer that Enter gives.
    pub chosen: usize,
    /// The first answer that is seen.
    pub top: usize,
    /// The last click: when, and on which answer.
    pub clicked: Option<(Instant, usize)>,
    /// What Enter does, in a word.
    pub verb: &'static str,
}

/// What can be answered.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub name: &'static str,
    pub help: &'static str,
    pub effect: Effect,
}

impl Choice {
    /// What is to be known before, line by line.
    pub fn says(&self) -> impl Iterator<Item = &str> {
        let texts = self.text.iter().map(String::as_str);
        texts.filter(|text| !text.is_empty())
    }

    /// Moves to another answer, if `action` is for that.
    pub fn turn(&mut self, action: Action) {
        let last = self.answers.len().saturating_sub(1);
        self.chosen = match action {
            Action::Up => self.chosen.saturating_sub(1),
            Action::Down => (self.chosen + 1).min(last),
            Action::First | Action::PageUp => 0,
            Action::Last | Action::PageDown => last,
            _ => self.chosen,
        };
    }

    /// What the chosen answer asks for.
    pub fn effect(&self) -> Option<Effect> {
        let answer = self.answers.get(self.chosen)?;
        Some(answer.effect.clone())
    }
}
