//! A snapshot as a table: the view's rows, in order, with their cells.

use super::{
    columns::{self, Column, Context, Value},
    entry::Entry,
    group, order,
    view::{By, View},
};
use crate::model::snapshot::Snapshot;

/// A table. Every row has one cell for each column.
#[derive(Clone, Debug)]
pub struct Table {
    pub by: By,
    pub columns: &'static [Column],
    pub rows: Vec<Row>,
    /// The sum of all rows, those that are omitted included.
    pub total: Row,
    /// Rows past the limit.
    pub omitted: usize,
}

/// A row.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub cells: Vec<Value>,
    /// Its subject has ended: an exited process, a closed flow, a gone interface.
    pub over: bool,
}

impl Table {
    /// The table that answers `view`.
    ///
    /// A process that passes the filter by itself is counted whole. Where the filter asks for its
    /// flows only those that pass are counted, as far as the snapshot still lists them.
    pub fn build(snapshot: &Snapshot, view: &View) -> Self {
        let context = Context::default();
        let columns = columns::of(view.by);
        let entries = group::entries(snapshot, view);
        let total = row(&group::total(snapshot, view, &entries), columns, &context);
        let sort = view.sort.as_ref().and_then(|sort| {
            let column = columns.iter().find(|column| column.name == sort.column())?;
            Some((column, sort.reverse()))
        });
        let all = entries.len();
        let rows: Vec<Row> = order::first(view.rows.unwrap_or(all), &entries, sort, &context)
            .into_iter()
            .map(|at| row(&entries[at as usize], columns, &context))
            .collect();
        Self {
            by: view.by,
            columns,
            omitted: all - rows.len(),
            rows,
            total,
        }
    }

    /// Leaves out the last of several rows, if others are left out: the line that says so takes its
    /// place.
    pub fn make_room(&mut self) {
        if self.omitted > 0 && self.rows.len() > 1 {
            self.rows.pop();
            self.omitted += 1;
        }
    }
}

