//! `flow top --json`: the table, one object for each refresh.

use serde::{Serialize, Serializer, ser::SerializeMap as _};

use super::{VERSION, line::to_line, record::LossCause};
use crate::{
    event::Clock,
    model::snapshot::Snapshot,
    query::{
        columns::Column,
        table::{Row, Table},
    },
};

/// A table as one line: `v`, `time`, `by`, `rows` (objects by column name), `total`, `omitted` (rows
/// past the limit), `lost`. Bytes are whole, rates whole bytes per second.
pub fn top_line(table: &Table, snapshot: &Snapshot, clock: Clock) -> String {
    let object = |row| Object {
        columns: table.columns,
        row,
    };
    to_line(&Refresh {
        v: VERSION,
        time: clock.rfc3339(snapshot.time),
        by: table.by.name(),
        rows: table.rows.iter().map(object).collect(),
        total: object(&table.total),
        omitted: table.omitted,
        lost: snapshot
            .losses
            .iter()
            .filter(|(_, count)| *count > 0)
            .map(|(cause, count)| Lost {
                cause: (*cause).into(),
                count: *count,
            })
            .collect(),
    })
}

#[derive(Serialize)]
struct Refresh<'a> {
    v: u32,
    time: String,
    by: &'static str,
    rows: Vec<Object<'a>>,
    total: Object<'a>,
    omitted: usize,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    lost: Vec<Lost>,
}

#[derive(Serialize)]
struct Lost {
    cause: LossCause,
    count: u64,
}

/// A row by column name, in the order of the columns; what is absent is left out.
struct Object<'a> {
    columns: &'static [Column],
    row: &'a Row,
}

impl Serialize for Object<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (column, cell) in self.columns.iter().zip(&self.row.cells) {
            if column.show.in_json()
                && let Some(value) = cell.json()
            {
                map.serialize_entry(column.name, &value)?;
            }
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        event::{Instant, Loss},
        model::snapshot::{Process, Rate},
        query::{
            fixture,
            view::{By, View},
        },
    };

    #[test]
    fn a_row_of_a_program_has_its_sums() {
        let curl = |pid, exited| {
            let mut curl = Process::clone(&fixture::process(pid, "/usr/bin/curl", &[]));
            curl.totals = fixture::totals(5, 60);
            curl.open_flows = 2;
            curl.exited = exited;
            curl.into()
        };
        let processes = vec![curl(7, None), curl(8, Some(Instant(1)))];
        let snapshot = fixture::snapshot(processes, Vec::new(), Vec::new());
        let view = View {
            by: By::Program,
            ..View::default()
        };
        let table = Table::build(&snapshot, &view);
        let clock = Clock {
            boot: "2026-05-01T14:00:00Z".parse().unwrap(),
        };
        let line = top_line(&table, &snapshot, clock);
        let read: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(read["by"], "program");
        assert_eq!(
            read["rows"],
            json!([{
                "program": "curl", "processes": 2, "running": 1, "user": "1000", "flows": 4,
                "rx_rate": 0, "tx_rate": 0, "rx_bytes": 120, "tx_bytes": 10,
            }])
        );
    }

    #[test]
    fn a_refresh_is_one_object() {
        let mut curl = Process::clone(&fixture::process(7, "/usr/bin/curl", &["curl", "x"]));
        curl.totals = fixture::totals(5, 6_000_000);
        curl.rate = Rate { tx: 0.6, rx: 12.4 };
        let mut snapshot = fixture::snapshot(vec![curl.into()], Vec::new(), Vec::new());
        snapshot.losses = vec![(Loss::AppFull, 0), (Loss::RingTraffic, 2)];
        let table = Table::build(&snapshot, &View::default());
        let clock = Clock {
            boot: "2026-05-01T14:00:00Z".parse().unwrap(),
        };
        let read: serde_json::Value =
            serde_json::from_str(&top_line(&table, &snapshot, clock)).unwrap();
        assert_eq!(
            read,
            json!({
                "v": 1,
                "time": "2026-05-01T14:01:00.000000000Z",
                "by": "process",
                "rows": [{
                    "pid": 7, "process": "curl", "user": "1000", "uid": 1000, "flows": 0,
                    "cgroup": "/user.slice/session-44.scope", "exited": false,
                    "rx_rate": 12, "tx_rate": 1, "rx_bytes": 6_000_000, "tx_bytes": 5,
                    "cmdline": ["curl", "x"], "exe": "/usr/bin/curl",
                }],
                "total": {
                    "process": "TOTAL", "flows": 0,
                    "rx_rate": 12, "tx_rate": 1, "rx_bytes": 6_000_000, "tx_bytes": 5,
                },
                "omitted": 0,
                "lost": [{"cause": "ring_traffic", "count": 2}],
            })
        );
    }
}
