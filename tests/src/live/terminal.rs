//! Tests of the full-screen view: a real terminal, real traffic, and a user's keys.
//!
//! They need tmux, which the guests do not have, so they are a separate set: `flow-live run
//! --terminal`.

mod acting;
mod given_back;
mod hostile;
mod looking;
mod numbers;
mod screen;
mod tasks;

use std::cell::RefCell;

use anyhow::{Context as _, Result, ensure};

use self::screen::{Modes, Terminal};
use super::{
    World,
    generator::Generator,
    held::Held,
    outputs::loopback_server,
    programs::{Test, test},
};

/// Every test.
#[rustfmt::skip]
pub const TESTS: &[Test] = &[
    test("screen_busiest_is_on_top",    looking::busiest_is_on_top),
    test("screen_filter",               looking::filter),
    test("screen_sort",                 looking::sort),
    test("screen_detail",               looking::detail),
    test("screen_pause",                looking::pause),
    test("screen_resized",              looking::resized),
    test("screen_kill",                 acting::kill),
    test("screen_export",               acting::export),
    test("screen_totals_stay",          numbers::totals_stay),
    test("screen_sums",                 numbers::sums),
    test("screen_flows",                numbers::flows),
    test("screen_streams",              numbers::streams),
    test("task_bandwidth",              tasks::bandwidth),
    test("task_connections",            tasks::connections),
    test("task_slow",                   tasks::slow),
    test("task_exited",                 tasks::exited),
    test("task_finding",                tasks::finding),
    test("task_one_key",                tasks::one_key),
    test("screen_ends_by_key",          given_back::by_key),
    test("screen_ends_by_signal",       given_back::by_signal),
    test("screen_lost_terminal",        given_back::by_lost_terminal),
    test("screen_ends_by_panic",        given_back::by_panic),
    test("screen_failed_recording",     given_back::failed_recording),
    test("screen_suspended",            given_back::suspended),
    test("screen_refused",              given_back::refused),
    test("screen_without_size",         given_back::without_size),
    test("screen_hostile_names",        hostile::names),
];

/// The usual size.
const SIZE: screen::Size = (120, 40);
/// Arguments of Flow: a short interval, so that changes appear soon.
const FLOW: &str = "\"$FLOW\" --interval 200";

/// Flow in a terminal, and traffic for it to show: a process on this machine sends all the time,
/// and another echoes all of it.
struct Stage {
    near: Generator,
    far: Generator,
    /// The address of `far`.
    address: String,
    terminal: Terminal,
    /// The settings of the terminal before Flow started.
    modes: Modes,
    /// What the last Flow that was started holds in the kernel.
    held: RefCell<Held>,
}

impl Stage {
    /// Starts everything, and waits until Flow shows both processes.
    fn set(world: &World, name: &str) -> Result<Self> {
        let stage = Self::empty(world, name)?;
        stage.start(FLOW)?;
        Ok(stage)
    }

    /// Starts the traffic and opens the terminal.
    fn empty(world: &World, name: &str) -> Result<Self> {
        let (far, address) = loopback_server(world, name)?;
        let address = address.to_string();
        let near = sender(world, &format!("{name}.near"), &address)?;
        let terminal = Terminal::open(world, name, SIZE)?;
        let modes = terminal.modes()?;
        Ok(Self {
            near,
            far,
            address,
            terminal,
            modes,
            held: RefCell::default(),
        })
    }

    /// Starts Flow with this command line in the shell, and waits until it shows both processes.
    fn start(&self, line: &str) -> Result<()> {
        self.terminal.command(line)?;
        self.shown()?;
        self.held.replace(Held::of(self.terminal.child()?)?);
        Ok(())
    }

    /// Waits until both processes are shown with traffic.
    fn shown(&self) -> Result<()> {
        let pids = [self.near.pid(), self.far.pid()];
        let what = format!("rows of the processes {pids:?}");
        self.terminal.until(&what, |screen| {
            let moves = |pid: &u32| screen.row(*pid).is_some_and(|row| row.contains("B/s"));
            pids.iter().all(moves).then_some(())
        })
    }

    /// Types a filter that only `near` matches, and waits for its effect.
    fn only_near(&self) -> Result<()> {
        self.only(self.near.pid())
    }

    /// Types a filter that only the two processes match, and waits for its effect.
    fn only_both(&self) -> Result<()> {
        let (_, port) = self.address.rsplit_once(':').context("no port")?;
        self.terminal.text(&format!("/port {port}"))?;
        self.terminal.keys(&["Enter"])?;
        let mut both = [self.near.pid(), self.far.pid()];
        both.sort_unstable();
        self.terminal.until("the rows of both ends", |screen| {
            let mut pids = screen.pids();
            pids.sort_unstable();
            (pids == both).then_some(())
        })
    }

    /// Types a filter that only one process matches, and waits for its effect.
    fn only(&self, pid: u32) -> Result<()> {
        self.terminal.text(&format!("/pid {pid}"))?;
        self.terminal.keys(&["Enter"])?;
        self.terminal.until("only one row", |screen| {
            (screen.pids() == [pid] && screen.rows().len() == 1).then_some(())
        })
    }

    /// Leaves a detail, and waits for the table.
    fn close_detail(&self) -> Result<()> {
        self.terminal.keys(&["Escape"])?;
        self.terminal.until("the table again", |screen| {
            let has_table = screen.header().is_some() && !screen.rows().is_empty();
            (has_table && !screen.has("executable")).then_some(())
        })
    }

    /// Presses `q`: Flow ends without an error.
    fn quit(&self, world: &World) -> Result<()> {
        self.terminal.keys(&["q"])?;
        self.given_back(world, 0)
    }

    /// Checks that Flow ended with this exit code, and left the terminal and the kernel as they
    /// were.
    fn given_back(&self, world: &World, code: i32) -> Result<()> {
        self.terminal.until_shell()?;
        self.is_as_before()?;
        let seen = self.terminal.exit_code()?;
        ensure!(seen == code, "exit code {seen}, expected {code}");
        self.held.borrow().until_gone(world.patience())
    }

    /// The terminal is as it was before Flow had it, with the shell's lines on it.
    fn is_as_before(&self) -> Result<()> {
        let mut modes = String::new();
        // What Flow wrote last may still be on its way to the terminal.
        let result = self.terminal.until("the terminal as it was", |screen| {
            let now = self.terminal.modes().ok()?;
            modes = format!("{now:?}");
            (now == self.modes && screen.has("$FLOW")).then_some(())
        });
        result.with_context(|| format!("{modes}, before: {:?}", self.modes))
    }
}

/// A process that sends all the time.
fn sender(world: &World, name: &str, to: &str) -> Result<Generator> {
    let arguments = ["--peer", to, "--bytes", "1400"].map(str::to_owned);
    Generator::start(world, name, "stubborn", &arguments, None)
}

/// A process of the generator under a program's name of its own.
fn generator_named(
    world: &World,
    program: &str,
    name: &str,
    mode: &str,
    arguments: &[String],
) -> Result<Generator> {
    let named = world.scratch.join(program);
    if !named.exists() {
        std::os::unix::fs::symlink(&world.generator, &named)
            .with_context(|| format!("making {}", named.display()))?;
    }
    let world = World {
        options: world.options.clone(),
        generator: named,
        scratch: world.scratch.clone(),
    };
    Generator::start(&world, name, mode, arguments, None)
}
