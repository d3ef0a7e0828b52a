//! An interface's ledger in words: the causes of its frame bytes.

use super::{escape, human};
use crate::{
    event::Bytes,
    model::snapshot::{Interface, LedgerSide},
};

/// Both directions of `interface` together, such as
/// `eth0 1.5 TB: 99.2% attributed, forwarded 0.7%, unexplained 0`.
pub(super) fn sentence(interface: &Interface) -> String {
    let sides = [&interface.ingress_ledger, &interface.egress_ledger];
    let sum = |of: fn(&LedgerSide) -> Bytes| sides.into_iter().map(of).sum::<Bytes>().0;
    let frames = sum(|side| side.frames);
    let name = escape(&interface.name);
    let total = human::bytes(frames);
    if !interface.classified {
        return format!("{name} {total}: not classified");
    }
    let mut text = format!(
        "{name} {total}: {} attributed",
        human::share(sum(|side| side.socket), frames)
    );
    let causes = [
        ("forwarded", sum(|side| side.forwarded)),
        ("kernel", sum(|side| side.kernel)),
        ("packet sockets", sum(|side| side.packet_socket)),
        ("not IP", sum(|side| side.not_ip)),
        ("offload", sum(|side| side.offload)),
    ];
    for (cause, bytes) in causes {
        if bytes > 0 {
            text.push_str(&format!(", {cause} {}", human::share(bytes, frames)));
        }
    }
    text.push_str(", unexplained ");
    text.push_str(&human::signed_bytes(unexplained(interface)));
    text
}

/// Unexplained bytes, both directions together.
pub(super) fn unexplained(interface: &Interface) -> i64 {
    let (ingress, egress) = (&interface.ingress_ledger, &interface.egress_ledger);
    ingress.unexplained.saturating_add(egress.unexplained)
}

/// Frame bytes, both directions together.
pub(super) fn frames(interface: &Interface) -> u64 {
    (interface.ingress_ledger.frames + interface.egress_ledger.frames).0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::fixture;

    #[test]
    fn every_cause_that_has_bytes_is_named() {
        assert_eq!(
            sentence(&fixture::interface("eth0", 1000, 992)),
            format!(
                "eth0 2.0 kB: {} attributed, forwarded {}, unexplained 0",
                human::share(1984, 2000),
                human::share(16, 2000)
            )
        );
        let mut interface = Interface::clone(&fixture::interface("e\x1bth0", 1000, 1000));
        assert!(sentence(&interface).contains("e\\x1bth0 2.0 kB: 100"));
        interface.classified = false;
        assert!(sentence(&interface).ends_with("not classified"));
    }
}
