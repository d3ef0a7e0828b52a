//! `flow doctor`: a verdict, what works here, why not more, and what to type to get it.

use std::{fmt::Write as _, mem, ops::Range};

use strum::IntoEnumIterator as _;

use super::{
    escape,
    style::{Style, paint},
    top::Screen,
};
use crate::{
    event::{
        Capability,
        doctor::{Cap, Environment, Provision, Report, Status},
    },
    query::human,
    sink::json::to_pretty,
};

/// Columns of the names: capabilities, then backends and their status.
const NAME_COLUMNS: usize = 30;
const WORD_COLUMNS: usize = 13;
/// The least width of filled text, whatever the terminal says, and that in a pipe.
const MIN_WIDTH: usize = 60;
const USUAL_WIDTH: usize = 100;

/// The report as text, each line at most as wide as the screen where its words allow. Ends with a
/// newline.
pub fn render_doctor(report: &Report, screen: Screen) -> String {
    let mut page = Page {
        text: String::new(),
        width: screen.width.unwrap_or(USUAL_WIDTH).max(MIN_WIDTH),
        screen,
    };
    let (verdict, style) = verdict(report);
    page.painted(&verdict, 0..verdict.len(), style);
    let Environment {
        hostname,
        kernel,
        machine,
        ..
    } = &report.environment;
    page.line(&format!("Flow on {hostname}, kernel {kernel}, {machine}"));
    for provision in &report.capabilities {
        page.provision(provision);
    }
    for Row { name, word, detail } in surroundings(&report.environment) {
        page.row(2, name, (&word, Style::Plain), &detail);
    }
    page.advice(report);
    page.text
}

/// The report as JSON, indented; a script finds everything that the text says.
///
/// # Errors
/// The path of the cgroup v2 tree is no text.
pub fn doctor_json(report: &Report) -> serde_json::Result<String> {
    // The writer of safe JSON takes only what has a form in JSON.
    serde_json::to_value(report)?;
    Ok(to_pretty(report) + "\n")
}

/// Whether Flow works here, and how well.
fn verdict(report: &Report) -> (String, Style) {
    let app = report.provision(Capability::AppBytes);
    let Some(candidate) = app.and_then(Provision::candidate_in_use) else {
        let environment = &report.environment;
        let lacks_rights = [Cap::CapBpf, Cap::CapPerfmon]
            .into_iter()
            .any(|cap| !environment.may(cap));
        let why = if environment.user_namespace {
            "in this user namespace; it needs root in the host's"
        } else if lacks_rights {
            "without root; sudo flow doctor shows what does with it"
        } else {
            "here: nothing can count the bytes of processes"
        };
        return (format!("Flow does not work {why}"), Style::Alarm);
    };
    let limits = match candidate.blind_spots.as_str() {
        "" => 0,
        spots => spots.split("; ").count(),
    };
    let limits = match limits {
        0 => "no limits".to_owned(),
        some => human::count(some, "limit", "limits"),
    };
    let provisions = report.capabilities.iter();
    let missing = provisions.filter(|it| it.chosen.is_none());
    let missing: Vec<&str> = missing.map(|it| it.capability.name()).collect();
    let missing = match missing.as_slice() {
        [] => String::new(),
        names => format!("; not available: {}", names.join(", ")),
    };
    let text = format!("Flow works here: bytes are exact, {limits}{missing}");
    (text, Style::Strong)
}

struct Page {
    text: String,
    width: usize,
    screen: Screen,
}

impl Page {
    fn provision(&mut self, provision: &Provision) {
        let (word, detail) = match provision.candidate_in_use() {
            Some(candidate) if candidate.blind_spots.is_empty() => {
                let word = (candidate.backend, Style::Plain);
                (word, candidate.detail.clone())
            }
            Some(candidate) => {
                let (detail, blind) = (&candidate.detail, &candidate.blind_spots);
                let word = (candidate.backend, Style::Plain);
                (word, format!("{detail}; cannot see {blind}"))
            }
            None => (("none", Style::Alarm), String::new()),
        };
        self.row(2, provision.capability.name(), word, &detail);
        // Better ones, and why they are not in use; worse ones are of no interest.
        for candidate in &provision.candidates {
            if Some(candidate.backend) == provision.chosen {
                break;
            }
            if candidate.status == Status::Untried {
                continue;
            }
            let why = match &candidate.status {
                Status::Available => "works, but another was requested",
                status => status.why().unwrap_or_default(),
            };
            let style = match &candidate.status {
                Status::Refused { .. } => Style::Alarm,
                Status::Absent { .. } => Style::Warning,
                Status::Available | Status::Untried => Style::Plain,
            };
            let word = (candidate.status.word(), style);
            self.row(4, candidate.backend, word, why);
        }
    }

