//! What the kernel says of an interface besides its counters: for people, asked while they look.

use std::{fs, io, net::IpAddr, sync::Arc};

use super::{Interfaces, LINK_BYTES, Link, link};
use crate::source::netlink::{attributes, u32_at};

/// Addresses of an interface at most.
const ADDRESSES: usize = 64;
/// Bytes of `ifaddrmsg`, after which attributes follow.
const ADDRESS_BYTES: usize = 8;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;

/// Facts of an interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinkFacts {
    /// Bytes of a packet at most.
    pub mtu: u32,
    /// The kind of a virtual interface, such as `veth` or `bridge`.
    pub kind: Option<Arc<str>>,
    /// In bits per second in each direction, where the driver says so; virtual interfaces have
    /// none.
    pub speed: Option<u64>,
    /// With the length of their prefixes; the first 64.
    pub addresses: Vec<(IpAddr, u8)>,
}

impl Interfaces {
    /// Facts of the interface with this index; `None` if there is none.
    ///
    /// # Errors
    /// The error of the kernel.
    pub fn facts_of(&mut self, ifindex: u32) -> io::Result<Option<LinkFacts>> {
        let mut request = [0; LINK_BYTES];
        request[4..8].copy_from_slice(&ifindex.to_ne_bytes());
        let found = self
            .netlink
            .get(libc::RTM_GETLINK, &request, |message| link(message.body))?;
        let Some(Link {
            name, kind, mtu, ..
        }) = found.filter(|link| link.ifindex == ifindex)
        else {
            return Ok(None);
        };
        // An ifaddrmsg that selects all addresses.
        let addresses = self
            .netlink
            .dump(libc::RTM_GETADDR, &[0; ADDRESS_BYTES], |message| {
                address(message.body).filter(|(index, ..)| *index == ifindex)
            })?;
        let addresses = addresses.into_iter().take(ADDRESSES);
        Ok(Some(LinkFacts {
            mtu,
            kind,
            speed: speed(&name, ifindex),
            addresses: addresses.map(|(_, ip, prefix)| (ip, prefix)).collect(),
        }))
    }
}

/// Reads an `ifaddrmsg`: index, address, length of the prefix. The address is the own end of a
/// point-to-point interface.
fn address(body: &[u8]) -> Option<(u32, IpAddr, u8)> {
    let prefix = *body.get(1)?;
    let ifindex = u32_at(body, 4)?;
    let (mut own, mut any) = (None, None);
    for (kind, value) in attributes(body.get(ADDRESS_BYTES..)?) {
        match kind {
            IFA_LOCAL => own = ip(value),
            IFA_ADDRESS => any = ip(value),
            _ => {}
        }
    }
    Some((ifindex, own.or(any)?, prefix))
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from);
    v4.or_else(|| <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from))
}

/// The speed of a link by sysfs, which may show another network namespace: there the name can belong
/// to another interface.
fn speed(name: &str, ifindex: u32) -> Option<u64> {
    let read = |file: &str| {
        let text = fs::read_to_string(format!("/sys/class/net/{name}/{file}")).ok()?;
        text.trim().parse::<i64>().ok()
    };
    if read("ifindex") != Some(ifindex.into()) {
        return None;
    }
    // -1 stands for unknown, and so do 0 and, in some drivers, 2^32 - 1.
    let megabits = read("speed").filter(|it| (1..u32::MAX.into()).contains(it))?;
    u64::try_from(megabits).ok()?.checked_mul(1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_interface_has_its_address_and_no_speed() {
        let mut interfaces = Interfaces::open().unwrap();
        let list = interfaces.list().unwrap();
        let loopback = list.iter().find(|link| &*link.name == "lo").unwrap();
        let facts = interfaces.facts_of(loopback.ifindex).unwrap().unwrap();
        assert_eq!((facts.mtu, facts.speed), (loopback.mtu, None));
        if loopback.is_set_up {
            let address = (IpAddr::from([127, 0, 0, 1]), 8);
            assert!(facts.addresses.contains(&address), "{facts:?}");
        }
        let gone = interfaces.facts_of(u32::MAX >> 1);
        assert!(!matches!(gone, Ok(Some(_))), "{gone:?}");
    }

    #[test]
    fn an_address_is_the_own_end() {
        // An ifaddrmsg of index 7 and a prefix of 24 bits, with the remote and the own end.
        let mut body = vec![2, 24, 0, 0, 7, 0, 0, 0];
        for (kind, last) in [(IFA_ADDRESS, 1), (IFA_LOCAL, 2)] {
            body.extend_from_slice(&8_u16.to_ne_bytes());
            body.extend_from_slice(&kind.to_ne_bytes());
            body.extend_from_slice(&[10, 0, 0, last]);
        }
        let own = IpAddr::from([10, 0, 0, 2]);
        assert_eq!(
            address(&body),
            Some((u32::from_ne_bytes([7, 0, 0, 0]), own, 24))
        );
        assert_eq!(address(&body[..6]), None);
        assert_eq!(address(&[]), None);
    }
}
