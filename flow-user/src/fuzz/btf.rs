//! The kernel's type information.

use std::str;

use crate::source::kernel::{btf::Btf, offsets};

/// Names from the data that are asked for, each of each.
const NAMES: usize = 6;

/// Every question ends, and its answer makes sense.
pub fn run(bytes: &[u8]) {
    let Ok(btf) = Btf::parse(bytes) else {
        return;
    };
    let _offsets = offsets::resolve(&btf);
    let names: Vec<&str> = bytes
        .split(|byte| *byte == 0)
        .rev()
        .filter_map(|name| str::from_utf8(name).ok())
        .filter(|name| (1..64).contains(&name.len()))
        .take(NAMES)
        .collect();
    for name in &names {
        if let Some(function) = btf.function(name) {
            assert!(function.type_id != 0 && function.parameters <= usize::from(u16::MAX));
        }
        let tracepoint = name.strip_prefix("btf_trace_").unwrap_or(name);
        assert!(btf.tracepoint(tracepoint).unwrap_or(0) < usize::from(u16::MAX));
        for member in &names {
            ask(&btf, name, member);
            ask(&btf, name, &format!("{member}[1]"));
            ask(&btf, name, &format!("{member}.{name}[0].{member}"));
        }
    }
    // Cut short, it is refused or answers less.
    let _cut = Btf::parse(&bytes[..bytes.len() / 2]);
}

fn ask(btf: &Btf, structure: &str, path: &str) {
    if let Some(member) = btf.member(structure, path) {
        assert_eq!(member.byte_offset, member.bit_offset / 8);
    }
}
