//! What must hold of the parsers, whatever bytes they are given?
//!
//! Each target reads bytes as Flow reads them and panics where a promise is broken: an answer that
//! points outside of the bytes, a filter that is shown as another filter, a line that is not one
//! line of JSON. `tests/fuzz` runs them under a fuzzer, and over its seeds in unit tests. Only the
//! feature `fuzz` compiles this; it opens nothing in what users get.

mod btf;
mod events;
mod filter;
mod netlink;
mod outputs;
mod proc;
mod ring;
mod scene;
mod text;

/// A parser, and what must hold of it.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// As `cargo xtask fuzz` calls it, and the folder of its seeds.
    pub name: &'static str,
    /// Reads the bytes; panics where a promise is broken.
    pub run: fn(&[u8]),
}

/// Every target, by name.
pub const TARGETS: [Target; 9] = [
    target("btf", btf::run),
    target("events", events::run),
    target("filter", filter::run),
    target("names", outputs::run),
    target("netlink", netlink::route),
    target("proc", proc::run),
    target("ring", ring::run),
    target("sock-diag", netlink::sock_diag),
    target("text", text::run),
];

const fn target(name: &'static str, run: fn(&[u8])) -> Target {
    Target { name, run }
}
