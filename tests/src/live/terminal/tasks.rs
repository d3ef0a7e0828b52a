//! What people open a network monitor for, and how many keys each of these tasks takes.

use anyhow::{Context as _, Result, ensure};

use super::{Stage, generator_named, screen::Screen};
use crate::live::{World, generator::Generator, outputs::loopback_server};

/// The program of the tasks, by a name that only it has.
pub const PROGRAM: &str = "fetcher";
/// Bytes of one run of it, as the screen shows the sum of all runs.
const BYTES: u64 = 100_000;
const RUNS: usize = 20;
const ALL_BYTES: &str = "2.0 MB";

/// A task, and the keys that it has taken so far. Text that is typed is one key, as people think of
/// it so.
struct Task<'a> {
    stage: &'a Stage,
    pressed: usize,
}

impl<'a> Task<'a> {
    const fn new(stage: &'a Stage) -> Self {
        Self { stage, pressed: 0 }
    }

    fn key(&mut self, key: &str) -> Result<()> {
        self.pressed += 1;
        self.stage.terminal.keys(&[key])
    }

    fn text(&mut self, text: &str) -> Result<()> {
        self.pressed += 1;
        self.stage.terminal.text(text)
    }

    /// Types something into the prompt that the first key opens, and sends it.
    fn prompt(&mut self, key: &str, text: &str) -> Result<()> {
        self.key(key)?;
        self.text(text)?;
        self.key("Enter")
    }

    fn until<T>(&self, what: &str, pick: impl FnMut(&Screen) -> Option<T>) -> Result<T> {
        self.stage.terminal.until(what, pick)
    }

    /// The task is done, with at most so many keys.
    fn done(self, name: &str, most: usize) -> Result<()> {
        ensure!(
            self.pressed <= most,
            "{name}: {} keys instead of {most}",
            self.pressed
        );
        Ok(())
    }
}

/// Who uses the bandwidth, and which host it talks to.
pub fn bandwidth(world: &World) -> Result<()> {
    let stage = Stage::set(world, "bandwidth")?;
    let task = Task::new(&stage);
    let both = [stage.near.pid(), stage.far.pid()];
    task.until("the busiest processes on top", |screen| {
        let top = screen.pids();
        both.iter()
            .all(|pid| top.iter().take(2).any(|it| it == pid))
            .then_some(())
    })?;
    task.done("bandwidth", 0)?;
    let mut task = Task::new(&stage);
    task.key("Down")?;
    task.key("Enter")?;
    let ends = format!("{} ", stage.address);
    task.until("the other end of the busiest process", |screen| {
        let row = screen.line("udp")?;
        let mut arrows = ["→ 127.0.0.1:", "← 127.0.0.1:"].iter();
        let has_address = arrows.any(|arrow| row.contains(arrow));
        (has_address && screen.has(&ends)).then_some(())
    })?;
    task.done("host", 2)?;
    stage.terminal.keys(&["Escape"])?;
    stage.shown()?;
    stage.quit(world)
}

/// The connections of a program that has many, the rate of each, and who is connected to a server.
pub fn connections(world: &World) -> Result<()> {
    let stage = Stage::set(world, "connections")?;
    let (server, address) = loopback_server(world, "connections.server")?;
    let address = address.to_string();
    let fetcher = kept(world, &address, "connections.kept")?;
    let mut task = Task::new(&stage);
    task.until("the program", |screen| screen.row(fetcher.pid()).map(drop))?;
    task.prompt("f", PROGRAM)?;
    task.key("Right")?;
    let arrow = format!("→ {address}");
    // Each has a port of its own, and a rate.
    task.until("its connections", |screen| {
        let lines = screen.lines.iter().filter(|line| line.contains(&arrow));
        let moving = lines.filter(|line| line.contains("B/s"));
        (moving.count() == CONNECTIONS).then_some(())
    })?;
    task.done("connections", 4)?;

    let mut task = Task::new(&stage);
    let (_, port) = address.rsplit_once(':').context("no port")?;
    task.key("4")?;
    task.until("the listeners", |screen| {
        screen.has("LISTENS AT").then_some(())
    })?;
    task.prompt("f", &format!(":{port}"))?;
    task.key("Right")?;
    task.until("who is connected", |screen| {
        let clients = screen.lines.iter().filter(|line| line.contains("← 127.0"));
        (clients.count() >= CONNECTIONS).then_some(())
    })?;
    task.done("clients", 5)?;
    fetcher.finish()?;
    server.finish()?;
    stage.quit(world)
}

/// Why a connection is slow: nobody reads what it sends.
pub fn slow(world: &World) -> Result<()> {
    let stage = Stage::set(world, "slow")?;
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let to = listener.local_addr()?.to_string();
    let arguments = ["--peer", &to, "--bytes", "100000000"].map(str::to_owned);
    let fetcher = generator_named(world, PROGRAM, "slow.near", "tcp-up", &arguments)?;
    let (unread, _) = listener.accept()?;
    let mut task = Task::new(&stage);
    task.until("the program", |screen| screen.row(fetcher.pid()).map(drop))?;
    task.prompt("f", PROGRAM)?;
    task.key("Enter")?;
    task.key("Enter")?;
    task.until("why it is slow", |screen| {
        screen.has("limited by the receiver's window").then_some(())
    })?;
    task.done("slow", 5)?;
    stage.terminal.keys(&["Escape"])?;
    stage
        .terminal
        .until("the detail of the process", |screen| {
            screen.has("executable").then_some(())
        })?;
    stage.terminal.keys(&["Escape"])?;
    stage.shown()?;
    // Both ends of a connection end with it.
    drop(unread);
    drop(fetcher);
    stage.quit(world)
}

