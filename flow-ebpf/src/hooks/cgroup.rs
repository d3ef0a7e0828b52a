//! Programs of the cgroup v2 root: lifecycle of sockets, peers of datagrams, packets of sockets.

use core::ptr;

use aya_ebpf::{
    bindings::{BPF_SOCK_OPS_TCP_CONNECT_CB, bpf_sock_addr},
    helpers::{bpf_get_current_pid_tgid, generated::bpf_get_socket_cookie},
    programs::{SkBuffContext, SockAddrContext, SockContext, SockOpsContext},
};
use flow_common::{Class, IpAddress, Loss, protocol};

use crate::{
    accounting,
    credit::{self, Taker},
    inflight::{self, Call, Dir, Peer},
    ipsec,
    kernel::{self, AF_INET6, Address, HOST_NETNS, SOCK_ADDR_UADDR, is_inet},
    lifecycle, link,
    maps::lose,
    network, packet, peer, process,
    sight::{self, FRAGMENTS, IPSEC},
    socket::{self, NoEntry, address6},
    socket_id, stack, verdict,
};

/// A socket was created by the current process.
#[inline(always)]
pub fn sock_create(ctx: &SockContext) -> Option<()> {
    if !is_inet(family(ctx)) || !has_own_cookie(ctx) {
        return None;
    }
    // SAFETY: the program's context.
    let cookie = unsafe { bpf_get_socket_cookie(ctx.sock.cast()) };
    let owner = process::current()?;
    lifecycle::created(cookie, ctx.sock, owner);
    Some(())
}

/// A socket's last file descriptor was closed.
#[inline(always)]
pub fn sock_release(ctx: &SockContext) -> Option<()> {
    let id = if has_own_cookie(ctx) {
        // SAFETY: the program's context.
        unsafe { bpf_get_socket_cookie(ctx.sock.cast()) }
    } else {
        // `__cgroup_bpf_run_filter_sk` hands the socket itself over as the context (6.1 to 6.18).
        socket_id::alias(ctx.sock as Address)?
    };
    lifecycle::released(id);
    Some(())
}

/// A socket got its local address and port.
#[inline(always)]
pub fn post_bind4(ctx: &SockContext) -> Option<()> {
    // SAFETY: the program's context, whose IPv4 address post_bind4 may read.
    let address = IpAddress::mapped(unsafe { (*ctx.sock).src_ip4 });
    post_bind(ctx, address)
}

/// As [`post_bind4`], for IPv6.
#[inline(always)]
pub fn post_bind6(ctx: &SockContext) -> Option<()> {
    // SAFETY: the program's context, whose IPv6 address post_bind6 may read.
    let address = unsafe { address6(&raw const (*ctx.sock).src_ip6) };
    post_bind(ctx, address)
}

#[inline(always)]
fn post_bind(ctx: &SockContext, address: IpAddress) -> Option<()> {
    if !has_own_cookie(ctx) {
        return None;
    }
    // SAFETY: the program's context.
    let cookie = unsafe { bpf_get_socket_cookie(ctx.sock.cast()) };
    let owner = process::current()?;
    lifecycle::bound(cookie, ctx.sock, address, owner);
    Some(())
}

/// The current process is about to connect a socket.
#[inline(always)]
pub fn connect(ctx: &SockAddrContext) -> Option<()> {
    let (cookie, family) = addressed(ctx);
    // SAFETY: a field of the context.
    let protocol = unsafe { (*ctx.sock_addr).protocol };
    if !protocol::has_own_cookie(protocol as u16) {
        return None;
    }
    let owner = process::current()?;
    // SAFETY: as above.
    let (kind, sock) = unsafe { ((*ctx.sock_addr).type_, (*ctx.sock_addr).__bindgen_anon_1.sk) };
    lifecycle::connecting(
        cookie,
        family,
        socket::shown_protocol(kind, protocol as u16),
        owner,
        sock,
    );
    Some(())
}

/// The current process is sending a datagram to, or has received one from, an IPv4 address.
#[inline(always)]
pub fn datagram4(ctx: &SockAddrContext, dir: Dir) {
    // SAFETY: a field of the context.
    let mut address = unsafe { (*ctx.sock_addr).user_ip4 };
    if dir == Dir::Tx && address == 0 {
        // SAFETY: a field that sendmsg4 may read.
        address = peer::own_address(unsafe { (*ctx.sock_addr).msg_src_ip4 });
    }
    note(ctx, IpAddress::mapped(address), dir);
}

/// As [`datagram4`], for IPv6.
#[inline(always)]
pub fn datagram6(ctx: &SockAddrContext, dir: Dir) {
    // SAFETY: a field of the context.
    let address = unsafe { address6(&raw const (*ctx.sock_addr).user_ip6) };
    note(ctx, address, dir);
}

/// Keeps the peer until the call returns.
#[inline(always)]
fn note(ctx: &SockAddrContext, address: IpAddress, dir: Dir) {
    let (cookie, _) = addressed(ctx);
    // SAFETY: a field of the context.
    let port = unsafe { (*ctx.sock_addr).user_port };
    let call = Call {
        socket: cookie,
        message: 0,
        peer: Peer {
            address,
            port: u16::from_be(port as u16),
            padding: 0,
            zone: if address.has_zone() { zone(ctx) } else { 0 },
        },
        peer_known: 1,
        skip: 0,
        is_send: u8::from(dir == Dir::Tx),
        under_way: 1,
        from_packet: 0,
        padding: 0,
    };
    inflight::note(bpf_get_current_pid_tgid(), &call);
}

