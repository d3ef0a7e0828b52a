//! States of TCP sockets, as `include/net/tcp_states.h` numbers them. Sockets of other protocols
//! borrow `ESTABLISHED` for connected and `CLOSE` for not connected.

pub const ESTABLISHED: u8 = 1;
pub const SYN_SENT: u8 = 2;
pub const SYN_RECV: u8 = 3;
pub const FIN_WAIT1: u8 = 4;
pub const FIN_WAIT2: u8 = 5;
pub const TIME_WAIT: u8 = 6;
pub const CLOSE: u8 = 7;
pub const CLOSE_WAIT: u8 = 8;
pub const LAST_ACK: u8 = 9;
pub const LISTEN: u8 = 10;
pub const CLOSING: u8 = 11;
/// A request that has not become a socket yet.
pub const NEW_SYN_RECV: u8 = 12;
/// A port that is bound, and has no socket any more or none yet.
pub const BOUND_INACTIVE: u8 = 13;
