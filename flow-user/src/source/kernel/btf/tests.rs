use proptest::prelude::*;

use super::*;

/// Writes BTF by hand.
#[derive(Default)]
struct Blob {
    types: Vec<u8>,
    strings: Vec<u8>,
    count: u32,
}

impl Blob {
    fn new() -> Self {
        Self {
            strings: vec![0],
            ..Self::default()
        }
    }

    fn string(&mut self, text: &str) -> u32 {
        if text.is_empty() {
            return 0;
        }
        let offset = u32::try_from(self.strings.len()).unwrap();
        self.strings.extend_from_slice(text.as_bytes());
        self.strings.push(0);
        offset
    }

    fn ty(&mut self, name: &str, info: u32, size_or_type: u32, tail: &[u32]) -> u32 {
        let name = self.string(name);
        for word in [name, info, size_or_type].iter().chain(tail) {
            self.types.extend_from_slice(&word.to_ne_bytes());
        }
        self.count += 1;
        self.count
    }

    /// `members`: name, type, offset word.
    fn record(&mut self, kind: u32, name: &str, size: u32, members: &[(&str, u32, u32)]) -> u32 {
        let mut tail = Vec::new();
        for (name, ty, offset) in members {
            tail.extend([self.string(name), *ty, *offset]);
        }
        let vlen = u32::try_from(members.len()).unwrap();
        self.ty(name, kind << 24 | vlen, size, &tail)
    }

    fn bytes(&self) -> Vec<u8> {
        let types = u32::try_from(self.types.len()).unwrap();
        let strings = u32::try_from(self.strings.len()).unwrap();
        let mut out = Vec::new();
        out.extend_from_slice(&0xeb9f_u16.to_ne_bytes());
        out.extend_from_slice(&[1, 0]);
        for word in [24, 0, types, types, strings] {
            out.extend_from_slice(&u32::to_ne_bytes(word));
        }
        out.extend_from_slice(&self.types);
        out.extend_from_slice(&self.strings);
        out
    }
}

fn sample() -> Vec<u8> {
    let mut blob = Blob::new();
    let int = blob.ty("unsigned int", kind::INT << 24, 4, &[32]);
    let short = blob.ty("unsigned short", kind::INT << 24, 2, &[16]);
    let array = blob.ty("", kind::ARRAY << 24, 0, &[int, int, 4]);
    let qualified = blob.ty("", kind::CONST << 24, short, &[]);
    let alias = blob.ty("port_t", kind::TYPEDEF << 24, qualified, &[]);
    let inner = blob.record(
        kind::STRUCT,
        "",
        4,
        &[("dport", alias, 0), ("num", short, 16)],
    );
    let anonymous = blob.record(kind::UNION, "", 4, &[("portpair", int, 0), ("", inner, 0)]);
    let common = blob.record(
        kind::STRUCT,
        "common",
        24,
        &[("daddr", int, 0), ("", anonymous, 32), ("words", array, 64)],
    );
    let pointer = blob.ty("", kind::PTR << 24, common, &[]);
    blob.record(
        kind::STRUCT,
        "sock",
        40,
        &[("__common", common, 0), ("next", pointer, 192)],
    );
    // Bit fields of today: 3 bits from bit 5 of an int.
    let name = blob.string("flags");
    blob.ty(
        "bits",
        1 << 31 | kind::STRUCT << 24 | 1,
        4,
        &[name, int, 3 << 24 | 5],
    );
    let parameter = blob.string("x");
    let prototype = blob.ty(
        "",
        kind::FUNC_PROTO << 24 | 3,
        int,
        &[parameter, int, parameter, int, parameter, pointer],
    );
    blob.ty("send", kind::FUNC << 24, prototype, &[]);
    let handler = blob.ty("", kind::PTR << 24, prototype, &[]);
    blob.ty("btf_trace_length", kind::TYPEDEF << 24, handler, &[]);
    // The remaining kinds, to be stepped over.
    blob.ty("e", kind::ENUM << 24 | 1, 4, &[0, 7]);
    blob.ty("e64", kind::ENUM64 << 24 | 1, 8, &[0, 7, 0]);
    blob.ty("f", kind::FLOAT << 24, 8, &[]);
    blob.ty("fwd", kind::FWD << 24, 0, &[]);
    blob.ty("var", kind::VAR << 24, int, &[0]);
    blob.ty("sec", kind::DATASEC << 24 | 1, 4, &[int, 0, 4]);
    blob.ty("tag", kind::DECL_TAG << 24, common, &[0]);
    blob.ty("user", kind::TYPE_TAG << 24, int, &[]);
    blob.record(kind::STRUCT, "last", 4, &[("x", int, 0)]);
    blob.bytes()
}

