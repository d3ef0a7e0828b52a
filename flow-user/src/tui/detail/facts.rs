//! Facts of the subject of a detail: names and texts, not escaped yet.

mod group;
mod interface;

pub(super) use self::interface::frames;
use super::{Detail, Of, path};

pub(in crate::tui) use super::path::{Fact, SPEED, round_trip};
use crate::{
    event::{self, AppTotals, Bytes, Direction, Instant},
    model::{
        snapshot::{Flow, Process},
        sums::{Failures, SocketSums},
    },
    query::{entry::Cause, groups::Label, human, verdict::verdict},
    tui::state::State,
};

/// All facts.
pub(in crate::tui) fn of(state: &State, detail: &Detail) -> Vec<Fact> {
    match &detail.of {
        Of::Process(process) => of_process(state, detail, process),
        Of::Flow(flow) => of_flow(state, detail, flow),
        Of::Interface(it) => interface::of(state, detail, it),
        Of::Group(members) => group::of(state, detail, members),
    }
}

/// The facts above the graphs, the most important first. `has_ends` says that the endpoints of a
/// flow have their place already.
pub(in crate::tui) fn head(state: &State, detail: &Detail, has_ends: bool) -> Vec<Fact> {
    match &detail.of {
        Of::Process(process) => head_of_process(process),
        Of::Flow(flow) => head_of_flow(state, detail, flow, has_ends),
        Of::Interface(it) => interface::head(detail, it),
        Of::Group(members) => group::head(state, detail, members),
    }
}

/// The title: what it is.
pub(in crate::tui) fn title(detail: &Detail) -> String {
    match &detail.of {
        Of::Process(process) => format!("{} {}", process.id.pid, process.name()),
        Of::Flow(flow) => flow.protocol.name().to_owned(),
        Of::Interface(interface) => format!("interface {}", interface.name),
        Of::Group(members) => {
            let name = match &members.label {
                Label::User(uid, Some(name)) => format!("{name} ({uid})"),
                label => label.to_string(),
            };
            let what = match &members.label {
                Label::Network(..) => "network",
                _ => members.by.name(),
            };
            format!("{what} {name}")
        }
    }
}

fn head_of_process(process: &Process) -> Vec<Fact> {
    let exe = process.program.exe.as_deref();
    let exe = exe.map(|exe| exe.to_string_lossy().into_owned());
    let mut facts = vec![("command", command(process).unwrap_or_else(unknown))];
    facts.extend(
        failed(process.failures).map(|failed| ("failed", format!("connections: {failed}"))),
    );
    facts.extend([
        ("lineage", lineage(process)),
        ("cgroup", cgroup(process)),
        ("executable", exe.unwrap_or_else(unknown)),
    ]);
    facts
}

fn head_of_flow(state: &State, detail: &Detail, flow: &Flow, has_ends: bool) -> Vec<Fact> {
    let user = flow.process.as_ref().map(|process| user(process));
    let user = user.map_or_else(String::new, |user| format!(" · {user}"));
    let side = match flow.direction {
        Some(Direction::Outbound) => ", outbound",
        Some(Direction::Inbound) => ", inbound",
        None => "",
    };
    let mut facts = Vec::new();
    if !has_ends {
        facts.push(("endpoints", endpoints(flow)));
    }
    facts.extend(verdict(flow).map(|verdict| (SPEED, verdict)));
    facts.push(("process", format!("{}{user}", owner(flow))));
    facts.push(("opened", format!("{}{side}", opened(state, flow))));
    if !detail.states.is_empty() {
        facts.push(("states", passed(state, detail)));
    }
    facts.push(("socket", place(flow)));
    facts
}

fn cgroup(process: &Process) -> String {
    let path = process.cgroup_path.as_deref();
    path.map_or_else(unknown, str::to_owned)
}

/// Connections that failed, by reason; `None` if none did.
fn failed(failures: Failures) -> Option<String> {
    let failed = failures.occurred();
    let failed: Vec<String> = failed
        .map(|(reason, count)| format!("{count} {}", reason.name()))
        .collect();
    (!failed.is_empty()).then(|| failed.join(", "))
}

fn of_process(state: &State, detail: &Detail, process: &Process) -> Vec<Fact> {
    let mut facts = of_program(process);
    facts.push(("lineage", lineage(process)));
    facts.push(("started", moment(state, process.id.start)));
    facts.push(match process.exited {
        Some(exited) => ("exited", moment(state, exited)),
        None => ("state", life(state, detail)),
    });
    facts.extend(moved(state, detail.sums.app));
    if process.overflow != AppTotals::default() {
        let bytes = |bytes: Bytes| state.units.bytes(bytes.0);
        let (rx, tx) = (
            bytes(process.overflow.rx_bytes),
            bytes(process.overflow.tx_bytes),
        );
        let text = format!("▼ {rx} ▲ {tx}: the flow table was full");
        facts.push(("without a flow", text));
    }
    facts.push(("open flows", process.open_flows.to_string()));
    facts.extend(failed(process.failures).map(|failed| ("failed connections", failed)));
    facts.extend(on_the_wire(
        state,
        &detail.sums.sockets,
        "socket",
        "sockets",
    ));
    facts
}

