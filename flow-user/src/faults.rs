//! Faults that tests inject through the environment. Only builds with the feature `fault-injection`
//! look there; in others every function here does nothing.

use std::path::PathBuf;

#[cfg(feature = "fault-injection")]
use std::env;

use crate::event::Capability;

/// Whether the kernel is to refuse a program of Flow's: `FLOW_REFUSE=program,program`.
#[cfg(feature = "fault-injection")]
pub fn refuses(program: &str) -> bool {
    let names = env::var("FLOW_REFUSE").unwrap_or_default();
    names.split(',').any(|refused| refused == program)
}

/// Whether programs for a capability are attached: `FLOW_ONLY=capability,capability`, by their
/// names in outputs; all of them where it is not set. Coverage claims the others all the same.
#[cfg(feature = "fault-injection")]
pub fn attaches(capability: Capability) -> bool {
    env::var("FLOW_ONLY").map_or(true, |names| {
        names.split(',').any(|name| name == capability.name())
    })
}

/// The cgroup that programs are attached to instead of the root: `FLOW_CGROUP=path`.
#[cfg(feature = "fault-injection")]
pub fn cgroup() -> Option<PathBuf> {
    env::var_os("FLOW_CGROUP").map(PathBuf::from)
}

/// Maps that are to be made smaller, with their entries: `FLOW_MAP_ENTRIES=MAP=ENTRIES,...`. What is
/// not such a pair is left out.
#[cfg(feature = "fault-injection")]
pub fn map_entries() -> Vec<(String, u32)> {
    let pairs = env::var("FLOW_MAP_ENTRIES").unwrap_or_default();
    let pairs = pairs.split(',').filter_map(|pair| pair.split_once('='));
    pairs
        .filter_map(|(map, entries)| Some((map.to_owned(), entries.parse().ok()?)))
        .collect()
}

/// Panics if the variable `FLOW_PANIC` names this thread.
///
/// # Panics
/// As asked for.
#[cfg(feature = "fault-injection")]
pub fn panic_in(thread: &str) {
    let asked = env::var_os("FLOW_PANIC").is_some_and(|asked| asked == thread);
    assert!(!asked, "FLOW_PANIC is set");
}

#[cfg(not(feature = "fault-injection"))]
pub fn refuses(_program: &str) -> bool {
    false
}

#[cfg(not(feature = "fault-injection"))]
pub fn attaches(_capability: Capability) -> bool {
    true
}

#[cfg(not(feature = "fault-injection"))]
pub fn cgroup() -> Option<PathBuf> {
    None
}

#[cfg(not(feature = "fault-injection"))]
pub fn map_entries() -> Vec<(String, u32)> {
    Vec::new()
}

#[cfg(not(feature = "fault-injection"))]
pub fn panic_in(_thread: &str) {}