/// Who has been there and left, and many short runs of one program in one line, with all that they
/// moved.
pub fn exited(world: &World) -> Result<()> {
    let stage = Stage::set(world, "exited")?;
    let last = run_all(world, &stage, "exited")?.last;
    let mut task = Task::new(&stage);
    task.until("a process that has exited", |screen| {
        let row = screen.row(last)?;
        (row.starts_with('∙') && row.contains(PROGRAM)).then_some(())
    })?;
    task.key("a")?;
    in_one_row(&stage)?;
    task.done("one line", 1)?;
    stage.quit(world)
}

/// Finding a row, keeping only some rows, and another order.
pub fn finding(world: &World) -> Result<()> {
    let stage = Stage::set(world, "finding")?;
    let fetcher = kept(world, &stage.address, "finding.kept")?;
    let pid = fetcher.pid();
    let mut task = Task::new(&stage);
    task.until("the program", |screen| screen.row(pid).map(drop))?;
    task.prompt("f", PROGRAM)?;
    task.key("y")?;
    task.until("the row that was found", |screen| {
        let copied = screen.line("copied")?;
        copied
            .ends_with(&format!("--count {CONNECTIONS}"))
            .then_some(())
    })?;
    task.done("search and copy", 4)?;

    let mut task = Task::new(&stage);
    task.prompt("/", PROGRAM)?;
    task.until("only its row", |screen| {
        (screen.pids() == [pid]).then_some(())
    })?;
    task.done("filter", 3)?;
    stage.terminal.keys(&["Escape"])?;
    stage.shown()?;

    for (column, keys) in [("▾SENT/s", 3), ("▾RECEIVED ", 4), ("▾SENT ", 5)] {
        let mut task = Task::new(&stage);
        task.key("s")?;
        task.until("the list of columns", |screen| {
            screen.has("Sort Processes by").then_some(())
        })?;
        // The list opens at the column in use.
        if column != "▾SENT/s" {
            stage.terminal.keys(&["Home", "Down"])?;
        }
        for _ in 2..keys {
            task.key("Down")?;
        }
        task.key("Enter")?;
        task.until(column, |screen| {
            let header = screen.header()?;
            header.contains(column).then_some(())
        })?;
        task.done(column, keys)?;
    }
    fetcher.finish()?;
    stage.quit(world)
}

/// What one key does, and that the screen says so.
pub fn one_key(world: &World) -> Result<()> {
    let stage = Stage::set(world, "one_key")?;
    stage.terminal.keys(&["Down"])?;
    for (key, answer) in [
        ("p", "PAUSED"),
        ("p", "rows"),
        ("u", "units: binary"),
        ("r", "count from now on"),
        ("C-t", "theme "),
        ("F", "follows"),
        ("H", "hidden"),
        ("é", "does nothing"),
    ] {
        let mut task = Task::new(&stage);
        task.key(key)?;
        let what = format!("{answer:?} after the key {key}");
        task.until(&what, |screen| screen.has(answer).then_some(()))?;
        task.done(key, 1)?;
    }
    stage.quit(world)
}

/// Connections of the program that stays.
const CONNECTIONS: usize = 16;

/// The program, with connections that send all the time.
fn kept(world: &World, to: &str, name: &str) -> Result<Generator> {
    let count = CONNECTIONS.to_string();
    let arguments = ["--peer", to, "--count", &count].map(str::to_owned);
    generator_named(world, PROGRAM, name, "tcp-kept", &arguments)
}

/// Waits for the one row of all runs, by program, with all that they sent.
pub fn in_one_row(stage: &Stage) -> Result<()> {
    let title = format!("{PROGRAM} ×{RUNS}");
    stage.terminal.until("one row for the program", |screen| {
        let lines = screen.lines.iter();
        let mut rows = lines.filter(|line| line.contains(PROGRAM) && !line.contains("generate"));
        let row = rows.next()?;
        let is_whole = row.contains(&title) && row.contains(ALL_BYTES);
        (is_whole && rows.next().is_none()).then_some(())
    })
}

/// Several runs of the program.
#[derive(Default)]
pub struct Runs {
    /// The pid of the last.
    pub last: u32,
    /// Bytes that all of them sent.
    pub sent: u64,
}

/// Runs the program several times, one after the other.
pub fn run_all(world: &World, stage: &Stage, name: &str) -> Result<Runs> {
    let bytes = BYTES.to_string();
    let arguments = ["--peer", &stage.address, "--bytes", &bytes].map(str::to_owned);
    let mut runs = Runs::default();
    for number in 0..RUNS {
        let name = format!("{name}.{number}");
        let mut run = generator_named(world, PROGRAM, &name, "tcp-up", &arguments)?;
        runs.last = run.pid();
        let truths = run.join()?;
        runs.sent += truths.iter().map(|it| it.moved.tx_bytes).sum::<u64>();
    }
    Ok(runs)
}
