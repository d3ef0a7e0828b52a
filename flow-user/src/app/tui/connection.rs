//! Closes a connection: exactly its socket, in whatever network namespace that is.

use std::{collections::BTreeMap, io};

use crate::{
    event::Netns,
    source::{
        netns::{Namespaces, inside},
        proc::Proc,
        sock_destroy::{Destroyed, destroy},
        sock_diag,
    },
    tui::Connection,
};

/// Why the connection was not closed.
#[derive(Debug, thiserror::Error)]
pub enum NotClosed {
    #[error("{0} is gone: nothing was closed")]
    Gone(String),
    #[error("not permitted to close {0}: start Flow as root, or with CAP_NET_ADMIN")]
    NotPermitted(String),
    #[error("this kernel was built without CONFIG_INET_DIAG_DESTROY, and cannot close connections")]
    NotBuilt,
    #[error(
        "cannot reach {name}: it is in the network namespace {}, which no visible process or mount leads to",
        .netns.0
    )]
    Unreachable { name: String, netns: Netns },
    #[error("cannot enter the network namespace {} of {name}: {source}", .netns.0)]
    NotEntered {
        name: String,
        netns: Netns,
        source: io::Error,
    },
    #[error("cannot close {name}: {source}")]
    Other { name: String, source: io::Error },
}

/// Closes a connection.
///
/// Cookies are unique on the whole host, so a wrong namespace does no harm.
///
/// # Errors
/// The socket is gone, or the kernel refuses to close it.
pub fn close(connection: &Connection) -> Result<(), NotClosed> {
    let Connection {
        socket,
        protocol,
        netns,
        name,
    } = connection;
    let here = || destroy(&mut sock_diag::open()?, *protocol, *socket);
    let pids = Proc::new().pids().unwrap_or_default();
    let namespaces = Namespaces::find(&pids);
    let destroyed = match netns {
        Some(netns) if namespaces.own.is_some_and(|own| own != *netns) => {
            let handle = namespaces.others.get(netns);
            let handle = handle.cloned().ok_or_else(|| NotClosed::Unreachable {
                name: name.clone(),
                netns: *netns,
            })?;
            let not_entered = |source| NotClosed::NotEntered {
                name: name.clone(),
                netns: *netns,
                source,
            };
            let target = BTreeMap::from([(*netns, handle)]);
            // A failure to enter the namespace is distinct from a failure to close the socket.
            let visits = inside(&target, |_| Ok(here())).map_err(not_entered)?;
            let Some((_, visit)) = visits.into_iter().next() else {
                return Err(NotClosed::Gone(name.clone()));
            };
            visit.map_err(not_entered)?
        }
        _ => here(),
    };
    match destroyed {
        Ok(Destroyed::Done) => Ok(()),
        Ok(Destroyed::NotThere) => Err(NotClosed::Gone(name.clone())),
        Err(source) => Err(NotClosed::of(source, name)),
    }
}

impl NotClosed {
    fn of(source: io::Error, name: &str) -> Self {
        let name = name.to_owned();
        match source.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => Self::NotPermitted(name),
            Some(libc::EOPNOTSUPP) => Self::NotBuilt,
            _ => Self::Other { name, source },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{ErrorKind, Read as _},
        net::{TcpListener, TcpStream},
        thread,
    };

    use nix::sched::{CloneFlags, unshare};

    use super::*;
    use crate::{
        event::{Protocol, SocketCookie},
        source::sock_diag::{KINDS, Listed, list},
    };

    /// A connection over loopback, and how the namespace that it is in lists the client's socket.
    fn pair() -> (TcpStream, TcpStream, Listed) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let server = listener.accept().unwrap().0;
        let address = client.local_addr().unwrap();
        let all = list(&mut sock_diag::open().unwrap(), KINDS[0]).unwrap();
        let mut all = all.into_iter();
        let listed = all.find(|it| it.local == address && it.remote.is_some());
        (client, server, listed.unwrap())
    }

    fn connection(listed: &Listed, netns: Option<Netns>) -> Connection {
        Connection {
            socket: listed.cookie,
            protocol: Protocol::Tcp,
            netns,
            name: "tcp x".to_owned(),
        }
    }

    #[test]
    #[ignore = "needs root, and a kernel with CONFIG_INET_DIAG_DESTROY"]
    fn a_connection_of_this_namespace_is_closed() {
        let own = Namespaces::find(&[]).own;
        assert!(own.is_some());
        for netns in [own, None] {
            let (mut client, server, listed) = pair();
            let connection = connection(&listed, netns);
            close(&connection).unwrap();
            let error = client.read(&mut [0]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionAborted);
            drop((client, server));
            let error = close(&connection).unwrap_err();
            assert!(matches!(error, NotClosed::Gone(_)), "{error}");
        }
    }

    #[test]
    #[ignore = "needs root, and a kernel with CONFIG_INET_DIAG_DESTROY"]
    fn a_connection_of_another_namespace_is_closed_through_a_process_there() {
        // `sleep`, started by a thread in another namespace, makes that visible to Flow.
        let (mut sleeper, client, server, listed, netns) = thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            let mut ip = std::process::Command::new("ip");
            let up = ip.args(["link", "set", "lo", "up"]).status().unwrap();
            assert!(up.success());
            let mut sleep = std::process::Command::new("sleep");
            let sleeper = sleep.arg("3600").spawn().unwrap();
            let (client, server, listed) = pair();
            let link = std::fs::read_link("/proc/thread-self/ns/net").unwrap();
            let link = link.to_str().unwrap().to_owned();
            let number = link.trim_start_matches("net:[").trim_end_matches(']');
            (
                sleeper,
                client,
                server,
                listed,
                Netns(number.parse().unwrap()),
            )
        })
        .join()
        .unwrap();
        let mut client = client;
        let wrong = close(&connection(&listed, None));
        let right = close(&connection(&listed, Some(netns)));
        sleeper.kill().unwrap();
        sleeper.wait().unwrap();
        assert!(matches!(wrong, Err(NotClosed::Gone(_))), "{wrong:?}");
        right.unwrap();
        let error = client.read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionAborted);
        drop((client, server));
    }

    #[test]
    fn an_unreachable_or_refused_socket_is_reported_with_the_reason() {
        let connection = Connection {
            socket: SocketCookie(u64::MAX),
            protocol: Protocol::Tcp,
            netns: Some(Netns(1)),
            name: "tcp x".to_owned(),
        };
        let error = close(&connection).unwrap_err();
        assert!(error.to_string().contains("network namespace 1"), "{error}");
        let of = |errno| NotClosed::of(io::Error::from_raw_os_error(errno), "tcp x").to_string();
        assert!(of(libc::EPERM).contains("CAP_NET_ADMIN"));
        assert!(of(libc::EOPNOTSUPP).contains("CONFIG_INET_DIAG_DESTROY"));
        assert!(of(libc::EINVAL).contains("tcp x"));
    }
}
