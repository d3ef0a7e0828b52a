//! Settings that `ip` cannot make: keys and peers of WireGuard, and the mode of a team, through
//! generic netlink.

use std::{io, net::SocketAddrV4};

use anyhow::{Context as _, Result, ensure};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_GENERIC};

use crate::live::tools;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const REQUEST: u16 = 1;
const ACKNOWLEDGE: u16 = 4;
const DUMP: u16 = 0x300;
/// Lengths of `nlmsghdr` and `genlmsghdr`.
const HEADER: usize = 16;
const GENERIC_HEADER: usize = 4;
const NESTED: u16 = 0x8000;

const CONTROLLER: u16 = 0x10;
const GET_FAMILY: u8 = 3;
const FAMILY_ID: u16 = 1;
const FAMILY_NAME: u16 = 2;

/// A family of generic netlink in a network namespace.
struct Family {
    socket: Socket,
    id: u16,
}

/// One end of a WireGuard tunnel.
pub struct WireGuard<'a> {
    pub netns: &'a str,
    pub name: &'a str,
    /// Any bytes; the kernel derives a key from them.
    pub secret: [u8; 32],
    pub port: u16,
}

impl WireGuard<'_> {
    /// Sets the private key and the port of the device; returns its public key.
    pub fn prepare(&self) -> Result<[u8; 32]> {
        const GET_DEVICE: u8 = 0;
        const PUBLIC_KEY: u16 = 4;
        tools::within(Some(self.netns), || {
            let family = Family::open("wireguard")?;
            family.ask(
                SET_DEVICE,
                ACKNOWLEDGE,
                &[
                    self.ifname(),
                    attribute(3, &self.secret),
                    attribute(6, &self.port.to_ne_bytes()),
                ]
                .concat(),
            )?;
            let answer = family.ask(GET_DEVICE, DUMP, &self.ifname())?;
            let key = find(&answer, PUBLIC_KEY).context("a device without a public key")?;
            Ok(key.try_into()?)
        })
    }

    /// Routes everything to a peer.
    pub fn connect(&self, key: &[u8; 32], endpoint: SocketAddrV4) -> Result<()> {
        let mut address = Vec::new();
        address.extend((libc::AF_INET as u16).to_ne_bytes());
        address.extend(endpoint.port().to_be_bytes());
        address.extend(endpoint.ip().octets());
        address.extend([0; 8]);
        let all = [
            attribute(1, &(libc::AF_INET as u16).to_ne_bytes()),
            attribute(2, &[0; 4]),
            attribute(3, &[0]),
        ];
        let peer = [
            attribute(1, key),
            attribute(4, &address),
            nest(9, &nest(0, &all.concat())),
        ];
        let device = [self.ifname(), nest(8, &nest(0, &peer.concat()))];
        tools::within(Some(self.netns), || {
            let family = Family::open("wireguard")?;
            family
                .ask(SET_DEVICE, ACKNOWLEDGE, &device.concat())
                .map(drop)
        })
    }

    fn ifname(&self) -> Vec<u8> {
        attribute(2, &text(self.name))
    }
}

const SET_DEVICE: u8 = 1;

/// Sets the mode of a team, without which it carries nothing.
pub fn set_team_mode(netns: &str, name: &str, mode: &str) -> Result<()> {
    const SET_OPTIONS: u8 = 1;
    const STRING: u8 = 5;
    tools::within(Some(netns), || {
        let index =
            nix::net::if_::if_nametoindex(name).with_context(|| format!("looking for {name}"))?;
        let option = [
            attribute(1, &text("mode")),
            attribute(3, &[STRING]),
            attribute(4, &text(mode)),
        ];
        let request = [
            attribute(1, &index.to_ne_bytes()),
            nest(2, &nest(1, &option.concat())),
        ];
        let family = Family::open("team")?;
        match family.ask(SET_OPTIONS, ACKNOWLEDGE, &request.concat()) {
            // The setting is made: only the notification fails if nobody listens
            // (`team_nl_send_event_options_get`).
            Err(error) if is(&error, libc::ESRCH) => Ok(()),
            result => result.map(drop),
        }
    })
}