fn of_program(process: &Process) -> Vec<Fact> {
    let program = &process.program;
    let exe = program.exe.as_deref();
    let mut facts = vec![
        ("command", command(process).unwrap_or_else(unknown)),
        (
            "executable",
            exe.map_or_else(unknown, |exe| exe.to_string_lossy().into_owned()),
        ),
        ("user", user(process)),
        ("cgroup", cgroup(process)),
    ];
    if let Some(comm) = program
        .comm
        .as_deref()
        .filter(|comm| *comm != process.name())
    {
        facts.push(("comm", comm.to_owned()));
    }
    facts
}

fn of_flow(state: &State, detail: &Detail, flow: &Flow) -> Vec<Fact> {
    let mut facts = vec![
        ("protocol", flow.protocol.name().to_owned()),
        (
            "local",
            flow.bound().map_or_else(unknown, |local| local.to_string()),
        ),
    ];
    if let Some(remote) = flow.remote_text() {
        facts.push(("remote", remote));
    }
    facts.push(("direction", direction(flow).to_owned()));
    facts.push(("state", life(state, detail)));
    if !detail.states.is_empty() {
        facts.push(("states", passed(state, detail)));
    }
    facts.extend(path::of(state, flow));
    facts.push(("opened", opened(state, flow)));
    if let Some((closed, reason)) = flow.closed {
        let text = format!("{}: {}", moment(state, closed), reason.name());
        facts.push(("closed", text));
    }
    facts.push(("socket", place(flow)));
    facts.push(("process", owner(flow)));
    if let Some(process) = &flow.process {
        facts.extend(of_program(process));
        facts.push(("lineage", lineage(process)));
    }
    facts.extend(moved(state, detail.sums.app));
    facts.extend(on_the_wire(
        state,
        &detail.sums.sockets,
        "socket",
        "sockets",
    ));
    facts
}

/// The text of an unknown value.
pub(in crate::tui) fn unknown() -> String {
    "unknown".to_owned()
}

/// The command line, if it is known.
pub(in crate::tui) fn command(process: &Process) -> Option<String> {
    let program = &process.program;
    let arguments = program.cmdline.as_deref().filter(|it| !it.is_empty())?;
    let mut text = arguments.join(" ");
    if program.cmdline_cut {
        text.push_str(" … (truncated)");
    }
    Some(text)
}

/// The furthest ancestor first.
pub(in crate::tui) fn lineage(process: &Process) -> String {
    let ancestors = process.lineage.iter().rev();
    let mut names: Vec<String> = ancestors
        .map(|(id, name)| format!("{name}({})", id.pid))
        .collect();
    names.push(format!("{}({})", process.name(), process.id.pid));
    names.join(" › ")
}

/// Login name and id.
pub(in crate::tui) fn user(process: &Process) -> String {
    match process.uid {
        Some(uid) => match &process.user {
            Some(name) => format!("{name} ({uid})"),
            None => format!("uid {uid}"),
        },
        None => unknown(),
    }
}

/// How long it has been running or open; else how it ended.
pub(in crate::tui) fn life(state: &State, detail: &Detail) -> String {
    let ago = |time: Instant| human::duration(state.shown.time.since(time));
    match &detail.of {
        Of::Process(process) => match process.exited {
            Some(exited) => format!("exited {} ago", ago(exited)),
            None if !detail.listed => {
                "no longer listed: no sockets and no recent traffic".to_owned()
            }
            None => format!("running for {}", ago(process.id.start)),
        },
        Of::Interface(it) => interface::life(state, it),
        Of::Group(_) if !detail.listed => "no longer listed".to_owned(),
        Of::Group(_) => group::life(detail),
        Of::Flow(flow) => match flow.closed {
            Some((closed, reason)) => format!("{} {} ago", reason.name(), ago(closed)),
            None if !detail.listed => "no longer listed".to_owned(),
            None if flow.found.is_some() => {
                format!("{}, since before Flow began", flow.state.name())
            }
            None if flow.listens() => {
                format!("listening for {}", ago(flow.opened))
            }
            None => format!("{} for {}", flow.state.name(), ago(flow.opened)),
        },
    }
}

/// The same as [`life`] in few words, where there are fewer.
pub(in crate::tui) fn short_life(detail: &Detail) -> Option<String> {
    let is_listed = detail.listed && !detail.of.is_over();
    match &detail.of {
        Of::Group(_) if is_listed => Some(group::short_life(detail)),
        Of::Flow(flow) if is_listed => Some(flow.state.name().to_owned()),
        _ => None,
    }
}

