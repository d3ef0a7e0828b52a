//! `cargo xtask`: sets up, runs, checks, tests, fuzzes and measures this project.

#![expect(clippy::print_stdout, reason = "a command line tool talks there")]

mod apt;
mod bench;
mod cells;
mod check;
mod cpio;
mod fuzz;
mod guest;
mod kernel_side;
mod kernels;
mod layers;
mod matrix;
mod rows;
mod run;
mod setup;
mod suite;
mod tally;
#[path = "../../flow-user/build/toolchain.rs"]
mod toolchain;
mod tools;
mod vm;
mod watch;

use std::{ffi::OsString, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::kernels::Kernel;

#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    about = "Build, run, test and measure Flow"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Find or install what the build and the tests need
    Setup {
        /// Only what the build needs
        #[arg(long)]
        build_only: bool,
    },
    /// Build flow in release and run it as root: cargo xtask run [-- top]
    Run {
        /// Arguments of flow
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Check formatting, layers and lints, and run the unit tests
    Check,
    /// Run setup, check, short fuzzing, and the live tests on this host and in every cell of the
    /// kernel matrix
    Test {
        /// No virtual machines
        #[arg(long)]
        host_only: bool,
        /// Write the results of the matrix into docs/kernels.md, instead of comparing them
        #[arg(long, conflicts_with = "host_only")]
        write_docs: bool,
    },
    /// Measure what Flow and other tools cost; writes the figures into docs/benchmarks.md
    Bench {
        /// Fewer and shorter rounds, under seven minutes
        #[arg(long)]
        quick: bool,
        /// Only these parts, without writing the document: hooks, ablation, footprint, screen, scale,
        /// moments, storm, beside, soak; the last one only runs where it is named
        parts: Vec<String>,
    },
    /// Fuzz a parser with libFuzzer, until something breaks or the time is over
    Fuzz {
        /// Which parser
        #[arg(required_unless_present = "list")]
        target: Option<String>,
        /// List the parsers
        #[arg(long)]
        list: bool,
        /// Duration
        #[arg(long, value_name = "SECONDS", default_value_t = 60)]
        seconds: u64,
        /// Run only this input, such as one that broke something
        #[arg(long, value_name = "FILE")]
        input: Option<PathBuf>,
    },
    /// Run live tests in virtual machines: the matching cells of the kernel matrix
    Vm {
        /// Only this kernel
        #[arg(long)]
        kernel: Option<Kernel>,
        /// Only this backend of flow
        #[arg(long)]
        backend: Option<String>,
        /// Continue with the next cell after one that failed
        #[arg(long)]
        keep_going: bool,
        /// Stop a cell after so many seconds
        #[arg(long, value_name = "SECONDS", default_value_t = cells::TIME_LIMIT.as_secs())]
        timeout: u64,
        /// Only tests whose name contains one of these
        tests: Vec<String>,
    },
}

fn main() -> ExitCode {
    match dispatch(Arguments::parse().command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs a command. Returns whether everything passed.
fn dispatch(command: Command) -> Result<bool> {
    match command {
        Command::Setup { build_only } => setup::setup(build_only).map(|()| true),
        Command::Run { arguments } => run::run(&arguments),
        Command::Check => Ok(rows::conclude(&check::check())),
        Command::Test {
            host_only,
            write_docs,
        } => suite::test(host_only, write_docs),
        Command::Bench { quick, parts } => bench::bench(quick, &parts),
        Command::Fuzz {
            target: Some(target),
            seconds,
            input,
            ..
        } => fuzz::fuzz(&target, Duration::from_secs(seconds), input.as_deref()),
        Command::Fuzz { target: None, .. } => fuzz::list().map(|()| true),
        Command::Vm {
            kernel,
            backend,
            keep_going,
            timeout,
            tests,
        } => {
            let limit = Duration::from_secs(timeout);
            suite::vm(kernel, backend.as_deref(), keep_going, limit, &tests)
        }
    }
}
