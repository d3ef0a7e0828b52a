//! Asks the outside what the kernel does not tell: names of users and of cgroups.

pub mod cgroup;
pub mod users;
