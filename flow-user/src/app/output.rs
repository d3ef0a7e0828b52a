//! Standard output: a terminal, a pipe or a file.

use std::{
    io::{self, Write as _},
    os::fd::AsFd as _,
};

use super::{failure::Failure, reader::is_gone, streams};

/// Writes text to standard output. False if the reader is gone, which ends a command and is no
/// failure.
///
/// # Errors
/// Writing failed for another reason.
pub fn write_text(text: &str) -> Result<bool, Failure> {
    write(text.as_bytes()).map_err(Failure::Output)
}

/// Writes bytes to standard output. False if the reader is gone.
///
/// # Errors
/// Writing failed for another reason.
pub fn write(bytes: &[u8]) -> io::Result<bool> {
    print(|| io::stdout().lock().write_all(bytes))
}

/// As [`write`], for a function that writes to standard output itself.
pub fn print(print: impl FnOnce() -> io::Result<()>) -> io::Result<bool> {
    streams::check_stdout()?;
    match print().and_then(|()| io::stdout().flush()) {
        Ok(()) => Ok(true),
        Err(error) if is_gone(&error, io::stdout().as_fd()) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Writes a message to standard error. If that fails, the exit code still reports the failure.
pub fn print_message(message: &str) {
    let _ = writeln!(io::stderr(), "flow: {message}");
}
