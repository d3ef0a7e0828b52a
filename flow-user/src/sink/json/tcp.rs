//! What the stream and reports say of TCP.

use std::{sync::Arc, time::Duration};

use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    event::{RoundTrip, TcpInfo},
    model::snapshot::Flow,
};

/// TCP's measurements of the path.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct TcpRecord {
    /// Smoothed round trip time in microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rtt_us: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_rtt_us: Option<u64>,
    /// Retransmitted segments since the connection began, where that was before Flow attached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_retransmits: Option<u32>,
    /// Microseconds from its first SYN until it was established.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect_us: Option<u64>,
    #[serde(flatten)]
    pub info: Option<TcpInfoRecord>,
}

/// TCP's own view of a connection (`struct tcp_info`), where `--tcp-info` asks for it.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct TcpInfoRecord {
    /// Name of the congestion control.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub congestion_control: Option<Arc<str>>,
    /// Payload bytes of a segment that it sends.
    pub mss_bytes: u32,
    pub congestion_window_segments: u32,
    /// Absent where it was never set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slow_start_threshold_segments: Option<u32>,
    /// Sent and not acknowledged.
    pub unacknowledged_segments: u32,
    /// Taken for lost, and not acknowledged yet.
    pub lost_segments: u32,
    /// Bytes that the process sent and the remote has not acknowledged.
    pub send_queue_bytes: u32,
    /// Bytes that wait for the process to receive them.
    pub receive_queue_bytes: u32,
    /// The window that the remote gives.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub send_window_bytes: Option<u32>,
    /// Bytes a second that arrived at the remote, as last measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delivery_rate: Option<u64>,
    /// Bytes a second at which it sends at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pacing_rate: Option<u64>,
    /// Microseconds in which it had something to send, since it began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub busy_us: Option<u64>,
    /// The part of `busy_us` in which the remote's window was full.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receiver_limited_us: Option<u64>,
    /// The part of `busy_us` in which the send buffer had no room.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub buffer_limited_us: Option<u64>,
}

impl From<&TcpInfo> for TcpInfoRecord {
    fn from(info: &TcpInfo) -> Self {
        let TcpInfo {
            congestion,
            mss,
            unacknowledged,
            lost,
            slow_start_threshold,
            congestion_window,
            send_queue,
            receive_queue,
            pacing_rate,
            delivery_rate,
            busy,
            receiver_limited,
            buffer_limited,
            send_window,
        } = info;
        let micros = |time: &Option<Duration>| {
            let micros = time.map(|time| time.as_micros());
            micros.map(|micros| u64::try_from(micros).unwrap_or(u64::MAX))
        };
        Self {
            congestion_control: congestion.clone(),
            mss_bytes: *mss,
            congestion_window_segments: *congestion_window,
            slow_start_threshold_segments: *slow_start_threshold,
            unacknowledged_segments: *unacknowledged,
            lost_segments: *lost,
            send_queue_bytes: *send_queue,
            receive_queue_bytes: *receive_queue,
            send_window_bytes: *send_window,
            delivery_rate: *delivery_rate,
            pacing_rate: *pacing_rate,
            busy_us: micros(busy),
            receiver_limited_us: micros(receiver_limited),
            buffer_limited_us: micros(buffer_limited),
        }
    }
}

impl TcpRecord {
    pub fn of(flow: &Flow) -> Option<Self> {
        let tcp = flow.tcp?;
        let microseconds = |time: RoundTrip| u64::from(time.micros());
        let record = Self {
            rtt_us: tcp.rtt.map(microseconds),
            min_rtt_us: tcp.min_rtt.map(microseconds),
            total_retransmits: flow.found.map(|_| tcp.retransmits),
            connect_us: flow.connect.map(microseconds),
            info: flow.path.as_ref().map(|path| (&path.info).into()),
        };
        let is_empty = record.rtt_us.is_none()
            && record.min_rtt_us.is_none()
            && record.total_retransmits.is_none()
            && record.connect_us.is_none()
            && record.info.is_none();
        (!is_empty).then_some(record)
    }
}
