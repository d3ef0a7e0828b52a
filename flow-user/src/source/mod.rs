//! Where events come from.

pub mod kernel;
pub mod mountinfo;
pub mod netlink;
pub mod sock_diag;
