//! `flow top`: a table, refreshed.
//!
//! In a terminal it fills the screen, and `q` ends it.
//! While the reader is slow (a stopped terminal, a pager), whole pages are skipped.

mod keys;

use std::{mem, ops::ControlFlow, time::Duration};

use tokio::time::timeout;

use self::keys::Keys;
use super::{
    End, EndSignals, Failure,
    consumer::{Consumer, Proceed, Ready},
    engine::{Engine, Interest, Plan},
    run::{Run, Served},
    writer::Writer,
};
use crate::{
    cli::{Output, Top},
    event::{Clock, Host, Instant},
    model::snapshot::Snapshot,
    query::{
        table::Table,
        view::{By, Sort, View},
    },
    sink::{
        json::top_line,
        text::{render_top, rows_that_fit},
    },
    source::Pace,
    tui::terminal::{PAGE_BEGINS, PAGE_ENDS},
};

/// How long closed flows and exited processes are shown.
const HISTORY: Duration = Duration::from_secs(5);
/// How long a signal waits for a page that is being written.
const LAST_PAGE: Duration = Duration::from_millis(100);
/// Rows if the size of the output is unknown.
const ROWS: usize = 40;
/// Home, and clear to the end of the screen.
const CLEAR: &str = "\x1b[H\x1b[J";

/// Runs the command.
///
/// # Errors
/// The source fails, or standard output can't be written.
pub async fn run(plan: Plan, options: &Top) -> Result<End, Failure> {
    let sort = options.sort.as_deref();
    let sort = sort.map(|text| Sort::parse(options.by, text)).transpose()?;
    let count = if options.once { Some(1) } else { options.count };
    let output = plan.options.output();
    let pace = Pace {
        interval: options.delay.unwrap_or(plan.options.interval()),
        at_once: false,
        as_recorded: output.is_terminal && count.is_none(),
    };
    let mut signals = EndSignals::listen()?;
    let ages = plan.ages(HISTORY);
    let mut run = Run::open(&plan, pace, ages, Interest::default())?;
    if options.by == By::Flow {
        run.want_tcp_info();
    }
    let origin = run.origin();
    let mut pages = Pages {
        page: Page {
            view: View {
                by: options.by,
                filter: plan.filter.clone(),
                sort,
                rows: None,
                since: None,
            },
            rows: options.rows,
            output,
            host: origin.host.clone(),
            clock: origin.clock,
            is_first: true,
        },
        remaining: count,
        keys: Keys::of(output.is_terminal && !output.json && count != Some(1)),
        writer: Writer::start(),
    };
    let Served { end, beside, .. } = run.serve(&mut pages, &mut signals, None).await;
    let (mut end, writer) = (end?, pages.writer);
    if end == End::Done {
        end = writer.finish_unless_ended(&mut signals, end).await?;
    } else {
        // After a signal, the rest of a page is not worth waiting for a slow reader.
        let _ = timeout(LAST_PAGE, writer.finish()).await;
    }
    beside.map(|()| end)
}

/// A page for each tick.
struct Pages {
    page: Page,
    /// How many are still to be shown; absent if unlimited.
    remaining: Option<u64>,
    keys: Keys,
    writer: Writer,
}

/// What a page shows, and how.
struct Page {
    view: View,
    rows: Option<usize>,
    output: Output,
    host: Host,
    clock: Clock,
    is_first: bool,
}

impl Consumer for Pages {
    fn interest(&self) -> Interest {
        Interest::default()
    }

    fn state(&mut self, engine: &mut Engine, tick: Option<Instant>) -> Result<Proceed, Failure> {
        // Before the first tick there are no rates yet.
        if tick.is_none() && (self.remaining.is_some() || self.page.output.json) {
            return Ok(ControlFlow::Continue(()));
        }
        let was_shown = self.show(&engine.snapshot());
        if was_shown && let Some(remaining) = &mut self.remaining {
            *remaining -= 1;
            if *remaining == 0 {
                return Ok(ControlFlow::Break(End::Done));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn ready(&mut self) -> Ready<'_> {
        let is_busy = self.is_busy();
        Box::pin(async move {
            tokio::select! {
                biased;
                () = self.writer.closed() => Ok(ControlFlow::Break(End::Done)),
                () = self.keys.quit() => Ok(ControlFlow::Break(End::Done)),
                _ = self.writer.place(), if is_busy => Ok(ControlFlow::Continue(())),
            }
        })
    }

    fn is_busy(&self) -> bool {
        !self.writer.has_place()
    }
}

impl Pages {
    /// Sends a page; false if the writer has no room.
    fn show(&mut self, snapshot: &Snapshot) -> bool {
        let Some(place) = self.writer.place_now() else {
            return false;
        };
        place.send(self.page.render(snapshot).into());
        true
    }
}

impl Page {
    fn render(&mut self, snapshot: &Snapshot) -> String {
        let lines = self.output.size().map(|(_, lines)| lines);
        let fitting = |lines| rows_that_fit(snapshot, lines);
        self.view.rows = self
            .rows
            .or_else(|| (!self.output.json).then(|| lines.map_or(ROWS, fitting)));
        let mut table = Table::build(snapshot, &self.view);
        if self.rows.is_none() && lines.is_some() {
            table.make_room();
        }
        if self.output.json {
            let mut line = top_line(&table, snapshot, self.clock);
            line.push('\n');
            return line;
        }
        let text = render_top(&table, snapshot, &self.host, self.output.screen());
        let is_first = mem::replace(&mut self.is_first, false);
        match (self.output.is_terminal, is_first) {
            (true, _) => format!("{PAGE_BEGINS}{CLEAR}{text}{PAGE_ENDS}"),
            (false, true) => text,
            (false, false) => format!("\n{text}"),
        }
    }
}
