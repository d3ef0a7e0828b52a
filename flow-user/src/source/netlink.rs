//! Netlink sockets: requests, dumps and notifications.
//!
//! Flow reads four kinds of messages, tens of thousands at once, and needs few attributes of each.
//! So it parses the bytes itself: unknown attributes, and those that a newer kernel extended, are
//! no error.

use std::{
    io, mem,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd as _, OwnedFd, RawFd},
};

/// Largest datagram of a dump.
const BUFFER_BYTES: usize = 64 << 10;
/// Attempts at a dump that the kernel marks as interrupted (`NLM_F_DUMP_INTR`).
const DUMP_ATTEMPTS: u32 = 5;
const HEADER_BYTES: usize = 16;

/// A netlink socket, of the network namespace in which it was opened.
#[derive(Debug)]
pub struct Netlink {
    fd: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

/// A received message: the fields of its header, and its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    pub kind: u16,
    pub flags: u16,
    pub sequence: u32,
    pub body: &'a [u8],
}

impl Netlink {
    /// Opens a socket of a netlink family, such as [`libc::NETLINK_ROUTE`], subscribed to the
    /// multicast groups in the mask `groups`.
    ///
    /// # Errors
    /// The kernel has no such family, or descriptors have run out.
    pub fn open(family: i32, groups: u32) -> io::Result<Self> {
        // SAFETY: socket(2) takes integers only.
        let fd = unsafe {
            libc::socket(
                libc::AF_NETLINK,
                libc::SOCK_RAW | libc::SOCK_CLOEXEC,
                family,
            )
        };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: socket(2) has just returned this descriptor, and nobody else owns it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        if groups != 0 {
            // SAFETY: all-zero is a valid sockaddr_nl.
            let mut address: libc::sockaddr_nl = unsafe { mem::zeroed() };
            address.nl_family = libc::AF_NETLINK as libc::sa_family_t;
            address.nl_groups = groups;
            // SAFETY: the address lives through the call, and its length is its own.
            let result = unsafe {
                libc::bind(
                    fd.as_raw_fd(),
                    (&raw const address).cast(),
                    size_of_val(&address) as libc::socklen_t,
                )
            };
            if result < 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(Self {
            fd,
            sequence: 0,
            buffer: vec![0; BUFFER_BYTES],
        })
    }

    /// Requests a dump, and collects what `parse` returns for each message.
    ///
    /// A dump that the kernel marks as inconsistent, because the list changed meanwhile, is
    /// repeated a few times; then the last one is used.
    ///
    /// # Errors
    /// The error of the kernel.
    pub fn dump<T>(
        &mut self,
        kind: u16,
        body: &[u8],
        mut parse: impl FnMut(Message<'_>) -> Option<T>,
    ) -> io::Result<Vec<T>> {
        let mut items = Vec::new();
        for _ in 0..DUMP_ATTEMPTS {
            items.clear();
            self.send(kind, libc::NLM_F_DUMP as u16, body)?;
            if self.read_answer(|message| items.extend(parse(message)))? {
                break;
            }
        }
        Ok(items)
    }

    /// Requests one object, and returns what `parse` makes of the answer.
    ///
    /// # Errors
    /// The error of the kernel.
    pub fn get<T>(
        &mut self,
        kind: u16,
        body: &[u8],
        mut parse: impl FnMut(Message<'_>) -> Option<T>,
    ) -> io::Result<Option<T>> {
        let mut found = None;
        // The acknowledgement follows the answer, and ends the loop that reads.
        self.send(kind, libc::NLM_F_ACK as u16, body)?;
        self.read_answer(|message| found = parse(message))?;
        Ok(found)
    }

    /// Sends a request and waits for its acknowledgement.
    ///
    /// # Errors
    /// The error of the kernel.
    pub fn request(&mut self, kind: u16, flags: u16, body: &[u8]) -> io::Result<()> {
        self.send(kind, libc::NLM_F_ACK as u16 | flags, body)?;
        self.read_answer(|_| ()).map(|_| ())
    }

    /// Passes the notifications of one datagram to `handle`, without waiting.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when there is none; `ENOBUFS` when some were lost.
    pub fn notifications(&mut self, mut handle: impl FnMut(Message<'_>)) -> io::Result<()> {
        let length = self.receive(libc::MSG_DONTWAIT)?;
        messages(&self.buffer[..length]).for_each(&mut handle);
        Ok(())
    }

    fn send(&mut self, kind: u16, flags: u16, body: &[u8]) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let length = HEADER_BYTES + body.len();
        let mut message = Vec::with_capacity(length);
        message.extend_from_slice(&(length as u32).to_ne_bytes());
        message.extend_from_slice(&kind.to_ne_bytes());
        message.extend_from_slice(&(libc::NLM_F_REQUEST as u16 | flags).to_ne_bytes());
        message.extend_from_slice(&self.sequence.to_ne_bytes());
        message.extend_from_slice(&[0; 4]);
        message.extend_from_slice(body);
        // SAFETY: the message lives through the call, and its length is its own.
        let sent = unsafe {
            libc::send(
                self.fd.as_raw_fd(),
                message.as_ptr().cast(),
                message.len(),
                0,
            )
        };
        if sent < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    /// Reads the whole answer to the last request. False if the kernel marked it as interrupted:
    /// the list changed meanwhile.
    fn read_answer(&mut self, mut handle: impl FnMut(Message<'_>)) -> io::Result<bool> {
        let mut consistent = true;
        loop {
            let length = self.receive(0)?;
            for message in messages(&self.buffer[..length]) {
                if message.sequence != self.sequence {
                    continue;
                }
                consistent &= message.flags & libc::NLM_F_DUMP_INTR as u16 == 0;
                let status = message.body.first_chunk().map(|b| i32::from_ne_bytes(*b));
                match i32::from(message.kind) {
                    libc::NLMSG_NOOP => {}
                    libc::NLMSG_ERROR | libc::NLMSG_DONE => {
                        return match status {
                            Some(errno @ ..0) => Err(io::Error::from_raw_os_error(-errno)),
                            _ => Ok(consistent),
                        };
                    }
                    _ => handle(message),
                }
            }
        }
    }

    fn receive(&mut self, flags: i32) -> io::Result<usize> {
        loop {
            // SAFETY: the buffer lives through the call, and its length is its own.
            let length = unsafe {
                libc::recv(
                    self.fd.as_raw_fd(),
                    self.buffer.as_mut_ptr().cast(),
                    self.buffer.len(),
                    flags,
                )
            };
            if let Ok(length) = usize::try_from(length) {
                return Ok(length);
            }
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
    }
}

impl AsRawFd for Netlink {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

impl AsFd for Netlink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The attributes in `bytes`: type, without its flags, and value. Ends at the first that is
/// truncated.
pub fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    chunks(bytes, 4, |head| {
        let length = u16::from_ne_bytes([head[0], head[1]]);
        usize::from(length)
    })
    .map(|attribute| {
        let kind = u16::from_ne_bytes([attribute[2], attribute[3]]);
        // The two highest bits are `NLA_F_NESTED` and `NLA_F_NET_BYTEORDER`.
        (kind & 0x3fff, &attribute[4..])
    })
}

/// Appends an attribute, padded to four bytes.
pub fn push_attribute(message: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    message.extend_from_slice(&length.to_ne_bytes());
    message.extend_from_slice(&kind.to_ne_bytes());
    message.extend_from_slice(value);
    message.resize(message.len().next_multiple_of(4), 0);
}

/// Two bytes at `offset`, in native byte order.
pub fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    let bytes = bytes.get(offset..)?.first_chunk()?;
    Some(u16::from_ne_bytes(*bytes))
}

/// Four bytes at `offset`, in native byte order.
pub fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    let bytes = bytes.get(offset..)?.first_chunk()?;
    Some(u32::from_ne_bytes(*bytes))
}

/// Eight bytes at `offset`, in native byte order.
pub fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    let bytes = bytes.get(offset..)?.first_chunk()?;
    Some(u64::from_ne_bytes(*bytes))
}

/// The messages of one datagram. Ends at the first that is truncated.
pub(crate) fn messages(bytes: &[u8]) -> impl Iterator<Item = Message<'_>> {
    chunks(bytes, HEADER_BYTES, |head| {
        u32::from_ne_bytes([head[0], head[1], head[2], head[3]]) as usize
    })
    .map(|message| Message {
        kind: u16::from_ne_bytes([message[4], message[5]]),
        flags: u16::from_ne_bytes([message[6], message[7]]),
        sequence: u32::from_ne_bytes([message[8], message[9], message[10], message[11]]),
        body: &message[HEADER_BYTES..],
    })
}

/// Splits `bytes` into pieces that begin with their length and are padded to four bytes.
fn chunks<'a>(
    bytes: &'a [u8],
    header: usize,
    length: impl Fn(&[u8]) -> usize + 'a,
) -> impl Iterator<Item = &'a [u8]> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let length = length(rest.get(..header)?);
        let piece = rest.get(..length).filter(|_| length >= header)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(piece)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn attributes_come_back_as_they_were_pushed() {
        let mut bytes = Vec::new();
        push_attribute(&mut bytes, 1, b"abc");
        push_attribute(&mut bytes, 0x8002, b"");
        push_attribute(&mut bytes, 3, &[7; 8]);
        let read: Vec<_> = attributes(&bytes).collect();
        assert_eq!(read, [(1, &b"abc"[..]), (2, b""), (3, &[7; 8])]);
    }

