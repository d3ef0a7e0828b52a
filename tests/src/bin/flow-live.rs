//! `flow-live generate MODE` moves bytes and prints how many; `flow-live run` tests Flow with it;
//! `flow-live bench` measures what Flow costs.
//! As the first process of a machine it is the init of a test guest.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use flow_tests::{bench, generate, guest, live};

/// Traffic generator and live tests of Flow.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Move bytes and print, for each process, one JSON line with what its calls returned
    Generate(generate::Options),
    /// Run the live tests; exits with 1 if one fails
    Run(live::Options),
    /// Measure what Flow costs and print the figures; exits with 1 if something could not be
    /// measured
    Bench(bench::Options),
    /// Make traffic by time or by rate, for the benchmark
    Load(bench::load::Options),
}

fn main() -> ExitCode {
    if std::process::id() == 1 {
        // The kernel of a virtual machine started this as its init.
        guest::run();
    }
    let result = match Cli::parse().command {
        Command::Generate(options) => generate::run(&options).map(|()| true),
        Command::Run(options) => live::run(&options),
        Command::Bench(options) => bench::run(&options),
        Command::Load(load) => bench::load::run(&load).map(|()| true),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("flow-live: {error:#}");
            ExitCode::FAILURE
        }
    }
}
