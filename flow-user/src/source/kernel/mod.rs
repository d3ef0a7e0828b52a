//! Where events come from when the kernel can run our programs.

pub mod btf;
