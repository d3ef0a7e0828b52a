//! Lifecycle of sockets: creation, connect, accept, release, and the state changes of connections.

use core::mem::MaybeUninit;

use aya_ebpf::{bindings::bpf_sock, macros::map, maps::PerCpuArray};
use flow_common::{
    IpAddress, ProcessKey, RecordKind, SocketEntry, protocol, socket_id::is_alias, tcp_state,
    traffic::direction,
};

use crate::{
    kernel::{
        self, Address, CGROUP_LIVES, GIVES_COOKIES, INET_SPORT, SK_ERR, SK_KERN_SOCK,
        SK_KERN_SOCK_BIT, SK_SOCKET, SockCommon,
    },
    logging,
    maps::SOCKETS,
    process,
    socket::{self, emit, entry, refresh, shown_protocol},
    socket_id::{id, known_id, note_state, take_alias},
};

/// One element: the last change that the first program of states took up.
#[map]
pub static LAST_STATE_CHANGE: PerCpuArray<StateChange> = PerCpuArray::with_max_entries(1, 0);

/// A process made a socket. Nothing is emitted yet: most sockets are of no interest until they are
/// bound, connected or used.
#[inline(always)]
pub fn created(id: u64, sock: *const bpf_sock, owner: ProcessKey) {
    let Some(entry) = entry(id) else {
        return;
    };
    // SAFETY: a live map value; the context's fields are readable here.
    unsafe {
        (*entry).family = (*sock).family as u8;
        (*entry).protocol = shown_protocol((*sock).type_, (*sock).protocol as u16);
        (*entry).owner = owner;
        (*entry).netns = socket::netns(sock);
    }
}

/// A process is about to connect a socket that may have been made before Flow looked.
#[inline(always)]
pub fn connecting(id: u64, family: u16, protocol: u16, owner: ProcessKey, sock: *const bpf_sock) {
    let Some(entry) = entry(id) else {
        return;
    };
    // SAFETY: a live map value.
    unsafe {
        if (*entry).owner.tgid == 0 {
            (*entry).owner = owner;
        }
        if (*entry).family == 0 {
            (*entry).family = family as u8;
            (*entry).protocol = protocol;
        }
        // Not that of the process, which may have left it since it made the socket.
        if (*entry).netns == 0 {
            (*entry).netns = socket::netns(sock);
        }
    }
}

/// A socket got its local address. Emitted for datagram sockets; TCP sockets follow when they
/// listen or connect.
#[inline(always)]
pub fn bound(id: u64, sock: *const bpf_sock, address: IpAddress, owner: ProcessKey) {
    let Some(entry) = entry(id) else {
        return;
    };
    // SAFETY: a live map value; the fields are readable in post_bind.
    let protocol = unsafe {
        (*entry).family = (*sock).family as u8;
        (*entry).protocol = shown_protocol((*sock).type_, (*sock).protocol as u16);
        (*entry).local_port = (*sock).src_port as u16;
        (*entry).local = address;
        if (*entry).owner.tgid == 0 {
            (*entry).owner = owner;
        }
        // Not that of the process, which may have left it since it made the socket.
        if (*entry).netns == 0 {
            (*entry).netns = socket::netns(sock);
        }
        (*entry).protocol
    };
    if !protocol::has_states(protocol) {
        emit(id, entry, RecordKind::Socket);
    }
}

/// The last file descriptor of a socket was closed: no call will use it again.
#[inline(always)]
pub fn released(id: u64) {
    let Some(entry) = SOCKETS.get_ptr_mut(id) else {
        return;
    };
    // SAFETY: a live map value.
    let (protocol, state, closed) = unsafe {
        (*entry).released = 1;
        ((*entry).protocol, (*entry).state, (*entry).closed)
    };
    if protocol::has_states(protocol) && closed == 0 && state != tcp_state::CLOSE {
        return; // its FIN is still to be sent; the state change ends it
    }
    end(id, entry);
}

/// The kernel gives up a TCP socket: no call will use it again. Reported only where no cgroup hook
/// reports its release.
#[inline(always)]
pub fn destroyed(sk: Address) -> Option<()> {
    let mut storage = MaybeUninit::uninit();
    let common = SockCommon::read(sk, &mut storage)?;
    let id = known_id(sk, common, protocol::TCP)?;
    take_alias(sk);
    let entry = SOCKETS.get_ptr_mut(id)?;
    // SAFETY: a live map value.
    let (was_released, may_go_on) = unsafe {
        let was_released = (*entry).released != 0;
        (*entry).released = 1;
        let is_open = (*entry).closed == 0 && (*entry).state != tcp_state::CLOSE;
        // Of two children of one request, see `state_changed`, the other one has the same cookie.
        let may_go_on = is_open && !is_alias(id) && GIVES_COOKIES.load() != 0;
        (was_released, may_go_on)
    };
    // One that was released had its end with its last change of state.
    if !was_released && !may_go_on {
        end(id, entry);
    }
    Some(())
}

