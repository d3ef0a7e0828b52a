//! `flow config`: the configuration in effect, as a file that says the same.

use super::{
    End, Failure,
    output::{complain, write_text},
};
use crate::config::{self, Loaded, Overrides, Place};

/// The configuration in effect: what is in the file, and before it the command line.
pub fn load(overrides: Overrides) -> Loaded {
    let mut loaded = Loaded::from(Place::of_user());
    loaded.override_with(overrides);
    loaded
}

/// Tells what does not count of the file, on standard error.
pub fn tell(loaded: &Loaded) {
    for message in loaded.messages() {
        complain(&message);
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
            tell(&loaded);
            Ok(End::Done)
        }
    }
}
