//! The table of keys: keys are read by it, and the help is made of it.

use super::{
    key::{Code, Key},
    views::ViewId,
};

/// An action of a key in the main view.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    View(ViewId),
    NextView,
    PreviousView,
    Up,
    Down,
    PageUp,
    PageDown,
    First,
    Last,
    Open,
    Unfold,
    Fold,
    FoldAll,
    Filter,
    Search,
    NextMatch,
    PreviousMatch,
    Sort,
    NextSort,
    PreviousSort,
    Reverse,
    Group,
    HideEnded,
    Columns,
    Pause,
    Follow,
    Compact,
    Units,
    Measures,
    Threshold,
    Span,
    Theme,
    Save,
    Reset,
    Help,
    Kill,
    Close,
    Export,
    Copy,
    CopyPid,
    Back,
    Redraw,
    Suspend,
    Quit,
}

/// A group of actions in the help, in its order. The name of each is its title.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::Display, strum::EnumIter)]
pub enum Topic {
    Move,
    Find,
    Look,
    Act,
    Screen,
}

/// An action with its keys and texts.
#[derive(Clone, Debug)]
pub struct Binding {
    pub action: Action,
    /// Its name in the configuration.
    pub name: &'static str,
    pub topic: Topic,
    /// Its description in the help.
    pub help: &'static str,
    /// The same in one word, for the last line of the screen; empty if it is not there.
    pub hint: &'static str,
    pub keys: Vec<Key>,
}

/// The keys of the main view.
#[derive(Clone, Debug)]
pub struct KeyMap {
    bindings: Vec<Binding>,
}

impl KeyMap {
    /// The action of `key`, if any.
    pub fn action(&self, key: Key) -> Option<Action> {
        let bound = |binding: &&Binding| binding.keys.contains(&key);
        self.bindings.iter().find(bound).map(|it| it.action)
    }

    /// Every action with its keys, in the order of the help.
    pub fn bindings(&self) -> &[Binding] {
        &self.bindings
    }

    /// Gives the action of this name other keys, taking them from whatever had them; false if there
    /// is no such action. Keys that [always quit](ALWAYS_QUIT) do that all the same.
    pub fn bind(&mut self, name: &str, keys: &[Key]) -> bool {
        let Some(bound) = self.bindings.iter().position(|it| it.name == name) else {
            return false;
        };
        for (at, binding) in self.bindings.iter_mut().enumerate() {
            let quits = binding.action == Action::Quit;
            if at == bound {
                binding.keys.clear();
                let all = keys
                    .iter()
                    .filter(|key| quits || !ALWAYS_QUIT.contains(key));
                for key in all.chain(ALWAYS_QUIT.iter().filter(|_| quits)) {
                    if !binding.keys.contains(key) {
                        binding.keys.push(*key);
                    }
                }
            } else {
                let stays = |key: &Key| (quits && ALWAYS_QUIT.contains(key)) || !keys.contains(key);
                binding.keys.retain(stays);
            }
        }
        true
    }
}

/// Keys that quit whatever the configuration says, so that there is always a way out.
pub const ALWAYS_QUIT: [Key; 2] = [Key::plain(Code::Char('q')), Key::ctrl('c')];

impl Default for KeyMap {
    fn default() -> Self {
        let parse = |keys: &str| keys.split(' ').filter_map(|key| key.parse().ok()).collect();
        let mut bindings: Vec<Binding> = TABLE
            .iter()
            .map(|&(topic, action, name, keys, hint, help)| Binding {
                action,
                name,
                topic,
                help,
                hint,
                keys: parse(keys),
            })
            .collect();
        for (view, digit) in ViewId::ALL.into_iter().zip(VIEW_KEYS) {
            bindings.push(Binding {
                action: Action::View(view),
                name: view.name(),
                topic: Topic::Screen,
                help: view.def().title,
                hint: "",
                keys: vec![Key::plain(Code::Char(digit))],
            });
        }
        Self { bindings }
    }
}

/// The keys of the views, in their order.
const VIEW_KEYS: [char; 10] = ['1', '2', '3', '4', '5', '6', '7', '8', '9', '0'];
const _: () = assert!(ViewId::ALL.len() <= VIEW_KEYS.len(), "every view has a key");

/// Topic, action, its name, its keys, its hint, its help.
type Row = (
    Topic,
    Action,
    &'static str,
    &'static str,
    &'static str,
    &'static str,
);

macro_rules! table {
    ($($topic:ident $action:ident $name:literal $keys:literal $hint:literal $help:literal)*) => {
        &[$((Topic::$topic, Action::$action, $name, $keys, $hint, $help),)*]
    };
}

