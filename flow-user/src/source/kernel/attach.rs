//! What is attached, and what is done without where the kernel refuses it.

use super::{
    attach_error::AttachError,
    backends::{self, Backend},
    coverage::{self, provided},
    hooks::{self, Hook},
    programs::{self, Programs, Target},
};
use crate::{
    event::{Capability, Coverage, doctor::Report},
    faults,
};

/// What is to be loaded before anything is attached, for a backend of app bytes.
pub fn hooks_of(app: Backend) -> impl Iterator<Item = &'static Hook> {
    backends::BACKENDS
        .iter()
        .filter(move |def| def.capability != Capability::AppBytes || def.backend == app)
        .filter(|def| faults::attaches(def.capability))
        .flat_map(|def| def.hooks)
}

/// Attaches what surrounds the counting of app bytes. What is refused is reported, and done
/// without.
pub fn attach_common(
    programs: &mut Programs<'_>,
    target: &Target<'_>,
    report: &Report,
    coverage: &mut [Coverage],
) {
    let mut update = |backend, number, missing: &[_]| {
        let new = provided(backend, number, missing, &report.environment);
        coverage::update(coverage, new);
    };
    if faults::attaches(Capability::WireBytes) && report.uses(Backend::CgroupSkb) {
        let missing = programs::attach(programs, hooks::PACKETS, target);
        update(Backend::CgroupSkb, hooks::PACKETS.len(), &missing);
    }
    if faults::attaches(Capability::Sockets) {
        let mut backend = Backend::StateTracepoint;
        let mut number = hooks::STATES.len();
        let mut missing = programs::attach(programs, hooks::STATES, target);
        let mut releases = hooks::RELEASES;
        if report.uses(Backend::CgroupSockets) {
            let refused = programs::attach(programs, hooks::SOCKETS, target);
            if refused.len() < hooks::SOCKETS.len() {
                backend = Backend::CgroupSockets;
            }
            number += hooks::SOCKETS.len();
            missing.extend(refused);
            if programs.is_loaded(hooks::SOCKET_RELEASES) {
                releases = &[];
            }
        }
        number += releases.len();
        missing.extend(programs::attach(programs, releases, target));
        update(backend, number, &missing);
    }
    if faults::attaches(Capability::Processes) {
        let missing = programs::attach(programs, hooks::LIVES, target);
        update(Backend::ProcessTracepoints, hooks::LIVES.len(), &missing);
    }
}

/// Attaches the best backend for app bytes that works as a whole, from `first` on, or the one that
/// was asked for; if there is none, the best that counts at all.
///
/// # Errors
/// The kernel refuses programs that each of them is nothing without.
pub fn attach_app(
    programs: &mut Programs<'_>,
    first: Backend,
    target: &Target<'_>,
    report: &Report,
    coverage: &mut [Coverage],
) -> Result<(), AttachError> {
    if !faults::attaches(Capability::AppBytes) {
        return Ok(());
    }
    let most = report.forced.map_or(usize::MAX, |_| 1);
    let backends = backends::of(Capability::AppBytes)
        .skip_while(|def| def.backend != first)
        .take(most);
    let mut refusal = None;
    for complete in [true, false] {
        for def in backends.clone() {
            match programs::attach_together(programs, def.hooks, target, complete) {
                Ok(missing) => {
                    // At least one is attached.
                    let number = missing.len() + 1;
                    let new = provided(def.backend, number, &missing, &report.environment);
                    coverage::update(coverage, new);
                    return Ok(());
                }
                Err(error) if complete => log::warn!("backend {}: {error}", def.name),
                Err(error) => {
                    refusal.get_or_insert(error);
                }
            }
        }
    }
    refusal.map_or(Ok(()), Err)
}
