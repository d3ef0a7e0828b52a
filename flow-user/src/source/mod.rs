//! Where events come from.

pub mod kernel;
pub mod netlink;
pub mod proc;