impl Family {
    fn open(name: &str) -> Result<Self> {
        let mut socket = Socket::new(NETLINK_GENERIC).context("a netlink socket")?;
        socket.bind_auto().context("binding a netlink socket")?;
        socket
            .connect(&SocketAddr::new(0, 0))
            .context("connecting a netlink socket")?;
        let mut family = Self {
            socket,
            id: CONTROLLER,
        };
        let answer = family
            .ask(GET_FAMILY, 0, &attribute(FAMILY_NAME, &text(name)))
            .with_context(|| format!("the family {name} of generic netlink"))?;
        let id = find(&answer, FAMILY_ID).context("a family without a number")?;
        family.id = u16::from_ne_bytes(id.try_into()?);
        Ok(family)
    }

    /// Sends a request; returns the attributes of its first answer, if that is not only an
    /// acknowledgement.
    fn ask(&self, command: u8, flags: u16, attributes: &[u8]) -> Result<Vec<u8>> {
        let length = (HEADER + GENERIC_HEADER + attributes.len()) as u32;
        let mut message = Vec::new();
        message.extend(length.to_ne_bytes());
        message.extend(self.id.to_ne_bytes());
        message.extend((REQUEST | flags).to_ne_bytes());
        message.extend([0; 8]);
        message.extend([command, 1, 0, 0]);
        message.extend(attributes);
        self.socket.send(&message, 0).context("asking the kernel")?;
        let mut first = Vec::new();
        loop {
            let (answer, _) = self
                .socket
                .recv_from_full()
                .context("the kernel's answer")?;
            let mut rest = &answer[..];
            while let Some((length, kind)) = header(rest) {
                ensure!(
                    (HEADER..=rest.len()).contains(&length),
                    "the kernel's answer is cut"
                );
                let body = &rest[HEADER..length];
                rest = &rest[length.next_multiple_of(4).min(rest.len())..];
                match kind {
                    NLMSG_ERROR | NLMSG_DONE => {
                        let code = body.get(..4).and_then(|code| code.try_into().ok());
                        return match code.map_or(0, i32::from_ne_bytes) {
                            0 => Ok(first),
                            code => Err(io::Error::from_raw_os_error(-code).into()),
                        };
                    }
                    _ if first.is_empty() => {
                        first.extend(body.get(GENERIC_HEADER..).unwrap_or_default())
                    }
                    _ => {}
                }
            }
            if flags & (DUMP | ACKNOWLEDGE) == 0 {
                return Ok(first);
            }
        }
    }
}

fn is(error: &anyhow::Error, code: i32) -> bool {
    let error = error.downcast_ref::<io::Error>();
    error.and_then(io::Error::raw_os_error) == Some(code)
}

fn header(message: &[u8]) -> Option<(usize, u16)> {
    let length = u32::from_ne_bytes(message.get(..4)?.try_into().ok()?);
    let kind = u16::from_ne_bytes(message.get(4..6)?.try_into().ok()?);
    Some((length as usize, kind))
}

fn text(name: &str) -> Vec<u8> {
    [name.as_bytes(), &[0]].concat()
}

fn nest(kind: u16, inside: &[u8]) -> Vec<u8> {
    attribute(kind | NESTED, inside)
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = 4 + value.len();
    let mut bytes = Vec::new();
    bytes.extend((length as u16).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(length.next_multiple_of(4), 0);
    bytes
}

/// The first attribute of a type.
fn find(mut attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let length = usize::from(u16::from_ne_bytes(attributes.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(attributes.get(2..4)?.try_into().ok()?);
        let value = attributes.get(4..length)?;
        if kind == wanted {
            return Some(value);
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_found_after_others() {
        let attributes = [
            attribute(2, &text("abc")),
            attribute(9, &[1, 2, 3]),
            attribute(4, &[7]),
        ]
        .concat();
        assert_eq!(attributes.len() % 4, 0);
        assert_eq!(find(&attributes, 9), Some(&[1, 2, 3][..]));
        assert_eq!(find(&attributes, 4), Some(&[7][..]));
        assert_eq!(find(&attributes, 5), None);
        assert_eq!(find(&[1, 0], 5), None);
    }
}
