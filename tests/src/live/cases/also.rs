//! Further checks of a case, besides the bytes and names of its processes.

use std::collections::HashSet;

use flow_user::source::kernel::backends::Backend::SockDiag;

use crate::{
    live::{
        Backend,
        difference::{Difference, difference},
        expected::sees,
        peer::LINK_PREFIX,
        stream::{Flow, Stream, Wire, wires},
    },
    truth::{Blind, Moved, Truth},
};

/// Bytes of the headers of a datagram.
const IPV4_UDP_HEADERS: u64 = 28;
const IPV6_UDP_HEADERS: u64 = 48;

pub fn nothing_else(_: &Stream, _: &[Truth], _: Backend) -> Vec<Difference> {
    Vec::new()
}

/// The near end opened the connection, the far end (`serve`) did not.
pub fn directions(stream: &Stream, truths: &[Truth], _: Backend) -> Vec<Difference> {
    let mut differences = Vec::new();
    for truth in truths {
        let expected = if truth.mode == "serve" {
            "inbound"
        } else {
            "outbound"
        };
        for flow in flows(stream, truth.pid) {
            if flow.app.tx_bytes + flow.app.rx_bytes == 0 {
                continue;
            }
            let seen = flow.direction.as_deref().unwrap_or("none");
            if seen != expected {
                differences.push(difference(&truth.mode, "direction", expected, seen));
            }
            if flow.existed {
                differences.push(difference(&truth.mode, "existed", false, true));
            }
        }
    }
    differences
}

/// Datagrams that fit a packet each: the near end's wire bytes follow from its calls.
pub fn datagrams(stream: &Stream, truths: &[Truth], _: Backend) -> Vec<Difference> {
    let mut differences = Vec::new();
    for truth in truths.iter().filter(|truth| truth.mode != "serve") {
        let headers = if truth.argv.iter().any(|argument| argument.contains('[')) {
            IPV6_UDP_HEADERS
        } else {
            IPV4_UDP_HEADERS
        };
        let expected = Wire {
            tx_bytes: truth.moved.tx_bytes + headers * truth.moved.tx_calls,
            rx_bytes: truth.moved.rx_bytes + headers * truth.moved.rx_calls,
            tx_packets: truth.moved.tx_calls,
            rx_packets: truth.moved.rx_calls,
        };
        for wire in wires(flows(stream, truth.pid)).into_values() {
            if wire != expected {
                let (expected, seen) = (format!("{expected:?}"), format!("{wire:?}"));
                differences.push(difference(&truth.mode, "wire", expected, seen));
            }
        }
    }
    differences
}

pub fn reset(stream: &Stream, truths: &[Truth], _: Backend) -> Vec<Difference> {
    let near = truths.iter().find(|truth| truth.mode != "serve");
    closed_for("reset", 1, stream, near)
}

pub fn refused(stream: &Stream, truths: &[Truth], _: Backend) -> Vec<Difference> {
    closed_for("refused", 1, stream, truths.first())
}

/// The local address of a failed connection was known from the beginning.
pub fn locals_known(stream: &Stream, truths: &[Truth], _: Backend) -> Vec<Difference> {
    let mut differences = Vec::new();
    for truth in truths {
        let flows = flows(stream, truth.pid);
        for [local, remote] in &truth.attempts {
            let (local, remote) = (Some(local.to_string()), Some(remote.to_string()));
            let is_it = |flow: &&&Flow| {
                flow.local == local && flow.opened_from == local && flow.remote == remote
            };
            if flows.iter().filter(is_it).count() != 1 {
                let seen: Vec<_> = flows.iter().map(|flow| show(flow)).collect();
                let expected = format!("one {local:?} {remote:?}");
                differences.push(difference("attempt", "flows", expected, seen.join(", ")));
            }
        }
    }
    if truths.iter().all(|truth| truth.attempts.is_empty()) {
        differences.push(difference("attempts", "connections", "some", "none"));
    }
    differences
}

/// Each connection ended in the stream, at both ends.
pub fn all_closed(stream: &Stream, truths: &[Truth], _: Backend) -> Vec<Difference> {
    let own: Vec<_> = truths
        .iter()
        .flat_map(|truth| flows(stream, truth.pid))
        .collect();
    let pairs: HashSet<_> = own.iter().map(|flow| (&flow.local, &flow.remote)).collect();
    let open: Vec<_> = stream
        .flows
        .values()
        .filter(|flow| {
            pairs.contains(&(&flow.local, &flow.remote))
                || pairs.contains(&(&flow.remote, &flow.local))
        })
        .filter(|flow| flow.opened && !flow.closed)
        .map(show)
        .collect();
    let mut differences = Vec::new();
    if own.is_empty() {
        differences.push(difference("flows", "of its processes", "some", "none"));
    }
    if !open.is_empty() {
        let some = open.iter().take(3).cloned().collect::<Vec<_>>().join(", ");
        let seen = format!("{} still open: {some}", open.len());
        differences.push(difference("flows", "at the end", "all closed", seen));
    }
    differences
}