/// Both endpoints, with an arrow from the one that opened the flow.
pub(in crate::tui) fn endpoints(flow: &Flow) -> String {
    let arrow = match flow.direction {
        Some(Direction::Outbound) => "→",
        Some(Direction::Inbound) => "←",
        None => "↔",
    };
    let local = flow.bound().map(|local| local.to_string());
    let remote = flow.remote_text();
    let remote = remote.map(|remote| format!("{arrow} {remote}"));
    let parts = [Some(flow.protocol.to_string()), local, remote];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    parts.join(" ")
}

/// The process it belongs to, or why there is none.
pub(in crate::tui) fn owner(flow: &Flow) -> String {
    match &flow.process {
        Some(process) => format!("{} {}", process.id.pid, process.name()),
        None => Cause::of_unowned(flow).label().to_owned(),
    }
}

pub(in crate::tui) fn direction(flow: &Flow) -> &'static str {
    match flow.direction {
        Some(Direction::Outbound) => "outbound",
        Some(Direction::Inbound) => "inbound",
        None if flow.key.remote.is_none() => "no remote",
        None => "unknown",
    }
}

/// Interface, network namespace, socket.
pub(in crate::tui) fn place(flow: &Flow) -> String {
    let mut parts: Vec<String> = Vec::new();
    parts.extend(flow.interface.as_deref().map(str::to_owned));
    parts.extend(flow.netns.map(|netns| format!("netns {}", netns.0)));
    parts.push(format!("socket {:x}", flow.key.socket.0));
    parts.join(" · ")
}

/// The states that were seen, with the time of day of each. The end is listed once, by its reason.
pub(in crate::tui) fn passed(state: &State, detail: &Detail) -> String {
    let closed = match &detail.of {
        Of::Flow(flow) => flow.closed,
        _ => None,
    };
    let mut states = detail.states.as_slice();
    if closed.is_some()
        && let [before @ .., last] = states
        && last.state == event::State::Closed
    {
        states = before;
    }
    let states = states.iter().map(|it| (it.state.name(), it.time));
    let end = closed.map(|(time, reason)| (reason.name(), time));
    let texts = states.chain(end).map(|(name, time)| {
        let time = state.clock.time_of_day(time, &state.zone);
        format!("{name} {time}")
    });
    let mut texts: Vec<String> = texts.collect();
    if let (Of::Flow(flow), Some(first)) = (&detail.of, detail.states.first())
        && flow.found.is_some()
    {
        texts[0] = format!("{} before Flow began", first.state.name());
    }
    texts.join(" › ")
}

/// When a flow was opened, if that was seen.
pub(in crate::tui) fn opened(state: &State, flow: &Flow) -> String {
    match flow.found {
        Some(_) => "before Flow began".to_owned(),
        None => moment(state, flow.opened),
    }
}

/// A moment by the clock and as seen from now.
pub(in crate::tui) fn moment(state: &State, time: Instant) -> String {
    let clock = state.clock.time_of_day(time, &state.zone);
    let ago = human::duration(state.shown.time.since(time));
    format!("{clock}, {ago} ago")
}

fn moved(state: &State, app: AppTotals) -> [Fact; 2] {
    let text = |bytes, calls: u64| {
        let noun = if calls == 1 { "call" } else { "calls" };
        format!("{} in {calls} {noun}", state.units.bytes(bytes))
    };
    [
        ("received", text(app.rx_bytes.0, app.rx_calls)),
        ("sent", text(app.tx_bytes.0, app.tx_calls)),
    ]
}

fn on_the_wire(state: &State, sockets: &SocketSums, one: &str, many: &str) -> Vec<Fact> {
    let SocketSums {
        counted,
        wire,
        app,
        retransmits,
        retransmits_before,
    } = *sockets;
    if counted == 0 {
        return Vec::new();
    }
    let text = |bytes: u64, packets: u64, app: u64| {
        let more = human::overhead(app, bytes);
        let more = more.map_or_else(String::new, |more| format!(" ({more})"));
        let noun = if packets == 1 { "packet" } else { "packets" };
        format!("{} in {packets} {noun}{more}", state.units.bytes(bytes))
    };
    let sockets = human::count(counted as usize, one, many);
    let mut facts = vec![
        ("counted", format!("packets of {sockets}")),
        (
            "wire received",
            text(wire.rx_bytes.0, wire.rx_packets, app.rx_bytes.0),
        ),
        (
            "wire sent",
            text(wire.tx_bytes.0, wire.tx_packets, app.tx_bytes.0),
        ),
    ];
    if let Some(retransmits) = retransmits {
        let before = match retransmits_before {
            0 => String::new(),
            before => format!(", {before} more before Flow began"),
        };
        let share = human::share(retransmits, wire.tx_packets);
        let text = format!(
            "{retransmits} of {} packets ({share}){before}",
            wire.tx_packets
        );
        facts.push(("retransmitted", text));
    }
    facts
}