    fn advice(&mut self, report: &Report) {
        // One command may fix several things: it is listed once, with all of them.
        let mut advice: Vec<(&str, Vec<&str>)> = Vec::new();
        for provision in &report.capabilities {
            let Some(remedy) = provision.remedy.as_deref() else {
                continue;
            };
            let name = provision.capability.name();
            match advice.iter_mut().find(|(other, _)| *other == remedy) {
                Some((_, names)) => names.push(name),
                None => advice.push((remedy, vec![name])),
            }
        }
        let best_works = report
            .provision(Capability::AppBytes)
            .and_then(|app| app.candidates.first())
            .is_some_and(|best| matches!(best.status, Status::Available | Status::Untried));
        if best_works && advice.is_empty() {
            self.line("  Nothing is missing.");
        } else if advice.is_empty() {
            self.paragraph(
                2,
                "To get more: nothing can be done on this system as it is; a kernel that accepts BPF \
                 programs of type tracing permits fexit, which sees the most.",
            );
        } else {
            self.line("  To get more:");
            for (remedy, names) in advice {
                self.paragraph(4, &format!("{}: {remedy}", names.join(", ")));
            }
        }
    }

    fn row(&mut self, indent: usize, name: &str, (word, style): (&str, Style), detail: &str) {
        let name_columns = NAME_COLUMNS - indent;
        let head = format!("{:indent$}{name:name_columns$} {word:WORD_COLUMNS$} ", "");
        let at = NAME_COLUMNS + 1;
        let painted = (at..at + word.len(), style);
        self.filled(&head, painted, NAME_COLUMNS + WORD_COLUMNS + 2, detail);
    }

    fn paragraph(&mut self, indent: usize, text: &str) {
        let head = " ".repeat(indent);
        self.filled(&head, (0..0, Style::Plain), indent + 2, text);
    }

    /// Writes `head`, a part of it in a style, and then the words, with as many on each line as fit.
    fn filled(
        &mut self,
        head: &str,
        (part, style): (Range<usize>, Style),
        indent: usize,
        words: &str,
    ) {
        let mut line = head.to_owned();
        let mut empty = true;
        let mut part = part;
        for word in words.split_whitespace() {
            if !empty && line.chars().count() + 1 + word.chars().count() > self.width {
                self.painted(&line, mem::take(&mut part), style);
                line = " ".repeat(indent);
                empty = true;
            }
            if !empty {
                line.push(' ');
            }
            line.push_str(word);
            empty = false;
        }
        self.painted(&line, part, style);
    }

    fn line(&mut self, line: &str) {
        self.painted(line, 0..0, Style::Plain);
    }

    /// Writes a line with a part of it in a style. Host name, paths and the names of modules come
    /// from outside, and are not escaped yet.
    fn painted(&mut self, line: &str, part: Range<usize>, style: Style) {
        let Screen { color, symbols, .. } = self.screen;
        let shown = |text: &str| symbols.text(&escape(text)).into_owned();
        let line = line.trim_end();
        // Where that is no place between characters, nothing is painted.
        let (before, rest) = line.split_at_checked(part.start).unwrap_or((line, ""));
        let (part, after) = rest.split_at_checked(part.len()).unwrap_or((rest, ""));
        let part = shown(part);
        let part = paint(&part, style, color);
        let _ = writeln!(self.text, "{}{part}{}", shown(before), shown(after));
    }
}

/// A line about the environment: name, value in a word, and consequence.
struct Row {
    name: &'static str,
    word: String,
    detail: String,
}

fn row(name: &'static str, word: impl Into<String>, detail: impl Into<String>) -> Row {
    Row {
        name,
        word: word.into(),
        detail: detail.into(),
    }
}

