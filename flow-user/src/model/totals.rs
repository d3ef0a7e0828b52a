//! Merges cumulative totals of several reports: the maximum is true, whatever the order.

use crate::event::{AppTotals, Bytes, WireTotals};

/// Raises `known` to `reported`, field by field, and returns by how much it grew.
pub(crate) fn raise_app(known: &mut AppTotals, reported: &AppTotals) -> AppTotals {
    let AppTotals {
        tx_bytes,
        rx_bytes,
        tx_calls,
        rx_calls,
    } = *reported;
    let growth = AppTotals {
        tx_bytes: tx_bytes.since(known.tx_bytes),
        rx_bytes: rx_bytes.since(known.rx_bytes),
        tx_calls: tx_calls.saturating_sub(known.tx_calls),
        rx_calls: rx_calls.saturating_sub(known.rx_calls),
    };
    *known += growth;
    growth
}

/// As [`raise_app`], for wire totals; returns whether they grew.
pub(super) fn raise_wire(known: &mut WireTotals, reported: &WireTotals) -> bool {
    let WireTotals {
        tx_bytes,
        rx_bytes,
        tx_packets,
        rx_packets,
    } = *reported;
    let before = *known;
    known.tx_bytes = Bytes(known.tx_bytes.0.max(tx_bytes.0));
    known.rx_bytes = Bytes(known.rx_bytes.0.max(rx_bytes.0));
    known.tx_packets = known.tx_packets.max(tx_packets);
    known.rx_packets = known.rx_packets.max(rx_packets);
    *known != before
}

/// Whether anything moved: a call that moved no byte (an empty datagram) counts too.
pub(super) fn moved(totals: &AppTotals) -> bool {
    *totals != AppTotals::default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app(tx: u64, rx: u64) -> AppTotals {
        AppTotals {
            tx_bytes: Bytes(tx),
            rx_bytes: Bytes(rx),
            ..AppTotals::default()
        }
    }

    #[test]
    fn an_older_report_changes_nothing() {
        let mut known = app(10, 20);
        assert_eq!(raise_app(&mut known, &app(7, 20)), app(0, 0));
        assert_eq!(known, app(10, 20));
    }

    #[test]
    fn each_field_grows_by_itself() {
        let mut known = app(10, 20);
        assert_eq!(raise_app(&mut known, &app(7, 25)), app(0, 5));
        assert_eq!(known, app(10, 25));
    }
}
