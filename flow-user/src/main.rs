//! `flow`: see [`flow_user::app`].

use std::process::ExitCode;

/// Runs before Rust's runtime, which opens closed standard streams.
// SAFETY: the loader calls it once; it needs nothing of the runtime's.
#[used]
#[unsafe(link_section = ".init_array")]
static NOTE_STREAMS: extern "C" fn() = flow_user::app::streams::note;

fn main() -> ExitCode {
    flow_user::app::main()
}
