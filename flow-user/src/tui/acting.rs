//! Actions on the host: each asks first, or reports at once what it did.

use nix::sys::signal::Signal;

use super::{
    effect::Effect,
    keymap::Action,
    popups::confirm::{Answer, Confirm},
    state::{Reply, State},
    target,
};
use crate::{
    query::{entry::Subject, human},
    sink::{export::Format, text::cut_end},
};

/// The signals that can be sent, the most usual first.
const SIGNALS: [(Signal, &str, &str); 9] = [
    (Signal::SIGTERM, "TERM", "terminate (default)"),
    (
        Signal::SIGINT,
        "INT",
        "interrupt, as Ctrl-C in its terminal",
    ),
    (Signal::SIGHUP, "HUP", "hang up; many daemons reload"),
    (Signal::SIGKILL, "KILL", "kill immediately"),
    (Signal::SIGSTOP, "STOP", "pause"),
    (Signal::SIGCONT, "CONT", "resume"),
    (Signal::SIGQUIT, "QUIT", "quit with a core dump"),
    (Signal::SIGUSR1, "USR1", "application-defined"),
    (Signal::SIGUSR2, "USR2", "application-defined"),
];

/// File formats of an export.
const FORMATS: [(Format, &str, &str); 2] = [
    (Format::Json, "JSON", "for programs"),
    (Format::Csv, "CSV", "for spreadsheets"),
];

/// Columns of copied text that are shown.
const LONGEST_NOTE: usize = 200;

/// The rows that a key may act on.
#[derive(Debug)]
pub(super) struct Focus {
    /// The selected row of a panel. If its kind does not suit the key, the other one is used.
    pub row: Option<Subject>,
    /// The selected row of the table, or the subject of the detail; `None` where no row is
    /// selected. There is no default row: rows change places while a key is pressed.
    pub whole: Option<Subject>,
}

/// Performs `action` on the focus; `None` if it is not an action on the host.
pub(super) fn act(state: &mut State, action: Action, focus: Focus) -> Option<Reply> {
    let done = match action {
        Action::Kill => kill(state, focus),
        Action::Close => close(state, focus),
        Action::Copy => copy(state, focus, |_| true, target::copied),
        Action::CopyPid => copy(state, focus, target::has_process, target::pid),
        _ => return None,
    };
    Some(done.unwrap_or_else(|why| {
        state.set_note(why);
        Reply::Stay
    }))
}

/// Asks for the format of an export of the table.
pub(super) fn export(state: &mut State) -> Reply {
    let rows = state.rows.len();
    if rows == 0 {
        state.set_note("there are no rows to write");
        return Reply::Stay;
    }
    let answer = |(format, name, help)| Answer {
        name,
        help,
        effect: Effect::Export(format),
    };
    let rows = human::count(rows, "row", "rows");
    let title = format!("Write {} to a file", state.view.def().title);
    let text = vec![format!("{rows}, as they are now, to the current directory")];
    ask(state, title, text, FORMATS.map(answer).into(), "save")
}

fn kill(state: &mut State, focus: Focus) -> Result<Reply, String> {
    let (target, command) = target::target(&focus.pick(target::has_process)?)?;
    let answer = |(signal, name, help)| Answer {
        name,
        help,
        effect: Effect::Signal(target.clone(), signal),
    };
    let title = format!("Signal {}", target.name);
    let answers = SIGNALS.map(answer).into();
    Ok(ask(state, title, vec![command], answers, "send"))
}

fn close(state: &mut State, focus: Focus) -> Result<Reply, String> {
    let (connection, text) = target::connection(&focus.pick(target::is_flow)?)?;
    let title = "Close the connection".to_owned();
    let answer = Answer {
        name: "close",
        help: "its process gets an error, TCP remotes a reset",
        effect: Effect::Close(connection),
    };
    Ok(ask(state, title, text, vec![answer], "close"))
}

/// Copies the text that `of` makes of the row.
fn copy(
    state: &mut State,
    focus: Focus,
    suits: fn(&Subject) -> bool,
    of: fn(&Subject) -> Result<(&'static str, String), String>,
) -> Result<Reply, String> {
    let (what, text) = of(&focus.pick(suits)?)?;
    let short = cut_end(&text, LONGEST_NOTE);
    state.set_note(format!(
        "copied {what} (terminal must allow OSC 52): {short}"
    ));
    Ok(Reply::Do(Effect::Copy(text)))
}

fn ask(
    state: &mut State,
    title: String,
    text: Vec<String>,
    answers: Vec<Answer>,
    verb: &'static str,
) -> Reply {
    state.note = None;
    Reply::Open(Box::new(Confirm::new(title, text, answers, verb)))
}

impl Focus {
    fn pick(self, suits: fn(&Subject) -> bool) -> Result<Subject, String> {
        let row = self.row.filter(suits).or(self.whole);
        row.ok_or_else(|| "select a row first, with the arrow keys or the mouse".to_owned())
    }
}
