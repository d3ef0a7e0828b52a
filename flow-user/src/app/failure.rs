//! Why a command failed, and its exit code.

use std::{io, path::PathBuf, process::ExitCode};

use crate::{
    config::{Place, Unusable},
    query::{filter::FilterError, view::UnknownColumn},
    sink::{backlog::ReaderStalled, file::WriteError},
    source::{
        OpenError, SourceError,
        kernel::{StartError, probe::AS_ROOT},
    },
    tui::terminal::NoScreen,
};

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("{0}")]
    Filter(#[from] FilterError),
    #[error("{0}")]
    Column(#[from] UnknownColumn),
    #[error("{0}{hint}", hint = hint(.0))]
    Start(#[from] StartError),
    #[error("{0}")]
    Open(OpenError),
    #[error("{0}")]
    Source(#[from] SourceError),
    #[error("cannot record in {}: {error}", file.display())]
    Recording { file: PathBuf, error: io::Error },
    #[error("cannot write to standard output: {0}")]
    Output(io::Error),
    #[error("{0}")]
    Report(#[from] WriteError),
    #[error("{0}")]
    Stalled(#[from] ReaderStalled),
    #[error("{0}")]
    Screen(NoScreen),
    #[error("{place}: {problem}")]
    Config { place: Place, problem: Unusable },
    #[error("cannot start: {0}")]
    Runtime(io::Error),
    #[error("cannot write JSON: {0}")]
    Json(serde_json::Error),
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Kernel(error) => Self::Start(error),
            error => Self::Open(error),
        }
    }
}

/// What to type next, unless the error itself says so.
fn hint(error: &StartError) -> String {
    match error {
        error if error.is_out_of_files() => {
            "; Flow needs some hundred open files, two more for each interface: ulimit -n 1024"
                .into()
        }
        StartError::Backend(_) | StartError::NoInterface { .. } => String::new(),
        error if error.is_not_permitted() => format!("; {AS_ROOT}"),
        _ => "; `flow doctor` shows what works here".into(),
    }
}

impl Failure {
    /// The exit code: 2 wrong usage, 3 not permitted, 1 otherwise.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Filter(_)
            | Self::Column(_)
            | Self::Screen(_)
            | Self::Start(StartError::NoInterface { .. }) => 2,
            Self::Start(error) if error.is_not_permitted() => 3,
            _ => 1,
        })
    }
}
