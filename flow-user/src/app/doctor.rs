//! `flow doctor`: what works here, why not more, and what to type to get it.

use std::fmt::Write as _;

use crate::{
    sink::{json::to_pretty, text::escape},
    source::kernel::{
        environment::{Cap, Environment},
        probe::{Backend, Capability, Report, Status, capability},
    },
};

/// Columns of the names: capabilities, then backends and their status.
const NAME_COLUMNS: usize = 30;
const WORD_COLUMNS: usize = 13;
/// Narrowest text that is still filled, whatever the terminal says.
const MIN_WIDTH: usize = 60;

/// The report as text, each line at most `width` columns wide where its words allow. Ends with a
/// newline.
pub fn render(report: &Report, width: usize) -> String {
    let mut page = Page {
        text: String::new(),
        width: width.max(MIN_WIDTH),
    };
    let Environment {
        hostname,
        kernel,
        machine,
        ..
    } = &report.environment;
    page.line(&format!("Flow on {hostname}, kernel {kernel}, {machine}"));
    for capability in &report.capabilities {
        page.capability(capability, &report.environment);
    }
    for (name, word, detail) in surroundings(&report.environment) {
        page.row(2, name, &word, &detail);
    }
    page.advice(report);
    page.text
}

/// The report as JSON, indented; a script finds everything that the text says.
///
/// # Errors
/// The path of the cgroup v2 tree is no text.
pub fn to_json(report: &Report) -> serde_json::Result<String> {
    // The writer of safe JSON takes only what has a form in JSON.
    serde_json::to_value(report)?;
    Ok(to_pretty(report) + "\n")
}

struct Page {
    text: String,
    width: usize,
}

impl Page {
    fn capability(&mut self, capability: &Capability, environment: &Environment) {
        let (word, detail) = match capability.candidate_in_use() {
            Some(candidate) => (
                candidate.backend.name(),
                describe(candidate.backend, &candidate.cannot_see, environment),
            ),
            None => ("none", String::new()),
        };
        self.row(2, capability.name, word, &detail);
        // Those that are better, and why they are not in use; what is worse is of no interest.
        for candidate in &capability.candidates {
            if Some(candidate.backend) == capability.chosen {
                break;
            }
            if candidate.status == Status::Untried {
                continue;
            }
            let why = match &candidate.status {
                Status::Available => "works, and another was asked for",
                status => status.why().unwrap_or_default(),
            };
            self.row(4, candidate.backend.name(), candidate.status.word(), why);
        }
    }

    fn advice(&mut self, report: &Report) {
        // One command may mend several things: it stands once, with all of them.
        let mut advice: Vec<(&str, Vec<&str>)> = Vec::new();
        for capability in &report.capabilities {
            let Some(remedy) = capability.remedy.as_deref() else {
                continue;
            };
            match advice.iter_mut().find(|(other, _)| *other == remedy) {
                Some((_, names)) => names.push(capability.name),
                None => advice.push((remedy, vec![capability.name])),
            }
        }
        let best_works = report
            .capability(capability::APP_BYTES)
            .and_then(|app| app.candidates.first())
            .is_some_and(|best| matches!(best.status, Status::Available | Status::Untried));
        if best_works && advice.is_empty() {
            self.line("  Nothing is missing.");
        } else if advice.is_empty() {
            self.paragraph(
                2,
                "To get more: nothing can be done on this system as it is; a kernel that takes BPF \
                 programs of type tracing gives everything.",
            );
        } else {
            self.line("  To get more:");
            for (remedy, names) in advice {
                self.paragraph(4, &format!("{}: {remedy}", names.join(", ")));
            }
        }
    }

    fn row(&mut self, indent: usize, name: &str, word: &str, detail: &str) {
        let name_columns = NAME_COLUMNS - indent;
        let head = format!("{:indent$}{name:name_columns$} {word:WORD_COLUMNS$} ", "");
        self.filled(&head, NAME_COLUMNS + WORD_COLUMNS + 2, detail);
    }

    fn paragraph(&mut self, indent: usize, text: &str) {
        self.filled(&" ".repeat(indent), indent + 2, text);
    }

    /// Writes `head` and then the words, with as many on each line as fit.
    fn filled(&mut self, head: &str, indent: usize, words: &str) {
        let mut line = head.to_owned();
        let mut empty = true;
        for word in words.split_whitespace() {
            if !empty && line.chars().count() + 1 + word.chars().count() > self.width {
                self.line(&line);
                line = " ".repeat(indent);
                empty = true;
            }
            if !empty {
                line.push(' ');
            }
            line.push_str(word);
            empty = false;
        }
        self.line(&line);
    }

    /// Host name, paths and the names of modules come from outside, and may hold anything.
    fn line(&mut self, line: &str) {
        let _ = writeln!(self.text, "{}", escape(line.trim_end()));
    }
}