fn surroundings(environment: &Environment) -> Vec<Row> {
    let unknown = || "unknown".to_owned();
    let setting = |value: Option<i32>| value.map_or_else(unknown, |value| value.to_string());
    let yes_or_no = |is_so| if is_so { "yes" } else { "no" };
    let lockdown = environment.lockdown.clone().unwrap_or_else(unknown);
    let modules = environment.security_modules.as_ref();
    let modules = modules.map_or_else(unknown, |modules| modules.join(","));
    let unprivileged = setting(environment.unprivileged_bpf_disabled);
    let memlock = environment.memlock_bytes;
    let memlock = memlock.map_or_else(|| "unlimited".into(), |it| format!("{} kB", it >> 10));
    let kprobes = environment.kprobes_built;
    let mut rows = vec![
        privileges(environment),
        row("BTF", yes_or_no(environment.btf), "/sys/kernel/btf/vmlinux"),
        row("cgroups", environment.cgroup_layout(), ""),
        row("lockdown", lockdown, ""),
        row("security modules", modules, ""),
    ];
    rows.extend(namespaces(environment));
    rows.extend(environment.seccomp.then(|| {
        let detail = "a filter may refuse system calls that Flow needs: bpf, perf_event_open";
        row("seccomp", "filtered", detail)
    }));
    rows.extend([
        row("unprivileged_bpf_disabled", unprivileged, ""),
        row(
            "perf_event_paranoid",
            setting(environment.perf_event_paranoid),
            "",
        ),
        row(
            "RLIMIT_MEMLOCK",
            memlock,
            "matters to kernels before 5.11 only",
        ),
    ]);
    rows.extend(kprobes.map(|built| row("CONFIG_KPROBES", yes_or_no(built), "")));
    rows
}

fn privileges(environment: &Environment) -> Row {
    let missing = Cap::iter().filter(|cap| !environment.may(*cap));
    let (needless, needed): (Vec<_>, Vec<_>) = missing.partition(|cap| *cap == Cap::CapSysResource);
    let missing = |caps: &[Cap]| {
        let names: Vec<_> = caps.iter().map(|cap| cap.name()).collect();
        format!("missing {}", names.join(", "))
    };
    let (word, detail) = match (needed.as_slice(), needless.as_slice()) {
        ([], []) => ("all", String::new()),
        ([], needless) => ("enough", missing(needless) + ": not needed"),
        (needed, _) if environment.capabilities.is_empty() => ("none", missing(needed)),
        (needed, _) => ("some", missing(needed)),
    };
    row("privileges", word, detail)
}