/// The zone of the address that a call names or gets. The context that programs see does not have
/// it, the kernel's own, which is at the same place, leads to it.
#[inline(always)]
fn zone(ctx: &SockAddrContext) -> u32 {
    let name = kernel::follow(ctx.sock_addr as Address, &SOCK_ADDR_UADDR);
    name.map_or(0, peer::scope_of_name)
}

#[inline(always)]
fn addressed(ctx: &SockAddrContext) -> (u64, u16) {
    let context: *mut bpf_sock_addr = ctx.sock_addr;
    // SAFETY: the program's context.
    unsafe {
        (
            bpf_get_socket_cookie(context.cast()),
            (*context).family as u16,
        )
    }
}

#[inline(always)]
fn family(ctx: &SockContext) -> u16 {
    // SAFETY: a field of the context.
    unsafe { (*ctx.sock).family as u16 }
}

/// Whether no other socket has this one's cookie. Asking for one would give it to a listener's
/// children as well.
#[inline(always)]
fn has_own_cookie(ctx: &SockContext) -> bool {
    // SAFETY: a field of the context.
    let protocol = unsafe { (*ctx.sock).protocol };
    protocol::has_own_cookie(protocol as u16)
}

/// Something happened to a TCP connection. A child of a listening socket gets its cookie here,
/// before it changes its state to established and before anybody accepts it. One that is about to
/// send its first packet has its local address by now.
#[inline(always)]
pub fn sock_ops(ctx: &SockOpsContext) {
    // SAFETY: the program's context, and fields that it may read.
    unsafe {
        let cookie = bpf_get_socket_cookie(ctx.ops.cast());
        if (*ctx.ops).op != BPF_SOCK_OPS_TCP_CONNECT_CB {
            return;
        }
        let local = if (*ctx.ops).family == u32::from(AF_INET6) {
            address6(&raw const (*ctx.ops).local_ip6)
        } else {
            IpAddress::mapped((*ctx.ops).local_ip4)
        };
        lifecycle::connects(cookie, local, (*ctx.ops).local_port as u16);
    }
}

/// A packet reached its socket.
#[inline(always)]
pub fn ingress(ctx: &SkBuffContext) -> Option<()> {
    packet(ctx, Dir::Rx)
}

/// A packet left its socket.
#[inline(always)]
pub fn egress(ctx: &SkBuffContext) -> Option<()> {
    packet(ctx, Dir::Tx)
}

#[inline(always)]
fn packet(ctx: &SkBuffContext, dir: Dir) -> Option<()> {
    let skb = ctx.skb.skb;
    // SAFETY: the program's context and fields it may read.
    let (sock, ifindex) = unsafe { ((*skb).__bindgen_anon_2.sk, (*skb).ifindex) };
    if sock.is_null() {
        return None;
    }
    let mut cookie = kernel::cookie_of(sock);
    if cookie == 0 {
        // SAFETY: the program's context.
        cookie = unsafe { bpf_get_socket_cookie(skb.cast()) };
    }
    if cookie == 0 {
        return None;
    }
    let mut packet = packet::measure_of_socket(skb);
    let (entry, netns) = match socket::of_packet(cookie, sock, ifindex) {
        Ok(entry) => {
            if verdict::is_refused(skb, entry, dir) {
                return None;
            }
            // SAFETY: a live map value.
            let protocol = unsafe { (*entry).protocol };
            // TCP makes none: it asks for the path's MTU first.
            if protocol != protocol::TCP {
                packet = match dir {
                    Dir::Tx => packet.fragmented(skb, protocol == protocol::UDP),
                    Dir::Rx if sight::has_seen(FRAGMENTS) => {
                        stack::unfollowed_packet(packet.reassembled(skb))
                    }
                    Dir::Rx => packet,
                };
            }
            if dir == Dir::Rx && sight::has_seen(IPSEC) {
                let encrypted = ipsec::as_it_came(skb, packet);
                let encrypted = stack::unfollowed_packet(encrypted);
                accounting::wire(entry, dir, &encrypted);
                if !link::decrypts(ifindex) {
                    packet = encrypted;
                }
            } else if dir == Dir::Rx
                // SAFETY: as above.
                || !link::encrypts(ifindex, unsafe { (*entry).netns })
            {
                accounting::wire(entry, dir, &packet);
            }
            peer::of_packet(skb, dir, cookie, sock, entry);
            // SAFETY: a live map value.
            (entry, unsafe { (*entry).netns })
        }
        Err(NoEntry::Kernel) => return None,
        Err(NoEntry::Full) => {
            let bytes = packet.bytes + packet.header_bytes;
            if dir == Dir::Tx {
                lose(Loss::SocketFullTx, bytes);
                return None;
            }
            lose(Loss::SocketFullRx, bytes);
            (ptr::null_mut(), socket::netns(sock))
        }
    };
    // SAFETY: a field of the context.
    let start = unsafe { (*skb).data as u64 };
    let taker = Taker::OneOf { skb, sock };
    if dir == Dir::Tx {
        stack::sent(start, sock, netns);
    } else if netns != HOST_NETNS.load() {
        stack::delivered_elsewhere(netns, ifindex, taker, start, &packet);
    } else if !network::is_looped_back(skb) {
        // TC ingress does not know the socket yet; egress is counted there.
        credit::credit(ifindex, Class::Socket, taker, start, &packet);
    }
    if !entry.is_null() {
        socket::emit_once_per_epoch(cookie, entry);
    }
    Some(())
}
