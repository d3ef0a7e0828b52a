//! Fuzz targets: the parsers and their invariants.
//!
//! Each target parses bytes as Flow does, and panics if an invariant is violated: a result that
//! points outside of the bytes, a filter that is displayed as another filter, output that is not
//! one line of JSON. `tests/fuzz` runs them under a fuzzer, and over its seeds in unit tests. The
//! feature `fuzz` compiles this; releases do not contain it.

mod btf;
mod events;
mod filter;
mod netlink;
mod outputs;
mod proc;
mod ring;
mod scene;
mod text;

/// A parser and its invariants.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name for `cargo xtask fuzz`, and the folder of its seeds.
    pub name: &'static str,
    /// Parses the bytes; panics if an invariant is violated.
    pub run: fn(&[u8]),
}

/// All targets, by name.
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
