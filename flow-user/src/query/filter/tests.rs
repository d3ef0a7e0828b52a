//! What the language means, on flows, processes and interfaces made by hand.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use proptest::prelude::*;

use super::{
    operand::Net,
    short::SHORT,
    text::Text,
    words::{Side, TEXT, WORDS, Word},
    *,
};
use crate::{
    event::{CloseReason, Direction, Instant, State},
    query::fixture,
};

fn uid_of(name: &str) -> Option<u32> {
    (!name.starts_with("no")).then_some(33)
}

fn filter(text: &str) -> Filter {
    Filter::parse(text, &uid_of).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn a_zone_distinguishes_hosts_of_the_same_address() {
    let process = fixture::process(7, "/usr/bin/ping", &["ping"]);
    let mut flow = fixture::flow(1, &process, "[fe80::11]:9", Some("[fe80::99%3]:7005"));
    flow.interface = Some("v0".into());
    flow.zone = Some("v0".into());
    for yes in [
        "host fe80::99%v0",
        "remote fe80::99%v0",
        "dst host fe80::99%3",
        "host fe80::99",
        "host \"fe80::99%v0\"",
        "local host fe80::11%v0",
        "net fe80::/10",
    ] {
        assert!(filter(yes).matches_flow(&flow), "{yes}");
    }
    for no in [
        "host fe80::99%v1",
        "host fe80::99%4",
        "local fe80::99%v0",
        "host fe80::11%v1",
    ] {
        assert!(!filter(no).matches_flow(&flow), "{no}");
    }
    assert_eq!(flow.remote_text().unwrap(), "[fe80::99%v0]:7005");
    flow.zone = None;
    assert_eq!(flow.remote_text().unwrap(), "[fe80::99%3]:7005");
    assert!(filter("host fe80::99%3").matches_flow(&flow));
    assert!(!filter("host fe80::99%v0").matches_flow(&flow));
    for wrong in [
        "host 10.0.0.1%v0",
        "host fe80::1%",
        "host ::ffff:10.0.0.1%v0",
        "host %v0",
    ] {
        assert!(Filter::parse(wrong, &uid_of).is_err(), "{wrong}");
    }
}

#[test]
fn flows() {
    // An outbound flow of curl, user 1000: 10.0.0.2:50000 -> 198.51.100.9:443.
    let curl = fixture::process(41007, "/usr/bin/curl", &["curl", "-O", "https://x"]);
    let mut flow = fixture::flow(1, &curl, "10.0.0.2:50000", Some("198.51.100.9:443"));
    flow.direction = Some(Direction::Outbound);
    for yes in [
        "",
        "tcp port 443",
        "dst port 443 and src port 50000",
        "src host 10.0.0.2",
        "dst 198.51.100.9",
        "remote net 198.51.100.0/24",
        "local port 49152-65535",
        "ip",
        "not ip6",
        "process curl",
        "process cu?l",
        "process /usr/bin/curl",
        "process /HTTPS:/i",
        "pid 41007",
        "user 1000",
        "cgroup /user.slice",
        "cgroup /session-.*scope$/",
        "state established and outbound",
        "interface eth*",
        "host 198.51.100.9 or process nobody",
    ] {
        assert!(filter(yes).matches_flow(&flow), "{yes}");
    }
    for no in [
        "udp",
        "src port 443",
        "dst host 10.0.0.2",
        "process curl*y",
        "process https",
        "user www",
        "cgroup /user",
        "inbound",
        "state listen",
        "not (tcp and port 443)",
    ] {
        assert!(!filter(no).matches_flow(&flow), "{no}");
    }
    flow.direction = Some(Direction::Inbound);
    assert!(filter("src port 443 and dst port 50000").matches_flow(&flow));
    flow.direction = None;
    assert!(filter("dst port 443 and src port 50000").matches_flow(&flow));
}

/// Every expression in the guide is read as the guide says.
#[test]
fn the_guide_is_right() {
    let guide = include_str!("../../../../docs/filter.md");
    let (quoted, mut read) = (guide.split("--filter '").skip(1), 0);
    for expression in quoted.filter_map(|rest| rest.split('\'').next()) {
        filter(expression);
        read += 1;
    }
    let blocks: Vec<&str> = guide.split("```").collect();
    let examples = [blocks[3], blocks[5]].into_iter().flat_map(str::lines);
    for expression in examples.filter(|line| !line.is_empty()) {
        match Filter::parse(expression, &uid_of) {
            Ok(_) => read += 1,
            Err(error) => assert_eq!(error.to_string(), blocks[7].trim()),
        }
    }
    assert_eq!(read, 16);
}

/// The guide has every word and every short form.
#[test]
fn the_guide_is_complete() {
    let guide = include_str!("../../../../docs/filter.md");
    for word in WORDS {
        let quoted = [format!("`{}`", word.name), format!("`{} ", word.name)];
        let is_there = quoted.iter().any(|it| guide.contains(it.as_str()));
        assert!(is_there, "{}", word.name);
    }
    for short in &SHORT {
        assert!(
            guide.contains(&format!("`{}`", short.form)),
            "{}",
            short.form
        );
    }
}

/// An outbound flow of curl, user deploy: 10.0.0.2:50000 -> 198.51.100.9:443.
fn download() -> Flow {
    let curl = fixture::process(41007, "/usr/bin/curl", &["curl", "-O", "https://x/y z"]);
    let mut curl = Process::clone(&curl);
    curl.user = Some("deploy".into());
    let mut flow = fixture::flow(
        1,
        &Arc::new(curl),
        "10.0.0.2:50000",
        Some("198.51.100.9:443"),
    );
    flow.direction = Some(Direction::Outbound);
    flow
}

#[test]
fn a_bare_word_is_text_in_all_that_is_told() {
    let flow = download();
    for yes in [
        "curl",
        "CURL",
        "url",
        "https://X",
        "-o",
        "Deploy",
        "session-44",
        "198.51",
        "100.9:44",
        "/usr/bin/c",
        "\"curl\"",
        "\"-o https\"",
        "\"y z\"",
        "\"44\"",
        "c?rl",
        "-O*x",
        "/^cur/",
        "/10[.]0/",
        "not wget",
        "curl deploy https",
    ] {
        assert!(filter(yes).matches_flow(&flow), "{yes}");
    }
    for no in [
        "wget", "usr/binc", "1000", "eth0", "198.52", "\"O  h\"", "/CUR/", "c?l",
    ] {
        assert!(!filter(no).matches_flow(&flow), "{no}");
    }
    let mut unowned = flow;
    unowned.process = None;
    assert!(filter("198.51").matches_flow(&unowned));
    assert!(!filter("curl").matches_flow(&unowned));
}

#[test]
fn bare_addresses_networks_and_numbers() {
    let flow = download();
    for yes in [
        "198.51.100.9",
        "198.51.100.9:443",
        "10.0.0.2",
        "198.51.100.0/24",
        "443",
        ":443",
        "41007",
        "440-450",
        "dst 443",
        "dst 198.51.100.9:443",
        "src 10.0.0.0/8",
        "local 50000",
        "port https",
        "port HTTPS",
        "dst port https",
        "tcp 443",
        "curl port 443",
        "curl 198.51.100.0/24 port https not udp",
    ] {
        assert!(filter(yes).matches_flow(&flow), "{yes}");
    }
    for no in [
        "198.51.100.8",
        "198.51.100.9:50000",
        "10.0.0.2:443",
        "198.51.100.9:44",
        "198.51.0.0/24",
        "44",
        "4100",
        "src 443",
        "port ssh",
        "curl port 80",
        "curl udp",
    ] {
        assert!(!filter(no).matches_flow(&flow), "{no}");
    }
}

#[test]
fn what_has_ended() {
    let mut flow = download();
    let mut process = Process::clone(flow.process.as_deref().unwrap());
    let mut interface = Interface::clone(&fixture::interface("eth0", 0, 0));
    for (exited, holds) in [("exited", false), ("ended", false), ("not exited", true)] {
        assert_eq!(filter(exited).matches_flow(&flow), holds);
        assert_eq!(filter(exited).process_verdict(&process), Some(holds));
        assert_eq!(filter(exited).matches_interface(&interface), holds);
    }
    flow.closed = Some((Instant(9), CloseReason::Closed));
    process.exited = Some(Instant(9));
    interface.gone = Some(Instant(9));
    for (exited, holds) in [("exited", true), ("ended", true), ("not exited", false)] {
        assert_eq!(filter(exited).matches_flow(&flow), holds);
        assert_eq!(filter(exited).process_verdict(&process), Some(holds));
        assert_eq!(filter(exited).matches_interface(&interface), holds);
    }
}

#[test]
fn text_that_is_in_no_address_needs_no_flow() {
    let flow = download();
    let process = flow.process.as_deref().unwrap();
    for (text, verdict) in [
        ("curl", Some(true)),
        ("wget", Some(false)),
        ("not wget", Some(true)),
        ("198.51", None),
        ("cafe", None),
        ("443", None),
        ("41007", Some(true)),
        ("70000", Some(false)),
        ("curl port 443", None),
        ("wget port 443", Some(false)),
    ] {
        assert_eq!(filter(text).process_verdict(process), verdict, "{text}");
    }
    let passes = |text: &str| filter(text).matches_process(process, [&flow].into_iter());
    assert!(passes("198.51") && passes("443"));
    assert!(!passes("198.52") && !passes("80"));
}

#[test]
fn text_is_in_the_names_of_interfaces() {
    let eth0 = fixture::interface("eth0", 0, 0);
    for (text, shows) in [
        ("ETH", true),
        ("curl", false),
        ("not curl", true),
        ("443", true),
    ] {
        assert_eq!(filter(text).matches_interface(&eth0), shows, "{text}");
    }
}

#[test]
fn interfaces_narrow_a_filter_however_long_it_is() {
    let names = |names: &[&str]| {
        names
            .iter()
            .map(|&name| name.to_owned())
            .collect::<Vec<_>>()
    };
    let narrowed =
        |text: &str, interfaces: &[&str]| filter(text).on_interfaces(names(interfaces)).to_string();
    assert_eq!(narrowed("", &[]), "");
    assert_eq!(narrowed("tcp", &[]), "tcp");
    assert_eq!(narrowed("", &["eth0"]), "interface eth0");
    assert_eq!(
        narrowed("tcp or udp", &["a b", "or"]),
        r#"(tcp or udp) and (interface "a b" or interface "or")"#
    );
    let long = vec!["tcp"; 800].join("||");
    assert!(!filter(&long).on_interfaces(names(&["eth0"])).is_all());
}

#[test]
fn a_flow_without_process_has_no_name_and_no_user() {
    let mut flow = fixture::flow(
        1,
        &fixture::process(1, "/sbin/init", &[]),
        "[::ffff:10.0.0.2]:80",
        None,
    );
    flow.process = None;
    assert!(!filter("process init").matches_flow(&flow));
    assert!(filter("not process init").matches_flow(&flow));
    assert!(filter("ip host 10.0.0.2").matches_flow(&flow));
}

#[test]
fn a_process_is_found_by_each_of_its_names() {
    let title = "postgres: walsender replicator 10.0.0.1(5432) streaming";
    let mut worker = Process::clone(&fixture::process(7, "/usr/lib/pg/postgres", &[title]));
    worker.program.comm = Some("worker-7".into());
    assert_eq!(worker.name(), "worker-7");
    let is = |text: &str| filter(text).process_verdict(&worker) == Some(true);
    for found in [
        "process worker-7",
        "process worker*",
        "process postgres",
        "process /usr/lib/pg/postgres",
        r#"process "postgres: walsender""#,
        "process postgres:",
        "process *walsender*",
        "process /walsender/",
    ] {
        assert!(is(found), "{found}");
    }
    for missed in [
        "process walsender",
        r#"process "postgres: wal""#,
        "process worker",
        "process usr",
    ] {
        assert!(!is(missed), "{missed}");
    }
}

#[test]
fn a_process_passes_by_itself_or_by_a_flow() {
    let curl = fixture::process(7, "/usr/bin/curl", &[]);
    let web = fixture::flow(1, &curl, "10.0.0.2:50000", Some("198.51.100.9:443"));
    let verdict = |text| filter(text).process_verdict(&curl);
    assert_eq!(verdict("process curl"), Some(true));
    assert_eq!(verdict("process wget and port 443"), Some(false));
    assert_eq!(verdict("process curl or port 443"), Some(true));
    assert_eq!(verdict("process curl and port 443"), None);
    let passes = |text| filter(text).matches_process(&curl, [&web].into_iter());
    assert!(passes("process curl and port 443"));
    assert!(!passes("process curl and port 80"));
    assert!(!passes("not port 443"));
}

fn side() -> impl Strategy<Value = Side> {
    prop_oneof![
        Just(Side::Any),
        Just(Side::Source),
        Just(Side::Destination),
        Just(Side::Local),
        Just(Side::Remote)
    ]
}

fn pattern() -> impl Strategy<Value = Pattern> {
    prop_oneof![
        any::<String>().prop_map(Pattern::Exact),
        "[a-z*?/]{0,8}[*?]".prop_filter_map("reads as a regex", |glob| {
            (!glob.starts_with('/')).then_some(Pattern::Glob(glob))
        }),
        ("[a-z/.]{1,8}", any::<bool>())
            .prop_map(|(source, ignore_case)| { Pattern::regex(source, ignore_case).unwrap() }),
    ]
}

fn primitive() -> impl Strategy<Value = Primitive> {
    let is = |word, operand| Primitive::new(Word::of(word).unwrap(), operand);
    let of_end = |word: &str, side, operand| Primitive {
        word: Word::of(word).unwrap(),
        side,
        operand,
    };
    prop_oneof![
        Just(is("udplite", Operand::Nothing)),
        Just(is("ip6", Operand::Nothing)),
        (side(), any::<IpAddr>()).prop_map(move |(side, address)| {
            of_end("host", side, Operand::Address(address.to_canonical(), None))
        }),
        (side(), any::<u64>(), "[^\0]{1,15}").prop_map(move |(side, host, zone)| {
            let address = (0xfe80 << 112 | u128::from(host)).to_be_bytes();
            of_end(
                "host",
                side,
                Operand::Address(address.into(), Some(zone.into())),
            )
        }),
        (side(), any::<IpAddr>(), 0..=32_u8).prop_map(move |(side, address, prefix)| {
            of_end(
                "net",
                side,
                Operand::Net(Net::new(address, prefix).unwrap()),
            )
        }),
        (side(), any::<u16>(), any::<u16>()).prop_map(move |(side, a, b)| {
            of_end("port", side, Operand::Ports(a.min(b)..=a.max(b)))
        }),
        pattern().prop_map(move |it| is("process", Operand::Pattern(it))),
        any::<u32>().prop_map(move |pid| is("pid", Operand::Number(pid))),
        any::<u32>().prop_map(move |uid| is("user", Operand::User { uid, name: None })),
        Just(is(
            "user",
            Operand::User {
                uid: 33,
                name: Some("12".into())
            }
        )),
        pattern().prop_map(move |it| is("cgroup", Operand::Pattern(it))),
        Just(is("state", Operand::State(State::FinWait1))),
        pattern().prop_map(move |it| is("interface", Operand::Pattern(it))),
        Just(is("inbound", Operand::Nothing)),
        Just(is("exited", Operand::Nothing)),
        (side(), any::<IpAddr>(), any::<u16>()).prop_map(move |(side, address, port)| {
            let endpoint = SocketAddr::new(address.to_canonical(), port);
            of_end("host", side, Operand::Endpoint(endpoint))
        }),
        pattern().prop_map(|it| Primitive::new(TEXT, Operand::Text(Text::new(it)))),
    ]
}

fn expr() -> impl Strategy<Value = Expr> {
    primitive()
        .prop_map(Expr::Is)
        .prop_recursive(4, 24, 3, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 2..4).prop_map(Expr::And),
                prop::collection::vec(inner.clone(), 2..4).prop_map(Expr::Or),
                inner.prop_map(|inner| Expr::Not(Box::new(inner))),
            ]
        })
}

