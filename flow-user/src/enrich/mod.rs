//! What the kernel does not say: names of users, and paths of cgroups.

pub mod cgroup;
pub mod users;
