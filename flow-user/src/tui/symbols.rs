//! The symbols of the screen on terminals that lack some of them.
//!
//! Drawing uses Unicode throughout. Here is the one place where a drawn frame is translated, so
//! that a new symbol needs at most a line in [`Symbols`].

use ratatui::buffer::Buffer;

use crate::sink::text::Symbols;

/// Replaces what the terminal cannot show in a drawn frame. A cell stays as wide as it was.
pub(super) fn translate(symbols: Symbols, frame: &mut Buffer) {
    if symbols == Symbols::Unicode {
        return;
    }
    for cell in &mut frame.content {
        let Some(first) = cell.symbol().chars().next() else {
            continue;
        };
        let shown = symbols.character(first);
        // Marks that combine with the first character go with it.
        if shown != first || (symbols == Symbols::Ascii && !cell.symbol().is_ascii()) {
            cell.set_char(shown);
        }
    }
}
