use strum::IntoEnumIterator as _;

use super::{explain::ENOTSUPP, *};
use crate::event::doctor::Cap;

fn refused(step: &str, errno: i32) -> Outcome {
    Outcome::Refused {
        step: step.into(),
        errno,
    }
}

fn absent(why: &str) -> Outcome {
    Outcome::Absent(why.into())
}

/// A kernel on which everything works.
fn ideal() -> Findings {
    Findings {
        environment: Environment {
            capabilities: Cap::iter().collect(),
            btf: true,
            cgroup_v2: Some("/sys/fs/cgroup".into()),
            cgroup_v2_part: None,
            ..Environment::default()
        },
        ring_buffer: Outcome::Works,
        backends: tried().map(|backend| (backend, Outcome::Works)).collect(),
    }
}

/// The backends that have a trial, but for clsact, which an ideal kernel does not need.
fn tried() -> impl Iterator<Item = Backend> {
    let defs = backends::BACKENDS.iter().filter(|def| def.trial.is_some());
    defs.map(|def| def.backend)
        .filter(|backend| *backend != Backend::Clsact)
}

fn with(mut findings: Findings, outcomes: &[(Backend, Outcome)]) -> Findings {
    findings.backends.extend(outcomes.iter().cloned());
    findings
}

fn hardened() -> Findings {
    with(
        ideal(),
        &[
            (
                Backend::Fexit,
                refused("BPF programs of type tracing", libc::EPERM),
            ),
            (
                Backend::Kprobe,
                absent("the kernel has no kprobes (CONFIG_KPROBES)"),
            ),
        ],
    )
}

fn unprivileged() -> Findings {
    let no = || refused("x", libc::EPERM);
    let mut findings = ideal();
    findings.environment.capabilities.clear();
    findings.ring_buffer = no();
    let refused = tried().chain([Backend::Clsact]).map(|it| (it, no()));
    findings.backends = refused.collect();
    with(findings, &[(Backend::SockDiag, Outcome::Works)])
}

fn chosen(report: &Report, capability: Capability) -> Option<&'static str> {
    report.provision(capability).unwrap().chosen
}

#[test]
fn the_best_backend_that_works_is_chosen() {
    let report = decide(ideal(), None);
    assert_eq!(report.app_backend(), Ok(Backend::Fexit));
    assert_eq!(chosen(&report, Capability::Interfaces), Some("TCX"));
    assert!(report.uses(Backend::CgroupSkb));
    assert!(report.capabilities.iter().all(|c| c.remedy.is_none()));

    let report = decide(hardened(), None);
    assert_eq!(report.app_backend(), Ok(Backend::Tracepoint));
    let app = report.provision(Capability::AppBytes).unwrap();
    assert_eq!(
        app.candidates[0].status.why(),
        Some("BPF programs of type tracing: EPERM (an LSM denies them)")
    );
    assert!(report.coverage()[0].limits.contains("sockmap"));
}

#[test]
fn a_forced_backend_is_taken_or_its_absence_explained() {
    let report = decide(ideal(), Some(Backend::Kprobe));
    assert_eq!(report.app_backend(), Ok(Backend::Kprobe));
    assert_eq!(report.coverage()[0].backend.as_deref(), Some("kprobe"));

    let report = decide(hardened(), Some(Backend::Fexit));
    let error = report.app_backend().unwrap_err();
    assert_eq!(
        error.to_string(),
        "backend fexit cannot be had here: BPF programs of type tracing: EPERM (an LSM denies \
         them); available: tracepoint (--backend tracepoint)"
    );
    assert!(!error.not_permitted);
    assert_eq!(chosen(&report, Capability::AppBytes), None);
}

#[test]
fn without_privileges_every_candidate_tells_what_it_needs() {
    let report = decide(unprivileged(), None);
    let error = report.app_backend().unwrap_err();
    assert!(error.not_permitted);
    assert!(error.to_string().contains("needs CAP_BPF and CAP_PERFMON"));
    assert!(error.to_string().ends_with(AS_ROOT));
    for capability in &report.capabilities {
        assert!(capability.remedy.as_ref().unwrap().contains("setcap"));
    }
    assert_eq!(chosen(&report, Capability::Interfaces), Some("counters"));
    let existing = &report.coverage()[5];
    assert_eq!(existing.backend.as_deref(), Some("sock_diag"));
    assert!(existing.limits.contains("CAP_SYS_PTRACE"));
}

