//! Outputs for people and machines: text, JSON lines, report files. Pure, but for [`mod@file`].

pub mod backlog;
pub mod export;
pub mod file;
pub mod json;
pub mod report;
pub mod text;
