//! Qdiscs and filters of interfaces: what Flow leaves behind.

use std::{collections::BTreeSet, fs};

use anyhow::{Context as _, Result, bail, ensure};
use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::{
    RouteNetlinkMessage,
    tc::{TcAttribute, TcHandle, TcMessage},
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

/// The `clsact` and `ingress` qdiscs of all interfaces, with their filters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hangers {
    /// By index, like the interfaces.
    interfaces: BTreeSet<i32>,
    queues: BTreeSet<(i32, String)>,
    filters: BTreeSet<(i32, String)>,
}

impl Hangers {
    /// Checks that nothing was added to the interfaces that existed. Removals and new interfaces
    /// are others' doing.
    pub fn is_all_there_is(&self) -> Result<()> {
        let now = read()?;
        self.nothing_new(&self.queues, &now.queues)?;
        self.nothing_new(&self.filters, &now.filters)
    }

    /// As above, for filters only.
    pub fn has_all_filters(&self) -> Result<()> {
        self.nothing_new(&self.filters, &read()?.filters)
    }

    fn nothing_new(
        &self,
        before: &BTreeSet<(i32, String)>,
        now: &BTreeSet<(i32, String)>,
    ) -> Result<()> {
        let new = now.difference(before);
        let left: Vec<_> = new
            .filter(|(index, _)| self.interfaces.contains(index))
            .collect();
        ensure!(
            left.is_empty(),
            "left on the interfaces: {left:?}, before: {before:?}"
        );
        Ok(())
    }
}

/// Reads them.
pub fn read() -> Result<Hangers> {
    let mut hangers = Hangers {
        interfaces: interfaces()?,
        ..Hangers::default()
    };
    let request = RouteNetlinkMessage::GetQueueDiscipline(TcMessage::default());
    for queue in dump(request)? {
        let kind = kind(&queue);
        if kind != "clsact" && kind != "ingress" {
            continue;
        }
        let index = queue.header.index;
        hangers.queues.insert((index, kind.to_owned()));
        for hook in [TcHandle::MIN_INGRESS, TcHandle::MIN_EGRESS] {
            let mut wanted = TcMessage::default();
            wanted.header.index = index;
            wanted.header.parent = TcHandle {
                major: TcHandle::CLSACT.major,
                minor: hook,
            };
            for filter in dump(RouteNetlinkMessage::GetTrafficFilter(wanted))? {
                let handle = filter.header.handle;
                let filter = format!("{handle:?} at {hook:x}");
                hangers.filters.insert((index, filter));
            }
        }
    }
    Ok(hangers)
}

/// Indexes of the interfaces here.
fn interfaces() -> Result<BTreeSet<i32>> {
    let mut indexes = BTreeSet::new();
    for entry in fs::read_dir("/sys/class/net").context("reading /sys/class/net")? {
        // An interface may disappear meanwhile.
        if let Ok(text) = fs::read_to_string(entry?.path().join("ifindex")) {
            indexes.insert(text.trim().parse()?);
        }
    }
    Ok(indexes)
}

fn kind(message: &TcMessage) -> &str {
    let kind = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            TcAttribute::Kind(kind) => Some(kind.as_str()),
            _ => None,
        });
    kind.unwrap_or_default()
}

/// Sends a dump request, and returns all messages of the answer.
fn dump(request: RouteNetlinkMessage) -> Result<Vec<TcMessage>> {
    let mut socket = Socket::new(NETLINK_ROUTE).context("netlink socket")?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let mut message = NetlinkMessage::from(request);
    message.header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    socket.send(&bytes, 0)?;

    let mut found = Vec::new();
    loop {
        let (answer, _) = socket.recv_from_full()?;
        let mut rest = answer.as_slice();
        while !rest.is_empty() {
            let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest)
                .context("an answer of netlink")?;
            let length = usize::try_from(message.header.length)?.next_multiple_of(4);
            match message.payload {
                NetlinkPayload::Done(_) => return Ok(found),
                NetlinkPayload::InnerMessage(
                    RouteNetlinkMessage::NewQueueDiscipline(message)
                    | RouteNetlinkMessage::NewTrafficFilter(message),
                ) => found.push(message),
                NetlinkPayload::Error(error) => bail!("netlink: {error}"),
                _ => {}
            }
            rest = rest.get(length..).unwrap_or_default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_answers() {
        assert!(read().unwrap().interfaces.contains(&1), "no loopback");
    }

    #[test]
    fn only_what_came_to_interfaces_that_were_there_was_left() {
        let on = |index| BTreeSet::from([(index, "x".to_owned())]);
        let before = Hangers {
            interfaces: [1, 2].into(),
            filters: on(1),
            ..Hangers::default()
        };
        for (now, is_right) in [
            (on(1), true),
            (BTreeSet::new(), true),
            (on(3), true),
            (on(2), false),
        ] {
            assert_eq!(
                before.nothing_new(&before.filters, &now).is_ok(),
                is_right,
                "{now:?}"
            );
        }
    }
}