#[test]
fn a_trial_without_a_free_descriptor_says_nothing_of_the_kernel() {
    let mut findings = hardened();
    assert!(
        !decide(findings.clone(), Some(Backend::Fexit))
            .app_backend()
            .unwrap_err()
            .out_of_files
    );
    let refused = Outcome::Refused {
        step: "the tracepoint sock_send_length".into(),
        errno: libc::EMFILE,
    };
    findings.backends.insert(Backend::Tracepoint, refused);
    let error = decide(findings, None).app_backend().unwrap_err();
    assert!(error.out_of_files, "{error}");
}

#[test]
fn root_of_a_user_namespace_is_not_permitted() {
    let mut findings = unprivileged();
    findings.environment.capabilities = Cap::iter().collect();
    findings.environment.user_namespace = true;
    let refusal = |findings: &Findings| decide(findings.clone(), None).app_backend();
    let error = refusal(&findings).unwrap_err();
    assert!(error.not_permitted, "{error}");
    assert!(error.to_string().ends_with(IN_HOST_NAMESPACE), "{error}");
    // What the kernel lacks, nobody could be permitted.
    findings.backends.insert(Backend::Fexit, absent("x"));
    findings.backends.insert(Backend::Kprobe, absent("x"));
    findings.backends.insert(Backend::Tracepoint, absent("x"));
    assert!(!refusal(&findings).unwrap_err().not_permitted);
}

#[test]
fn what_can_be_mended_is_told() {
    let mut findings = ideal();
    findings.environment.cgroup_v2 = None;
    findings.environment.lockdown = Some("confidentiality".into());
    findings.backends.insert(
        Backend::Fexit,
        refused("BPF programs of type tracing", libc::EINVAL),
    );
    findings.backends.insert(
        Backend::CgroupSkb,
        absent("the cgroup v2 tree is not mounted"),
    );
    findings
        .backends
        .insert(Backend::Tcx, absent("the kernel has no TCX links"));
    findings.backends.insert(
        Backend::Clsact,
        absent("the kernel module sch_ingress is not there"),
    );
    let report = decide(findings, None);
    let remedy = |name| report.provision(name).unwrap().remedy.clone().unwrap();
    assert!(remedy(Capability::AppBytes).contains("lockdown"));
    assert!(remedy(Capability::WireBytes).contains("mount -t cgroup2"));
    assert!(remedy(Capability::Interfaces).contains("modprobe"));
}

#[test]
fn a_part_of_the_cgroup_tree_is_told_from_none() {
    let mut findings = ideal();
    findings.environment.cgroup_v2 = None;
    findings.environment.cgroup_v2_part = Some("/sys/fs/cgroup".into());
    findings.backends.insert(
        Backend::CgroupSkb,
        absent("the cgroup v2 tree is not mounted"),
    );
    findings.backends.insert(Backend::Fexit, absent("x"));
    findings.backends.insert(Backend::Kprobe, absent("x"));
    findings
        .backends
        .insert(Backend::Tracepoint, Outcome::Works);
    let report = decide(findings, None);
    let packets = report.provision(Capability::WireBytes).expect("wire bytes");
    assert_eq!(packets.chosen, None);
    let why = packets.candidates[0].status.why().expect("a reason");
    assert!(why.contains("only a part"), "{why}");
    let remedy = packets.remedy.as_deref().expect("a remedy");
    assert!(remedy.contains("--cgroupns=host"), "{remedy}");
    let limits = &report.coverage()[0].limits;
    assert!(
        limits.contains("the remotes of unconnected sockets"),
        "{limits}"
    );
}

#[test]
fn programs_without_a_ring_buffer_are_not_chosen() {
    let findings = Findings {
        ring_buffer: refused("a ring buffer", libc::EINVAL),
        ..ideal()
    };
    let report = decide(findings, None);
    assert!(
        report
            .app_backend()
            .unwrap_err()
            .to_string()
            .contains("a ring buffer: EINVAL")
    );
}

#[test]
fn errors_that_only_the_kernel_knows_have_names() {
    let outcome = refused("attaching to a function's return", ENOTSUPP);
    let findings = with(ideal(), &[(Backend::Fexit, outcome)]);
    let report = decide(findings, Some(Backend::Fexit));
    assert!(
        report
            .app_backend()
            .unwrap_err()
            .to_string()
            .contains("ENOTSUPP")
    );
}