fn row(entry: &Entry, columns: &[Column], context: &Context<'_>) -> Row {
    Row {
        cells: columns
            .iter()
            .map(|column| (column.value)(entry, context))
            .collect(),
        over: entry.is_over(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        event::{CloseReason, Direction, Instant, State},
        model::snapshot::{Flow, Process, Rate},
        query::{entry::Subject, filter::Filter, fixture, view::Sort},
    };

    fn table(snapshot: &Snapshot, by: By, filter: &str, sort: Option<&str>) -> Table {
        let view = View {
            by,
            filter: Filter::parse(filter, &|_| None).unwrap(),
            sort: sort.map(|sort| Sort::parse(by, sort).unwrap()),
            rows: None,
            since: None,
        };
        Table::build(snapshot, &view)
    }

    /// Texts of one column, the total last.
    fn column(table: &Table, name: &str) -> Vec<String> {
        let at = table
            .columns
            .iter()
            .position(|column| column.name == name)
            .unwrap();
        table
            .rows
            .iter()
            .chain([&table.total])
            .map(|row| row.cells[at].text())
            .collect()
    }

    fn with(process: &Arc<Process>, change: impl FnOnce(&mut Process)) -> Arc<Process> {
        let mut process = Process::clone(process);
        change(&mut process);
        Arc::new(process)
    }

    /// curl with two flows, one of them to port 80; nginx that listens and has one inbound flow,
    /// 500 bytes without room, and is over; and a connection not accepted yet.
    fn busy() -> Snapshot {
        let curl = with(
            &fixture::process(10, "/usr/bin/curl", &["curl", "x"]),
            |it| {
                it.totals = fixture::totals(200, 2000);
                it.rate = Rate {
                    tx: 20.0,
                    rx: 200.0,
                };
                it.open_flows = 2;
            },
        );
        let nginx = with(&fixture::process(20, "/usr/sbin/nginx", &[]), |it| {
            it.totals = fixture::totals(600, 1000);
            it.overflow = fixture::totals(500, 0);
            it.uid = None;
            it.cgroup_path = Some("/system.slice/nginx.service".into());
            it.exited = Some(Instant(48_000_000_000));
        });
        let inbound = |flow: Flow| Flow {
            direction: Some(Direction::Inbound),
            ..flow
        };
        let listening = Flow {
            state: State::Listen,
            app: fixture::totals(0, 0),
            wire: None,
            rate: Rate::default(),
            ..fixture::flow(3, &nginx, "[::]:443", None)
        };
        let mut waiting = inbound(fixture::flow(
            5,
            &nginx,
            "10.0.0.2:443",
            Some("10.0.0.9:4001"),
        ));
        waiting.process = None;
        waiting.key.process = None;
        waiting.app = fixture::totals(0, 0);
        let flows = vec![
            fixture::flow(1, &curl, "10.0.0.2:5000", Some("192.0.2.1:443")),
            fixture::flow(2, &curl, "10.0.0.2:5001", Some("192.0.2.1:80")),
            listening,
            inbound(fixture::flow(
                4,
                &nginx,
                "10.0.0.2:443",
                Some("10.0.0.9:4000"),
            )),
            waiting,
        ];
        let mut snapshot = fixture::snapshot(vec![curl, nginx], flows, Vec::new());
        // A process that is no longer listed moved 7 bytes.
        snapshot.totals.app += fixture::totals(7, 0);
        snapshot
    }

    #[test]
    fn processes_and_causes_add_up_to_the_total() {
        let snapshot = busy();
        let table = table(&snapshot, By::Process, "", None);
        assert_eq!(
            column(&table, "process"),
            [
                "curl",
                "(not accepted yet)",
                "nginx (exited)",
                "(exited earlier)",
                "TOTAL"
            ]
        );
        assert_eq!(
            column(&table, "tx_bytes"),
            ["200 B", "0", "600 B", "7 B", "807 B"]
        );
        assert_eq!(snapshot.totals.app.tx_bytes.0, 807);
        assert!(table.rows[2].over);
    }

    #[test]
    fn a_filter_on_flows_counts_only_those_flows() {
        let filtered = table(&busy(), By::Process, "port 80", None);
        assert_eq!(column(&filtered, "process"), ["curl", "TOTAL"]);
        assert_eq!(column(&filtered, "rx_bytes"), ["1.0 kB", "1.0 kB"]);
        let whole = table(&busy(), By::Process, "process curl", None);
        assert_eq!(column(&whole, "rx_bytes"), ["2.0 kB", "2.0 kB"]);
    }

    #[test]
    fn flows_show_what_had_no_room_and_what_ended() {
        let table = table(&busy(), By::Flow, "", Some("tx_bytes"));
        assert_eq!(
            column(&table, "tx_bytes"),
            ["500 B", "100 B", "100 B", "100 B", "0", "0", "7 B", "807 B"]
        );
        assert_eq!(column(&table, "remote")[0], "(table full)");
        assert_eq!(column(&table, "process")[6], "(closed earlier)");
        assert_eq!(column(&table, "wire_tx_bytes").last().unwrap(), "800 B");
    }

    #[test]
    fn wire_bytes_of_a_shared_socket_are_shown_once() {
        let worker = fixture::process(11, "/usr/sbin/worker", &[]);
        let other = fixture::process(12, "/usr/sbin/worker", &[]);
        let flows = vec![
            fixture::flow(9, &worker, "10.0.0.2:53", Some("10.0.0.3:4000")),
            fixture::flow(9, &other, "10.0.0.2:53", Some("10.0.0.3:4000")),
        ];
        let snapshot = fixture::snapshot(vec![worker, other], flows, Vec::new());
        let table = table(&snapshot, By::Flow, "", None);
        assert_eq!(column(&table, "wire_rx_bytes"), ["1.2 kB", "", "1.2 kB"]);
    }

    #[test]
    fn remotes_are_one_row_each() {
        let table = table(&busy(), By::Remote, "", None);
        assert_eq!(
            column(&table, "remote"),
            [
                "192.0.2.1",
                "10.0.0.9",
                "(table full)",
                "(closed earlier)",
                "TOTAL"
            ]
        );
        assert_eq!(column(&table, "flows")[..2], ["2", "2"]);
        assert_eq!(column(&table, "processes")[..2], ["1", "1"]);
        assert_eq!(column(&table, "tx_bytes").last().unwrap(), "807 B");
    }

    #[test]
    fn a_listener_has_what_was_accepted_there() {
        let all = table(&busy(), By::Listener, "", None);
        assert_eq!(column(&all, "local"), ["[::]:443", ""]);
        assert_eq!(column(&all, "flows"), ["2", "2"]);
        assert_eq!(column(&all, "rx_bytes"), ["1.0 kB", "1.0 kB"]);
        let one = table(&busy(), By::Listener, "port 4001", None);
        assert_eq!(column(&one, "flows"), ["1", "1"]);
        // What has ended is no flow any more; what it moved counts.
        let mut ended = busy();
        for flow in &mut ended.flows {
            if flow.key.remote.is_some_and(|remote| remote.port() == 4001) {
                let closed = (ended.time, CloseReason::Closed);
                Arc::make_mut(flow).closed = Some(closed);
            }
        }
        let after = table(&ended, By::Listener, "", None);
        assert_eq!(column(&after, "flows"), ["1", "1"]);
        assert_eq!(column(&after, "rx_bytes"), ["1.0 kB", "1.0 kB"]);
        let one = table(&ended, By::Listener, "port 4001", None);
        assert_eq!(column(&one, "flows"), ["0", "0"]);
        assert!(
            table(&busy(), By::Listener, "port 22", None)
                .rows
                .is_empty()
        );
    }

    /// dnsmasq that serves two remotes with one socket; the first one's flow is idle.
    fn served() -> Snapshot {
        let dnsmasq = fixture::process(30, "/usr/sbin/dnsmasq", &[]);
        let of = |remote| fixture::served(7, &dnsmasq, remote);
        let endpoint = Flow {
            app: fixture::totals(0, 0),
            rate: Rate::default(),
            backlog: Some(fixture::DATAGRAMS),
            ..of(None)
        };
        let idle = Flow {
            closed: Some((Instant(50_000_000_000), CloseReason::Idle)),
            last: Instant(40_000_000_000),
            ..of(Some("10.0.0.7:4000"))
        };
        let flows = vec![endpoint, idle, of(Some("10.0.0.8:4000"))];
        fixture::snapshot(vec![dnsmasq], flows, Vec::new())
    }

    #[test]
    fn a_socket_of_datagrams_is_a_listener_with_its_remotes() {
        let snapshot = served();
        let all = table(&snapshot, By::Listener, "", None);
        let one = |name: &str| column(&all, name)[0].clone();
        assert_eq!(
            (one("protocol"), one("local")),
            ("udp".into(), "0.0.0.0:53".into())
        );
        assert_eq!(
            (one("process"), one("pid")),
            ("dnsmasq".into(), "30".into())
        );
        // Those that are open; what has ended counts in the sums.
        assert_eq!(
            (one("flows"), one("rx_bytes")),
            ("1".into(), "2.0 kB".into())
        );
        // Bytes, where connections are numbers.
        assert_eq!(
            (one("waiting"), one("backlog")),
            ("4.4 kB".into(), "213 kB".into())
        );
        assert_eq!(one("drops"), "3");
        let entries = group::entries_by(&snapshot, &View::default(), By::Listener);
        // Of the one socket.
        let wire = entries[0].wire.unwrap();
        assert_eq!((wire.tx_packets, wire.rx_packets), (2, 3));
        let Subject::Listener(listener) = &entries[0].subject else {
            panic!("{:?}", entries[0].subject);
        };
        assert_eq!(listener.opened, Instant(2_000_000_000));
        assert_eq!(listener.last, Instant(40_000_000_000));
        let listen = table(&snapshot, By::Flow, "state listen", None);
        assert_eq!(column(&listen, "state"), ["unconnected", ""]);
        assert_eq!(
            table(&snapshot, By::Flow, "state unconnected", None)
                .rows
                .len(),
            3
        );
    }

    #[test]
    fn a_listener_is_of_the_processes_that_are_left() {
        let mut snapshot = served();
        let parent = with(&fixture::process(29, "/usr/sbin/dnsmasq", &[]), |it| {
            it.exited = Some(Instant(3_000_000_000));
        });
        let endpoint = Arc::make_mut(&mut snapshot.flows[0]);
        endpoint.key.process = Some(parent.id);
        endpoint.process = Some(parent);
        let listeners = table(&snapshot, By::Listener, "", None);
        assert_eq!(column(&listeners, "pid")[0], "30");
        assert_eq!(column(&listeners, "process")[0], "dnsmasq");
    }

    #[test]
    fn users_and_cgroups_group_processes() {
        let users = table(&busy(), By::User, "", Some("rx_bytes"));
        assert_eq!(column(&users, "user")[..2], ["1000", "(user unknown)"]);
        let cgroups = table(&busy(), By::Cgroup, "", Some("cgroup"));
        assert!(column(&cgroups, "cgroup").contains(&"/system.slice/nginx.service".to_owned()));
        assert_eq!(column(&cgroups, "tx_bytes").last().unwrap(), "807 B");
    }

    #[test]
    fn a_user_has_the_name_that_its_processes_know() {
        let mut snapshot = busy();
        for process in &mut snapshot.processes {
            *process = with(process, |it| it.user = it.uid.map(|_| "deploy".into()));
        }
        let users = table(&snapshot, By::User, "", Some("rx_bytes"));
        assert_eq!(column(&users, "user")[..2], ["deploy", "(user unknown)"]);
        assert_eq!(column(&users, "uid")[..2], ["1000", ""]);
        // It is the same row as before the name was known.
        let ids = |snapshot: &Snapshot| {
            let entries = group::entries_by(snapshot, &View::default(), By::User);
            let ids = entries.iter().map(|entry| entry.subject.id());
            ids.collect::<Vec<_>>()
        };
        assert_eq!(ids(&snapshot), ids(&busy()));
    }

    #[test]
    fn interfaces_show_the_share_that_has_an_owner() {
        let interfaces = vec![
            fixture::interface("eth0", 1000, 992),
            fixture::interface("docker0", 10, 0),
        ];
        let snapshot = fixture::snapshot(Vec::new(), Vec::new(), interfaces);
        let all = table(&snapshot, By::Interface, "", Some("total"));
        assert_eq!(column(&all, "interface"), ["eth0", "docker0", "TOTAL"]);
        assert_eq!(column(&all, "owned"), ["99.2%", "0%", "98.2%"]);
        assert_eq!(column(&all, "forwarded"), ["16 B", "20 B", "36 B"]);
        let some = table(&snapshot, By::Interface, "interface eth* and tcp", None);
        assert_eq!(column(&some, "interface"), ["eth0", "TOTAL"]);
    }

    #[test]
    fn rows_past_the_limit_are_counted_and_summed() {
        let view = View {
            by: By::Flow,
            rows: Some(1),
            ..View::default()
        };
        let table = Table::build(&busy(), &view);
        assert_eq!((table.rows.len(), table.omitted), (1, 6));
        assert_eq!(column(&table, "tx_bytes").last().unwrap(), "807 B");
    }

    #[test]
    fn a_reversed_sort_keeps_what_is_absent_last() {
        let sorted = table(&busy(), By::Process, "", Some("pid:reverse"));
        assert_eq!(column(&sorted, "pid"), ["20", "10", "", "", ""]);
        let sorted = table(&busy(), By::Process, "", Some("pid"));
        assert_eq!(column(&sorted, "pid"), ["10", "20", "", "", ""]);
    }

    #[test]
    fn a_local_address_that_is_not_chosen_yet_is_not_shown() {
        let curl = fixture::process(10, "/usr/bin/curl", &[]);
        let flows = ["0.0.0.0:0", "[::]:0", "0.0.0.0:80"]
            .map(|local| fixture::flow(1, &curl, local, Some("192.0.2.1:443")));
        let table = table(
            &fixture::snapshot(vec![curl], flows.into(), Vec::new()),
            By::Flow,
            "",
            Some("local"),
        );
        assert_eq!(column(&table, "local"), ["0.0.0.0:80", "", "", ""]);
    }
}
