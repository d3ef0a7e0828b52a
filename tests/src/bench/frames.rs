//! Time of a frame, a key and a snapshot in the full-screen view with many flows: without a kernel,
//! in this process.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use flow_user::{
    event::{self, AppTotals, Bytes, Clock, Host, ProcessId, Program, Protocol, SocketCookie},
    model::{
        snapshot::{Flow, FlowKey, Process, Rate, Snapshot, Totals},
        sums::Failures,
    },
    query::groups::By,
    source::interfaces::facts::LinkFacts,
    tui::{
        Depth, Event, Input, OwnUse, Preferences, Settings, State, Table, World, draw, reduce,
        views::ViewId,
    },
};
use jiff::{Timestamp, tz::TimeZone};
use ratatui::{Terminal, TerminalOptions, Viewport, backend::CrosstermBackend, layout::Rect};

use super::{
    Bench, Section, Verdict,
    figures::{self, number, quantile},
};

const FLOWS: u32 = 50_000;
const PROCESSES: u32 = 100;
const SIZE: (u16, u16) = (200, 60);
/// Text columns by which the flows are sorted in both directions: most rows are equal there, or
/// none.
const TEXTS: [(&str, &str); 2] = [
    ("process", "sort by PROCESS, the same text in every row"),
    ("remote", "sort by REMOTE, another in every row"),
];
/// Budget of a frame, in milliseconds.
const BUDGET: f64 = 10.0;

pub fn measure(bench: &Bench, section: &mut Section) -> Result<()> {
    eprintln!("    frames");
    let tries = bench.count(51, 21);
    let crowds = [crowd(0), crowd(1)];
    let mut table =
        figures::Table::new(&["milliseconds at 50,000 flows", "least", "median", "most"]);
    let mut time = |what: &str, act: &mut dyn FnMut(usize) -> Result<()>| -> Result<f64> {
        let mut times = Vec::with_capacity(tries);
        for turn in 0..tries {
            bench.check()?;
            let started = Instant::now();
            act(turn)?;
            times.push(started.elapsed().as_secs_f64() * 1e3);
        }
        let [least, middle, most] = [0.0, 0.5, 1.0].map(|part| quantile(&times, part));
        table.row(vec![
            what.to_owned(),
            number(least),
            number(middle),
            number(most),
        ]);
        Ok(middle)
    };

    let mut screen = Screen::showing(ViewId::Group(By::Flow), &crowds[0])?;
    let drawn = time("draw the flows", &mut |_| screen.draw())?;
    time("move the cursor, and draw", &mut |_| {
        screen.press("Down")?;
        screen.draw()
    })?;
    let still = time("take a snapshot in which nothing changed", &mut |_| {
        screen.take(&crowds[0]);
        Ok(())
    })?;
    let moved = time("take one in which every rate changed", &mut |turn| {
        screen.take(&crowds[(turn + 1) % 2]);
        Ok(())
    })?;
    time("sort by the next column", &mut |_| screen.press(">"))?;
    let mut by_text = 0.0_f64;
    for (column, what) in TEXTS {
        let mut screen = Screen::sorted_by(column, &crowds[0])?;
        let took = time(what, &mut |_| screen.press("S"))?;
        by_text = by_text.max(took);
    }
    let mut screen = Screen::showing(ViewId::Group(By::Process), &crowds[0])?;
    time("processes: take a snapshot, and draw", &mut |turn| {
        screen.take(&crowds[(turn + 1) % 2]);
        screen.draw()
    })?;
    section.tables.push(table);
    let frames = [
        ("a frame of 50,000 flows", drawn),
        ("the same with a snapshot, nothing changed", drawn + still),
        ("the same, every rate changed", drawn + moved),
        ("the same, sorted by a column of text", drawn + by_text),
    ];
    for (what, took) in frames {
        let verdict = Verdict::at_most(what, took, BUDGET, "ms");
        section.verdicts.push(verdict);
    }
    section.notes.push(format!(
        "{tries} tries each, on a screen of {} x {}; {FLOWS} flows of {PROCESSES} processes, made up, without a kernel. Sorting goes \
         through all columns, those of text too.",
        SIZE.0, SIZE.1
    ));
    Ok(())
}

/// The screen, drawn to a buffer that is discarded.
pub(super) struct Screen {
    state: State,
    terminal: Terminal<CrosstermBackend<io::Sink>>,
}

impl Screen {
    fn showing(view: ViewId, snapshot: &Arc<Snapshot>) -> Result<Self> {
        let preferences = Preferences {
            view,
            ..Preferences::default()
        };
        Self::preferred(preferences, snapshot)
    }

    /// How long it takes to make the rows of the flows of a snapshot.
    pub(super) fn time_of_rows(snapshot: &Arc<Snapshot>) -> Result<Duration> {
        let mut screen = Self::showing(ViewId::Group(By::Flow), &Arc::new(Snapshot::default()))?;
        let started = Instant::now();
        screen.take(snapshot);
        Ok(started.elapsed())
    }

