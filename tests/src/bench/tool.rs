//! The tools that are measured beside Flow, and Flow as one of them.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, Result};

use super::{
    Bench, Output, Process,
    moved::{Reported, ends_of_processes, read_bandwhich, read_nethogs, read_rustnet},
};

/// A tool that samples once a second has sampled before and after the traffic.
pub const SETTLING: Duration = Duration::from_millis(2500);

/// How a tool learns of traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Flow,
    /// It captures packets and finds their processes.
    Capture,
    /// It captures packets and knows no processes.
    Hosts,
}

#[derive(Debug)]
pub struct Tool<'a> {
    pub name: &'static str,
    pub kind: Kind,
    pub program: Option<&'a Path>,
    arguments: Vec<&'a str>,
    /// Reads its report of processes; absent where it reports none.
    pub read: Option<fn(&str) -> Reported>,
}

impl Tool<'_> {
    pub fn start(&self, bench: &Bench) -> Result<Process> {
        Process::start(
            bench,
            self.name.split(' ').next().unwrap_or(self.name),
            self.program.context("it could not be installed here")?,
            &self.arguments,
            None,
            Output::File,
        )
    }
}

/// All of them; those that watch one interface watch this one.
#[rustfmt::skip]
pub fn tools<'a>(bench: &'a Bench, link: &'a str) -> [Tool<'a>; 5] {
    let options = &bench.options;
    [
        Tool {
            name: "flow events",
            kind: Kind::Flow,
            program: Some(&options.flow),
            arguments: vec!["events", "--json", "--backend", options.backend.name()],
            read: Some(ends_of_processes),
        },
        Tool {
            name: "nethogs",
            kind: Kind::Capture,
            program: options.nethogs.as_deref(),
            arguments: vec!["-t", "-v", "2", "-d", "1", link],
            read: Some(read_nethogs),
        },
        Tool {
            name: "bandwhich",
            kind: Kind::Capture,
            program: options.bandwhich.as_deref(),
            arguments: vec!["--raw", "--no-resolve", "--processes", "--interface", link],
            read: Some(read_bandwhich),
        },
        Tool {
            name: "rustnet",
            kind: Kind::Capture,
            program: options.rustnet.as_deref(),
            // Without its user and its sandbox, which keep it from other users' /proc/PID/fd.
            arguments: vec![
                "--headless", "--no-resolve-dns", "--no-geoip", "--no-uid-drop", "--no-sandbox",
                "--refresh-interval", "1000", "--interface", link,
            ],
            read: Some(read_rustnet),
        },
        Tool {
            name: "iftop",
            kind: Kind::Hosts,
            program: options.iftop.as_deref(),
            arguments: vec!["-t", "-n", "-N", "-P", "-i", link],
            read: None,
        },
    ]
}