proptest! {
    #[test]
    fn what_is_displayed_parses_to_the_same(expr in expr()) {
        let filter = Filter { expr: Some(expr) };
        let text = filter.to_string();
        match Filter::parse(&text, &uid_of) {
            Ok(read) => prop_assert_eq!(read, filter, "{}", text),
            // Generated names are of any length, and the length of an expression is bounded.
            Err(error) => prop_assert!(text.len() > 4096, "{}", error),
        }
    }

    #[test]
    fn any_words_in_any_order_never_panic(
        words in prop::collection::vec(
            prop::sample::select(vec![
                "tcp", "port", "80", "src", "net", "10.0.0.0/8", "and", "or", "not", "(", ")",
                "process", "/a/", "\"b\"", "\"", "user", "www", "state", "listen", "!", "é",
                "curl", "OR", "10.0.0.1", "10.0.0.1:80", "/8", "https", "exited", "c*", "prot",
            ]),
            0..12,
        )
    ) {
        match Filter::parse(&words.join(" "), &uid_of) {
            Ok(read) => {
                let shown = read.to_string();
                prop_assert_eq!(Filter::parse(&shown, &uid_of), Ok(read), "{}", shown);
            }
            Err(error) => prop_assert_eq!(error.to_string().lines().count(), 3),
        }
    }

    #[test]
    fn any_text_never_panics(text in any::<String>()) {
        if let Err(error) = Filter::parse(&text, &uid_of) {
            prop_assert_eq!(error.to_string().lines().count(), 3);
        }
    }
}
