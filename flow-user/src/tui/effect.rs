//! Effects: what the screen asks the program around it to do.

use nix::sys::signal::Signal;

use super::{
    preferences::Chosen,
    target::{Connection, Target},
    views::ViewId,
};
use crate::sink::export::Format;

/// Something to do outside the screen. What takes time is answered by
/// [`Event::Status`](super::Event::Status).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The user wants to end.
    Quit,
    /// Back to the shell, until it continues Flow.
    Suspend,
    /// Redraw every cell: something else may have written to the terminal.
    Clear,
    /// Send a signal to a process, if it is still that one.
    Signal(Target, Signal),
    /// Close a socket of another process.
    Close(Connection),
    /// Write the view to a file.
    Export(Format),
    /// Hand text to the terminal's clipboard.
    Copy(String),
    /// Keep which columns a view has.
    SaveColumns(ViewId, Vec<&'static str>),
    /// Keep what keys have chosen.
    SaveSettings(Chosen),
}
