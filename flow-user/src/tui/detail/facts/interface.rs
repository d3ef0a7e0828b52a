//! Facts of an interface.

use super::{Fact, unknown};
use crate::{
    event::{Bytes, InterfaceSide},
    model::snapshot::{Interface, LedgerSide},
    query::human,
    tui::{
        detail::{Detail, Of},
        state::State,
    },
};

/// Addresses that are written out.
const ADDRESSES: usize = 16;

/// All facts.
pub(super) fn of(state: &State, detail: &Detail, interface: &Interface) -> Vec<Fact> {
    let both = |of: fn(&InterfaceSide) -> u64| {
        let (received, sent) = (of(&interface.ingress), of(&interface.egress));
        format!("{received} received, {sent} sent")
    };
    let whole = |side: &InterfaceSide| {
        let packets = human::short_count_of(side.packets, "packet", "packets");
        format!("{} in {packets}", state.units.bytes(side.bytes.0))
    };
    let mut facts = head(detail, interface);
    facts.extend([
        (
            "received",
            format!("{} since it was created", whole(&interface.ingress)),
        ),
        (
            "sent",
            format!("{} since it was created", whole(&interface.egress)),
        ),
        ("errors", both(|side| side.errors)),
        ("dropped", both(|side| side.dropped)),
        ("index", interface.ifindex.to_string()),
    ]);
    facts
}

/// What identifies it, and what it can carry.
pub(super) fn head(detail: &Detail, interface: &Interface) -> Vec<Fact> {
    let link = detail.link.as_ref();
    let addresses = link.map(|link| {
        let all = link.addresses.iter().take(ADDRESSES);
        let all: Vec<String> = all.map(|(ip, prefix)| format!("{ip}/{prefix}")).collect();
        match link.addresses.len().saturating_sub(ADDRESSES) {
            _ if all.is_empty() => "none".to_owned(),
            0 => all.join(" "),
            more => format!("{} and {more} more", all.join(" ")),
        }
    });
    let speed = match link.map(|link| (link.speed, link.kind.as_deref())) {
        None => unknown(),
        Some((Some(speed), _)) => bits(speed),
        Some((None, Some(kind))) => format!("none, it is virtual ({kind})"),
        Some((None, None)) => "unknown, its driver does not say".to_owned(),
    };
    let packets = detail.packets.map(|rate| {
        let each = |rate: f64| human::short_count(rate.round() as usize);
        format!("▼ {}/s ▲ {}/s", each(rate.rx), each(rate.tx))
    });
    let mut facts = vec![
        ("addresses", addresses.unwrap_or_else(unknown)),
        ("speed", speed),
        (
            "packets",
            packets.unwrap_or_else(|| "not measured yet".to_owned()),
        ),
    ];
    if let Some(link) = link {
        facts.push(("MTU", format!("{} bytes", link.mtu)));
    }
    if !interface.classified {
        facts.push((
            "frames",
            "not classified, so their causes are unknown".to_owned(),
        ));
    }
    facts.retain(|(name, _)| interface.gone.is_none() || *name != "packets");
    facts
}

/// A speed as it is written on devices, whatever the units of traffic.
fn bits(speed: u64) -> String {
    const GIGA: u64 = 1_000_000_000;
    match speed % GIGA {
        0 => format!("{} Gbit/s", speed / GIGA),
        _ => format!("{} Mbit/s", speed / 1_000_000),
    }
}

/// Whether it is up.
pub(super) fn life(state: &State, interface: &Interface) -> String {
    match (interface.gone, interface.up) {
        (Some(gone), _) => {
            let ago = human::duration(state.shown.time.since(gone));
            format!("gone {ago} ago")
        }
        (None, true) => "up".to_owned(),
        (None, false) => "down".to_owned(),
    }
}

/// Its frames by what they were.
pub(in crate::tui) fn frames(state: &State, detail: &Detail) -> Vec<Fact> {
    let Of::Interface(interface) = &detail.of else {
        return Vec::new();
    };
    let (received, sent) = (&interface.ingress_ledger, &interface.egress_ledger);
    let part = |of: fn(&LedgerSide) -> Bytes| {
        let one = |sign: &str, side: &LedgerSide| {
            let bytes = state.units.bytes(of(side).0);
            let share = human::share(of(side).0, side.frames.0);
            format!("{sign} {bytes:>8} {share:>6}")
        };
        format!("{}  {}", one("▼", received), one("▲", sent))
    };
    let mut facts = vec![
        ("sockets", part(|side| side.socket)),
        ("forwarded", part(|side| side.forwarded)),
        ("kernel", part(|side| side.kernel)),
        ("packet sockets", part(|side| side.packet_socket)),
        ("not IP", part(|side| side.not_ip)),
        ("offload", part(|side| side.offload)),
    ];
    // The counters of one that is gone ended before those of Flow.
    if interface.gone.is_none() {
        let bytes = |side: &LedgerSide| state.units.signed_bytes(side.unexplained);
        let text = format!("▼ {:>8}         ▲ {:>8}", bytes(received), bytes(sent));
        facts.push(("unexplained", text));
    }
    facts
}
