//! `flow`: see [`flow_user::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    flow_user::cli::main()
}
