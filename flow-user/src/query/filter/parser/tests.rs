//! What is read, and what is a mistake.

use super::*;

fn parse(text: &str) -> Result<Option<Expr>, FilterError> {
    super::parse(text, &|name| (name == "www").then_some(33))
}

fn read(text: &str) -> String {
    parse(text).unwrap().unwrap().to_string()
}

fn error(text: &str) -> (usize, String) {
    let error = parse(text).unwrap_err();
    (error.column(), error.message().to_owned())
}

#[test]
fn and_binds_tighter_than_or_and_not_tightest() {
    assert_eq!(
        read("tcp or udp and not inbound"),
        "tcp or (udp and not inbound)"
    );
    assert_eq!(read("(tcp || udp) && !ip6"), "(tcp or udp) and not ip6");
}

#[test]
fn pcap_habits() {
    assert_eq!(read("tcp port 80"), "tcp and port 80");
    assert_eq!(
        read("ip6 src net 2001:db8::1/32"),
        "ip6 and src net 2001:db8::/32"
    );
    assert_eq!(read("dst 10.0.0.1"), "dst host 10.0.0.1");
    assert_eq!(read("portrange 8000-8080"), "port 8000-8080");
    assert_eq!(read("host ::ffff:10.0.0.1"), "host 10.0.0.1");
}

#[test]
fn a_bare_word_is_short_for_something_or_text() {
    for (text, read_as) in [
        ("10.0.0.1", "host 10.0.0.1"),
        ("fe80::1%eth0", "host fe80::1%eth0"),
        ("10.0.0.1:80", "host 10.0.0.1:80"),
        ("[::1]:80", "host [::1]:80"),
        ("10.1.2.3/8", "net 10.0.0.0/8"),
        ("443", "port 443 or pid 443"),
        ("70000", "pid 70000"),
        (":443", "port 443"),
        ("8000-8080", "port 8000-8080"),
        ("src 10.0.0.0/8", "src net 10.0.0.0/8"),
        ("dst 443", "dst port 443"),
        ("remote [::1]:80", "remote host [::1]:80"),
        ("port https", "port 443"),
        ("curl", "\"curl\""),
        ("\"443\"", "\"443\""),
        ("c?rl*", "c?rl*"),
        ("/Curl/i", "/Curl/i"),
        ("+5", "\"+5\""),
        ("99999999999", "\"99999999999\""),
        ("ended", "exited"),
        ("TCP PORT 80", "tcp and port 80"),
        ("process AND", "process AND"),
    ] {
        assert_eq!(read(text), read_as, "{text}");
    }
}

#[test]
fn side_by_side_is_and() {
    for (text, read_as) in [
        ("curl port 443", "\"curl\" and port 443"),
        ("tcp inbound", "tcp and inbound"),
        (
            "curl wget or udp 53",
            "(\"curl\" and \"wget\") or (udp and (port 53 or pid 53))",
        ),
        (
            "!curl (port 1 || port 2)",
            "not \"curl\" and (port 1 or port 2)",
        ),
        ("tcp port 80 curl", "(tcp and port 80) and \"curl\""),
        (
            "curl NOT udp AND ip OR ip6",
            "(\"curl\" and not udp and ip) or ip6",
        ),
        ("\"a\"b", "\"a\" and \"b\""),
    ] {
        assert_eq!(read(text), read_as, "{text}");
    }
}

#[test]
fn names_and_patterns() {
    assert_eq!(read("process host"), "process host");
    assert_eq!(read(r#"process "a b""#), r#"process "a b""#);
    assert_eq!(read("cgroup /system.slice"), "cgroup \"/system.slice\"");
    assert_eq!(read("cgroup /a.slice/b"), "cgroup /a.slice/b");
    assert_eq!(read("user www or user 0"), "user \"www\" or user 0");
    assert_eq!(read("process /ngi.x/i"), "process /ngi.x/i");
    assert_eq!(parse(" "), Ok(None));
}

#[test]
fn slashes_of_two_names_are_shown_as_no_regex() {
    for text in [
        r#"cgroup "/a" and cgroup "/""#,
        r#"cgroup "/a" and process *x/"#,
        r#"cgroup /a* and cgroup "\u{2f}" or process "x/\u{69}""#,
        r#"cgroup /a* and cgroup "x/\u{20}" and process *x/"#,
        r#"cgroup /a* and cgroup "x\\/y" and process *x/"#,
        r#"cgroup /a* and process "\u{2f}i (""#,
    ] {
        let filter = parse(text).unwrap();
        let shown = read(text);
        assert_eq!(parse(&shown).unwrap(), filter, "{text} shown as {shown}");
    }
}

#[test]
fn a_mistake_has_a_column_and_an_expectation() {
    let cases = [
        ("tcp porrt 80", 5, "found `porrt`; did you mean `port`?"),
        ("curl ports 80-90", 6, "did you mean `port`?"),
        ("hots 10.0.0.1", 1, "did you mean `host`?"),
        ("tcp and", 8, "expected text, or a word such as process"),
        ("tcp AND OR udp", 9, "expected text"),
        ("port htpts", 6, "did you mean `https`?"),
        ("port frobnicated", 6, "expected a port"),
        ("port 9-2", 6, "lower port first"),
        ("10.0.0.0/33", 1, "0 to 32 bits"),
        ("net 10.0.0.0/33", 5, "0 to 32 bits"),
        ("host example.org", 6, "expected an IP address"),
        (
            "src tcp",
            5,
            "expected an address, a network or a port; found `tcp`",
        ),
        ("src 70000", 5, "expected an address, a network or a port"),
        ("src prot 80", 5, "did you mean `port`?"),
        ("(tcp", 5, "expected `and`, `or` or ); found the end"),
        ("tcp)", 4, "closes nothing"),
        ("process /a(b/", 9, "unclosed group"),
        ("/a(b/", 1, "unclosed group"),
        ("process and", 9, "in quotes"),
        ("user nobody-here", 6, "no user"),
        ("state open", 7, "established"),
        ("state establised", 7, "did you mean `established`?"),
        ("pid x", 5, "process id"),
        ("src frob", 5, "expected an address"),
    ];
    for (text, column, expected) in cases {
        let (found, message) = error(text);
        assert_eq!(found, column, "{text}: {message}");
        assert!(message.contains(expected), "{text}: {message}");
    }
}

#[test]
fn size_and_depth_are_bounded() {
    assert!(error(&"(".repeat(3000)).1.contains("64 levels"));
    assert!(error(&"!".repeat(3000)).1.contains("64 levels"));
    assert!(error(&" ".repeat(5000)).1.contains("4096 bytes"));
    let regexes = vec!["process /x/"; 33].join(" or ");
    assert!(error(&regexes).1.contains("32 regular expressions"));
    assert!(parse(&format!("{}tcp{}", "(".repeat(64), ")".repeat(64))).is_ok());
}