fn bytes_at(btf: &Btf, name: &str, path: &str) -> Option<(u32, u32)> {
    btf.member(name, path)
        .map(|member| (member.byte_offset, member.byte_size))
}

#[test]
fn members_are_found_through_nested_and_anonymous_types() {
    let btf = Btf::parse(&sample()).unwrap();
    assert_eq!(bytes_at(&btf, "common", "daddr"), Some((0, 4)));
    assert_eq!(bytes_at(&btf, "common", "dport"), Some((4, 2)));
    assert_eq!(bytes_at(&btf, "common", "num"), Some((6, 2)));
    assert_eq!(bytes_at(&btf, "sock", "__common.num"), Some((6, 2)));
    assert_eq!(bytes_at(&btf, "sock", "next"), Some((24, 8)));
    assert_eq!(bytes_at(&btf, "sock", "__common.words"), Some((8, 16)));
    assert_eq!(bytes_at(&btf, "sock", "__common.words[3]"), Some((20, 4)));
    assert_eq!(bytes_at(&btf, "last", "x"), Some((0, 4)));
}

#[test]
fn what_is_not_there_is_none() {
    let btf = Btf::parse(&sample()).unwrap();
    for (name, path) in [
        ("nothing", "x"),
        ("sock", "nothing"),
        ("sock", "next.daddr"),
        ("sock", "__common.words[4]"),
        ("sock", "__common.daddr[0]"),
        ("sock", "__common.words[x]"),
        ("sock", "__common.words["),
        ("sock", ""),
        ("", "x"),
        ("send", "x"),
    ] {
        assert_eq!(btf.member(name, path), None, "{name} {path}");
    }
    assert_eq!(btf.function("sock"), None);
    assert_eq!(btf.tracepoint("nothing"), None);
}

#[test]
fn bit_fields_keep_their_bits() {
    let member = Btf::parse(&sample())
        .unwrap()
        .member("bits", "flags")
        .unwrap();
    assert!(member.is_bit_field());
    assert_eq!(
        (member.bit_offset, member.bit_size, member.byte_size),
        (5, 3, 4)
    );
}

#[test]
fn functions_and_tracepoints_tell_their_parameters() {
    let btf = Btf::parse(&sample()).unwrap();
    assert_eq!(btf.function("send").unwrap().parameters, 3);
    assert_eq!(btf.tracepoint("length"), Some(2));
}

#[test]
fn cycles_end() {
    let mut blob = Blob::new();
    // 1: const -> 2, 2: const -> 1; 3: a struct whose 400 anonymous members are itself;
    // 4: an array of itself.
    blob.ty("", kind::CONST << 24, 2, &[]);
    blob.ty("", kind::CONST << 24, 1, &[]);
    let members: Vec<_> = (0..400).map(|_| ("", 3, 0)).collect();
    blob.record(kind::STRUCT, "loop", 4, &members);
    blob.ty("", kind::ARRAY << 24, 0, &[4, 4, 2]);
    blob.record(kind::STRUCT, "user", 4, &[("q", 1, 0), ("a", 4, 0)]);
    let btf = Btf::parse(&blob.bytes()).unwrap();
    assert_eq!(btf.member("loop", "x"), None);
    assert_eq!(btf.member("user", "q"), None);
    assert_eq!(btf.member("user", "a"), None);
    assert_eq!(btf.member("user", "a[1]"), None);
}

