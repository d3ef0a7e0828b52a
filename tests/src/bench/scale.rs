//! Cost by size: what user space does with a thousand flows and with a million, made up, in this
//! process. What grows with the number of flows, and no faster, takes the same time for each.

use std::{
    hint::black_box,
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use anyhow::Result;
use bytes::BytesMut;
use flow_user::{
    event::{
        AppFact, AppTotals, Bytes, Clock, CloseReason, Direction, Event, Instant as Moment, Netns,
        ProcessFact, ProcessId, Program, Protocol, SocketCookie, SocketFact, State, Timed,
        WireTotals,
    },
    model::{Config, Model},
    query::{groups::By, table::Table, view::View},
    sink::json::Encoder,
};
use jiff::Timestamp;

use super::{
    Bench, Section, Verdict,
    figures::{self, median, number},
    frames::Screen,
};

const SIZES: [u64; 4] = [1_000, 10_000, 100_000, 1_000_000];
/// A flow of a million may take this many times as long as one of ten thousand: the tables are
/// larger than the processor's caches, and a sort makes more comparisons for each.
const DEARER: f64 = 4.0;
/// Processes that have the flows.
const PROCESSES: u64 = 100;
/// Tries of what can be repeated, the median of which counts.
const TRIES: usize = 3;

/// What is timed, in order.
const STEPS: [&str; 10] = [
    "open a flow, with its first bytes",
    "the first tick",
    "a line of JSON",
    "a snapshot, all new",
    "a snapshot, nothing changed",
    "each moves: events, and a tick",
    "rows of the screen by rate",
    "rows of `flow top` by remote",
    "close a flow, and drop it",
    "a process of its own for each: begin, move, exit, drop",
];

pub fn measure(bench: &Bench) -> Result<Section> {
    let sizes = &SIZES[..bench.count(SIZES.len(), SIZES.len() - 1)];
    let mut columns = vec![Vec::new(); STEPS.len()];
    for &size in sizes {
        eprintln!("    {size} flows");
        for (column, time) in columns.iter_mut().zip(times(bench, size)?) {
            column.push(time.as_nanos() as f64 / size as f64);
        }
    }
    let labels: Vec<String> = sizes.iter().map(|size| format!("{size} flows")).collect();
    let mut header = vec!["nanoseconds for each flow"];
    header.extend(labels.iter().map(String::as_str));
    let mut table = figures::Table::new(&header);
    let mut dearest = 0.0_f64;
    for (step, column) in STEPS.iter().zip(&columns) {
        let mut cells = vec![(*step).to_owned()];
        cells.extend(column.iter().map(|time| number(*time)));
        table.row(cells);
        let (Some(few), Some(many)) = (column.get(1), column.last()) else {
            continue;
        };
        dearest = dearest.max(many / few);
    }
    let mut section = Section::default();
    section.tables.push(table);
    section.verdicts.push(Verdict::at_most(
        &format!(
            "a flow of {}, as times one of 10,000, the worst step",
            sizes.last().unwrap_or(&0)
        ),
        dearest,
        DEARER,
        "times",
    ));
    section.notes.push(format!(
        "Made up, without a kernel: connections of {PROCESSES} processes, from one address each. Sorting n rows takes n log n \
         comparisons, everything else a time for each flow; the rest of the growth is memory outside of the processor's caches."
    ));
    Ok(section)
}

/// Times of all steps for so many flows.
fn times(bench: &Bench, size: u64) -> Result<[Duration; STEPS.len()]> {
    let mut host = Host::new();
    let open = timed(|| (0..size).for_each(|number| host.open(number)));
    bench.check()?;
    let first_tick = timed(|| host.tick());
    let changes = host.model.changes();
    let mut encoder = Encoder::new(CLOCK);
    let mut buffer = BytesMut::new();
    let lines = timed(|| {
        for change in changes
            .iter()
            .rev()
            .take(usize::try_from(size).unwrap_or(usize::MAX))
        {
            encoder.encode(change, &mut buffer);
            buffer.clear();
        }
    });
    drop(changes);
    let new = timed(|| drop(black_box(host.model.snapshot())));
    bench.check()?;
    let still = repeated(bench, || {
        host.tick();
        Ok(timed(|| drop(black_box(host.model.snapshot()))))
    })?;
    let moving = repeated(bench, || {
        host.bytes += 1000;
        let took = timed(|| {
            (0..size).for_each(|number| host.move_bytes(number));
            host.tick();
        });
        host.model.changes();
        Ok(took)
    })?;
    let snapshot = host.model.snapshot();
    let screen = repeated(bench, || Screen::time_of_rows(&snapshot))?;
    let view = View {
        by: By::Remote,
        rows: Some(20),
        ..View::default()
    };
    let top = repeated(bench, || {
        Ok(timed(|| drop(black_box(Table::build(&snapshot, &view)))))
    })?;
    drop(snapshot);
    let close = timed(|| {
        (0..size).for_each(|number| host.close(number));
        host.tick();
        host.model.changes();
        host.pause(HISTORY);
        host.tick();
    });
    bench.check()?;
    let mut host = Host::new();
    let processes = timed(|| {
        (0..size).for_each(|number| host.visit(number));
        host.tick();
        (0..size).for_each(|number| host.leave(number));
        host.tick();
        host.model.changes();
        host.pause(HISTORY);
        host.tick();
    });
    Ok([
        open, first_tick, lines, new, still, moving, screen, top, close, processes,
    ])
}

fn timed(act: impl FnOnce()) -> Duration {
    let started = Instant::now();
    act();
    started.elapsed()
}

fn repeated(bench: &Bench, mut act: impl FnMut() -> Result<Duration>) -> Result<Duration> {
    let mut times = Vec::with_capacity(TRIES);
    for _ in 0..TRIES {
        bench.check()?;
        times.push(act()?.as_secs_f64());
    }
    Ok(Duration::from_secs_f64(median(&times)))
}

const CLOCK: Clock = Clock {
    boot: Timestamp::UNIX_EPOCH,
};
const HISTORY: Duration = Duration::from_secs(2);
const SECOND: u64 = 1_000_000_000;

/// A model, and the host that it is of.
struct Host {
    model: Model,
    now: Moment,
    /// What each flow has moved.
    bytes: u64,
}

impl Host {
    fn new() -> Self {
        let now = Moment(1000 * SECOND);
        let config = Config {
            history: HISTORY,
            ..Config::default()
        };
        let mut host = Self {
            model: Model::new(config, now),
            now,
            bytes: 1000,
        };
        for number in 0..PROCESSES {
            host.begin(owner(number), None);
        }
        host
    }

    fn begin(&mut self, id: ProcessId, parent: Option<ProcessId>) {
        let program = Program {
            comm: Some("server".into()),
            ..Program::default()
        };
        self.apply(Event::ProcessExec(ProcessFact {
            id,
            parent,
            program,
            uid: Some(1000),
            cgroup: None,
        }));
    }

    /// A child of a server, with a connection.
    fn visit(&mut self, number: u64) {
        self.begin(visitor(number), Some(owner(number)));
        self.connect(number, visitor(number));
        self.moves(number, visitor(number));
    }

    fn leave(&mut self, number: u64) {
        self.close(number);
        let id = visitor(number);
        self.apply(Event::ProcessExit { id, status: 0 });
    }

    fn apply(&mut self, event: Event) {
        let time = self.now;
        self.model.apply(Timed { time, event });
    }

    fn open(&mut self, number: u64) {
        self.connect(number, owner(number));
        self.move_bytes(number);
    }

    fn move_bytes(&mut self, number: u64) {
        self.moves(number, owner(number));
    }

    fn connect(&mut self, number: u64, process: ProcessId) {
        self.apply(Event::Socket(SocketFact {
            cookie: SocketCookie(number + 1),
            protocol: Protocol::Tcp,
            local: SocketAddr::from((Ipv4Addr::new(10, 0, 0, 2), 443)),
            remote: Some(remote(number)),
            state: State::Established,
            direction: Some(Direction::Inbound),
            netns: Some(Netns(1)),
            ifindex: None,
            owner: Some(process),
            wire: Some(WireTotals::default()),
            tcp: None,
        }));
    }

    fn moves(&mut self, number: u64, process: ProcessId) {
        self.apply(Event::App(AppFact {
            socket: SocketCookie(number + 1),
            process,
            remote: Some(remote(number)),
            totals: AppTotals {
                tx_bytes: Bytes(self.bytes + number % 977),
                tx_calls: self.bytes,
                ..AppTotals::default()
            },
            uid: Some(1000),
            cgroup: None,
            comm: None,
        }));
    }

    fn close(&mut self, number: u64) {
        self.apply(Event::SocketEnd {
            cookie: SocketCookie(number + 1),
            reason: CloseReason::Closed,
        });
    }

    fn pause(&mut self, time: Duration) {
        self.now.0 += u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    }

    fn tick(&mut self) {
        self.pause(Duration::from_secs(1));
        self.model.tick(self.now);
    }
}

fn owner(number: u64) -> ProcessId {
    ProcessId {
        // Below a hundred.
        pid: 1000 + (number % PROCESSES) as u32,
        start: Moment(SECOND),
    }
}

fn visitor(number: u64) -> ProcessId {
    ProcessId {
        // A million at most.
        pid: 10_000 + number as u32,
        start: Moment(2 * SECOND),
    }
}

fn remote(number: u64) -> SocketAddr {
    // A million addresses at most.
    let address = Ipv4Addr::from_bits(10 << 24 | number as u32);
    SocketAddr::from((address, 50_000))
}
