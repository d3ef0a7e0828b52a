//! What the kernel answers over netlink.

use crate::source::{
    interfaces::{
        link,
        monitor::{LinkChange, change},
        stats,
    },
    kernel::qdisc::clsact_of,
    netlink::{attributes, messages, push_attribute},
    sock_diag::{KINDS, Listed, inet_socket, packet_socket},
};

/// Bytes of the fixed parts that attributes follow: `if_stats_msg`, `ifinfomsg`, `tcmsg`,
/// `packet_diag_msg`, `inet_diag_msg`.
const FIXED: [usize; 5] = [12, 16, 20, 16, 72];

/// Answers about interfaces and qdiscs.
pub fn route(bytes: &[u8]) {
    walk(bytes);
    for message in messages(bytes) {
        if let Some(LinkChange::Gone { ifindex, .. }) = change(message) {
            assert!(message.body.len() >= 8 && message.body[4..8] == ifindex.to_ne_bytes());
        }
        interface(message.body);
    }
    interface(bytes);
}

fn interface(body: &[u8]) {
    if let Some(link) = link(body) {
        assert!(!link.name.contains('\0'));
        assert!(link.kind.as_ref().is_none_or(|kind| !kind.contains('\0')));
        let _layout = link.layout();
    }
    let _read = (stats(body), clsact_of(body));
}

/// Answers about sockets; the first byte chooses the kind that was asked for.
pub fn sock_diag(bytes: &[u8]) {
    let Some((kind, bytes)) = bytes.split_first() else {
        return;
    };
    let kind = KINDS[usize::from(*kind) % KINDS.len()];
    walk(bytes);
    for message in messages(bytes) {
        listed(inet_socket(kind.protocol, message.body));
        listed(packet_socket(message.body));
    }
    listed(inet_socket(kind.protocol, bytes));
    listed(packet_socket(bytes));
}

fn listed(socket: Option<Listed>) {
    let Some(socket) = socket else {
        return;
    };
    for end in socket.remote.into_iter().chain([socket.local]) {
        assert_eq!(end.ip().to_canonical(), end.ip(), "IPv4 is shown as such");
    }
}

/// Walks make progress, stay inside, and lose nothing of what they hand over.
fn walk(bytes: &[u8]) {
    let taken: usize = messages(bytes).map(|it| 16 + it.body.len()).sum();
    assert!(taken <= bytes.len(), "messages overlap");
    for message in messages(bytes) {
        for fixed in FIXED {
            nested(message.body.get(fixed..).unwrap_or_default());
        }
    }
    nested(bytes);
}

fn nested(bytes: &[u8]) {
    let read: Vec<(u16, &[u8])> = attributes(bytes).collect();
    let taken: usize = read.iter().map(|(_, value)| 4 + value.len()).sum();
    assert!(taken <= bytes.len(), "attributes overlap");
    let mut again = Vec::new();
    for (kind, value) in &read {
        push_attribute(&mut again, *kind, value);
    }
    assert_eq!(attributes(&again).collect::<Vec<_>>(), read);
}
