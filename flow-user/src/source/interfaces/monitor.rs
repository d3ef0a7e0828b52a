//! Changes of interfaces, as rtnetlink reports them.

use std::{collections::VecDeque, io};

use tokio::io::{Interest, unix::AsyncFd};

use super::{Counters, LINK_BYTES, Link, counters, is_interface, link};
use crate::source::netlink::{Message, Netlink, attributes, u32_at};

/// What happened to the list of interfaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkChange {
    /// The interface is new or changed.
    Present(Link),
    /// The interface is gone, or moved to another namespace, with its last counters.
    Gone {
        ifindex: u32,
        counters: Option<Counters>,
    },
    /// Filters changed, so mirrors may have changed too.
    Filters,
    /// Notifications were lost, or a root qdisc changed: list the interfaces again.
    Relist,
}

/// Receives notifications of interfaces that appear, change and disappear.
#[derive(Debug)]
pub struct Monitor {
    netlink: AsyncFd<Netlink>,
    waiting: VecDeque<LinkChange>,
}

impl Monitor {
    /// Subscribes in the current network namespace. List the interfaces after this, so that none is
    /// missed in between.
    ///
    /// # Errors
    /// No netlink socket could be opened.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn open() -> io::Result<Self> {
        let netlink = Netlink::open(libc::NETLINK_ROUTE, RTMGRP_LINK | RTMGRP_TC)?;
        // SAFETY: `Netlink` owns its one descriptor, which it neither changes nor closes before it
        // is dropped itself.
        let netlink = unsafe { AsyncFd::register_with_interest(netlink, Interest::READABLE) };
        Ok(Self {
            netlink: netlink?,
            waiting: VecDeque::new(),
        })
    }

    /// Waits for the next change. Cancel safe.
    ///
    /// # Errors
    /// The socket failed.
    pub async fn next(&mut self) -> io::Result<LinkChange> {
        loop {
            if let Some(change) = self.waiting.pop_front() {
                return Ok(change);
            }
            let mut ready = self.netlink.readable_mut().await?;
            let waiting = &mut self.waiting;
            let result = ready.try_io(|netlink| {
                let netlink = netlink.get_mut();
                netlink.notifications(|message| {
                    let change = change(message);
                    // Many filters may change at once.
                    if change.is_some() && waiting.back() != change.as_ref() {
                        waiting.extend(change);
                    }
                })
            });
            match result {
                Ok(Err(error)) if is_overrun(&error) => self.discard(),
                Ok(Err(error)) => return Err(error),
                // Received some, or a spurious wakeup.
                Ok(Ok(())) | Err(_) => {}
            }
        }
    }

    /// Discards all changes before the loss. A list made from now on is newer than these, and they
    /// may contradict lost ones.
    fn discard(&mut self) {
        let netlink = self.netlink.get_mut();
        loop {
            match netlink.notifications(|_| ()) {
                Ok(()) => {}
                Err(error) if is_overrun(&error) => {}
                Err(_) => break,
            }
        }
        self.waiting.clear();
        self.waiting.push_back(LinkChange::Relist);
    }
}

fn is_overrun(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ENOBUFS)
}

/// Multicast groups: interfaces; qdiscs and filters.
const RTMGRP_LINK: u32 = 1;
const RTMGRP_TC: u32 = 8;
const TCA_KIND: u16 = 1;
/// Bytes of `tcmsg`, after which attributes follow.
const TC_BYTES: usize = 20;
/// Parent of an interface's root qdisc.
const TC_H_ROOT: u32 = u32::MAX;

/// The change that a notification reports.
pub(crate) fn change(message: Message<'_>) -> Option<LinkChange> {
    match message.kind {
        libc::RTM_NEWLINK => link(message.body).map(LinkChange::Present),
        libc::RTM_DELLINK if is_interface(message.body) => Some(LinkChange::Gone {
            ifindex: u32_at(message.body, 4)?,
            counters: last_counters(message.body),
        }),
        libc::RTM_NEWQDISC | libc::RTM_DELQDISC => {
            (u32_at(message.body, 12)? == TC_H_ROOT).then_some(LinkChange::Relist)
        }
        // The notification does not say which actions changed. Flow's own filters are programs.
        libc::RTM_NEWTFILTER | libc::RTM_DELTFILTER => {
            let mut attributes = attributes(message.body.get(TC_BYTES..)?);
            let is_program =
                attributes.any(|(kind, value)| kind == TCA_KIND && value.starts_with(b"bpf"));
            (!is_program).then_some(LinkChange::Filters)
        }
        _ => None,
    }
}

/// The last counters of an interface (`rtmsg_ifinfo_build_skb` runs before it is unregistered).
fn last_counters(body: &[u8]) -> Option<Counters> {
    let (_, stats) =
        attributes(body.get(LINK_BYTES..)?).find(|(kind, _)| *kind == libc::IFLA_STATS64)?;
    counters(stats)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::source::{interfaces::tests::body, netlink::push_attribute};

    #[test]
    fn a_port_that_leaves_a_bridge_is_not_a_removed_interface() {
        let message = |kind, body| Message {
            kind,
            flags: 0,
            sequence: 0,
            body,
        };
        let bridge = body(libc::AF_BRIDGE as u8, 0);
        let plain = body(0, 0);
        assert_eq!(change(message(libc::RTM_DELLINK, &bridge)), None);
        assert_eq!(change(message(libc::RTM_NEWLINK, &bridge)), None);
        assert_eq!(
            change(message(libc::RTM_DELLINK, &plain)),
            Some(LinkChange::Gone {
                ifindex: 7,
                counters: None
            })
        );
    }

    #[test]
    fn a_removed_interface_reports_its_last_counters() {
        let mut body = body(0, 0);
        let stats: Vec<u8> = (1_u64..=24).flat_map(u64::to_ne_bytes).collect();
        push_attribute(&mut body, libc::IFLA_STATS64, &stats);
        let gone = change(Message {
            kind: libc::RTM_DELLINK,
            flags: 0,
            sequence: 0,
            body: &body,
        });
        let Some(LinkChange::Gone { counters, .. }) = gone else {
            panic!("{gone:?}");
        };
        assert_eq!(counters.unwrap().rx_bytes, 3);
    }

    #[tokio::test]
    async fn a_quiet_monitor_waits() {
        let mut monitor = Monitor::open().unwrap();
        monitor.waiting.push_back(LinkChange::Relist);
        assert_eq!(monitor.next().await.unwrap(), LinkChange::Relist);
    }

    proptest! {
        #[test]
        fn no_notification_panics(bytes in prop::collection::vec(any::<u8>(), 0..128)) {
            for kind in [
                libc::RTM_NEWLINK,
                libc::RTM_DELLINK,
                libc::RTM_NEWQDISC,
                libc::RTM_NEWTFILTER,
                libc::RTM_GETLINK,
            ] {
                let _ = change(Message { kind, flags: 0, sequence: 0, body: &bytes });
            }
        }
    }
}
