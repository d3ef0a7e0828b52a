//! Which backend each capability gets on this system, and why not a better one.
//!
//! Decided by what the kernel takes and by what its BTF lists, never by its version. First every
//! fact is gathered ([`Findings`]), then the decision is made from the facts alone ([`decide`]).

mod explain;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use strum::IntoEnumIterator as _;

pub use self::explain::AS_ROOT;
use self::explain::{IN_HOST_NAMESPACE, missing, remedy, status};
use super::{
    backends::{self, Backend, BackendDef},
    btf::Btf,
    environment,
    join_threads::join_threads,
    trial::{self, Outcome, Trials, Types},
};
use crate::event::{
    Capability, Coverage,
    doctor::{Candidate, Environment, Provision, Report, Status},
};

/// No backend for app bytes, or not the one asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {why}; {instead}")]
pub struct BackendError {
    pub what: String,
    pub why: String,
    /// What to do about it.
    pub instead: String,
    /// Whether Flow lacks a capability for it, rather than the kernel the means.
    pub not_permitted: bool,
    /// Whether a trial failed because Flow may open no more files.
    pub out_of_files: bool,
}

/// Finds out what this system offers. Needs no privileges; without them it reports which are
/// missing.
pub fn probe(forced: Option<Backend>) -> Report {
    probe_with(forced, Btf::from_kernel().as_ref())
}

/// As [`probe`], with BTF that was read already.
pub fn probe_with(forced: Option<Backend>, btf: Types<'_>) -> Report {
    decide(Findings::gather(btf, forced), forced)
}

/// How each trial ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Findings {
    pub environment: Environment,
    pub ring_buffer: Outcome,
    /// Without those that were not tried, because a better one works.
    pub backends: BTreeMap<Backend, Outcome>,
}

impl Findings {
    /// Runs the trials that are needed. Each costs some milliseconds of a start, the ones of
    /// functions' returns most; if a forced backend works, no other is tried.
    pub fn gather(btf: Types<'_>, forced: Option<Backend>) -> Self {
        let environment = environment::read(btf.is_ok());
        let trials = Trials {
            btf,
            environment: &environment,
            patience: if forced == Some(Backend::Fexit) {
                trial::FORCED_PATIENCE
            } else {
                trial::ATTACH_PATIENCE
            },
        };
        // A TCX link waits long for nothing that the others need.
        let (mut backends, others) = join_threads(
            || try_backends(&trials, Capability::Interfaces, None),
            || {
                let others = Capability::iter();
                let others = others.filter(|capability| *capability != Capability::Interfaces);
                others
                    .flat_map(|capability| try_backends(&trials, capability, forced))
                    .collect::<Vec<_>>()
            },
        );
        backends.extend(others);
        Self {
            ring_buffer: trial::ring_buffer(),
            backends: backends.into_iter().collect(),
            environment,
        }
    }
}

/// Tries the backends of a capability, the forced one first, until one works that may be used.
fn try_backends(
    trials: &Trials<'_>,
    capability: Capability,
    forced: Option<Backend>,
) -> Vec<(Backend, Outcome)> {
    let forced = forced.filter(|forced| forced.def().capability == capability);
    let mut order: Vec<_> = backends::of(capability).collect();
    order.sort_by_key(|def| forced.is_some_and(|forced| forced != def.backend));
    let mut outcomes = Vec::new();
    for def in order {
        let Some(trial) = def.trial else {
            continue;
        };
        let outcome = trial(trials);
        let is_enough =
            outcome == Outcome::Works && forced.is_none_or(|forced| forced == def.backend);
        outcomes.push((def.backend, outcome));
        if is_enough {
            break;
        }
    }
    outcomes
}

