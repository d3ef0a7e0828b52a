//! Checks that no cumulative value in a stream ever falls.

use std::collections::HashMap;

use serde_json::Value;

/// The last value of each cumulative field, by its subject and its path in the record.
#[derive(Debug, Default)]
pub struct Cumulative {
    last: HashMap<(String, String), u64>,
}

/// A value that fell.
#[derive(Debug, PartialEq, Eq)]
pub struct Fall {
    /// Field and subject.
    pub what: String,
    pub before: u64,
    pub now: u64,
}

/// The cumulative parts of a record, by its type: every number in them.
const PARTS: [(&str, &[&str]); 6] = [
    ("flow.open", &["app", "wire"]),
    ("flow.update", &["app", "wire"]),
    ("flow.close", &["app", "wire"]),
    ("process.exit", &["app", "overflow"]),
    ("ledger", &["ingress", "egress"]),
    ("lost", &["count"]),
];

/// Values that are not cumulative by definition: remainders of either sign.
const REMAINDER: &str = "unexplained";

impl Cumulative {
    /// Checks a record, and returns what fell. An absent field is unknown, and is skipped.
    pub fn take(&mut self, record: &Value) -> Vec<Fall> {
        let kind = record["type"].as_str().unwrap_or_default();
        let Some((_, parts)) = PARTS.iter().find(|(name, _)| *name == kind) else {
            return Vec::new();
        };
        let subject = subject(kind, record);
        let mut falls = Vec::new();
        for part in *parts {
            let fields: Vec<(String, &Value)> = match &record[*part] {
                Value::Object(fields) => {
                    let fields = fields.iter().filter(|(name, _)| *name != REMAINDER);
                    let named = fields.map(|(name, value)| (format!("{part}.{name}"), value));
                    named.collect()
                }
                value => vec![((*part).to_owned(), value)],
            };
            for (field, value) in fields {
                let Some(now) = value.as_u64() else { continue };
                let what = format!("{field} of {subject}");
                if let Some(before) = self.last.insert((subject.clone(), field), now)
                    && now < before
                {
                    falls.push(Fall { what, before, now });
                }
            }
        }
        falls
    }
}

/// The subject of a record's values.
fn subject(kind: &str, record: &Value) -> String {
    let process = || {
        format!(
            "{} {}",
            record["process"]["pid"], record["process"]["start_time"]
        )
    };
    match kind {
        // Its name may change.
        "ledger" => format!("interface {}", record["interface"]["index"]),
        "lost" => record["cause"].to_string(),
        "process.exit" => format!("process {}", process()),
        _ => {
            let id = record["flow"]["id"].as_str().unwrap_or_default();
            format!("flow {id} of process {}", process())
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// What falls in the second record.
    fn falls(first: &Value, second: &Value) -> Vec<String> {
        let mut cumulative = Cumulative::default();
        assert_eq!(cumulative.take(first), []);
        assert_eq!(cumulative.take(first), [], "the same again");
        let falls = cumulative.take(second);
        falls.into_iter().map(|fall| fall.what).collect()
    }

    /// A record with this value at this path.
    fn with(record: &Value, path: &str, value: i64) -> Value {
        let mut changed = record.clone();
        *changed.pointer_mut(path).unwrap() = value.into();
        changed
    }

    #[test]
    fn every_cumulative_value_may_rise_and_none_may_fall() {
        let app = json!({"tx_bytes": 5, "rx_bytes": 5, "tx_calls": 5, "rx_calls": 5});
        let wire = json!({"tx_bytes": 5, "rx_bytes": 5, "tx_packets": 5, "rx_packets": 5, "retransmits": 5});
        let side = json!({
            "frames": 5, "socket": 5, "forwarded": 5, "kernel": 5, "packet_socket": 5, "not_ip": 5, "offload": 5,
        });
        let process = json!({"pid": 7, "start_time": "t"});
        let flow = json!({"id": "a"});
        let mut checked = 0;
        for (record, parts) in [
            (
                json!({"type": "flow.open", "flow": flow, "process": process, "app": app, "wire": wire}),
                &["app", "wire"][..],
            ),
            (
                json!({"type": "flow.update", "flow": flow, "app": app, "wire": wire}),
                &["app", "wire"],
            ),
            (
                json!({"type": "flow.close", "flow": flow, "process": process, "app": app, "wire": wire}),
                &["app", "wire"],
            ),
            (
                json!({"type": "process.exit", "process": process, "app": app, "overflow": app}),
                &["app", "overflow"],
            ),
            (
                json!({"type": "ledger", "interface": {"name": "lo", "index": 1}, "ingress": side, "egress": side}),
                &["ingress", "egress"],
            ),
        ] {
            for part in parts {
                for field in record[*part].as_object().unwrap().keys() {
                    let path = format!("/{part}/{field}");
                    assert!(
                        falls(&record, &with(&record, &path, 6)).is_empty(),
                        "{path}"
                    );
                    let found = falls(&record, &with(&record, &path, 4));
                    assert_eq!(found.len(), 1, "{path}: {found:?}");
                    assert!(
                        found[0].starts_with(&format!("{part}.{field} of ")),
                        "{found:?}"
                    );
                    checked += 1;
                }
            }
        }
        let lost = json!({"type": "lost", "cause": "app_full", "count": 5});
        assert!(falls(&lost, &with(&lost, "/count", 6)).is_empty());
        assert_eq!(
            falls(&lost, &with(&lost, "/count", 4)),
            ["count of \"app_full\""]
        );
        assert_eq!(checked, 3 * 9 + 8 + 14);
    }

    #[test]
    fn what_is_another_s_or_no_total_may_be_less() {
        let ledger = json!({
            "type": "ledger", "interface": {"name": "a", "index": 1}, "ingress": {"frames": 5, "unexplained": 5}, "egress": {},
        });
        assert!(falls(&ledger, &with(&ledger, "/ingress/unexplained", -5)).is_empty());
        assert!(
            falls(
                &with(&ledger, "/interface/index", 2),
                &with(&ledger, "/ingress/frames", 0)
            )
            .is_empty()
        );
        let mut renamed = with(&ledger, "/ingress/frames", 4);
        renamed["interface"]["name"] = "b".into();
        assert_eq!(falls(&ledger, &renamed).len(), 1);
        let flow = json!({
            "type": "flow.update", "flow": {"id": "a"}, "process": {"pid": 7, "start_time": "t"}, "app": {"tx_bytes": 5},
        });
        let mut other = with(&flow, "/app/tx_bytes", 4);
        other["process"]["pid"] = 8.into();
        assert!(falls(&flow, &other).is_empty());
        other["process"]["pid"] = 7.into();
        assert_eq!(falls(&flow, &other).len(), 1);
        other["app"] = Value::Null;
        assert!(falls(&flow, &other).is_empty(), "unknown is not less");
    }
}