/// Ends a socket's entry. User space deletes what was emitted, after a last look; the rest
/// goes at once.
#[inline(always)]
fn end(id: u64, entry: *mut SocketEntry) {
    // SAFETY: a live map value.
    if unsafe { (*entry).epoch } != 0 {
        emit(id, entry, RecordKind::SocketEnd);
    } else {
        let _ = SOCKETS.remove(id);
    }
}

/// The current process accepted a connection: from here on it is the owner, used or not.
#[inline(always)]
pub fn accepted(sk: Address) -> Option<()> {
    if sk == 0 {
        return None; // nothing was accepted
    }
    let mut storage = MaybeUninit::uninit();
    let common = SockCommon::read(sk, &mut storage)?;
    let owner = process::current()?;
    let protocol = socket::protocol(sk);
    let id = id(sk, common, protocol);
    let entry = entry(id)?;
    refresh(sk, common, protocol, entry);
    // SAFETY: a live map value.
    unsafe {
        (*entry).owner = owner;
        (*entry).direction = direction::INBOUND;
    }
    emit(id, entry, RecordKind::Socket);
    Some(())
}

/// A change of a connection-oriented socket's state.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct StateChange {
    pub socket: Address,
    pub old: u8,
    pub new: u8,
}

/// A connection-oriented socket changed its state. May run in a softirq: the current task is not
/// the socket's. `again` says that the change may have been taken up already; then only one that
/// its entry does not show is.
#[inline(always)]
pub fn state_changed(change: StateChange, again: bool) -> Option<()> {
    let StateChange {
        socket: sk,
        old,
        new,
    } = change;
    let mut storage = MaybeUninit::uninit();
    let common = SockCommon::read(sk, &mut storage)?;
    let protocol = socket::protocol(sk);
    if old == tcp_state::LISTEN && new == tcp_state::SYN_RECV {
        // A child that is just being made, with its listener's cookie still
        // (`inet_csk_clone_lock`).
        forget(sk);
        return None;
    }
    if common.cookie() == 0 && protocol == protocol::TCP && GIVES_COOKIES.load() != 0 {
        return None; // a child in the handshake: it gets its cookie when it is established
    }
    if old == tcp_state::SYN_RECV && new == tcp_state::CLOSE && has_no_release(sk) {
        // Two CPUs may each make a child of one request, with the request's cookie, and the second
        // one is thrown away (`inet_ehash_nolisten`): the first goes on.
        return None;
    }
    let may_have_alias =
        GIVES_COOKIES.load() == 0 || !protocol::has_own_cookie(protocol) || common.cookie() == 0;
    if may_have_alias && note_state(sk, new) {
        forget(sk);
    }
    let id = id(sk, common, protocol);
    if again && has_state(id, new) {
        return None;
    }
    logging::debug!("socket {}: state {} to {}", id, old, new);
    let entry = entry(id)?;
    // An errno fits into the lower half, which comes first here. Read as a whole and cut, it would
    // cost the verifier some 200 instructions more.
    let error = kernel::read::<u32>(sk, &SK_ERR).unwrap_or(0) as u16;
    refresh(sk, common, protocol, entry);
    if new == tcp_state::SYN_SENT && common.local_port() == 0 {
        // It may have had a port for a connection that was refused.
        // SAFETY: a live map value.
        unsafe { (*entry).local_port = 0 };
    }
    if new == tcp_state::CLOSE {
        keep_port(sk, common, entry);
    }
    let is_orphan = new == tcp_state::CLOSE && has_no_release(sk);
    // These states begin in the call of a process.
    let caller = if new == tcp_state::SYN_SENT || new == tcp_state::LISTEN {
        process::current()
    } else {
        None
    };
    // SAFETY: a live map value.
    let is_last = unsafe {
        if let Some(caller) = caller
            && (*entry).owner.tgid == 0
        {
            (*entry).owner = caller;
        }
        if is_orphan {
            (*entry).released = 1;
        }
        // The tracepoint comes before the new state is stored.
        (*entry).state = new;
        if new == tcp_state::SYN_SENT {
            (*entry).direction = direction::OUTBOUND;
            (*entry).closed = 0; // a socket may connect again after it was refused
            (*entry).uncounted_rx_bytes = if (*entry).user.tgid == 0 {
                0
            } else {
                SocketEntry::NOT_KNOWN
            };
        }
        if old == tcp_state::SYN_RECV && new == tcp_state::ESTABLISHED {
            (*entry).uncounted_rx_bytes = 0;
        }
        if old == tcp_state::SYN_RECV
            && new == tcp_state::ESTABLISHED
            && (*entry).direction == direction::UNKNOWN
        {
            (*entry).direction = direction::INBOUND;
        }
        if new == tcp_state::CLOSE {
            (*entry).closed = 1;
            (*entry).error = error;
        }
        (*entry).released != 0 || is_alias(id) && !has_release_hook(protocol)
    };
    // `tcp_v4_connect` and `tcp_v6_connect` choose the port after they set this state: `connects`
    // emits it then.
    let is_early = new == tcp_state::SYN_SENT
        && common.local_port() == 0
        && protocol == protocol::TCP
        && GIVES_COOKIES.load() != 0;
    match new {
        tcp_state::CLOSE if is_last => end(id, entry),
        tcp_state::SYN_SENT if is_early => {}
        // The states in between come with the next update.
        tcp_state::CLOSE | tcp_state::SYN_SENT | tcp_state::ESTABLISHED | tcp_state::LISTEN => {
            emit(id, entry, RecordKind::Socket);
        }
        _ => {}
    }
    Some(())
}

