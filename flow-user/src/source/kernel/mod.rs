//! Where events come from when the kernel can run our programs.

pub mod btf;
pub mod environment;
pub mod limits;
pub mod probe;
pub mod trial;
