//! Why a connection is no faster: one sentence from what TCP says of it.

use std::time::Duration;

use super::human;
use crate::model::snapshot::{Flow, Limits};

/// The part of the time from which on a limit is the verdict.
const MOSTLY: f64 = 0.5;
/// The part of the time that it has something to send, below which its process is the limit.
const SELDOM: f64 = 0.1;
/// Segments sent again, of all it sends, that are worth a word.
const MANY: f64 = 0.01;

/// What limits a connection, where TCP was asked for long enough: over the last 10 to 20 seconds.
pub fn verdict(flow: &Flow) -> Option<String> {
    let path = flow.path.as_deref().filter(|_| flow.closed.is_none())?;
    let waits = path.info.receive_queue;
    if waits >= path.info.mss.max(1) * 4 {
        return Some(format!(
            "the process reads slowly: {} wait to be received",
            human::bytes(waits.into())
        ));
    }
    let limits = path.limits?;
    let part = |time: Duration| time.as_secs_f64() / limits.of.as_secs_f64();
    let Limits {
        busy,
        receiver,
        buffer,
        ..
    } = limits;
    let percent = |time| format!("{:.0} % of the time", 100.0 * part(time).min(1.0));
    let network = busy.saturating_sub(receiver).saturating_sub(buffer);
    Some(if part(receiver) >= MOSTLY {
        format!("limited by the receiver's window, {}", percent(receiver))
    } else if part(buffer) >= MOSTLY {
        format!("limited by the send buffer, {}", percent(buffer))
    } else if part(network) >= MOSTLY {
        let lossy = flow.retransmit_ratio().filter(|ratio| *ratio >= MANY);
        let again = lossy.map_or_else(String::new, |ratio| {
            format!("; {:.1} % of its packets were sent again", 100.0 * ratio)
        });
        format!("limited by the network, {}{again}", percent(network))
    } else if part(busy) < SELDOM {
        "not limited by TCP: there is seldom anything to send".to_owned()
    } else {
        format!(
            "mostly limited by the process: something to send {}",
            percent(busy)
        )
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        event::{Bytes, TcpFacts, TcpInfo, WireTotals},
        model::snapshot::Path,
        query::fixture,
    };

    /// Seconds of ten.
    fn limited(busy: u64, receiver: u64, buffer: u64, waits: u32) -> Flow {
        let process = fixture::process(1, "/bin/a", &[]);
        let mut flow = fixture::flow(1, &process, "10.0.0.2:1", Some("10.0.0.3:443"));
        flow.path = Some(Arc::new(Path {
            info: TcpInfo {
                mss: 1_000,
                receive_queue: waits,
                ..TcpInfo::default()
            },
            limits: Some(Limits {
                of: Duration::from_secs(10),
                busy: Duration::from_secs(busy),
                receiver: Duration::from_secs(receiver),
                buffer: Duration::from_secs(buffer),
            }),
        }));
        flow.wire = Some(WireTotals {
            tx_bytes: Bytes(1),
            tx_packets: 200,
            ..WireTotals::default()
        });
        flow
    }

    #[test]
    fn each_limit_has_its_sentence() {
        let says = |flow: &Flow| verdict(flow).unwrap();
        assert_eq!(
            says(&limited(9, 8, 0, 0)),
            "limited by the receiver's window, 80 % of the time"
        );
        assert_eq!(
            says(&limited(9, 0, 7, 0)),
            "limited by the send buffer, 70 % of the time"
        );
        assert_eq!(
            says(&limited(10, 1, 0, 0)),
            "limited by the network, 90 % of the time"
        );
        assert_eq!(
            says(&limited(3, 0, 0, 0)),
            "mostly limited by the process: something to send 30 % of the time"
        );
        assert_eq!(
            says(&limited(0, 0, 0, 0)),
            "not limited by TCP: there is seldom anything to send"
        );
        assert_eq!(
            says(&limited(0, 0, 0, 50_000)),
            "the process reads slowly: 50 kB wait to be received"
        );
        let mut lossy = limited(10, 0, 0, 0);
        lossy.tcp = Some(TcpFacts {
            retransmits: 5,
            ..TcpFacts::default()
        });
        assert_eq!(
            says(&lossy),
            "limited by the network, 100 % of the time; 2.5 % of its packets were sent again"
        );
        lossy.path = None;
        assert_eq!(verdict(&lossy), None);
    }
}