/// Both ends of an MPTCP connection, of which one was accepted.
pub fn mptcp_directions(stream: &Stream, truths: &[Truth], backend: Backend) -> Vec<Difference> {
    let mut differences = all_closed(stream, truths, backend);
    let mut seen: Vec<_> = truths
        .iter()
        .flat_map(|truth| flows(stream, truth.pid))
        .filter(|flow| flow.protocol.as_deref() == Some("mptcp") && flow.app != Moved::default())
        .map(|flow| flow.direction.as_deref())
        .collect();
    seen.sort_unstable();
    let accepted = sees(backend, Blind::MptcpDirection).then_some("inbound");
    if seen != [accepted, Some("outbound")] {
        let expected = format!("outbound and {accepted:?}");
        differences.push(difference(
            "mptcp",
            "directions",
            expected,
            format!("{seen:?}"),
        ));
    }
    differences
}

/// The far end of the client's connection belongs to the process that accepted it; before, it may
/// briefly have been the listener's owner's.
pub fn acceptor_named(stream: &Stream, truths: &[Truth], backend: Backend) -> Vec<Difference> {
    let pid = |mode: &str| {
        let truth = truths.iter().find(|truth| truth.mode == mode);
        truth.map(|truth| truth.pid)
    };
    // Until the connection is used, a backend that does not see who accepts assigns it to the
    // listener's owner.
    let listener = pid("accepted-idle");
    let owner = if sees(backend, Blind::Acceptors) {
        pid("acceptor")
    } else {
        listener
    };
    let clients = pid("client").map(|pid| flows(stream, pid));
    let Some(client) = clients.and_then(|flows| flows.into_iter().next()) else {
        return vec![difference("client", "flows", "one", "none")];
    };
    let mut rows: Vec<_> = stream
        .flows
        .iter()
        .filter(|(_, flow)| flow.local == client.remote && flow.remote == client.local)
        .map(|((_, process), flow)| (process.as_ref().map(|(pid, _)| *pid), flow))
        .collect();
    rows.sort_by_key(|(_, flow)| flow.opened_at);
    let owners: Vec<_> = rows.iter().map(|(owner, _)| *owner).collect();
    let is_over = |flow: &Flow| flow.closed && flow.app == Moved::default();
    if let Some(((last, _), before)) = rows.split_last()
        && *last == owner
        && before
            .iter()
            .all(|(owner, flow)| *owner == listener && is_over(flow))
    {
        return Vec::new();
    }
    let (expected, seen) = (format!("{owner:?}"), format!("{owners:?}"));
    vec![difference("accepted", "owner", expected, seen)]
}

/// All bytes were moved over the loopback interface of the host's network namespace.
pub fn on_loopback(stream: &Stream, truths: &[Truth], _: Backend) -> Vec<Difference> {
    let flows = truths.iter().flat_map(|truth| flows(stream, truth.pid));
    let flows = flows.filter(|flow| flow.app.tx_bytes + flow.app.rx_bytes > 0);
    let others = flows.filter(|flow| flow.interface.as_deref() != Some("lo"));
    let difference = |flow: &Flow| {
        let subject = format!("{:?} to {:?}", flow.local, flow.remote);
        let seen = flow.interface.as_deref().unwrap_or("none");
        difference(subject, "interface", "lo", seen)
    };
    others.map(difference).collect()
}

/// Idle sockets older than Flow are reported, unless the listing of sockets is documented to lack
/// them.
pub fn idle(stream: &Stream, truths: &[Truth], _: Backend) -> Vec<Difference> {
    let mut differences = Vec::new();
    for (truth, socket) in truths
        .iter()
        .flat_map(|it| it.idle.iter().map(move |s| (it, s)))
    {
        let local = socket.local.to_string();
        let is_it = |flow: &&Flow| {
            flow.protocol.as_ref() == Some(&socket.protocol) && flow.local.as_ref() == Some(&local)
        };
        let its_flows = || flows(stream, truth.pid).into_iter().filter(is_it);
        if !its_flows().all(|flow| flow.existed) {
            differences.push(difference(
                &truth.mode,
                format!("existed, {local}"),
                true,
                false,
            ));
        }
        let seen = its_flows().count();
        let blind = socket.blind.filter(|blind| !SockDiag.sees(*blind));
        let expected = usize::from(blind.is_none());
        if seen != expected {
            let subject = format!("{} pid {}", truth.mode, truth.pid);
            let what = format!("flows of the {} socket {local}", socket.protocol);
            differences.push(difference(subject, what, expected, seen));
        }
    }
    if truths.iter().all(|truth| truth.idle.is_empty()) {
        differences.push(difference("idle", "sockets", "some", "none"));
    }
    differences
}

