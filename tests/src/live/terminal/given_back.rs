//! However Flow ends, or if it does not start, the terminal is restored.

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{FLOW, SIZE, Stage, screen::Terminal};
use crate::live::{World, flow::Flow, held::Held, waiting};

pub fn by_key(world: &World) -> Result<()> {
    let stage = Stage::empty(world, "by-key")?;
    for key in ["q", "C-c", "F10"] {
        stage.start(FLOW)?;
        stage.is_taken()?;
        stage.terminal.keys(&[key])?;
        stage
            .given_back(world, 0)
            .with_context(|| format!("after {key}"))?;
    }
    Ok(())
}

pub fn by_signal(world: &World) -> Result<()> {
    let stage = Stage::empty(world, "by-signal")?;
    for (signal, code) in [
        (Signal::SIGTERM, 143),
        (Signal::SIGINT, 130),
        (Signal::SIGHUP, 129),
    ] {
        stage.start(FLOW)?;
        stage.is_taken()?;
        let flow = i32::try_from(stage.terminal.child()?)?;
        kill(Pid::from_raw(flow), signal).context("sending flow a signal")?;
        stage
            .given_back(world, code)
            .with_context(|| format!("after {signal}"))?;
    }
    Ok(())
}

/// Whatever Flow shows: when its terminal goes away, it ends, and leaves nothing in the kernel.
pub fn by_lost_terminal(world: &World) -> Result<()> {
    let top = "\"$FLOW\" top --interval 200";
    let events = "\"$FLOW\" events --interval 200";
    for (name, line, shows) in [
        ("lost-screen", FLOW, "TOTAL"),
        ("lost-top", top, "TOTAL"),
        ("lost-events", events, "exec"),
    ] {
        let terminal = Terminal::open(world, name, SIZE)?;
        terminal.command(line)?;
        terminal.until("what Flow shows", |screen| screen.has(shows).then_some(()))?;
        let flow = terminal.child()?;
        let held = Held::of(flow)?;
        drop(terminal);
        let folder = PathBuf::from(format!("/proc/{flow}"));
        let ended = waiting::until(world.patience(), "Flow to end", || {
            Ok((!folder.exists()).then_some(()))
        });
        if ended.is_err() {
            kill(Pid::from_raw(i32::try_from(flow)?), Signal::SIGKILL)?;
        }
        ended.with_context(|| format!("after the terminal of {line} is gone"))?;
        held.until_gone(world.patience())?;
    }
    Ok(())
}

/// If any thread panics, the program ends, and the message appears on the shell's screen.
pub fn by_panic(world: &World) -> Result<()> {
    let stage = Stage::empty(world, "by-panic")?;
    // A thread of its own writes files. Only the message: more would not fit on the screen.
    for (thread, keys) in [("main", &["Down"][..]), ("work", &["e", "Enter"])] {
        stage.start(&format!("RUST_BACKTRACE=0 FLOW_PANIC={thread} {FLOW}"))?;
        stage.is_taken()?;
        for key in keys {
            stage.terminal.keys(&[key])?;
        }
        stage
            .given_back(world, 101)
            .with_context(|| format!("after a panic of the thread {thread}"))?;
        let message = format!("thread '{thread}'");
        stage.terminal.until("the message of the panic", |screen| {
            let where_it_was = screen.has(&message) && screen.has("panicked at");
            (where_it_was && screen.has("FLOW_PANIC is set")).then_some(())
        })?;
    }
    Ok(())
}

/// A recording that could not be written makes the command fail, with the reason on the shell's screen.
pub fn failed_recording(world: &World) -> Result<()> {
    let stage = Stage::empty(world, "failed-recording")?;
    stage.start(&format!("(ulimit -f 1; exec {FLOW} --record recording)"))?;
    stage.is_taken()?;
    stage.terminal.keys(&["q"])?;
    stage.given_back(world, 1)?;
    stage.terminal.until("why it failed", |screen| {
        screen.has("flow: cannot record in recording").then_some(())
    })
}

/// Ctrl-Z gives the terminal to the shell, and `fg` the screen back.
pub fn suspended(world: &World) -> Result<()> {
    let stage = Stage::set(world, "suspended")?;
    for _ in 0..2 {
        stage.is_taken()?;
        stage.terminal.keys(&["C-z"])?;
        stage.terminal.until_shell()?;
        stage.is_as_before()?;
        stage.start("fg")?;
    }
    stage.is_taken()?;
    stage.only_near()?;
    stage.quit(world)
}

/// Without a usable terminal, Flow reports that and names an alternative.
pub fn refused(world: &World) -> Result<()> {
    let ended = Flow::start::<&str>(world, "no-terminal", &[])?.wait()?;
    ended.expect_complaint(2)?;
    ensure!(
        ended.stderr.contains("standard output is not a terminal")
            && ended.stderr.contains("flow top"),
        "no way out named: {}",
        ended.stderr
    );
    let terminal = Terminal::open(world, "refused", SIZE)?;
    let modes = terminal.modes()?;
    for (line, why) in [
        ("TERM=dumb \"$FLOW\"", "dumb"),
        ("\"$FLOW\" </dev/null", "standard input is not a terminal"),
    ] {
        terminal.command("clear")?;
        terminal.command(line)?;
        terminal.until("the reason, and what does instead", |screen| {
            let message = screen.line("flow: ")?;
            (message.contains(why) && screen.has("flow top")).then_some(())
        })?;
        terminal.until_shell()?;
        let code = terminal.exit_code()?;
        ensure!(code == 2, "{line}: exit code {code}");
        ensure!(
            terminal.modes()? == modes,
            "{line}: the terminal is left otherwise"
        );
    }
    Ok(())
}

/// A terminal that does not know its size, such as a serial line, is treated as 80×24.
pub fn without_size(world: &World) -> Result<()> {
    let stage = Stage::empty(world, "without-size")?;
    stage.start(&format!("stty rows 0 columns 0; {FLOW}"))?;
    // There may be more rows of other processes than fit; then the last line says that instead.
    stage.only_both()?;
    stage.terminal.until("a screen of 80×24", |screen| {
        let title = screen.lines.first()?.chars().count();
        let foot = screen.lines.get(23)?.contains("row");
        ((78..=80).contains(&title) && foot).then_some(())
    })?;
    stage.quit(world)
}

impl Stage {
    /// Waits until Flow has taken over the terminal.
    fn is_taken(&self) -> Result<()> {
        let modes = self.terminal.modes()?;
        ensure!(modes != self.modes, "the terminal is as it was: {modes:?}");
        let alternate = self.terminal.ask("#{alternate_on}")?;
        ensure!(alternate == "1", "not on the alternate screen");
        Ok(())
    }
}
