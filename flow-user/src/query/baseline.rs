//! The totals of a moment, which are subtracted so that a table counts from there on.

use std::{collections::HashMap, sync::Arc};

use super::entry::Ledger;
use crate::{
    event::{AppTotals, Bytes, Instant, ProcessId, WireTotals},
    model::snapshot::{Flow, FlowKey, Interface, LedgerSide, Process, Snapshot},
};

/// The totals of a moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Baseline {
    pub time: Instant,
    total: AppTotals,
    /// All, and the part of unknown flow.
    processes: HashMap<ProcessId, (AppTotals, AppTotals)>,
    programs: HashMap<Arc<str>, AppTotals>,
    flows: HashMap<FlowKey, (AppTotals, WireTotals)>,
    interfaces: HashMap<u32, (LedgerSide, LedgerSide)>,
}

impl Baseline {
    /// The totals of this snapshot.
    pub fn of(snapshot: &Snapshot) -> Self {
        let processes = snapshot.processes.iter();
        let flows = snapshot.flows.iter();
        let interfaces = snapshot.interfaces.iter();
        Self {
            time: snapshot.time,
            total: snapshot.totals.app,
            processes: processes
                .map(|it| (it.id, (it.totals, it.overflow)))
                .collect(),
            programs: program_totals(snapshot),
            flows: flows
                .map(|it| (it.key, (it.app, it.wire.unwrap_or_default())))
                .collect(),
            interfaces: interfaces
                .map(|it| (it.ifindex, (it.ingress_ledger, it.egress_ledger)))
                .collect(),
        }
    }

    /// App bytes of everything since then.
    pub fn total(&self, snapshot: &Snapshot) -> AppTotals {
        app_since(snapshot.totals.app, self.total)
    }

    pub(super) fn process(&self, process: &Process) -> AppTotals {
        let earlier = self.processes.get(&process.id);
        app_since(process.totals, earlier.map(|it| it.0).unwrap_or_default())
    }

    /// What a program had moved until then.
    pub(super) fn program(&self, name: &str) -> AppTotals {
        self.programs.get(name).copied().unwrap_or_default()
    }

    pub(super) fn overflow(&self, process: &Process) -> AppTotals {
        let earlier = self.processes.get(&process.id);
        app_since(process.overflow, earlier.map(|it| it.1).unwrap_or_default())
    }

    pub(super) fn flow(&self, flow: &Flow) -> (AppTotals, Option<WireTotals>) {
        let (app, wire) = self.flows.get(&flow.key).copied().unwrap_or_default();
        let wire = flow.wire.map(|now| wire_since(now, wire));
        (app_since(flow.app, app), wire)
    }

    pub(super) fn interface(&self, interface: &Interface) -> Ledger {
        let earlier = self.interfaces.get(&interface.ifindex);
        let (ingress, egress) = earlier.copied().unwrap_or_default();
        Ledger {
            ingress: interface.ingress_ledger.combine(&ingress, Bytes::since),
            egress: interface.egress_ledger.combine(&egress, Bytes::since),
        }
    }
}

/// What programs moved so far, those with listed processes and others.
fn program_totals(snapshot: &Snapshot) -> HashMap<Arc<str>, AppTotals> {
    let past = snapshot.programs.named.iter();
    let mut totals: HashMap<Arc<str>, AppTotals> = past
        .map(|(name, past)| (Arc::clone(name), past.totals))
        .collect();
    for process in &snapshot.processes {
        match totals.get_mut(process.name()) {
            Some(sum) => *sum += process.own(),
            None => {
                totals.insert(process.name().into(), process.own());
            }
        }
    }
    totals
}

/// The difference, or zero where `earlier` is larger.
pub(super) fn app_since(now: AppTotals, earlier: AppTotals) -> AppTotals {
    AppTotals {
        tx_bytes: now.tx_bytes.since(earlier.tx_bytes),
        rx_bytes: now.rx_bytes.since(earlier.rx_bytes),
        tx_calls: now.tx_calls.saturating_sub(earlier.tx_calls),
        rx_calls: now.rx_calls.saturating_sub(earlier.rx_calls),
    }
}

fn wire_since(now: WireTotals, earlier: WireTotals) -> WireTotals {
    WireTotals {
        tx_bytes: now.tx_bytes.since(earlier.tx_bytes),
        rx_bytes: now.rx_bytes.since(earlier.rx_bytes),
        tx_packets: now.tx_packets.saturating_sub(earlier.tx_packets),
        rx_packets: now.rx_packets.saturating_sub(earlier.rx_packets),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::query::{
        fixture,
        group::{entries, total},
        view::{By, View},
    };

    fn busy(bytes: u64) -> Snapshot {
        let mut process = Process::clone(&fixture::process(1, "/bin/a", &[]));
        process.totals = fixture::totals(bytes, 2 * bytes);
        let process = Arc::new(process);
        let mut flow = fixture::flow(1, &process, "10.0.0.2:1", Some("10.0.0.3:2"));
        flow.app = process.totals;
        let interface = fixture::interface("eth0", 10 * bytes, 9 * bytes);
        fixture::snapshot(vec![process], vec![flow], vec![interface])
    }

    #[test]
    fn rows_count_from_there_on_and_still_add_up() {
        let view = |by| View {
            by,
            since: Some(Arc::new(Baseline::of(&busy(100)))),
            ..View::default()
        };
        let now = busy(150);
        for by in [By::Process, By::Flow, By::Remote, By::User] {
            let rows = entries(&now, &view(by));
            assert_eq!(rows.len(), 1, "{by}");
            assert_eq!(
                total(&now, &view(by), &rows).app.tx_bytes,
                Bytes(50),
                "{by}"
            );
        }
        let ledger = entries(&now, &view(By::Interface))[0].ledger();
        assert_eq!(ledger.ingress.socket, Bytes(450));
        assert_eq!(ledger.ingress.unexplained, 0);
    }

    #[test]
    fn what_a_ledger_lacks_is_unexplained() {
        let side = |frames, socket, kernel| LedgerSide {
            frames: Bytes(frames),
            socket: Bytes(socket),
            kernel: Bytes(kernel),
            ..LedgerSide::default()
        };
        let since = side(20, 20, 0).combine(&side(10, 5, 5), Bytes::since);
        assert_eq!((since.socket, since.unexplained), (Bytes(15), -5));
    }
}
