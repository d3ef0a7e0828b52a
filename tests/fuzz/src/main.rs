//! One fuzz target under libFuzzer: `FLOW_FUZZ_TARGET` names it, the arguments are libFuzzer's.

#![no_main]

use std::{cell::RefCell, env, process::exit, sync::LazyLock};

use flow_fuzz::{Guarded, Target, target};
use libfuzzer_sys::fuzz_target;

static TARGET: LazyLock<&Target> = LazyLock::new(|| {
    let name = env::var("FLOW_FUZZ_TARGET").unwrap_or_default();
    target(&name).unwrap_or_else(|| {
        eprintln!("FLOW_FUZZ_TARGET names no target: {name:?}; run: cargo xtask fuzz --list");
        exit(2)
    })
});

thread_local! {
    /// The engine calls from one thread.
    static INPUT: RefCell<Guarded> =
        RefCell::new(Guarded::new().expect("memory for one input"));
}

fuzz_target!(|bytes: &[u8]| {
    INPUT.with_borrow_mut(|input| (TARGET.run)(input.hold(bytes)));
});
