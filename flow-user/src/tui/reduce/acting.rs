//! Keys that do something to the host: each asks first, or says at once what it did.

use nix::sys::signal::Signal;

use super::note;
use crate::{
    query::{entry::Subject, human},
    sink::{export::Format, text::cut_end},
    tui::{
        choice::{Answer, Choice},
        effect::Effect,
        focus,
        key::{Code, Key},
        keymap::Action,
        layout,
        state::{Popup, State},
    },
};

/// The signals that can be sent, the usual one first.
const SIGNALS: [(Signal, &str, &str); 9] = [
    (Signal::SIGTERM, "TERM", "asks it to end"),
    (Signal::SIGINT, "INT", "as Ctrl-C in its terminal"),
    (Signal::SIGHUP, "HUP", "many read their configuration anew"),
    (Signal::SIGKILL, "KILL", "ends it at once, whatever it does"),
    (Signal::SIGSTOP, "STOP", "holds it still"),
    (Signal::SIGCONT, "CONT", "lets it go on"),
    (Signal::SIGQUIT, "QUIT", "ends it with a core dump"),
    (Signal::SIGUSR1, "USR1", "whatever it makes of it"),
    (Signal::SIGUSR2, "USR2", "whatever it makes of it"),
];

/// How a file can be written.
const FORMATS: [(Format, &str, &str); 2] = [
    (Format::Json, "JSON", "for programs"),
    (Format::Csv, "CSV", "for spreadsheets"),
];

/// Columns of what was copied that are told.
const MOST_TOLD: usize = 200;

/// Does what `action` says to what is in the focus; `None` if it is for nothing here.
pub(super) fn act(state: &mut State, action: Action) -> Option<Vec<Effect>> {
    match action {
        Action::Export if state.popups.is_empty() => export(state),
        Action::Export => note(state, "the table can be written to a file, a detail cannot"),
        Action::Kill => kill(state),
        Action::Close => close(state),
        Action::Copy => return Some(copy(state, |_| true, focus::copied)),
        Action::CopyPid => return Some(copy(state, focus::has_process, focus::pid)),
        _ => return None,
    }
    Some(Vec::new())
}

/// A key while a question is open.
pub(super) fn answer(state: &mut State, key: Key) -> Vec<Effect> {
    let action = state.keys.action(key);
    let Some(Popup::Choice(choice)) = state.popups.last_mut() else {
        return Vec::new();
    };
    match (key.code, action) {
        // Nobody agrees to what is not seen.
        (Code::Enter, _) if layout::fits(state.size) => {
            let effect = choice.effect();
            state.popups.pop();
            effect.into_iter().collect()
        }
        (_, Some(Action::Back | Action::Quit)) => {
            leave(state);
            Vec::new()
        }
        (_, Some(action)) => {
            choice.turn(action);
            Vec::new()
        }
        (_, None) => Vec::new(),
    }
}

/// Leaves the question without an answer.
pub(super) fn leave(state: &mut State) {
    state.popups.pop();
    note(state, "nothing was done");
}

fn kill(state: &mut State) {
    let Some((target, command)) = in_focus(state, focus::has_process, focus::target) else {
        return;
    };
    let answer = |(signal, name, help)| Answer {
        name,
        help,
        effect: Effect::Signal(target.clone(), signal),
    };
    ask(
        state,
        Choice {
            title: format!("Signal {}", target.name),
            text: vec![command],
            answers: SIGNALS.map(answer).into(),
            chosen: 0,
            top: 0,
            clicked: None,
            verb: "sends it",
        },
    );
}

fn close(state: &mut State) {
    let Some((connection, text)) = in_focus(state, focus::is_flow, focus::connection) else {
        return;
    };
    ask(
        state,
        Choice {
            title: "Close the connection".to_owned(),
            text,
            answers: vec![Answer {
                name: "close",
                help: "its process gets an error, TCP remotes a reset",
                effect: Effect::Close(connection),
            }],
            chosen: 0,
            top: 0,
            clicked: None,
            verb: "closes it",
        },
    );
}

fn export(state: &mut State) {
    let rows = state.rows.len();
    if rows == 0 {
        return note(state, "there are no rows to write");
    }
    let answer = |(format, name, help)| Answer {
        name,
        help,
        effect: Effect::Export(format),
    };
    let rows = human::count(rows, "row", "rows");
    let title = state.view.def().title;
    ask(
        state,
        Choice {
            title: format!("Write {title} to a file"),
            text: vec![format!("{rows}, as they are now, to the current directory")],
            answers: FORMATS.map(answer).into(),
            chosen: 0,
            top: 0,
            clicked: None,
            verb: "writes it",
        },
    );
}

/// Copies what `of` makes of the row.
fn copy(
    state: &mut State,
    suits: fn(&Subject) -> bool,
    of: fn(&Subject) -> Result<(&'static str, String), String>,
) -> Vec<Effect> {
    let Some((what, text)) = in_focus(state, suits, of) else {
        return Vec::new();
    };
    let short = cut_end(&text, MOST_TOLD);
    note(
        state,
        &format!("copied {what}, if the terminal lets it: {short}"),
    );
    vec![Effect::Copy(text)]
}

fn ask(state: &mut State, choice: Choice) {
    state.note = None;
    state.popups.push(Popup::Choice(Box::new(choice)));
}

/// What `of` makes of the subject in the focus; without one, or where it makes nothing of it, the user is told why.
fn in_focus<T>(
    state: &mut State,
    suits: fn(&Subject) -> bool,
    of: impl FnOnce(&Subject) -> Result<T, String>,
) -> Option<T> {
    let made = match focus::subject(state, suits) {
        Some(subject) => of(&subject),
        None => Err("choose a row first, with the arrow keys or the mouse".to_owned()),
    };
    made.map_err(|why| note(state, &why)).ok()
}
