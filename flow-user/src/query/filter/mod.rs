//! The language of `--filter`: which flows, processes and interfaces to show.
//!
//! pcap's words where pcap has them, and `and` binds tighter than `or`. For users it is described
//! in `docs/filter.md`. A word is a row in `words`.

mod ast;
mod complete;
mod error;
mod eval;
mod help;
mod lexer;
mod operand;
mod parser;
mod pattern;
mod words;

use std::fmt;

use self::{
    ast::{Expr, Primitive},
    eval::{Subject, holds},
    operand::Operand,
    pattern::Pattern,
    words::INTERFACE,
};
pub use self::{
    complete::{Completion, complete},
    error::FilterError,
    help::help,
};
use crate::model::snapshot::{Flow, Interface, Process};

/// A filter. Displays as an expression that parses to the same filter, unless that is longer or
/// deeper than an expression may be.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filter {
    /// `None` lets everything pass.
    expr: Option<Expr>,
}

impl Filter {
    /// The filter that lets everything pass.
    pub const fn all() -> Self {
        Self { expr: None }
    }

    /// Reads an expression; a blank one lets everything pass. `uid_of` returns the id of a user's
    /// name.
    pub fn parse(text: &str, uid_of: &dyn Fn(&str) -> Option<u32>) -> Result<Self, FilterError> {
        let expr = parser::parse(text, uid_of)?;
        Ok(Self { expr })
    }

    /// This filter, narrowed to what passed one of the interfaces, or was seen at one. Their names
    /// are literal, without globs; without any the filter stays as it is.
    pub fn on_interfaces(self, names: impl IntoIterator<Item = String>) -> Self {
        let mut interfaces: Vec<Expr> = names
            .into_iter()
            .map(|name| Operand::Pattern(Pattern::Exact(name)))
            .map(|name| Expr::Is(Primitive::new(INTERFACE, name)))
            .collect();
        let interfaces = match interfaces.pop() {
            None => return self,
            Some(only) if interfaces.is_empty() => only,
            Some(last) => {
                interfaces.push(last);
                Expr::Or(interfaces)
            }
        };
        let expr = match self.expr {
            None => interfaces,
            Some(asked) => Expr::And(vec![asked, interfaces]),
        };
        Self { expr: Some(expr) }
    }

    /// Whether it lets everything pass.
    pub const fn is_all(&self) -> bool {
        self.expr.is_none()
    }

    /// Whether a flow passes.
    pub fn matches_flow(&self, flow: &Flow) -> bool {
        self.verdict(Subject::Flow(flow)).unwrap_or(false)
    }

    /// Whether a process passes, whatever its flows are; `None` where that depends on the flows.
    pub fn process_verdict(&self, process: &Process) -> Option<bool> {
        self.verdict(Subject::Process(process))
    }

    /// Whether a process passes: by itself, or because one of `flows`, which are its own, does.
    pub fn matches_process<'a>(
        &self,
        process: &Process,
        mut flows: impl Iterator<Item = &'a Flow>,
    ) -> bool {
        self.process_verdict(process)
            .unwrap_or_else(|| flows.any(|flow| self.matches_flow(flow)))
    }

    /// Whether an interface passes: unless `interface` excludes it. Frames have no other attribute
    /// to filter by.
    pub fn matches_interface(&self, interface: &Interface) -> bool {
        self.verdict(Subject::Interface(interface)).unwrap_or(true)
    }

    fn verdict(&self, subject: Subject<'_>) -> Option<bool> {
        match &self.expr {
            None => Some(true),
            Some(expr) => holds(expr, subject),
        }
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.expr {
            None => Ok(()),
            Some(expr) => expr.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use proptest::prelude::*;

    use super::{
        operand::Net,
        words::{Side, Word},
        *,
    };
    use crate::{
        event::{Direction, State},
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
        let block = guide.split("```").nth(3).unwrap();
        for expression in block.lines().filter(|line| !line.is_empty()) {
            let mistake = guide.split("```").nth(5).unwrap();
            match Filter::parse(expression, &uid_of) {
                Ok(_) => read += 1,
                Err(error) => assert_eq!(error.to_string(), mistake.trim()),
            }
        }
        assert_eq!(read, 9);
    }

    #[test]
    fn interfaces_narrow_a_filter_however_long_it_is() {
        let names = |names: &[&str]| {
            names
                .iter()
                .map(|&name| name.to_owned())
                .collect::<Vec<_>>()
        };
        let narrowed = |text: &str, interfaces: &[&str]| {
            filter(text).on_interfaces(names(interfaces)).to_string()
        };
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
                ]),
                0..12,
            )
        ) {
            if let Err(error) = Filter::parse(&words.join(" "), &uid_of) {
                prop_assert_eq!(error.to_string().lines().count(), 3);
            }
        }

        #[test]
        fn any_text_never_panics(text in any::<String>()) {
            if let Err(error) = Filter::parse(&text, &uid_of) {
                prop_assert_eq!(error.to_string().lines().count(), 3);
            }
        }
    }
}
