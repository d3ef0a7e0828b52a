//! The tests of Flow: a traffic generator whose processes print what their calls returned, and live
//! tests that compare Flow's numbers with these, byte for byte.
//!
//! - [`generate`]: the modes of traffic; one function each.
//! - [`truth`]: what a process of the generator prints.
//! - [`bench`]: benchmarks of Flow; one line of a table for each part.
//! - [`live`]: the live tests; one line of a table each.
//! - [`guest`]: the init of a virtual machine that runs them under another kernel.

pub mod bench;
mod bpf;
pub mod generate;
pub mod guest;
pub mod live;
pub mod time_namespace;
pub mod truth;
