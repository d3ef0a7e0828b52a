//! `flow top`: a header, the table, its total and the ledger.

use std::cmp::Reverse;

use super::{
    cell::{self, cut, cut_end, width},
    escape, human, ledger,
    style::{Style, paint},
    symbols::Symbols,
};
use crate::{
    event::{Capability, Host},
    model::snapshot::Snapshot,
    query::{
        columns::{Align, Column, Value},
        human::Units,
        table::{Row, Table},
    },
    sink::json::LossCause,
};

/// The separator of columns.
const GAP: &str = "  ";
/// Columns of text that room is kept for before other columns go: in a column that names the row,
/// and in another.
const NAME_LEAST: usize = 24;
const LEFT_LEAST: usize = 16;
/// Columns that text may take while other columns are short of room.
const LEFT_MOST: usize = 48;
/// The most interfaces with their ledger; the others' frames are summed up.
const LEDGERS: usize = 3;

/// The destination of text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Screen {
    /// Columns of the terminal; `None` cuts nothing, for pipes.
    pub width: Option<usize>,
    pub color: bool,
    /// The characters it can show.
    pub symbols: Symbols,
}

/// One refresh of `flow top`, each line ended by a line feed and at most as wide as the screen.
pub fn render_top(table: &Table, snapshot: &Snapshot, host: &Host, screen: Screen) -> String {
    let mut page = Page {
        text: String::new(),
        screen,
    };
    page.line(&title(snapshot, host), Style::Accent);
    page.lines(missing(snapshot));
    page.line("", Style::Plain);
    rows(&mut page, table);
    page.lines(footer(snapshot));
    page.text
}

/// How many rows of a table a terminal of so many lines has room for. The cursor takes a line.
pub fn rows_that_fit(snapshot: &Snapshot, lines: usize) -> usize {
    /// The title, a blank line, the headers, the total, the cursor.
    const ALWAYS: usize = 5;
    let others = missing(snapshot).iter().len() + footer(snapshot).len();
    lines.saturating_sub(ALWAYS + others).max(1)
}

struct Page {
    text: String,
    screen: Screen,
}

impl Page {
    /// Adds a line of the table, which has its width and styles.
    fn row(&mut self, line: &str) {
        self.text
            .push_str(&self.screen.symbols.text(line.trim_end()));
        self.text.push('\n');
    }

    /// Adds a line of escaped text, cut at the end where it is too long.
    fn line(&mut self, line: &str, style: Style) {
        let room = self.screen.width.unwrap_or(usize::MAX);
        let shown = cut_end(line.trim_end(), room);
        let shown = self.screen.symbols.text(&shown);
        self.text.push_str(&paint(&shown, style, self.screen.color));
        self.text.push('\n');
    }

    fn lines(&mut self, lines: impl IntoIterator<Item = (String, Style)>) {
        for (line, style) in lines {
            self.line(&line, style);
        }
    }
}

/// The host, the sums, and how they are counted: what may be cut comes last.
fn title(snapshot: &Snapshot, host: &Host) -> String {
    let mut coverage = snapshot.coverage.iter();
    let accuracy = match coverage.find(|it| it.capability == Capability::AppBytes) {
        Some(app) => match &app.backend {
            Some(backend) if app.limits.is_empty() => format!("exact ({})", escape(backend)),
            Some(backend) => format!("{} (partial: flow doctor says what)", escape(backend)),
            None => "app bytes not counted".to_owned(),
        },
        None => "no source yet".to_owned(),
    };
    let totals = &snapshot.totals;
    format!(
        "flow  {}   ▼ {}  ▲ {}   {}  {}   {}   {accuracy} · kernel {}",
        escape(&host.name),
        human::rate(totals.rate.rx),
        human::rate(totals.rate.tx),
        human::count(totals.processes, "process", "processes"),
        human::count(totals.open_flows, "flow", "flows"),
        human::duration(snapshot.running),
        escape(&host.kernel),
    )
}

/// The capabilities that nothing provides, if any.
fn missing(snapshot: &Snapshot) -> Option<(String, Style)> {
    let coverage = snapshot.coverage.iter();
    let missing = coverage.filter(|it| it.backend.is_none());
    let names: Vec<&str> = missing.map(|it| it.capability.name()).collect();
    let line = || format!("not seen (flow doctor says why): {}", names.join(", "));
    (!names.is_empty()).then(|| (line(), Style::Dim))
}

