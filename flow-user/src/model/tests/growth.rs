//! Whatever is reported, in whatever order: no cumulative value that the model shows ever falls.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::{
    event::{Class, ClassCount, InterfaceFact, InterfaceSide, Loss, TcpFacts},
    model::snapshot::{Interface, LedgerSide},
};

/// Values by what they are of.
#[derive(Default)]
struct Reader(BTreeMap<String, u64>);

impl Reader {
    fn value(&mut self, of: String, value: u64) -> Result<(), TestCaseError> {
        let known = self.0.entry(of.clone()).or_default();
        prop_assert!(value >= *known, "{} fell from {} to {}", of, known, value);
        *known = value;
        Ok(())
    }

    fn interface(&mut self, interface: &Interface) -> Result<(), TestCaseError> {
        let sides = [
            ("ingress", interface.ingress_ledger),
            ("egress", interface.egress_ledger),
        ];
        for (direction, side) in sides {
            let LedgerSide {
                frames,
                socket,
                forwarded,
                kernel,
                packet_socket,
                not_ip,
                offload,
                unexplained,
            } = side;
            let mut parts = 0;
            for (what, bytes) in [
                ("socket", socket),
                ("forwarded", forwarded),
                ("kernel", kernel),
                ("packet_socket", packet_socket),
                ("not_ip", not_ip),
                ("offload", offload),
                ("frames", frames),
            ] {
                let Interface { ifindex, name, .. } = interface;
                self.value(format!("{ifindex} {name} {direction} {what}"), bytes.0)?;
                parts += i128::from(bytes.0);
            }
            let frames = i128::from(frames.0);
            prop_assert_eq!(frames, parts - frames + i128::from(unexplained));
            prop_assert!(interface.rate.tx >= 0.0 && interface.rate.rx >= 0.0);
        }
        Ok(())
    }

    fn flow(&mut self, flow: &Flow) -> Result<(), TestCaseError> {
        let key = format!("{:?}", flow.key);
        self.app(&key, &flow.app)?;
        if let Some(wire) = flow.wire {
            self.value(format!("{key} wire tx"), wire.tx_bytes.0)?;
            self.value(format!("{key} wire rx"), wire.rx_bytes.0)?;
            self.value(format!("{key} wire tx packets"), wire.tx_packets)?;
            self.value(format!("{key} wire rx packets"), wire.rx_packets)?;
        }
        let retransmits = flow.tcp.map_or(0, |tcp| tcp.retransmits);
        self.value(format!("{key} retransmits"), retransmits.into())
    }

    fn app(&mut self, of: &str, app: &AppTotals) -> Result<(), TestCaseError> {
        self.value(format!("{of} tx"), app.tx_bytes.0)?;
        self.value(format!("{of} rx"), app.rx_bytes.0)?;
        self.value(format!("{of} tx calls"), app.tx_calls)?;
        self.value(format!("{of} rx calls"), app.rx_calls)
    }

    /// Reads what changed, and the snapshot.
    fn read(&mut self, model: &mut Model) -> Result<(), TestCaseError> {
        for timed in model.changes() {
            match timed.change {
                Change::FlowOpened(flow) | Change::FlowUpdated(flow) | Change::FlowClosed(flow) => {
                    self.flow(&flow)?
                }
                Change::Ledger(interface) => self.interface(&interface)?,
                Change::Lost { cause, count } => self.value(format!("{cause:?}"), count)?,
                _ => {}
            }
        }
        let snapshot = model.snapshot();
        self.app("all", &snapshot.totals.app)?;
        for (cause, count) in &snapshot.losses {
            self.value(format!("{cause:?}"), *count)?;
        }
        for process in &snapshot.processes {
            self.app(&format!("{:?}", process.id), &process.totals)?;
            self.app(&format!("{:?} overflow", process.id), &process.overflow)?;
        }
        snapshot.flows.iter().try_for_each(|flow| self.flow(flow))?;
        let mut interfaces = snapshot.interfaces.iter();
        interfaces.try_for_each(|interface| self.interface(interface))
    }
}

fn side() -> impl Strategy<Value = InterfaceSide> {
    let count = (0..9_u64, 0..9000_u64, 0..90_u64, 0..900_u64).prop_map(
        |(packets, bytes, more, header_bytes)| ClassCount {
            packets,
            bytes: Bytes(bytes),
            frames: packets + more,
            header_bytes: Bytes(header_bytes),
        },
    );
    let classes = prop::collection::vec(count, Class::COUNT);
    (0..9000_u64, 0..900_u64, classes).prop_map(|(bytes, at_attach, counts)| {
        let mut classes = [ClassCount::default(); Class::COUNT];
        classes.copy_from_slice(&counts);
        InterfaceSide {
            bytes: Bytes(bytes),
            packets: bytes / 100,
            classes,
            bytes_at_attach: Bytes(at_attach),
            ..InterfaceSide::default()
        }
    })
}

fn report() -> impl Strategy<Value = Event> {
    let interface = (
        1..3_u32,
        prop::sample::select(vec!["a", "b"]),
        prop::bool::weighted(0.8),
        side(),
        side(),
    )
        .prop_map(|(ifindex, name, classified, ingress, egress)| {
            Event::Interface(Box::new(InterfaceFact {
                ifindex,
                name: name.into(),
                up: true,
                classified,
                ingress,
                egress,
            }))
        });
    let socket = (1..4_u64, 0..99_u64, 0..99_u64, 0..9_u32).prop_map(|(cookie, tx, rx, again)| {
        Event::Socket(SocketFact {
            wire: Some(WireTotals {
                tx_bytes: Bytes(tx),
                rx_bytes: Bytes(rx),
                tx_packets: tx / 9,
                rx_packets: rx / 9,
            }),
            tcp: Some(TcpFacts {
                retransmits: again,
                ..TcpFacts::default()
            }),
            ..connection(cookie, Some(10))
        })
    });
    prop_oneof![
        8 => interface,
        1 => (1..3_u32).prop_map(|ifindex| Event::InterfaceGone { ifindex }),
        3 => socket,
        3 => (1..4_u64, 10..12_u32, 0..99_u64, 0..99_u64)
            .prop_map(|(cookie, pid, tx, rx)| app(cookie, pid, Some("10.0.0.9:443"), tx, rx)),
        1 => (0..9_u64).prop_map(|count| Event::Lost { cause: Loss::RingTraffic, count }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn nothing_cumulative_falls(
        steps in prop::collection::vec((report(), 0..3_u64, 0..2000_u64), 0..60),
        history in 1..4_u64,
    ) {
        let mut play = Play::with_history(history);
        let mut reader = Reader::default();
        for (event, seconds, late) in steps {
            let time = Instant(play.now.0 - late * 1_000_000);
            play.apply_at(time, event);
            reader.read(&mut play.model)?;
            if seconds > 0 {
                play.tick(seconds - 1);
                reader.read(&mut play.model)?;
            }
        }
        play.model.finish(play.now);
        reader.read(&mut play.model)?;
    }
}
