//! Why a connection is no faster: one sentence from what TCP says of it.

use std::time::Duration;

use super::human;
use crate::{
    event::TcpInfo,
    model::snapshot::{Flow, Limits},
};

/// The part of the time from which on a limit is the verdict.
const MOSTLY: f64 = 0.5;
/// The part of the time that it has something to send, below which its process is the limit.
const SELDOM: f64 = 0.1;
/// Segments sent again, of all it sends, that are worth a word.
const MANY: f64 = 0.01;
/// Bytes that wait to be received are many if they are what comes in a second; or in a tenth of it, if
/// they fill a large buffer.
const SOME_BYTES: f64 = 1_024.0;
const MANY_BYTES: f64 = 65_536.0;
/// How much less it sends than it receives if what limits it is known at the other end.
const LITTLE: u64 = 10;

/// What limits a connection, where TCP was asked for some seconds.
pub fn verdict(flow: &Flow) -> Option<String> {
    let path = flow.path.as_deref().filter(|_| flow.closed.is_none())?;
    let waits = f64::from(path.waits);
    if waits >= flow.rate.rx.max(SOME_BYTES) || waits >= (flow.rate.rx / 10.0).max(MANY_BYTES) {
        return Some(format!(
            "the process reads slowly: {} wait to be received",
            human::bytes(path.waits.into())
        ));
    }
    let limits = path.limits?;
    if flow.app.tx_bytes.0.saturating_mul(LITTLE) < flow.app.rx_bytes.0 {
        return Some("mostly receives: what limits it is known at the other end".to_owned());
    }
    let part = |time: Duration| time.as_secs_f64() / limits.of.as_secs_f64();
    let Limits {
        busy,
        receiver,
        buffer,
        ..
    } = limits;
    let percent = |time| human::percent(part(time).min(1.0)) + " of the time";
    let network = busy.saturating_sub(receiver).saturating_sub(buffer);
    let lossy = flow.retransmit_ratio().filter(|ratio| *ratio >= MANY);
    let TcpInfo {
        unacknowledged,
        lost,
        congestion_window,
        ..
    } = path.info;
    // With a window that is not used, what takes time are answers, of which each needs a round trip.
    let uses_window = unacknowledged.saturating_mul(2) >= congestion_window || lost > 0;
    Some(if part(receiver) >= MOSTLY {
        format!("limited by the receiver's window, {}", percent(receiver))
    } else if part(buffer) >= MOSTLY {
        format!("limited by the send buffer, {}", percent(buffer))
    } else if part(network) >= MOSTLY && (uses_window || lossy.is_some()) {
        let again = lossy.map_or_else(String::new, |ratio| {
            let percent = human::percent(ratio);
            format!("; {percent} of all its packets were sent again")
        });
        format!("limited by the network, {}{again}", percent(network))
    } else if part(network) >= MOSTLY {
        format!("waits for acknowledgements, {}", percent(network))
    } else if part(busy) < SELDOM {
        "not limited by TCP: there is seldom anything to send".to_owned()
    } else {
        format!(
            "mostly limited by the process: something to send {}",
            percent(busy)
        )
    })
}

/// A verdict in at most so many characters: one that is too long loses its last parts, never part of
/// a word. What is left says the most, and may be longer than that.
pub fn shortened(verdict: &str, room: usize) -> &str {
    let mut text = verdict;
    if text.chars().count() > room {
        text = text.strip_suffix(" of the time").unwrap_or(text);
    }
    while text.chars().count() > room
        && let Some(end) = text.rfind([',', ';', ':'])
    {
        text = &text[..end];
    }
    text
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        event::{Bytes, Instant, TcpFacts, WireTotals},
        model::snapshot::Path,
        query::fixture,
    };

    /// Seconds of ten.
    fn limited(busy: u64, receiver: u64, buffer: u64, waits: u32) -> Flow {
        let process = fixture::process(1, "/bin/a", &[]);
        let mut flow = fixture::flow(1, &process, "10.0.0.2:1", Some("10.0.0.3:443"));
        flow.app = fixture::totals(1_000, 1_000);
        flow.path = Some(Arc::new(Path {
            info: TcpInfo {
                unacknowledged: 8,
                congestion_window: 10,
                ..TcpInfo::default()
            },
            time: Instant(0),
            waits,
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
            "limited by the receiver's window, 80% of the time"
        );
        assert_eq!(
            says(&limited(9, 0, 7, 0)),
            "limited by the send buffer, 70% of the time"
        );
        assert_eq!(
            says(&limited(10, 1, 0, 0)),
            "limited by the network, 90% of the time"
        );
        assert_eq!(
            says(&limited(3, 0, 0, 0)),
            "mostly limited by the process: something to send 30% of the time"
        );
        assert_eq!(
            says(&limited(0, 0, 0, 0)),
            "not limited by TCP: there is seldom anything to send"
        );
        assert_eq!(
            says(&limited(0, 0, 0, 90_000)),
            "the process reads slowly: 90 kB wait to be received"
        );
        let mut lossy = limited(10, 0, 0, 0);
        lossy.tcp = Some(TcpFacts {
            retransmits: 5,
            ..TcpFacts::default()
        });
        assert_eq!(
            says(&lossy),
            "limited by the network, 100% of the time; 2.5% of all its packets were sent again"
        );
        let mut chatty = limited(8, 0, 0, 0);
        let path = Arc::make_mut(chatty.path.as_mut().unwrap());
        path.info.unacknowledged = 1;
        assert_eq!(says(&chatty), "waits for acknowledgements, 80% of the time");
        lossy.path = None;
        assert_eq!(verdict(&lossy), None);
    }

    #[test]
    fn a_long_verdict_loses_its_last_parts_as_a_whole() {
        let verdict = "limited by the receiver's window, 83% of the time";
        assert_eq!(shortened(verdict, 60), verdict);
        assert_eq!(
            shortened(verdict, 42),
            "limited by the receiver's window, 83%"
        );
        assert_eq!(shortened(verdict, 32), "limited by the receiver's window");
        assert_eq!(shortened(verdict, 3), "limited by the receiver's window");
        let lossy =
            "limited by the network, 83% of the time; 4.2% of all its packets were sent again";
        assert_eq!(
            shortened(lossy, 42),
            "limited by the network, 83% of the time"
        );
        let process = "mostly limited by the process: something to send 30% of the time";
        assert_eq!(shortened(process, 42), "mostly limited by the process");
    }
}
