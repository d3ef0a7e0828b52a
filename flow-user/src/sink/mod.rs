//! What people and machines read: text, JSON lines, report files. Pure, but for [`mod@file`].

pub mod backlog;
pub mod clock;
pub mod export;
pub mod file;
pub mod json;
pub mod report;
pub mod text;

/// Where the numbers come from, for headers and reports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    pub name: String,
    /// Release of the kernel, as `uname -r` prints it.
    pub kernel: String,
}
