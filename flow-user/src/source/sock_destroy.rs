//! Closes a socket of another process through sock_diag. The request has the socket's cookie, so
//! the kernel closes no other socket that has the same addresses by now.

use std::io;

use super::{
    netlink::Netlink,
    sock_diag::{
        INET_ID, KINDS, OWNED, REQUEST_HEAD, SOCK_DIAG_BY_FAMILY, inet_request, inet_socket,
    },
};
use crate::event::{Protocol, SocketCookie};

/// The result of [`destroy`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destroyed {
    /// The socket is closed: its process gets `ECONNABORTED` from its next call, the remote of a
    /// TCP connection a RST.
    Done,
    /// There is no such socket in this network namespace (any more).
    NotThere,
}

/// Closes the TCP or UDP socket with this cookie, if it is in the network namespace of `netlink`.
///
/// # Errors
/// The error of the kernel: `EPERM` without `CAP_NET_ADMIN` over the namespace, `EOPNOTSUPP` if it
/// was built without `CONFIG_INET_DIAG_DESTROY`.
pub fn destroy(
    netlink: &mut Netlink,
    protocol: Protocol,
    cookie: SocketCookie,
) -> io::Result<Destroyed> {
    let number = match protocol {
        Protocol::Tcp => libc::IPPROTO_TCP,
        Protocol::Udp => libc::IPPROTO_UDP,
        _ => return Err(io::ErrorKind::Unsupported.into()),
    };
    for kind in KINDS
        .iter()
        .filter(|kind| i32::from(kind.protocol) == number)
    {
        // The kernel looks the socket up by family, addresses and bound interface: the listing has
        // the `inet_diag_sockid` for that.
        let mut request = inet_request(*kind, OWNED);
        let found = netlink.dump(SOCK_DIAG_BY_FAMILY, &request, |message| {
            let listed = inet_socket(kind.protocol, message.body)?;
            let id = message.body.get(INET_ID)?;
            (listed.cookie == cookie).then(|| id.to_vec())
        })?;
        let Some(id) = found.first() else {
            continue;
        };
        request.truncate(REQUEST_HEAD);
        request.extend_from_slice(id);
        return match netlink.request(SOCK_DESTROY, 0, &request) {
            Ok(()) => Ok(Destroyed::Done),
            // Closed meanwhile, or another socket has its addresses.
            Err(why) if matches!(why.raw_os_error(), Some(libc::ENOENT | libc::ESTALE)) => {
                Ok(Destroyed::NotThere)
            }
            Err(why) => Err(why),
        };
    }
    Ok(Destroyed::NotThere)
}

const SOCK_DESTROY: u16 = 21;

#[cfg(test)]
mod tests {
    use std::{
        io::{ErrorKind, Read as _, Write as _},
        net::{TcpListener, TcpStream, UdpSocket},
    };

    use super::*;
    use crate::source::sock_diag::{self, tests::cookie_of};

    fn close(protocol: Protocol, cookie: SocketCookie) {
        let result = destroy(&mut sock_diag::open().unwrap(), protocol, cookie);
        assert_eq!(result.unwrap(), Destroyed::Done);
    }

    fn pair(address: &str) -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind(address).unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (client, listener.accept().unwrap().0)
    }

    #[test]
    #[ignore = "needs root, and a kernel with CONFIG_INET_DIAG_DESTROY"]
    fn a_connection_is_closed_and_no_other() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let (mut client, mut server) = pair(address);
            let (mut other, mut other_server) = pair(address);
            close(Protocol::Tcp, cookie_of(&client));
            let error = client.read(&mut [0]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionAborted);
            let error = server.read(&mut [0]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
            other.write_all(b"x").unwrap();
            other_server.read_exact(&mut [0]).unwrap();
        }
    }

    #[test]
    #[ignore = "needs root, and a kernel with CONFIG_INET_DIAG_DESTROY"]
    fn an_ipv4_connection_of_an_ipv6_socket_is_closed() {
        let listener = TcpListener::bind("[::]:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let client = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let mut server = listener.accept().unwrap().0;
        close(Protocol::Tcp, cookie_of(&server));
        let error = server.read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionAborted);
        drop(client);
    }

    #[test]
    #[ignore = "needs root, and a kernel with CONFIG_INET_DIAG_DESTROY"]
    fn a_datagram_socket_is_closed() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let [one, two] = [0; 2].map(|_| UdpSocket::bind(address).unwrap());
            two.connect(one.local_addr().unwrap()).unwrap();
            for socket in [&two, &one] {
                close(Protocol::Udp, cookie_of(socket));
                let error = socket.recv(&mut [0]).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::ConnectionAborted);
            }
        }
    }

    #[test]
    fn a_missing_socket_is_reported_and_no_other_closed() {
        let (client, mut server) = pair("127.0.0.1:0");
        let cookie = cookie_of(&client);
        let mut netlink = sock_diag::open().unwrap();
        let stranger = SocketCookie(cookie.0 | 1 << 60);
        for (protocol, cookie) in [(Protocol::Tcp, stranger), (Protocol::Udp, cookie)] {
            let result = destroy(&mut netlink, protocol, cookie).unwrap();
            assert_eq!(result, Destroyed::NotThere);
        }
        drop(client);
        assert_eq!(server.read(&mut [0]).unwrap(), 0);
    }
}