/// The kernel is about to send the first packet of a TCP connection (`tcp_connect`): by now the
/// socket has its local address and port.
#[inline(always)]
pub fn connects(id: u64, local: IpAddress, local_port: u16) {
    let Some(entry) = SOCKETS.get_ptr_mut(id) else {
        return;
    };
    // SAFETY: a live map value.
    unsafe {
        if (*entry).epoch != 0 && (*entry).local_port == local_port {
            return; // it was bound before, and emitted
        }
        (*entry).local = local;
        (*entry).local_port = local_port;
    }
    emit(id, entry, RecordKind::Socket);
}

/// Keeps the port of a connection that closes before anybody learned it. `tcp_set_state` gives the
/// port back (`inet_put_port`) before the tracepoint; the copy in `inet_sport` stays.
#[inline(always)]
fn keep_port(sk: Address, common: &SockCommon, entry: *mut SocketEntry) {
    // SAFETY: a live map value.
    unsafe {
        if (*entry).local_port == 0 && common.remote_port() != 0 {
            let port: u16 = kernel::read(sk, &INET_SPORT).unwrap_or(0);
            (*entry).local_port = u16::from_be(port);
            (*entry).local = common.local();
        }
    }
}

/// Takes the alias, if there is one, away from an address where another socket is now.
#[inline(always)]
fn forget(sk: Address) {
    if let Some(former) = take_alias(sk)
        && let Some(entry) = SOCKETS.get_ptr_mut(former)
    {
        // Two sweeps close it: emitted here as well, its end would treble what the verifier goes
        // through. SAFETY: a live map value.
        unsafe { (*entry).released = 1 };
    }
}

/// Whether a hook reports the release of sockets that have an alias: `sock_release` those of MPTCP,
/// `tcp_destroy_sock`, where there are no cgroup hooks, those of TCP.
#[inline(always)]
fn has_release_hook(protocol: u16) -> bool {
    if CGROUP_LIVES.load() == 0 {
        protocol == protocol::TCP
    } else {
        protocol == protocol::MPTCP
    }
}

/// Whether a socket's entry shows a state; one without an entry has nothing to close.
#[inline(always)]
fn has_state(id: u64, state: u8) -> bool {
    let entry = SOCKETS.get_ptr(id);
    // SAFETY: a live map value.
    entry.map_or(
        state == tcp_state::CLOSE,
        |entry| unsafe { (*entry).state } == state,
    )
}

/// Whether no hook reports the release of a socket: nobody has it, because it was never accepted,
/// or it is the kernel's own, such as a path of an MPTCP connection (`inet_release`).
#[inline(always)]
fn has_no_release(sk: Address) -> bool {
    let flags: u8 = kernel::read(sk, &SK_KERN_SOCK).unwrap_or(0);
    let is_kernels = flags >> (SK_KERN_SOCK_BIT.load() & 7) & 1 != 0;
    is_kernels || kernel::follow(sk, &SK_SOCKET).is_none()
}
