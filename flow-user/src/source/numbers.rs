//! The kernel's numbers of protocols and states of sockets.

use flow_common::{protocol, tcp_state};

use crate::event::{Protocol, State};

/// Protocols with the number of their own by which sockets name them.
const PROTOCOLS: [(u16, Protocol); 7] = [
    (protocol::TCP, Protocol::Tcp),
    (protocol::UDP, Protocol::Udp),
    (protocol::MPTCP, Protocol::Mptcp),
    (protocol::SCTP, Protocol::Sctp),
    (protocol::UDPLITE, Protocol::Udplite),
    (libc::IPPROTO_ICMP as u16, Protocol::Icmp),
    (libc::IPPROTO_ICMPV6 as u16, Protocol::Icmp6),
];

/// States with their numbers; of two numbers for one state the first is written.
const STATES: [(u8, State); 13] = [
    (tcp_state::ESTABLISHED, State::Established),
    (tcp_state::SYN_SENT, State::SynSent),
    (tcp_state::SYN_RECV, State::SynReceived),
    (tcp_state::FIN_WAIT1, State::FinWait1),
    (tcp_state::FIN_WAIT2, State::FinWait2),
    (tcp_state::TIME_WAIT, State::TimeWait),
    (tcp_state::CLOSE, State::Closed),
    (tcp_state::CLOSE_WAIT, State::CloseWait),
    (tcp_state::LAST_ACK, State::LastAck),
    (tcp_state::LISTEN, State::Listen),
    (tcp_state::CLOSING, State::Closing),
    (tcp_state::NEW_SYN_RECV, State::SynReceived),
    (tcp_state::BOUND_INACTIVE, State::Closed),
];

/// The protocol of an IP socket. `None` for one that has no name here: it is of raw IP.
pub fn protocol(number: u16) -> Option<Protocol> {
    let known = PROTOCOLS.iter().find(|(known, _)| *known == number);
    known.map(|(_, protocol)| *protocol)
}

/// The reverse of [`protocol`]: for raw sockets the number of raw IP, and 0 for packet sockets.
pub fn protocol_number(protocol: Protocol) -> u16 {
    let unnamed = match protocol {
        Protocol::Packet => 0,
        _ => protocol::RAW,
    };
    let known = PROTOCOLS.iter().find(|(_, known)| *known == protocol);
    known.map_or(unnamed, |(number, _)| *number)
}

/// The state of a socket. `None` if the kernel has a state that Flow does not know.
pub fn state(protocol: Protocol, number: u8) -> Option<State> {
    if !protocol.has_tcp_states() {
        return Some(if number == tcp_state::ESTABLISHED {
            State::Established
        } else {
            State::Unconnected
        });
    }
    let known = STATES.iter().find(|(known, _)| *known == number);
    known.map(|(_, state)| *state)
}

/// The reverse of [`state`].
pub fn state_number(state: State) -> u8 {
    let known = STATES.iter().find(|(_, known)| *known == state);
    known.map_or(tcp_state::CLOSE, |(number, _)| *number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_and_protocols_have_their_numbers() {
        for (number, known) in PROTOCOLS {
            assert_eq!(protocol(number), Some(known));
            assert_eq!(protocol_number(known), number);
        }
        assert_eq!(protocol(protocol::DCCP), None);
        assert_eq!(protocol_number(Protocol::Raw), protocol::RAW);
        assert_eq!(protocol_number(Protocol::Packet), 0);
        for (number, known) in STATES {
            assert_eq!(state(Protocol::Tcp, number), Some(known));
            assert_eq!(state(Protocol::Tcp, state_number(known)), Some(known));
        }
        assert_eq!(state(Protocol::Tcp, 14), None);
        assert_eq!(
            state(Protocol::Udp, tcp_state::ESTABLISHED),
            Some(State::Established)
        );
        assert_eq!(
            state(Protocol::Udp, tcp_state::CLOSE),
            Some(State::Unconnected)
        );
        assert_eq!(state_number(State::Unconnected), tcp_state::CLOSE);
    }
}