/// Flow counts so many remotes separately, and all others together.
pub fn further_remotes(stream: &Stream, truths: &[Truth], _: Backend) -> Vec<Difference> {
    const COUNTED: usize = 1024;
    let mut named = 0;
    let mut together = 0;
    for flow in truths.iter().flat_map(|truth| flows(stream, truth.pid)) {
        if flow.app.tx_bytes == 0 {
            continue;
        }
        match flow.remote {
            Some(_) => named += 1,
            None => together += 1,
        }
    }
    let mut differences = Vec::new();
    if named != COUNTED {
        differences.push(difference("remotes", "counted one by one", COUNTED, named));
    }
    if together != 1 {
        differences.push(difference("remotes", "flows of further ones", 1, together));
    }
    differences
}

/// Bytes sent through packet sockets, and no others, are under that cause.
pub fn packet_sockets(stream: &Stream, truths: &[Truth], _: Backend) -> Vec<Difference> {
    let sent: u64 = truths
        .iter()
        .filter(|truth| truth.mode != "serve")
        .map(|truth| truth.moved.tx_bytes)
        .sum();
    let links = stream.interfaces.iter();
    let seen: i128 = links
        .filter(|(name, _)| name.starts_with(LINK_PREFIX))
        .map(|(_, ledger)| ledger.egress.packet_socket)
        .sum();
    if seen == i128::from(sent) {
        return Vec::new();
    }
    vec![difference("ledger", "packet_socket", sent, seen)]
}

/// At least so many flows of the process were closed for this reason.
fn closed_for(
    reason: &str,
    least: usize,
    stream: &Stream,
    truth: Option<&Truth>,
) -> Vec<Difference> {
    let flows = truth
        .map(|truth| flows(stream, truth.pid))
        .unwrap_or_default();
    let reasons: Vec<_> = flows
        .iter()
        .filter_map(|flow| flow.reason.as_deref())
        .collect();
    if reasons.iter().filter(|seen| **seen == reason).count() >= least {
        return Vec::new();
    }
    vec![difference(
        "flow.close",
        "reason",
        reason,
        reasons.join(", "),
    )]
}

fn flows(stream: &Stream, pid: u32) -> Vec<&Flow> {
    let of_process =
        |process: &Option<(u32, String)>| process.as_ref().is_some_and(|(id, _)| *id == pid);
    stream
        .flows
        .iter()
        .filter(|((_, process), _)| of_process(process))
        .map(|(_, flow)| flow)
        .collect()
}

fn show(flow: &Flow) -> String {
    let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "?".to_owned());
    format!(
        "{} {} {}",
        text(&flow.protocol),
        text(&flow.local),
        text(&flow.remote)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A client's connection and its other end, which belongs to process `acceptor`.
    fn stream(acceptor: &str, second_kind: &str) -> Stream {
        let record = |seq: u32, kind: &str, id: &str, local: u16, remote: u16, process: &str| {
            format!(
                r#"{{"v":1,"seq":{seq},"time":"t","type":"{kind}","flow":{{"id":"{id}","local":{{"ip":"127.0.0.1","port":{local}}},"remote":{{"ip":"127.0.0.1","port":{remote}}}}}{process}}}"#
            ) + "\n"
        };
        let process = |pid: &str| format!(r#","process":{{"pid":{pid},"start_time":1}}"#);
        let (near, far) = (process("7"), process(acceptor));
        let text = [
            record(0, "flow.open", "a", 1000, 80, &near),
            record(1, "flow.open", "b", 80, 1000, &far),
            record(2, "flow.close", "a", 1000, 80, &near),
            record(3, second_kind, "b", 80, 1000, &far),
        ];
        Stream::parse(text.concat().as_bytes())
    }

    fn truths() -> Vec<Truth> {
        [(7, "client"), (8, "acceptor"), (9, "accepted-idle")]
            .map(|(pid, mode)| Truth {
                pid,
                mode: mode.to_owned(),
                ..Truth::default()
            })
            .into()
    }

    #[test]
    fn a_flow_that_stays_open_is_found_at_either_end() {
        let client = &truths()[..1];
        let closed = stream("8", "flow.close");
        assert_eq!(all_closed(&closed, client, Backend::Fexit), []);
        let open = stream("8", "flow.update");
        assert_eq!(all_closed(&open, client, Backend::Fexit).len(), 1);
        assert_eq!(
            all_closed(&Stream::default(), client, Backend::Fexit).len(),
            1
        );
    }

    #[test]
    fn only_the_acceptor_will_do_where_it_is_seen() {
        let check = |acceptor: &str, backend| {
            acceptor_named(&stream(acceptor, "flow.close"), &truths(), backend).len()
        };
        assert_eq!(check("8", Backend::Fexit), 0);
        assert_eq!(check("9", Backend::Fexit), 1);
        assert_eq!(check("9", Backend::Tracepoint), 0);
        assert_eq!(check("8", Backend::Tracepoint), 1);
    }
}
