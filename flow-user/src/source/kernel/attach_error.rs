//! Why a program could not be attached, and what is not seen without it.

use std::{fmt, io};

use aya::programs::ProgramError;

/// Why a program could not be attached.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    #[error("the kernel side has no program {0}")]
    NoProgram(String),
    #[error("program {name}: {}", describe(source))]
    Refused { name: String, source: ProgramError },
    #[error("{0}")]
    Btf(#[from] aya::BtfError),
    #[error("cannot open the cgroup v2 root: {0}")]
    CgroupRoot(io::Error),
    #[error("map: {0}")]
    Map(#[from] aya::maps::MapError),
    #[error("there is room for {0}")]
    TooMany(usize),
    #[error("cannot read the number of CPUs: {0}")]
    Cpus(io::Error),
    #[error("cannot lock the classifiers: {0}")]
    Lock(io::Error),
    #[error("{0}")]
    Link(#[from] aya::programs::links::LinkError),
    #[error("cannot hold a link: {0}")]
    Pin(#[from] aya::pin::PinError),
    #[error("cannot read the interface's qdiscs: {0}")]
    Qdisc(io::Error),
}

/// A program that was refused and that Flow does without.
#[derive(Debug)]
pub struct Missing {
    /// What is not seen without it.
    pub unseen: String,
    pub error: AttachError,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { unseen, error } = self;
        write!(f, "{unseen} ({error})")
    }
}

/// Says which program a result belongs to.
pub fn with_program<T>(name: &str, result: Result<T, ProgramError>) -> Result<T, AttachError> {
    result.map_err(|source| AttachError::Refused {
        name: name.to_owned(),
        source,
    })
}

/// The innermost cause; what aya wraps around it says less.
fn describe(error: &ProgramError) -> String {
    match error {
        ProgramError::LoadError {
            io_error,
            verifier_log,
        } => {
            let log = verifier_log.to_string();
            let last = log.trim_end().lines().next_back().unwrap_or_default();
            log::debug!("verifier: {log}");
            format!("refused by the kernel: {io_error}; {last}")
        }
        other => {
            let mut cause: &dyn std::error::Error = other;
            while let Some(source) = cause.source() {
                cause = source;
            }
            cause.to_string()
        }
    }
}