/// The ledger, and what was lost.
fn footer(snapshot: &Snapshot) -> Vec<(String, Style)> {
    let unexplained_style = |bytes: i64| match bytes {
        0 => Style::Plain,
        _ => Style::Alarm,
    };
    let mut interfaces: Vec<_> = snapshot
        .interfaces
        .iter()
        .filter(|interface| ledger::frames(interface) > 0)
        .collect();
    interfaces.sort_by_key(|interface| Reverse(ledger::frames(interface)));
    let (first, others) = interfaces.split_at(interfaces.len().min(LEDGERS));
    let mut lines: Vec<(String, Style)> = first
        .iter()
        .map(|interface| {
            let style = unexplained_style(ledger::unexplained(interface));
            (format!("ledger  {}", ledger::sentence(interface)), style)
        })
        .collect();
    if !others.is_empty() {
        let frames: u64 = others.iter().fold(0, |sum, interface| {
            sum.saturating_add(ledger::frames(interface))
        });
        let unexplained = others.iter().fold(0_i64, |sum, interface| {
            sum.saturating_add(ledger::unexplained(interface))
        });
        let line = format!(
            "ledger  {} {}: unexplained {} (--by interface shows them)",
            human::count(others.len(), "more interface", "more interfaces"),
            human::bytes(frames),
            human::signed_bytes(unexplained),
        );
        lines.push((line, unexplained_style(unexplained)));
    }
    let lost: Vec<String> = snapshot
        .losses
        .iter()
        .filter(|(_, count)| *count > 0)
        .map(|(cause, count)| format!("{} {count}", LossCause::from(*cause).name()))
        .collect();
    if !lost.is_empty() {
        lines.push((format!("lost    {}", lost.join(", ")), Style::Alarm));
    }
    lines
}

fn rows(page: &mut Page, table: &Table) {
    let all = || table.rows.iter().chain([&table.total]);
    let mut lines: Vec<Vec<String>> = all()
        .map(|row| {
            let escaped = |cell: &Value| escape(&cell.text()).into_owned();
            row.cells.iter().map(escaped).collect()
        })
        .collect();
    let Screen { width, color, .. } = page.screen;
    let layout = layout(table.columns, &lines, width);
    for (row, texts) in all().zip(&mut lines) {
        for slot in &layout {
            let fits = |text: &str| cell::width(&escape(text)) <= slot.width;
            let text = row.cells[slot.column].text_that(Units::default(), &fits);
            texts[slot.column] = escape(&text).into_owned();
        }
    }
    let columns = table.columns;
    let header = row_line(
        columns,
        &layout,
        |column| columns[column].header,
        |_| Style::Accent,
        color,
    );
    page.row(&header);
    for (row, texts) in table.rows.iter().zip(&lines) {
        let text = |column: usize| texts[column].as_str();
        page.row(&row_line(
            columns,
            &layout,
            text,
            |column| style(row, column),
            color,
        ));
    }
    if table.omitted > 0 {
        let more = format!("… and {} more", table.omitted);
        page.line(&more, Style::Dim);
    }
    if let Some(total) = lines.last() {
        let text = |column: usize| total[column].as_str();
        page.row(&row_line(columns, &layout, text, |_| Style::Strong, color));
    }
}

/// One line of the table: the cells in their widths, only their text in a style.
fn row_line<'a>(
    columns: &[Column],
    layout: &[Slot],
    text_of: impl Fn(usize) -> &'a str,
    style_of: impl Fn(usize) -> Style,
    color: bool,
) -> String {
    let mut line = String::new();
    for (place, slot) in layout.iter().enumerate() {
        if place > 0 {
            line.push_str(GAP);
        }
        let text = cut(text_of(slot.column), slot.width);
        let blanks = " ".repeat(slot.width - width(&text));
        let painted = paint(&text, style_of(slot.column), color);
        match columns[slot.column].align {
            Align::Right => line.extend([blanks.as_str(), &painted]),
            Align::Left => line.extend([&painted, blanks.as_str()]),
        }
    }
    line
}

fn style(row: &Row, column: usize) -> Style {
    if row.over || row.cells[column].is_zero() {
        Style::Dim
    } else {
        Style::Plain
    }
}

/// A column on the screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Slot {
    /// Index into the table's columns.
    column: usize,
    width: usize,
}

