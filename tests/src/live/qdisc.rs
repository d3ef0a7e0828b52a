//! What hangs on the interfaces' traffic control: did Flow leave anything?

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, bail};
use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::{
    RouteNetlinkMessage,
    tc::{TcAttribute, TcHandle, TcMessage},
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

/// Classifier queues (`clsact`, `ingress`) and the filters in them, of all interfaces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hangers {
    pub queues: BTreeSet<String>,
    pub filters: BTreeSet<String>,
}

/// Reads them.
pub fn read() -> Result<Hangers> {
    let mut hangers = Hangers::default();
    let request = RouteNetlinkMessage::GetQueueDiscipline(TcMessage::default());
    for queue in dump(request)? {
        let kind = kind(&queue);
        if kind != "clsact" && kind != "ingress" {
            continue;
        }
        let index = queue.header.index;
        hangers
            .queues
            .insert(format!("{kind} of interface {index}"));
        for hook in [TcHandle::MIN_INGRESS, TcHandle::MIN_EGRESS] {
            let mut wanted = TcMessage::default();
            wanted.header.index = index;
            wanted.header.parent = TcHandle {
                major: TcHandle::CLSACT.major,
                minor: hook,
            };
            for filter in dump(RouteNetlinkMessage::GetTrafficFilter(wanted))? {
                let handle = filter.header.handle;
                hangers
                    .filters
                    .insert(format!("{handle:?} at {hook:x} of interface {index}"));
            }
        }
    }
    Ok(hangers)
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

/// Sends a dump request; all messages of the answer.
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
    #[test]
    fn the_kernel_answers() {
        super::read().unwrap();
    }
}
