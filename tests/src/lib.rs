//! The traffic generator, the live tests, and the guest that runs them under another kernel.

pub mod guest;