    #[test]
    fn a_length_that_does_not_fit_ends_the_list() {
        assert_eq!(attributes(&[200, 0, 1, 0, 5]).count(), 0);
        assert_eq!(attributes(&[0, 0, 1, 0, 0, 0, 0, 0]).count(), 0);
        assert_eq!(messages(&[3; 15]).count(), 0);
    }

    #[test]
    fn the_kernel_answers_an_unprivileged_dump() {
        let mut netlink = Netlink::open(libc::NETLINK_ROUTE, 0).unwrap();
        // An ifinfomsg that selects all interfaces.
        let kinds = netlink
            .dump(libc::RTM_GETLINK, &[0; 16], |message| Some(message.kind))
            .unwrap();
        assert!(!kinds.is_empty());
        assert!(kinds.iter().all(|kind| *kind == libc::RTM_NEWLINK));
    }

    proptest! {
        #[test]
        fn any_attributes_come_back(
            list in prop::collection::vec((0..0x4000_u16, prop::collection::vec(any::<u8>(), 0..40)), 0..8)
        ) {
            let mut bytes = Vec::new();
            for (kind, value) in &list {
                push_attribute(&mut bytes, *kind, value);
            }
            let read: Vec<_> = attributes(&bytes).map(|(kind, value)| (kind, value.to_vec())).collect();
            prop_assert_eq!(read, list);
        }

        #[test]
        fn nothing_received_panics(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
            for message in messages(&bytes) {
                let _ = attributes(message.body).count();
            }
        }
    }
}