fn namespaces(environment: &Environment) -> Option<Row> {
    let which = match (environment.user_namespace, environment.pid_namespace) {
        (true, true) => "user and PID namespace",
        (true, false) => "user namespace",
        (false, true) => "PID namespace",
        (false, false) => return None,
    };
    let detail = format!("a {which} of its own: the host's processes have other ids, or none");
    Some(row("namespaces", "inside", detail))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::kernel::{
        backends::Backend,
        probe::{Findings, decide},
        trial::Outcome,
    };

    fn screen(width: usize) -> Screen {
        Screen {
            width: Some(width),
            ..Screen::default()
        }
    }

    fn hardened() -> Findings {
        Findings {
            environment: Environment {
                hostname: "web-3".into(),
                kernel: "6.18.44".into(),
                machine: "x86_64".into(),
                capabilities: Cap::iter().take(6).collect(),
                btf: true,
                cgroup_v2: Some("/sys/fs/cgroup/unified".into()),
                cgroup_v2_part: None,
                cgroup_v1: true,
                memlock_bytes: Some(8 << 20),
                kprobes_built: Some(false),
                ..Environment::default()
            },
            ring_buffer: Outcome::Works,
            backends: [
                (
                    Backend::Fexit,
                    Outcome::Refused {
                        step: "BPF programs of type tracing".into(),
                        errno: libc::EPERM,
                    },
                ),
                (
                    Backend::Kprobe,
                    Outcome::Absent("the kernel has no kprobes (CONFIG_KPROBES)".into()),
                ),
                (Backend::Tracepoint, Outcome::Works),
                (Backend::CgroupSockets, Outcome::Works),
                (Backend::CgroupSkb, Outcome::Works),
                (Backend::Tcx, Outcome::Works),
                (Backend::ProcessTracepoints, Outcome::Works),
                (Backend::SockDiag, Outcome::Works),
            ]
            .into(),
        }
    }

    #[test]
    fn the_hardened_kernel_is_explained() {
        let text = render_doctor(&decide(hardened(), None), screen(120));
        let begins = "\
Flow works here: bytes are exact, 6 limits
Flow on web-3, kernel 6.18.44, x86_64
  app bytes by process         tracepoint    exact; cannot see bytes read with splice() from a kTLS socket; bytes that
                                             programs in the kernel take from a socket (sockmap); senders of datagrams
                                             read with recv() while those of several senders wait; senders of what raw
                                             and ping sockets receive while packets of several senders wait; who opened
                                             an MPTCP connection that was accepted; who accepted a connection that is
                                             not used yet
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
        for backend in [Backend::Tracepoint, Backend::Tcx, Backend::Clsact] {
            findings.backends.insert(backend, refused());
        }
        let text = render_doctor(&decide(findings, None), screen(100));
        assert!(text.contains("not permitted: needs CAP_BPF and CAP_PERFMON"));
        assert!(
            text.starts_with("Flow does not work without root"),
            "{text}"
        );
        assert_eq!(text.matches("setcap").count(), 1, "{text}");
        assert!(text.contains("app bytes by process         none\n"));
    }

    #[test]
    fn a_better_backend_that_was_not_asked_for_is_said_to_work() {
        let mut findings = hardened();
        findings.backends.insert(Backend::Fexit, Outcome::Works);
        let report = decide(findings.clone(), Some(Backend::Tracepoint));
        assert!(render_doctor(&report, screen(100)).contains("works, but another was requested"));
        let everything = decide(findings, None);
        assert!(render_doctor(&everything, screen(80)).ends_with("Nothing is missing.\n"));
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
        let report = decide(findings, None);
        let texts = [
            render_doctor(&report, screen(80)),
            doctor_json(&report).unwrap(),
        ];
        for text in texts {
            let hostile = |c: char| c != '\n' && crate::sink::text::is_hostile(c);
            assert!(!text.contains(hostile), "{text:?}");
        }
        assert!(render_doctor(&report, screen(80)).contains("\nFlow on x\\x1b[2J"));
    }

    #[test]
    fn what_is_refused_or_absent_has_a_colour_only_where_there_is_colour() {
        let report = decide(hardened(), None);
        let plain = render_doctor(&report, screen(100));
        let painted = render_doctor(
            &report,
            Screen {
                color: true,
                ..screen(100)
            },
        );
        assert!(painted.contains("\x1b[31mrefused\x1b[0m"), "{painted}");
        assert!(painted.contains("\x1b[33mabsent\x1b[0m"), "{painted}");
        let mut stripped = painted;
        for code in ["\x1b[0m", "\x1b[1m", "\x1b[31m", "\x1b[33m"] {
            stripped = stripped.replace(code, "");
        }
        assert_eq!(stripped, plain);
    }

    #[test]
    fn the_verdict_names_what_is_missing() {
        let verdict = |findings| verdict(&decide(findings, None)).0;
        let mut findings = hardened();
        for backend in [Backend::CgroupSockets, Backend::CgroupSkb] {
            findings
                .backends
                .insert(backend, Outcome::Absent("no cgroups".into()));
        }
        let text = verdict(findings);
        assert!(text.contains("6 limits; not available: "), "{text}");
        let mut findings = hardened();
        findings
            .backends
            .insert(Backend::Tracepoint, Outcome::Absent("none".into()));
        assert_eq!(
            verdict(findings),
            "Flow does not work here: nothing can count the bytes of processes"
        );
    }

    #[test]
    fn json_says_the_same() {
        let json = doctor_json(&decide(hardened(), None)).unwrap();
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        let app = &json["capabilities"][0];
        assert_eq!(app["name"], Capability::AppBytes.name());
        assert_eq!(app["chosen"], "tracepoint");
        assert_eq!(app["candidates"][0]["status"], "refused");
        assert_eq!(app["candidates"][0]["errno"], 1);
        assert_eq!(json["environment"]["capabilities"][0], "CAP_BPF");
    }
}
