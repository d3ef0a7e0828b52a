//! What the screen asks for, and only the program around it can do.

use nix::sys::signal::Signal;

use super::{
    target::{Connection, Target},
    views::ViewId,
};
use crate::sink::export::Format;

/// Something to do outside the screen. What takes a moment is answered by
/// [`Event::Told`](super::Event::Told).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The user wants to end.
    Quit,
    /// Back to the shell, until it says to go on.
    Suspend,
    /// Draw every cell anew: something else may have written to the terminal.
    Clear,
    /// Send a signal to a process, if it is still that one.
    Signal(Target, Signal),
    /// Close a socket that another process holds.
    Close(Connection),
    /// Write the view to a file.
    Export(Format),
    /// Hand text to the terminal's clipboard.
    Copy(String),
    /// Keep which columns a view has.
    KeepColumns(ViewId, Vec<&'static str>),
}