/// Decides from the findings alone.
pub fn decide(findings: Findings, forced: Option<Backend>) -> Report {
    let candidate = |def: &BackendDef| {
        let outcome = match findings.backends.get(&def.backend) {
            // Programs that work are of no use without a way to receive their records.
            Some(Outcome::Works) if def.has_programs() => Some(&findings.ring_buffer),
            None if def.trial.is_none() => Some(&Outcome::Works),
            outcome => outcome,
        };
        Candidate {
            backend: def.name,
            status: status(def, outcome, &findings.environment),
            blind_spots: def.blind_words(&findings.environment),
            detail: def.detail(&findings.environment),
        }
    };
    let provision = |capability| {
        let candidates: Vec<_> = backends::of(capability).map(candidate).collect();
        let chosen = backends::of(capability)
            .zip(&candidates)
            .filter(|(def, _)| {
                capability != Capability::AppBytes
                    || forced.is_none_or(|forced| forced == def.backend)
            })
            .find(|(_, candidate)| candidate.status == Status::Available)
            .map(|(def, _)| def.backend);
        Provision {
            capability,
            chosen: chosen.map(Backend::name),
            remedy: remedy(chosen, capability, &candidates, &findings.environment),
            candidates,
        }
    };
    Report {
        capabilities: Capability::iter().map(provision).collect(),
        forced: forced.map(Backend::name),
        environment: findings.environment,
    }
}

impl Report {
    /// The backend for app bytes.
    ///
    /// # Errors
    /// There is none, or not the one asked for; says why, and what there is instead.
    pub fn app_backend(&self) -> Result<Backend, BackendError> {
        let candidates = self
            .provision(Capability::AppBytes)
            .map_or(&[][..], |provision| &provision.candidates);
        let all = backends::of(Capability::AppBytes).zip(candidates);
        let is_wanted = |def: &BackendDef| self.forced.is_none_or(|forced| forced == def.name);
        let available: Vec<_> = all
            .clone()
            .filter(|(_, candidate)| candidate.status == Status::Available)
            .map(|(def, _)| def)
            .collect();
        if let Some(def) = available.iter().find(|def| is_wanted(def)) {
            return Ok(def.backend);
        }
        let refused: Vec<_> = all.filter(|(def, _)| is_wanted(def)).collect();
        let reasons: Vec<_> = refused
            .iter()
            .filter_map(|(def, candidate)| {
                let why = candidate.status.why()?;
                Some(match self.forced {
                    Some(_) => why.to_owned(),
                    None => format!("{}: {why}", def.name),
                })
            })
            .collect();
        let lacks_rights = refused
            .iter()
            .any(|(def, _)| !missing(def, &self.environment).is_empty());
        // There no capability counts for BPF.
        let is_confined = self.environment.user_namespace
            && refused
                .iter()
                .any(|(_, candidate)| candidate.status.forbids());
        let names: Vec<_> = available.iter().map(|def| def.name).collect();
        Err(BackendError {
            what: match self.forced {
                Some(forced) => format!("backend {forced} cannot be had here"),
                None => "no backend can count the bytes of processes here".into(),
            },
            why: reasons.join("; "),
            instead: match names.as_slice() {
                [] if is_confined => IN_HOST_NAMESPACE.into(),
                [] if lacks_rights => AS_ROOT.into(),
                [] => "`flow doctor` shows what there is".into(),
                names => format!("available: {} (--backend {})", names.join(", "), names[0]),
            },
            not_permitted: lacks_rights || is_confined,
            out_of_files: refused
                .iter()
                .any(|(_, candidate)| candidate.status.is_out_of_files()),
        })
    }

    /// How each capability is provided, for the header of each view.
    pub fn coverage(&self) -> Vec<Coverage> {
        let coverage = |provision: &Provision| Coverage {
            capability: provision.capability,
            backend: provision.chosen.map(Into::into),
            limits: match provision.candidate_in_use() {
                Some(candidate) => candidate.blind_spots.clone(),
                None => "everything".into(),
            },
        };
        self.capabilities.iter().map(coverage).collect()
    }

    /// Whether programs give each TCP connection its cookie before it is established.
    pub fn gives_cookies(&self) -> bool {
        self.uses(Backend::CgroupSockets) || self.uses(Backend::CgroupSkb)
    }

    /// Whether this backend is the one in use for its capability.
    pub fn uses(&self, backend: Backend) -> bool {
        self.provision(backend.def().capability)
            .is_some_and(|provision| provision.chosen == Some(backend.name()))
    }
}
