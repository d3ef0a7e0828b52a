use super::{explain::ENOTSUPP, *};

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
            capabilities: Cap::ALL.into(),
            btf: true,
            cgroup_v2: Some("/sys/fs/cgroup".into()),
            cgroup_v2_part: None,
            ..Environment::default()
        },
        ring_buffer: Outcome::Works,
        fexit: Some(Outcome::Works),
        kprobe: Some(Outcome::Works),
        byte_tracepoints: Some(Outcome::Works),
        cgroup_sockets: Outcome::Works,
        state_tracepoint: Some(Outcome::Works),
        cgroup_packets: Outcome::Works,
        tcx: Outcome::Works,
        clsact: None,
        process_tracepoints: Outcome::Works,
        sock_diag: Outcome::Works,
    }
}

fn hardened() -> Findings {
    Findings {
        fexit: Some(refused("BPF programs of type tracing", libc::EPERM)),
        kprobe: Some(absent("the kernel has no kprobes (CONFIG_KPROBES)")),
        ..ideal()
    }
}

fn unprivileged() -> Findings {
    let no = || refused("x", libc::EPERM);
    Findings {
        environment: Environment {
            capabilities: [].into(),
            ..ideal().environment
        },
        ring_buffer: no(),
        fexit: Some(no()),
        kprobe: Some(no()),
        byte_tracepoints: Some(no()),
        cgroup_sockets: no(),
        state_tracepoint: Some(no()),
        cgroup_packets: no(),
        tcx: no(),
        clsact: Some(no()),
        process_tracepoints: no(),
        sock_diag: Outcome::Works,
    }
}

fn chosen(report: &Report, name: &str) -> Option<Backend> {
    report.capability(name).unwrap().chosen
}

#[test]
fn the_best_backend_that_works_is_chosen() {
    let report = Report::new(ideal(), None);
    assert_eq!(report.app_backend(), Ok(AppBackend::Fexit));
    assert_eq!(chosen(&report, capability::INTERFACES), Some(Backend::Tcx));
    assert!(report.uses(Backend::CgroupSkb));
    assert!(report.capabilities.iter().all(|c| c.remedy.is_none()));

    let report = Report::new(hardened(), None);
    assert_eq!(report.app_backend(), Ok(AppBackend::Tracepoint));
    let app = report.capability(capability::APP_BYTES).unwrap();
    assert_eq!(
        app.candidates[0].status.why(),
        Some("BPF programs of type tracing: EPERM (an LSM denies them)")
    );
    assert!(report.coverage()[0].limits.contains("splice()"));
}

#[test]
fn a_forced_backend_is_taken_or_its_absence_explained() {
    let report = Report::new(ideal(), Some(AppBackend::Kprobe));
    assert_eq!(report.app_backend(), Ok(AppBackend::Kprobe));
    assert_eq!(report.coverage()[0].backend.as_deref(), Some("kprobe"));

    let report = Report::new(hardened(), Some(AppBackend::Fexit));
    let error = report.app_backend().unwrap_err();
    assert_eq!(
        error.to_string(),
        "backend fexit cannot be had here: BPF programs of type tracing: EPERM (an LSM denies \
         them); available: tracepoint (--backend tracepoint)"
    );
    assert!(!error.not_permitted);
    assert_eq!(chosen(&report, capability::APP_BYTES), None);
}

#[test]
fn without_privileges_every_candidate_tells_what_it_needs() {
    let report = Report::new(unprivileged(), None);
    let error = report.app_backend().unwrap_err();
    assert!(error.not_permitted);
    assert!(error.to_string().contains("needs CAP_BPF and CAP_PERFMON"));
    assert!(error.to_string().ends_with(AS_ROOT));
    for capability in &report.capabilities {
        assert!(capability.remedy.as_ref().unwrap().contains("setcap"));
    }
    assert_eq!(
        chosen(&report, capability::INTERFACES),
        Some(Backend::Rtnetlink)
    );
    let existing = &report.coverage()[5];
    assert_eq!(existing.backend.as_deref(), Some("sock_diag"));
    assert!(existing.limits.contains("CAP_SYS_PTRACE"));
}

#[test]
fn root_of_a_user_namespace_is_not_permitted() {
    let mut findings = unprivileged();
    findings.environment.capabilities = Cap::ALL.into();
    findings.environment.user_namespace = true;
    let refusal = |findings: &Findings| Report::new(findings.clone(), None).app_backend();
    let error = refusal(&findings).unwrap_err();
    assert!(error.not_permitted, "{error}");
    assert!(error.to_string().ends_with(IN_HOST_NAMESPACE), "{error}");
    // What the kernel lacks, nobody could be permitted.
    findings.fexit = Some(absent("x"));
    findings.kprobe = Some(absent("x"));
    findings.byte_tracepoints = Some(absent("x"));
    assert!(!refusal(&findings).unwrap_err().not_permitted);
}

#[test]
fn what_can_be_mended_is_told() {
    let mut findings = ideal();
    findings.environment.cgroup_v2 = None;
    findings.environment.lockdown = Some("confidentiality".into());
    findings.fexit = Some(refused("BPF programs of type tracing", libc::EINVAL));
    findings.cgroup_packets = absent("the cgroup v2 tree is not mounted");
    findings.tcx = absent("the kernel has no TCX links");
    findings.clsact = Some(absent("the kernel module sch_ingress is not there"));
    let report = Report::new(findings, None);
    let remedy = |name| report.capability(name).unwrap().remedy.clone().unwrap();
    assert!(remedy(capability::APP_BYTES).contains("lockdown"));
    assert!(remedy(capability::WIRE_BYTES).contains("mount -t cgroup2"));
    assert!(remedy(capability::INTERFACES).contains("modprobe"));
}

#[test]
fn a_part_of_the_cgroup_tree_is_told_from_none() {
    let mut findings = ideal();
    findings.environment.cgroup_v2 = None;
    findings.environment.cgroup_v2_part = Some("/sys/fs/cgroup".into());
    findings.cgroup_packets = absent("the cgroup v2 tree is not mounted");
    findings.fexit = Some(absent("x"));
    findings.kprobe = Some(absent("x"));
    findings.byte_tracepoints = Some(Outcome::Works);
    let report = Report::new(findings, None);
    let packets = report
        .capability(capability::WIRE_BYTES)
        .expect("wire bytes");
    assert_eq!(packets.chosen, None);
    let why = packets.candidates[0].status.why().expect("a reason");
    assert!(why.contains("only a part"), "{why}");
    let remedy = packets.remedy.as_deref().expect("a remedy");
    assert!(remedy.contains("--cgroupns=host"), "{remedy}");
    let limits = &report.coverage()[0].limits;
    assert!(
        limits.contains("whom unconnected sockets talk to"),
        "{limits}"
    );
}

#[test]
fn programs_without_a_ring_buffer_are_not_chosen() {
    let findings = Findings {
        ring_buffer: refused("a ring buffer", libc::EINVAL),
        ..ideal()
    };
    let report = Report::new(findings, None);
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
    let findings = Findings {
        fexit: Some(refused("attaching to a function's return", ENOTSUPP)),
        ..ideal()
    };
    let report = Report::new(findings, Some(AppBackend::Fexit));
    assert!(
        report
            .app_backend()
            .unwrap_err()
            .to_string()
            .contains("ENOTSUPP")
    );
}

#[test]
fn names_of_backends_are_what_the_flag_takes() {
    for backend in AppBackend::ALL {
        assert_eq!(backend.to_string().parse(), Ok(backend));
    }
    assert!("capture".parse::<AppBackend>().is_err());
}