    /// Shows the flows, sorted by the column of this name.
    fn sorted_by(name: &str, snapshot: &Arc<Snapshot>) -> Result<Self> {
        let view = ViewId::Group(By::Flow);
        let mut columns = Table::choices(view).into_iter();
        let column = columns.find(|column| column.name == name);
        let mut preferences = Preferences {
            view,
            ..Preferences::default()
        };
        preferences.tables[view.index()].sort = Some((column.context("no such column")?, false));
        Self::preferred(preferences, snapshot)
    }

    fn preferred(preferences: Preferences, snapshot: &Arc<Snapshot>) -> Result<Self> {
        let settings = Settings {
            depth: Depth::default(),
            preferences,
            filter: String::new(),
            interfaces: Vec::new(),
            host: Host {
                name: "bench".to_owned(),
                kernel: String::new(),
            },
            clock: Clock {
                boot: Timestamp::UNIX_EPOCH,
            },
            zone: TimeZone::UTC,
        };
        let viewport = Viewport::Fixed(Rect::new(0, 0, SIZE.0, SIZE.1));
        let backend = CrosstermBackend::new(io::sink());
        let mut screen = Self {
            state: State::new(settings, Arc::new(Nobody), SIZE)?,
            terminal: Terminal::with_options(backend, TerminalOptions { viewport })?,
        };
        screen.take(snapshot);
        Ok(screen)
    }

    fn take(&mut self, snapshot: &Arc<Snapshot>) {
        let event = Event::Snapshot {
            snapshot: Arc::clone(snapshot),
            changes: Vec::new(),
            states: Vec::new(),
            own: OwnUse::default(),
        };
        reduce(&mut self.state, event);
    }

    fn press(&mut self, key: &str) -> Result<()> {
        let key = key.parse().context("no key")?;
        reduce(
            &mut self.state,
            Event::Input(Input::Key(key), event::Instant(0)),
        );
        Ok(())
    }

    fn draw(&mut self) -> Result<()> {
        let state = &self.state;
        self.terminal.draw(|frame| draw(state, frame))?;
        Ok(())
    }
}

/// A world without users.
struct Nobody;

impl World for Nobody {
    fn uid(&self, _name: &str) -> Option<u32> {
        None
    }

    fn link(&self, _ifindex: u32) -> Option<LinkFacts> {
        None
    }
}

/// A snapshot of a host with many flows; `moment` changes their rates.
fn crowd(moment: u32) -> Arc<Snapshot> {
    let processes: Vec<_> = (1..=PROCESSES).map(process).collect();
    let flows: Vec<_> = (0..FLOWS)
        .zip(processes.iter().cycle())
        .map(|(number, process)| flow(number, process, moment))
        .collect();
    Arc::new(Snapshot {
        generation: 1 + u64::from(moment),
        time: event::Instant(60_000_000_000),
        totals: Totals {
            open_flows: flows.len(),
            processes: processes.len(),
            ..Totals::default()
        },
        processes,
        flows,
        ..Snapshot::default()
    })
}

fn process(pid: u32) -> Arc<Process> {
    Arc::new(Process {
        id: ProcessId {
            pid,
            start: event::Instant(1_000_000_000),
        },
        program: Program {
            comm: Some("server".into()),
            ..Program::default()
        },
        parent: None,
        lineage: Vec::new(),
        uid: Some(1000),
        user: None,
        cgroup: None,
        cgroup_path: None,
        exited: None,
        totals: AppTotals::default(),
        before: AppTotals::default(),
        overflow: AppTotals::default(),
        rate: Rate::default(),
        open_flows: (FLOWS / PROCESSES) as usize,
        failures: Failures::default(),
        past_sockets: None,
    })
}

fn flow(number: u32, process: &Arc<Process>, moment: u32) -> Arc<Flow> {
    let remote = SocketAddr::from((Ipv4Addr::from_bits(10 << 24 | number), 443));
    // Scattered numbers, different for each moment.
    let rate = number
        .wrapping_add(moment * FLOWS)
        .wrapping_mul(2_654_435_761)
        >> 12;
    Arc::new(Flow {
        key: FlowKey {
            socket: SocketCookie(number.into()),
            process: Some(process.id),
            remote: Some(remote),
        },
        process: Some(Arc::clone(process)),
        zone: None,
        protocol: Protocol::Tcp,
        local: SocketAddr::from((Ipv4Addr::new(10, 0, 0, 2), 5000)),
        state: event::State::Established,
        direction: None,
        serves: false,
        netns: None,
        interface: Some("eth0".into()),
        app: AppTotals {
            rx_bytes: Bytes(rate.into()),
            ..AppTotals::default()
        },
        wire: None,
        tcp: None,
        path: None,
        connect: None,
        backlog: None,
        rate: Rate {
            tx: 0.0,
            rx: rate.into(),
        },
        opened: event::Instant(2_000_000_000),
        last: event::Instant(2_000_000_000),
        found: None,
        closed: None,
    })
}