fn describe(backend: Backend, cannot_see: &str, environment: &Environment) -> String {
    let what = match backend {
        Backend::Fexit | Backend::Kprobe | Backend::Tracepoint => "exact".to_owned(),
        Backend::CgroupSkb | Backend::CgroupSockets => match &environment.cgroup_v2 {
            Some(root) if root.starts_with("/proc/self/fd") => {
                "on the cgroup v2 root, through a mount of Flow's own".into()
            }
            Some(root) => format!("on the cgroup v2 root, {}", root.display()),
            None => "on the cgroup v2 root".into(),
        },
        Backend::StateTracepoint => "inet_sock_set_state, tcp_destroy_sock".into(),
        Backend::Tcx | Backend::Clsact => "on every interface".into(),
        Backend::Rtnetlink => "the interfaces' own".into(),
        Backend::ProcessTracepoints => "exec, fork and exit".into(),
        Backend::SockDiag => "joined with /proc/PID/fd".into(),
    };
    if cannot_see.is_empty() {
        what
    } else {
        format!("{what}; cannot see {cannot_see}")
    }
}

/// What surrounds Flow: name, value in a word, and what follows from it.
fn surroundings(environment: &Environment) -> Vec<(&'static str, String, String)> {
    let Environment {
        hostname: _,
        kernel: _,
        machine: _,
        capabilities,
        seccomp,
        user_namespace,
        pid_namespace,
        lockdown,
        security_modules,
        unprivileged_bpf_disabled,
        perf_event_paranoid,
        memlock_bytes,
        btf,
        cgroup_v2: _,
        cgroup_v2_part: _,
        cgroup_v1: _,
        kprobes_built,
    } = environment;
    let names = |caps: &[Cap]| -> String {
        let names: Vec<_> = caps.iter().map(|cap| cap.name()).collect();
        names.join(", ")
    };
    let missing: Vec<_> = Cap::ALL
        .into_iter()
        .filter(|cap| !environment.may(*cap))
        .collect();
    let (needless, needed): (Vec<_>, Vec<_>) = missing
        .into_iter()
        .partition(|cap| *cap == Cap::CapSysResource);
    let privileges = match (needed.as_slice(), needless.as_slice()) {
        ([], []) => ("all".into(), String::new()),
        ([], needless) => (
            "enough".into(),
            format!("missing {}: not needed", names(needless)),
        ),
        (needed, _) if capabilities.is_empty() => {
            ("none".into(), format!("missing {}", names(needed)))
        }
        (needed, _) => ("some".into(), format!("missing {}", names(needed))),
    };
    let unknown = || "not known".to_owned();
    let mut rows = vec![
        ("privileges", privileges.0, privileges.1),
        (
            "BTF",
            if *btf { "yes" } else { "no" }.into(),
            "/sys/kernel/btf/vmlinux".into(),
        ),
        ("cgroups", environment.cgroup_layout().into(), String::new()),
        (
            "lockdown",
            lockdown.clone().unwrap_or_else(unknown),
            String::new(),
        ),
        (
            "security modules",
            security_modules
                .as_ref()
                .map_or_else(unknown, |modules| modules.join(",")),
            String::new(),
        ),
    ];
    if user_namespace | pid_namespace {
        let which = match (user_namespace, pid_namespace) {
            (true, true) => "user and PID namespace",
            (true, false) => "user namespace",
            _ => "PID namespace",
        };
        rows.push((
            "namespaces",
            "inside".into(),
            format!("a {which} of its own: the host's processes have other ids, or none"),
        ));
    }
    if *seccomp {
        rows.push((
            "seccomp",
            "filtered".into(),
            "a filter may refuse system calls that Flow needs: bpf, perf_event_open".into(),
        ));
    }
    let setting = |value: &Option<i32>| value.map_or_else(unknown, |value| value.to_string());
    rows.extend([
        (
            "unprivileged_bpf_disabled",
            setting(unprivileged_bpf_disabled),
            String::new(),
        ),
        (
            "perf_event_paranoid",
            setting(perf_event_paranoid),
            String::new(),
        ),
        (
            "RLIMIT_MEMLOCK",
            memlock_bytes.map_or_else(|| "unlimited".into(), |bytes| format!("{} kB", bytes >> 10)),
            "matters to kernels before 5.11 only".into(),
        ),
    ]);
    if let Some(built) = kprobes_built {
        rows.push((
            "CONFIG_KPROBES",
            if *built { "yes" } else { "no" }.into(),
            String::new(),
        ));
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::kernel::{
        probe::{AppBackend, Findings},
        trial::Outcome,
    };

    fn hardened() -> Findings {
        Findings {
            environment: Environment {
                hostname: "web-3".into(),
                kernel: "6.18.44".into(),
                machine: "x86_64".into(),
                capabilities: Cap::ALL[..6].iter().copied().collect(),
                btf: true,
                cgroup_v2: Some("/sys/fs/cgroup/unified".into()),
                cgroup_v2_part: None,
                cgroup_v1: true,
                memlock_bytes: Some(8 << 20),
                kprobes_built: Some(false),
                ..Environment::default()
            },
            ring_buffer: Outcome::Works,
            fexit: Some(Outcome::Refused {
                step: "BPF programs of type tracing".into(),
                errno: libc::EPERM,
            }),
            kprobe: Some(Outcome::Absent(
                "the kernel has no kprobes (CONFIG_KPROBES)".into(),
            )),
            byte_tracepoints: Some(Outcome::Works),
            cgroup_sockets: Outcome::Works,
            state_tracepoint: None,
            cgroup_packets: Outcome::Works,
            tcx: Outcome::Works,
            clsact: None,
            process_tracepoints: Outcome::Works,
            sock_diag: Outcome::Works,
        }
    }

    #[test]
    fn the_hardened_kernel_is_explained() {
        let text = render(&Report::new(hardened(), None), 120);
        let begins = "\
Flow on web-3, kernel 6.18.44, x86_64
  app bytes by process         tracepoint    exact; cannot see bytes read with splice() from a socket, bytes received
                                             with TCP_ZEROCOPY_RECEIVE, bytes that the kernel itself reads, senders of
                                             datagrams received without asking for them, senders of what raw and ping
                                             sockets receive while datagrams of several wait, who opened an MPTCP
                                             connection that was accepted, who accepted a connection that is not used
                                             yet
    fexit                      refused       BPF programs of type tracing: EPERM (an LSM denies them)
    kprobe                     absent        the kernel has no kprobes (CONFIG_KPROBES)
  socket identity and life     cgroup hooks  on the cgroup v2 root, /sys/fs/cgroup/unified
";
        assert!(text.starts_with(begins), "{text}");
        assert!(text.contains("enough        missing CAP_SYS_RESOURCE: not needed"));
        assert!(text.contains("nothing can be done on this system"));
        assert!(text.lines().all(|line| line.len() <= 120));
    }

    #[test]
    fn without_privileges_one_command_mends_all() {
        let mut findings = hardened();
        findings.environment.capabilities.clear();
        let refused = || Outcome::Refused {
            step: "x".into(),
            errno: libc::EPERM,
        };
        findings.byte_tracepoints = Some(refused());
        findings.tcx = refused();
        findings.clsact = Some(refused());
        let text = render(&Report::new(findings, None), 100);
        assert!(text.contains("not permitted: needs CAP_BPF and CAP_PERFMON"));
        assert_eq!(text.matches("setcap").count(), 1, "{text}");
        assert!(text.contains("app bytes by process         none\n"));
    }

    #[test]
    fn a_better_backend_that_was_not_asked_for_is_said_to_work() {
        let mut findings = hardened();
        findings.fexit = Some(Outcome::Works);
        let report = Report::new(findings, Some(AppBackend::Tracepoint));
        assert!(render(&report, 100).contains("works, and another was asked for"));
        let everything = Report::new(
            Findings {
                fexit: Some(Outcome::Works),
                ..hardened()
            },
            None,
        );
        assert!(render(&everything, 80).ends_with("Nothing is missing.\n"));
    }

    #[test]
    fn names_from_outside_reach_no_terminal_as_commands() {
        let mut findings = hardened();
        let hostile = "x\x1b[2J\u{9b}\u{202e}y\nz";
        findings.environment.hostname = hostile.into();
        findings.environment.kernel = hostile.into();
        findings.environment.cgroup_v2 = Some(hostile.into());
        findings.environment.lockdown = Some(hostile.into());
        findings.environment.security_modules = Some(vec![hostile.into()]);
        let report = Report::new(findings, None);
        let texts = [render(&report, 80), to_json(&report).unwrap()];
        for text in texts {
            let hostile = |c: char| c != '\n' && crate::sink::text::is_hostile(c);
            assert!(!text.contains(hostile), "{text:?}");
        }
        assert!(render(&report, 80).starts_with("Flow on x\\x1b[2J"));
    }

    #[test]
    fn json_tells_the_same() {
        let json = to_json(&Report::new(hardened(), None)).unwrap();
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        let app = &json["capabilities"][0];
        assert_eq!(app["name"], capability::APP_BYTES);
        assert_eq!(app["chosen"], "tracepoint");
        assert_eq!(app["candidates"][0]["status"], "refused");
        assert_eq!(app["candidates"][0]["errno"], 1);
        assert_eq!(json["environment"]["capabilities"][0], "CAP_BPF");
    }
}
