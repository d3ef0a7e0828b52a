//! Why a command failed, and its exit code.

use std::{io, path::PathBuf, process::ExitCode};

use crate::{
    cli::UnknownTopic,
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
    #[error("{0}")]
    Topic(#[from] UnknownTopic),
    #[error("{}", start(.0))]
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

/// Why the start failed and what to type next; where privileges are missing, that comes first.
fn start(error: &StartError) -> String {
    match error {
        error if error.is_out_of_files() => format!(
            "{error}; Flow needs some hundred open files, two more for each interface: ulimit -n 1024"
        ),
        StartError::Backend(error) if error.not_permitted => {
            format!("{}\n{}: {}", needs(&error.instead), error.what, error.why)
        }
        StartError::Backend(_) | StartError::NoInterface { .. } => error.to_string(),
        error if error.is_not_permitted() => format!("{}\n{error}", needs(AS_ROOT)),
        _ => format!("{error}; `flow doctor` shows what works here"),
    }
}

/// The privileges that Flow needs, and how to get them.
fn needs(instead: &str) -> String {
    const PRIVILEGES: &str = "needs root (CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN, CAP_SYS_ADMIN)";
    match instead {
        AS_ROOT => format!("{PRIVILEGES}: sudo flow"),
        instead => format!("{PRIVILEGES}: {instead}"),
    }
}

impl Failure {
    /// The exit code: 2 wrong usage, 3 not permitted, 1 otherwise.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Filter(_)
            | Self::Column(_)
            | Self::Topic(_)
            | Self::Screen(_)
            | Self::Start(StartError::NoInterface { .. }) => 2,
            Self::Start(error) if error.is_not_permitted() => 3,
            _ => 1,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::kernel::probe::BackendError;

    #[test]
    fn missing_privileges_come_first_and_the_details_after() {
        let error = BackendError {
            what: "no backend can count the bytes of processes here".into(),
            why: "fexit: not permitted".into(),
            instead: AS_ROOT.into(),
            not_permitted: true,
            out_of_files: false,
        };
        let failure = Failure::Start(StartError::Backend(error.clone()));
        let message = failure.to_string();
        let (first, rest) = message.split_once('\n').unwrap();
        assert!(first.starts_with("needs root (CAP_BPF, CAP_PERFMON, "));
        assert!(first.ends_with(": sudo flow"), "{first}");
        assert!(rest.contains("fexit: not permitted") && !rest.contains("sudo"));
        let other = BackendError {
            not_permitted: false,
            instead: "`flow doctor` shows what there is".into(),
            ..error
        };
        let message = Failure::Start(StartError::Backend(other)).to_string();
        assert!(message.starts_with("no backend") && !message.contains("root"));
    }
}
