//! Where events come from.

pub mod boottime;
pub mod cgroups;
pub mod interfaces;
pub mod kernel;
pub mod mountinfo;
pub mod netlink;
pub mod netns;
pub mod numbers;
pub mod proc;
pub mod seed;
pub mod sock_destroy;
pub mod sock_diag;
pub mod titles;
