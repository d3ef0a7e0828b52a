//! Emphasis: one accent, red for losses, dim for ended rows and zeros.

use std::borrow::Cow;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    Plain,
    Strong,
    Accent,
    Dim,
    Warning,
    Alarm,
}

/// `text` in a style, if there is colour. `text` must be escaped.
pub(super) fn paint(text: &str, style: Style, color: bool) -> Cow<'_, str> {
    let code = match style {
        _ if !color || text.is_empty() => return Cow::Borrowed(text),
        Style::Plain => return Cow::Borrowed(text),
        Style::Strong => "1",
        Style::Accent => "36",
        Style::Dim => "2",
        Style::Warning => "33",
        Style::Alarm => "31",
    };
    Cow::Owned(format!("\x1b[{code}m{text}\x1b[0m"))
}
