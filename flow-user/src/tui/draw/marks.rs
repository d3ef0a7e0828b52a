//! In what is the screen not as usual? Filtered, held still, watching for high rates, counting from later on; and what
//! was lost, where nothing else has room to say so.

use ratatui::{buffer::Buffer, layout::Rect};

use super::{overview, text::Line};
use crate::{
    query::human,
    sink::text::width,
    tui::{layout, state::State, theme::Role},
};

/// The sign of a row whose rate reaches the threshold.
pub(super) const ALERT: &str = "!";

pub(super) fn draw(state: &State, area: Rect, buffer: &mut Buffer) {
    let mut line = Line::new(area);
    line.skip(1);
    if let Some(paused) = &state.paused {
        let time = human::duration(state.live.time.since(paused.since));
        line.put(state, " PAUSED ", Role::Mark);
        line.put(state, &format!(" {time} ago"), Role::Plain);
        line.skip(3);
    }
    if layout::hides_losses(state)
        && let Some(lost) = overview::lost(state)
    {
        line.put_start(state, &lost, Role::Alarm);
        line.skip(3);
    }
    if !state.filter.interfaces.is_empty() {
        line.put(state, "interface ", Role::Accent);
        line.put(state, &state.filter.interfaces.join(" "), Role::Strong);
        line.skip(3);
    }
    if !state.filter.text.is_empty() {
        line.put(state, "filter ", Role::Accent);
        line.put(state, &state.filter.text, Role::Strong);
        line.skip(3);
    }
    if let Some(rate) = state.threshold.rate() {
        let text = format!(" alert from {}", state.units.rate(rate));
        if width(ALERT) + width(&text) <= line.room() {
            line.put(state, ALERT, Role::Alarm);
            line.put(state, &text, Role::Accent);
            line.skip(3);
        }
    }
    if let Some(since) = &state.since {
        let time = human::duration(state.shown.time.since(since.time));
        line.put_whole(state, &format!("since reset {time}"), Role::Accent);
        line.skip(3);
    }
    if state.is_paused() {
        line.put_whole(state, "counting goes on", Role::Dim);
    }
    line.draw(buffer);
}
