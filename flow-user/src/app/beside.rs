//! Consumers that run beside any command. To add one: a file here with a type that is a
//! [`Consumer`], an entry in [`of`], and an option in `cli.rs`.

mod recorder;

use self::recorder::Recorder;
use super::{
    Failure,
    consumer::Consumer,
    engine::{Engine, Interest},
};
use crate::cli::Global;

/// A consumer that the command line selects.
pub struct Beside {
    pub interest: Interest,
    pub open: Open,
}

/// Makes the consumer, before the engine begins.
pub type Open = Box<dyn FnOnce(&Engine) -> Result<Box<dyn Consumer>, Failure>>;

/// All that the command line selects.
pub fn of(options: &Global) -> Vec<Beside> {
    let record = options.record.clone().map(|file| Beside {
        interest: recorder::EVENTS,
        open: Box::new(move |engine| Ok(Box::new(Recorder::create(&file, engine)?))),
    });
    record.into_iter().collect()
}