// In the order of the hints; the help groups them by topic.
static TABLE: &[Row] = table! {
    Find   Filter        "filter"         "/ \\ F4"      "filter" "filter rows by an expression; Tab completes"
    Find   Search        "search"         "f F3"         ""       "find text"
    Find   NextMatch     "next_match"     "n"            ""       "next match"
    Find   PreviousMatch "previous_match" "N"            ""       "previous match"
    Look   Sort          "sort"           "s F6"         "sort"   "choose the column to sort by; or click its header"
    Look   NextSort      "next_sort"      ">"            ""       "sort by the next column"
    Look   PreviousSort  "previous_sort"  "<"            ""       "sort by the previous column"
    Look   Reverse       "reverse"        "S I"          ""       "reverse the order"
    Look   Group         "group"          "a t F5"       "group"  "next grouping of the view, such as the tree"
    Look   HideEnded     "hide_ended"     "H"            ""       "hide what has ended, or show it again"
    Look   Columns       "columns"        "o F2"         ""       "choose and order the columns"
    Move   Open          "open"           "Enter"        "detail" "detail of the row, or expand it"
    Look   Pause         "pause"          "p Space"      "pause"  "pause the display; counting continues"
    Look   Units         "units"          "u m"          "units"  "bytes, binary, bits, binary bits"
    Look   Measures      "measures"       "U"            ""       "switch rates and totals"
    Look   Threshold     "threshold"      "T"            ""       "next alert threshold, or none"
    Look   Span          "span"           "z"            ""       "graph range: 10 s, 1 min, 10 min"
    Look   Reset         "reset"          "r"            ""       "count from now on; again: from the start"
    Screen Help          "help"           "? h F1"       "help"   "this help"
    Act    Kill          "kill"           "K F9"         "kill"   "send a signal to the process; asks which"
    Act    Close         "close"          "X"            ""       "close the connection of the flow; asks first"
    Act    Copy          "copy"           "y"            ""       "copy its command line, endpoints or name"
    Act    CopyPid       "copy_pid"       "Y"            ""       "copy the pid"
    Act    Export        "export"         "e"            ""       "write the view to a file, JSON or CSV"
    Move   Up            "up"             "Up k ctrl-p"  ""       "previous row"
    Move   Down          "down"           "Down j ctrl-n" ""      "next row"
    Move   PageUp        "page_up"        "PgUp ctrl-b ctrl-u" "" "one page up"
    Move   PageDown      "page_down"      "PgDn ctrl-f ctrl-d" "" "one page down"
    Move   First         "first"          "Home g"       ""       "first row"
    Move   Last          "last"           "End G"        ""       "last row"
    Move   Unfold        "unfold"         "Right l +"    ""       "expand the row"
    Move   Fold          "fold"           "Left -"       ""       "collapse the row; again: go to its parent"
    Move   FoldAll       "fold_all"       "*"            ""       "expand every row, or collapse all"
    Move   Follow        "follow"         "F"            ""       "keep the selected row in view"
    Screen NextView      "next_view"      "Tab"          ""       "next view; in a detail the next panel"
    Screen PreviousView  "previous_view"  "shift-Tab"    ""       "previous view or panel"
    Screen Compact       "compact"        "c"            ""       "compact layout"
    Screen Theme         "theme"          "ctrl-t"       ""       "next theme"
    Screen Save          "save"           "W"            ""       "save theme, units, layout, view and threshold"
    Screen Redraw        "redraw"         "ctrl-l"       ""       "redraw the screen"
    Screen Suspend       "suspend"        "ctrl-z"       ""       "back to the shell; fg returns"
    Screen Back          "back"           "Esc"          ""       "close; else clear the filter, then the selection"
    Screen Quit          "quit"           "q F10 ctrl-c" "quit"   "quit"
};

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_key_does_one_thing_and_each_action_has_a_key() {
        let map = KeyMap::default();
        let mut keys = HashSet::new();
        let mut names = HashSet::new();
        let written: usize = TABLE.iter().map(|row| row.3.split(' ').count()).sum();
        let read: usize = map.bindings().iter().map(|it| it.keys.len()).sum();
        assert_eq!(
            read,
            written + ViewId::ALL.len(),
            "a key that cannot be read"
        );
        for binding in map.bindings() {
            assert!(!binding.keys.is_empty(), "{}", binding.name);
            assert!(
                names.insert(binding.name),
                "{} is there twice",
                binding.name
            );
            for key in &binding.keys {
                assert!(keys.insert(*key), "{key} does two things");
                assert_eq!(map.action(*key), Some(binding.action));
            }
        }
    }

    #[test]
    fn the_manual_lists_every_key() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/tui.md");
        let manual = std::fs::read_to_string(path).unwrap();
        for binding in KeyMap::default().bindings() {
            let keys: Vec<String> = binding.keys.iter().map(|key| format!("`{key}`")).collect();
            let line = format!("\n| {} | {} |", keys.join(" "), binding.help);
            assert!(manual.contains(&line), "docs/tui.md lacks the line{line}");
        }
    }

    #[test]
    fn a_key_that_gets_another_meaning_loses_its_own() {
        let mut map = KeyMap::default();
        let s = Key::plain(Code::Char('s'));
        assert!(map.bind("pause", &[s, s]));
        assert_eq!(map.action(s), Some(Action::Pause));
        assert_eq!(map.action(Key::plain(Code::Char('p'))), None);
        assert!(!map.bind("dance", &[s]));
    }

    #[test]
    fn q_and_ctrl_c_always_quit() {
        let mut map = KeyMap::default();
        let x = Key::plain(Code::Char('x'));
        let quits =
            |map: &KeyMap| ALWAYS_QUIT.map(|key| map.action(key)) == [Some(Action::Quit); 2];
        map.bind("pause", &ALWAYS_QUIT);
        assert!(quits(&map));
        map.bind("quit", &[]);
        assert!(quits(&map));
        map.bind("quit", &[x, x]);
        assert!(quits(&map));
        assert_eq!(map.action(x), Some(Action::Quit));
        assert_eq!(map.action(Key::plain(Code::F(10))), None);
    }
}
