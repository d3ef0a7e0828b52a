//! `flow config`: prints the configuration in effect, in the format of the file.

use super::{
    End, Failure,
    output::{print_message, write_text},
};
use crate::config::{self, Loaded, Overrides, Place};

/// The configuration in effect: the command line, then the file, then defaults.
pub fn load(overrides: Overrides) -> Loaded {
    let mut loaded = Loaded::from(Place::of_user());
    loaded.override_with(overrides);
    loaded
}

/// Reports invalid settings of the file on standard error.
pub fn report_problems(loaded: &Loaded) {
    for message in loaded.messages() {
        print_message(&message);
    }
}

/// Prints it.
///
/// # Errors
/// The file cannot be used.
pub fn run(loaded: Loaded) -> Result<End, Failure> {
    write_text(&config::render(&loaded))?;
    match loaded {
        Loaded {
            unusable: Some(problem),
            place: Some(place),
            ..
        } => Err(Failure::Config { place, problem }),
        loaded => {
            report_problems(&loaded);
            Ok(End::Done)
        }
    }
}