#[test]
fn what_is_longer_than_a_name_is_none() {
    let mut blob = Blob::new();
    let int = blob.ty("int", kind::INT << 24, 4, &[32]);
    let (short, long) = ("n".repeat(MAX_NAME_BYTES - 1), "n".repeat(MAX_NAME_BYTES));
    blob.record(kind::STRUCT, &short, 4, &[("x", int, 0)]);
    blob.record(kind::STRUCT, &long, 4, &[("x", int, 0)]);
    let btf = Btf::parse(&blob.bytes()).unwrap();
    assert_eq!(bytes_at(&btf, &short, "x"), Some((0, 4)));
    assert_eq!(bytes_at(&btf, &long, "x"), None);
}

/// As long as a question took for one struct, it took for each of the same name.
#[test]
fn structs_of_one_name_share_the_bound() {
    let mut blob = Blob::new();
    let int = blob.ty("int", kind::INT << 24, 4, &[32]);
    let members: Vec<_> = (0..60_000).map(|_| ("other", int, 0)).collect();
    let inner = blob.record(kind::STRUCT, "", 4, &members);
    for _ in 0..2 {
        blob.record(kind::STRUCT, "s", 4, &[("", inner, 0)]);
    }
    blob.record(kind::STRUCT, "s", 4, &[("x", int, 0)]);
    let btf = Btf::parse(&blob.bytes()).unwrap();
    assert_eq!(btf.member("s", "x"), None);
}

#[test]
fn every_truncation_is_an_error() {
    let bytes = sample();
    for length in 0..bytes.len() {
        assert!(Btf::parse(&bytes[..length]).is_err(), "{length} bytes");
    }
}

#[test]
fn foreign_headers_are_told_apart() {
    let mut bytes = sample();
    bytes.swap(0, 1);
    assert!(matches!(Btf::parse(&bytes), Err(BtfError::Magic(0x9feb))));
    let mut bytes = sample();
    bytes[2] = 9;
    assert!(matches!(Btf::parse(&bytes), Err(BtfError::Version(9))));
}

proptest! {
    #[test]
    fn no_mutation_panics(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..24)) {
        let mut bytes = sample();
        for (index, value) in changes {
            let index = index.index(bytes.len());
            bytes[index] = value;
        }
        if let Ok(btf) = Btf::parse(&bytes) {
            for path in ["daddr", "__common.num", "words[1]", "flags", "x", "__common.words[3]"] {
                for name in ["common", "sock", "bits", "last"] {
                    let _ = btf.member(name, path);
                }
            }
            let _ = (btf.function("send"), btf.tracepoint("length"));
        }
    }
}

#[test]
fn the_running_kernel_has_the_fields_that_never_move() {
    let btf = match Btf::from_kernel() {
        Ok(btf) => btf,
        // A kernel without BTF is a finding of the probe, not a fault of the reader.
        Err(BtfError::Read(error)) => {
            eprintln!("this kernel has no BTF: {error}");
            return;
        }
        Err(error) => panic!("{error}"),
    };
    assert_eq!(
        bytes_at(&btf, "sock", "__sk_common.skc_family"),
        Some((16, 2))
    );
    assert_eq!(bytes_at(&btf, "sock_common", "skc_daddr"), Some((0, 4)));
    if cfg!(target_arch = "x86_64") {
        assert_eq!(bytes_at(&btf, "sock_common", "skc_cookie"), Some((88, 8)));
    }
    assert_eq!(btf.function("inet_sendmsg").unwrap().parameters, 3);
    assert!(bytes_at(&btf, "tcp_sock", "rtt_min.s[0].v").is_some());
    assert!(bytes_at(&btf, "file", "f_path.dentry").is_some());
    assert_eq!(btf.tracepoint("inet_sock_set_state"), Some(3));
}
