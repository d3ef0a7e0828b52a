//! How capabilities are provided, in the words of [`Coverage`].

use super::{
    attach_error::Missing,
    backends::Backend,
    interface_tracker::{Attached, InterfaceTracker},
};
use crate::{
    event::{Capability, Coverage, doctor::Environment},
    source::seed::Seed,
};

/// Takes how a capability is provided now; what is news of it.
pub fn update(all: &mut [Coverage], new: Coverage) -> Option<Coverage> {
    let entry = all
        .iter_mut()
        .find(|entry| entry.capability == new.capability)?;
    (*entry != new).then(|| {
        entry.clone_from(&new);
        new
    })
}

/// How a backend of so many programs, of which some are missing, provides its capability.
pub fn provided(
    backend: Backend,
    programs: usize,
    missing: &[Missing],
    environment: &Environment,
) -> Coverage {
    for program in missing {
        log::warn!("not seen: {program}");
    }
    let def = backend.def();
    if missing.len() >= programs {
        let first = missing.first().map(|missing| &missing.error);
        let why = first.map_or(String::new(), |error| format!(" ({error})"));
        return Coverage {
            capability: def.capability,
            backend: None,
            limits: format!("everything{why}"),
        };
    }
    let mut limits = def.blind_words(environment);
    for program in missing {
        add(&mut limits, &program.to_string());
    }
    Coverage {
        capability: def.capability,
        backend: Some(def.name.into()),
        limits,
    }
}

/// On how many interfaces packets are classified.
pub fn of_interfaces(interfaces: &InterfaceTracker) -> Coverage {
    let Attached {
        mode,
        lacking,
        waiting,
        up,
        refusal,
    } = interfaces.attached();
    let backend = mode.map_or(Backend::Rtnetlink, Backend::from);
    let mut coverage = provided(backend, 1, &[], &Environment::default());
    let why = match (&refusal, waiting) {
        (_, true) => " (being attached)".to_owned(),
        (Some(error), false) => format!(" ({error})"),
        (None, false) => String::new(),
    };
    if mode.is_none() {
        coverage.limits.push_str(&why);
    } else if lacking > 0 {
        let some = format!("packets of {lacking} of {up} interfaces{why}");
        add(&mut coverage.limits, &some);
    }
    coverage
}

/// Adds what could not be read of the sockets that were there to what is not seen.
pub fn add_unread(all: &mut [Coverage], seed: &Seed) {
    let existing = |entry: &&mut Coverage| entry.capability == Capability::Existing;
    for entry in all.iter_mut().filter(existing) {
        for unread in &seed.unread {
            log::info!("{unread}");
            add(&mut entry.limits, &unread.what);
        }
    }
}

fn add(limits: &mut String, more: &str) {
    if !limits.is_empty() {
        limits.push_str(", ");
    }
    limits.push_str(more);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::kernel::attach_error::AttachError;

    fn missing(function: &str) -> Missing {
        Missing {
            unseen: format!("calls of {function}"),
            error: AttachError::NoProgram("p".into()),
        }
    }

    fn packets(missing: &[Missing]) -> Coverage {
        provided(Backend::CgroupSkb, 2, missing, &Environment::default())
    }

    #[test]
    fn a_backend_without_some_programs_says_what_it_does_not_see() {
        let Coverage {
            backend, limits, ..
        } = packets(&[missing("f")]);
        assert_eq!(backend.as_deref(), Some("cgroup_skb"));
        assert!(limits.starts_with(&packets(&[]).limits));
        assert!(limits.ends_with(", calls of f (the kernel side has no program p)"));
    }

    #[test]
    fn a_backend_without_all_of_them_is_none() {
        let Coverage {
            backend, limits, ..
        } = packets(&[missing("f"), missing("g")]);
        assert_eq!(backend, None);
        assert_eq!(limits, "everything (the kernel side has no program p)");
    }

    #[test]
    fn coverage_is_news_only_where_it_changed() {
        let interfaces = |backend: Option<&str>| Coverage {
            capability: Capability::Interfaces,
            backend: backend.map(Into::into),
            limits: "packets of 2 of 3 interfaces".into(),
        };
        let mut all = vec![interfaces(None)];
        let news = update(&mut all, interfaces(Some("TCX")));
        assert_eq!(news.as_ref(), all.first());
        assert_eq!(update(&mut all, interfaces(Some("TCX"))), None);
        assert_eq!(update(&mut all, packets(&[])), None);
    }
}
