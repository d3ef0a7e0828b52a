//! What a user sees without acting on anything.

use anyhow::{Context as _, Result, ensure};

use super::{SIZE, Stage, screen::Screen};
use crate::live::World;

/// Presses of the sort key, before every column was used.
const COLUMNS: usize = 20;
/// The header of a column that is sorted from the smallest, and from the largest.
const PID: &str = "▴PID";
const REVERSED_PID: &str = "▾PID";
/// Ticks of Flow during which the screen must not change.
const STILL: usize = 10;

/// The process that moves most is the first row, and the one at its other end the next.
pub fn busiest_is_on_top(world: &World) -> Result<()> {
    let stage = Stage::set(world, "busiest")?;
    stage.only_both()?;
    // It sends as much as it receives, although nobody reads what it sends.
    let expected = [stage.far.pid(), stage.near.pid()];
    stage
        .terminal
        .until("the busiest processes on top", |screen| {
            screen.pids().starts_with(&expected).then_some(())
        })?;
    stage.quit(world)
}

pub fn filter(world: &World) -> Result<()> {
    let stage = Stage::set(world, "filter")?;
    stage.only_near()?;
    let terminal = &stage.terminal;
    // An invalid filter is reported at its position while the rows stay.
    terminal.text("/ state nonsense ")?;
    terminal.until("what is wrong with the filter", |screen| {
        let message = screen.has("column") && screen.has("nonsense");
        (message && screen.pids() == [stage.near.pid()]).then_some(())
    })?;
    terminal.keys(&["Escape"])?;
    terminal.until("the filter as it was", |screen| {
        (!screen.has("nonsense") && screen.pids() == [stage.near.pid()]).then_some(())
    })?;
    terminal.keys(&["Escape"])?;
    stage.shown()?;
    // By port, with a completed word: both ends.
    let (_, port) = stage.address.rsplit_once(':').context("no port")?;
    terminal.text("/por")?;
    terminal.keys(&["Tab"])?;
    terminal.until("the candidates", |screen| {
        let candidates = screen.line(" Tab")?;
        (candidates.contains(" ›port  portrange") && screen.has("/ port")).then_some(())
    })?;
    terminal.text(&format!(" {port}"))?;
    terminal.keys(&["Enter"])?;
    let mut both = [stage.near.pid(), stage.far.pid()];
    both.sort_unstable();
    terminal.until("the rows of both ends", |screen| {
        let mut pids = screen.pids();
        pids.sort_unstable();
        (pids == both).then_some(())
    })?;
    stage.quit(world)
}

pub fn sort(world: &World) -> Result<()> {
    let stage = Stage::set(world, "sort")?;
    stage.only_both()?;
    let terminal = &stage.terminal;
    let has = |screen: &Screen, text: &str| screen.header().is_some_and(|it| it.contains(text));
    terminal.until("the order by rate", |screen| {
        (has(screen, "▾RECEIVED/s") && has(screen, "▾SENT/s")).then_some(())
    })?;
    for _ in 0..COLUMNS {
        let before = terminal.screen()?;
        if has(&before, PID) {
            break;
        }
        terminal.keys(&[">"])?;
        terminal.until("the mark at another column", |screen| {
            (screen.header() != before.header()).then_some(())
        })?;
    }
    let expected = [stage.near.pid(), stage.far.pid()];
    let ordered = |screen: &Screen, reverse: bool| {
        let mut pids = screen.pids();
        let all = expected.iter().all(|pid| pids.contains(pid));
        if reverse {
            pids.reverse();
        }
        (all && pids.is_sorted()).then_some(())
    };
    let falls = terminal.until("the order by pid", |screen| {
        let falls = ordered(screen, true).is_some();
        let rises = ordered(screen, false).is_some();
        (has(screen, PID) && falls != rises).then_some(falls)
    })?;
    terminal.keys(&["S"])?;
    terminal.until("the reversed order", |screen| {
        has(screen, REVERSED_PID).then(|| ordered(screen, !falls))?
    })?;
    stage.quit(world)
}

pub fn detail(world: &World) -> Result<()> {
    let stage = Stage::set(world, "detail")?;
    let (terminal, pid) = (&stage.terminal, stage.near.pid());
    stage.only_near()?;
    terminal.keys(&["Enter"])?;
    let program = world
        .generator
        .file_name()
        .context("a program without a name")?;
    let program = program.to_string_lossy();
    let address = &stage.address;
    // Each of these but the flow depends on who started the tests, and its middle may be cut.
    let is_told = |screen: &Screen| {
        let executable = screen.fact("executable")?.ends_with(&format!("/{program}"));
        let command = screen.fact("command")?.contains("generatestubborn");
        let lineage = screen
            .fact("lineage")?
            .ends_with(&format!("›{program}({pid})"));
        let flow = screen.line("udp")?.contains(&format!("→ {address}"));
        (executable && command && lineage && flow).then_some(())
    };
    terminal.until("the detail of the process", is_told)?;
    stage.close_detail()?;
    stage.quit(world)
}

/// A paused display does not change while counting continues, and afterwards shows what happened
/// meanwhile.
pub fn pause(world: &World) -> Result<()> {
    let stage = Stage::set(world, "pause")?;
    stage.only_both()?;
    let terminal = &stage.terminal;
    terminal.keys(&["p"])?;
    let (mut held, mut mark) = (Vec::<String>::new(), String::new());
    let mut still = 0;
    terminal.until("rows that hold still", |screen| {
        let now = screen.line("PAUSED")?.to_owned();
        let rows = screen.rows();
        // The mark shows the time: each tick redraws it.
        if rows != held {
            still = 0;
            held = rows.into_iter().map(str::to_owned).collect();
        } else if now != mark {
            still += 1;
        }
        mark = now;
        (still == STILL).then_some(())
    })?;
    ensure!(!held.is_empty(), "no rows while the screen is held still");
    terminal.keys(&["Space"])?;
    terminal.until("rows that move again", |screen| {
        let moved = screen.row(stage.near.pid()).is_some() && screen.rows() != held;
        (!screen.has("PAUSED") && moved).then_some(())
    })?;
    stage.quit(world)
}

/// Flow survives every size, and draws again.
pub fn resized(world: &World) -> Result<()> {
    let stage = Stage::set(world, "resized")?;
    stage.only_both()?;
    let terminal = &stage.terminal;
    for size in [(60, 15), (200, 60), (30, 5), (1, 1), SIZE] {
        terminal.resize(size)?;
        let (columns, rows) = (usize::from(size.0), usize::from(size.1));
        terminal.until(
            &format!("a screen of {columns}×{rows}"),
            |screen| match size {
                (1, 1) => (screen.lines == ["…"]).then_some(()),
                (..60, _) => {
                    let message = format!("this is {columns}×{rows}");
                    screen.has(&message).then_some(())
                }
                _ => {
                    let is_whole = screen.lines.len() == rows
                        && screen.lines.last()?.contains("row")
                        && screen
                            .lines
                            .iter()
                            .all(|line| line.chars().count() <= columns);
                    // The title spans the screen, except the frame's two sides.
                    let title = screen.lines.first()?.chars().count();
                    (is_whole && title + 2 >= columns).then_some(())
                }
            },
        )?;
        if size.0 >= 60 {
            stage.shown()?;
        }
    }
    stage.quit(world)
}
