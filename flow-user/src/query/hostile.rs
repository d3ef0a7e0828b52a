//! Characters that a terminal would interpret or hide.

use unicode_width::UnicodeWidthChar as _;

/// Whether a terminal would do anything but show `character`.
pub fn is_hostile(character: char) -> bool {
    match character {
        ' '..='~' => false,
        // Soft hyphen; Arabic letter mark; Mongolian vowel separator.
        '\u{ad}' | '\u{61c}' | '\u{180e}' => true,
        // Zero width, joiners, marks and overrides of direction, line and paragraph separators.
        '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' => true,
        // Variation selectors: they make the width of what precedes them uncertain.
        '\u{fe00}'..='\u{fe0f}' | '\u{e0100}'..='\u{e01ef}' => true,
        // Byte order mark; interlinear annotations; tags.
        '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}' => true,
        other => other.is_control() || other.width().is_none(),
    }
}