/// Which columns are shown and how wide: as many as have room, those of the lowest priority number
/// first; then text gets what is left.
fn layout(columns: &[Column], lines: &[Vec<String>], room: Option<usize>) -> Vec<Slot> {
    struct Candidate {
        slot: Slot,
        natural: usize,
        priority: u8,
    }
    let room = room.unwrap_or(usize::MAX);
    let mut candidates: Vec<Candidate> = Vec::new();
    for (column, of) in columns.iter().enumerate() {
        let Some(priority) = of.show.in_text() else {
            continue;
        };
        let widest = lines.iter().map(|cells| width(&cells[column])).max();
        let natural = widest.unwrap_or(0).max(width(of.header));
        // A column with only empty cells takes no room.
        if widest == Some(0) && priority > 0 {
            continue;
        }
        let least = match of.align {
            Align::Right => natural,
            Align::Left if priority == 0 => natural.min(NAME_LEAST),
            Align::Left => natural.min(LEFT_LEAST),
        };
        candidates.push(Candidate {
            slot: Slot {
                column,
                width: least,
            },
            natural,
            priority,
        });
    }
    let used = |candidates: &[Candidate]| {
        let widths: usize = candidates.iter().map(|it| it.slot.width).sum();
        widths + GAP.len() * candidates.len().saturating_sub(1)
    };
    while used(&candidates) > room && candidates.len() > 1 {
        // The last of those that go first.
        let first_to_go = (0..candidates.len()).max_by_key(|&at| (candidates[at].priority, at));
        let Some(at) = first_to_go else { break };
        candidates.remove(at);
    }
    if let [only] = &mut candidates[..] {
        only.slot.width = only.slot.width.min(room);
    }
    // The rest of the room goes to text, a column at a time, first up to a decent width, then to
    // all.
    for most in [LEFT_MOST, usize::MAX] {
        let mut left = room.saturating_sub(used(&candidates));
        let mut growing = true;
        while left > 0 && growing {
            growing = false;
            for it in &mut candidates {
                if left > 0 && it.slot.width < it.natural.min(most) {
                    it.slot.width += 1;
                    left -= 1;
                    growing = true;
                }
            }
        }
    }
    candidates.into_iter().map(|it| it.slot).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::{
        event::{Coverage, Instant, Loss},
        model::snapshot::{Process, Rate},
        query::{
            fixture,
            view::{By, View},
        },
    };

    fn process(pid: u32, exe: &str, command: &[&str], bytes: u64) -> Arc<Process> {
        let mut process = Process::clone(&fixture::process(pid, exe, command));
        process.totals = fixture::totals(bytes / 3, bytes);
        process.rate = Rate {
            tx: 1_100_000.0,
            rx: bytes as f64 / 100.0,
        };
        process.open_flows = 3;
        Arc::new(process)
    }

    fn snapshot() -> Snapshot {
        let mut ended = Process::clone(&process(40990, "/bin/sh", &["sh", "-c", "curl x"], 40_000));
        ended.exited = Some(Instant(48_000_000_000));
        ended.rate = Rate::default();
        fixture::snapshot(
            vec![
                process(
                    8123,
                    "/usr/lib/postgresql/16/bin/postgres",
                    &["postgres: walsender"],
                    6_120_000_000,
                ),
                process(
                    41007,
                    "/usr/bin/evil\x1b[2J\u{202e}",
                    &["evil", "\n\n"],
                    300,
                ),
                Arc::new(ended),
            ],
            Vec::new(),
            vec![
                fixture::interface("eth0", 750_000_000, 744_000_000),
                fixture::interface("lo", 1000, 1000),
            ],
        )
    }

    fn host() -> Host {
        Host {
            name: "web-3".to_owned(),
            kernel: "6.18.44".to_owned(),
        }
    }

    fn render(snapshot: &Snapshot, by: By, width: Option<usize>) -> String {
        let view = View {
            by,
            ..View::default()
        };
        let table = Table::build(snapshot, &view);
        let screen = Screen {
            width,
            ..Screen::default()
        };
        render_top(&table, snapshot, &host(), screen)
    }

    #[test]
    fn a_screen_of_100_columns() {
        assert_eq!(
            render(&snapshot(), By::Process, Some(100)).replace(" %", "%"),
            "\
flow  web-3   ▼ 61.2 MB/s  ▲ 2.2 MB/s   3 processes  0 flows   40 s   tracepoint (partial: flow doc…

  PID  PROCESS              USER  FLOWS  RECEIVED/s    SENT/s  RECEIVED    SENT  COMMAND
 8123  postgres             1000      3   61.2 MB/s  1.1 MB/s    6.1 GB  2.0 GB  postgres: walsender
41007  evil\\x1b[2J\\u{202e}  1000      3       3 B/s  1.1 MB/s     300 B   100 B  evil \\n\\n
40990  sh (exited)          1000      3           0         0     40 kB   13 kB  sh -c curl x
       TOTAL                          9   61.2 MB/s  2.2 MB/s    6.1 GB  2.0 GB
ledger  eth0 1.5 GB: 99.2% attributed, forwarded 0.8%, unexplained 0
ledger  lo 2.0 kB: 100% attributed, unexplained 0
"
        );
    }

    #[test]
    fn losses_and_what_is_unexplained_are_alarms() {
        let mut snapshot = snapshot();
        snapshot.losses = vec![(Loss::AppFull, 0), (Loss::RingTraffic, 7)];
        let mut interface = snapshot.interfaces[0].as_ref().clone();
        interface.ingress_ledger.unexplained = -12;
        snapshot.interfaces[0] = Arc::new(interface);
        snapshot.coverage = Arc::new([Coverage {
            capability: Capability::AppBytes,
            backend: Some("fexit".to_owned()),
            limits: String::new(),
        }]);
        let view = View::default();
        let table = Table::build(&snapshot, &view);
        let screen = Screen {
            width: Some(120),
            color: true,
            ..Screen::default()
        };
        let text = render_top(&table, &snapshot, &host(), screen);
        assert!(text.contains("  exact (fexit) ·"), "{text}");
        assert!(!text.contains("partial"), "{text}");
        assert!(
            text.contains("\x1b[31mlost    ring_traffic 7\x1b[0m\n"),
            "{text}"
        );
        assert!(text.contains("\x1b[31mledger  eth0"), "{text}");
        assert!(text.contains("unexplained -12 B"), "{text}");
        assert!(!text.contains("app_full"), "{text}");
    }

    #[test]
    fn the_rows_that_fit_fill_the_terminal() {
        let mut snapshot = snapshot();
        for pid in 100..160 {
            snapshot.processes.push(process(pid, "/bin/true", &[], 5));
        }
        let mut crowded = snapshot.clone();
        crowded.losses = vec![(Loss::AppFull, 1)];
        for name in ["eth1", "eth2", "eth3"] {
            crowded.interfaces.push(fixture::interface(name, 5, 5));
        }
        for snapshot in [&snapshot, &crowded] {
            for lines in [20, 24, 50] {
                let view = View {
                    rows: Some(rows_that_fit(snapshot, lines)),
                    ..View::default()
                };
                let mut table = Table::build(snapshot, &view);
                table.make_room();
                let text = render_top(&table, snapshot, &host(), Screen::default());
                assert_eq!(text.lines().count(), lines - 1, "{text}");
            }
        }
    }

    #[test]
    fn without_a_width_nothing_is_cut() {
        let command = "x".repeat(3000);
        let mut snapshot = snapshot();
        snapshot
            .processes
            .push(process(1, "/sbin/init", &[&command], 5));
        assert!(render(&snapshot, By::Process, None).contains(&command));
    }

    proptest! {
        #[test]
        fn no_line_is_wider_than_the_screen(
            room in 0..200_usize,
            by in prop::sample::select(By::ALL.to_vec()),
            name in any::<String>(),
        ) {
            let mut snapshot = snapshot();
            let hostile = process(7, &name, &[&name], 123_456);
            let mut flow = fixture::flow(
                1,
                &hostile,
                "[2001:db8:1111:2222:3333:4444:5555:6666]:50000",
                Some("[2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff]:443"),
            );
            flow.interface = Some(name.as_str().into());
            snapshot.processes.push(hostile);
            snapshot.flows.push(Arc::new(flow));
            snapshot.interfaces.push(fixture::interface(&name, 5, 5));
            let text = render(&snapshot, by, Some(room));
            for line in text.lines() {
                prop_assert!(width(line) <= room, "{} in {}: {}", width(line), room, line);
                prop_assert!(!line.chars().any(super::super::is_hostile));
            }
        }
    }
}
