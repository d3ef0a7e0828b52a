//! The line of modes: filtered, paused, an alert threshold, counting since a reset; and losses,
//! where no other line has room for them.

use ratatui::{buffer::Buffer, layout::Rect};

use super::overview;
use crate::{
    query::human,
    sink::text::width,
    tui::{layout, line::Line, state::State, theme::Role},
};

/// The sign of a row whose rate reaches the threshold.
pub(super) const ALERT: &str = "!";

pub(super) fn draw(state: &State, area: Rect, buffer: &mut Buffer) {
    let mut line = Line::new(area, state.theme);
    line.skip(1);
    if let Some(paused) = &state.paused {
        let time = human::duration(state.live.time.since(paused.since));
        line.put(" PAUSED ", Role::Mark);
        line.put(&format!(" for {time}"), Role::Plain);
        line.skip(3);
    }
    if layout::hides_losses(state)
        && let Some(lost) = overview::lost(state)
    {
        line.put_start(&lost, Role::Alarm);
        line.skip(3);
    }
    if !state.filter.interfaces.is_empty() {
        line.put("interface ", Role::Accent);
        line.put(&state.filter.interfaces.join(" "), Role::Strong);
        line.skip(3);
    }
    if !state.filter.text.is_empty() {
        line.put("filter ", Role::Accent);
        line.put(&state.filter.text, Role::Strong);
        if state.filter.text == state.filter.given {
            line.put_whole(" from the command line", Role::Dim);
        }
        line.skip(3);
    }
    if state.here().grouping != 0 {
        line.put("grouped: ", Role::Accent);
        line.put(state.grouping().name, Role::Strong);
        line.skip(3);
    }
    if state.hides_ended {
        line.put_whole("ended hidden", Role::Accent);
        line.skip(3);
    }
    if let Some(rate) = state.threshold.rate() {
        let text = format!(" alert from {}", state.units.rate(rate));
        if width(ALERT) + width(&text) <= line.room() {
            line.put(ALERT, Role::Alarm);
            line.put(&text, Role::Accent);
            line.skip(3);
        }
    }
    if let Some(since) = &state.since {
        let time = human::duration(state.shown.time.since(since.time));
        line.put_whole(&format!("since reset {time}"), Role::Accent);
        line.skip(3);
    }
    if state.is_paused() {
        line.put_whole("counting continues", Role::Dim);
    }
    line.draw(buffer);
}
