//! `flow top`: a table, refreshed.
//!
//! While the reader is slow (a terminal that was stopped, a pager), whole pages are left out.

use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};

use super::{
    End, Ending, Failure,
    engine::{Engine, Plan},
    writer::Writer,
};
use crate::{
    cli::Top,
    model::snapshot::Snapshot,
    query::{
        names::Names,
        table::Table,
        view::{Sort, View},
    },
    sink::{clock::Clock, json::top_line, text::render_top},
};

/// How long what ended is shown.
const HISTORY: Duration = Duration::from_secs(5);
/// How long a page on its way is waited for when a signal ends the command.
const LAST_PAGE: Duration = Duration::from_millis(100);
/// Rows where nothing says how many fit.
const ROWS: usize = 40;
/// Lines of a page that are not rows of the table: header, totals, the ledger's first line.
const LINES_AROUND: usize = 8;
/// Home, and clear to the end of the screen.
const CLEAR: &str = "\x1b[H\x1b[J";

/// Runs the command.
///
/// # Errors
/// The kernel side fails, or standard output can't be written.
pub async fn run(plan: Plan, options: &Top, names: &dyn Names) -> Result<End, Failure> {
    let sort = options.sort.as_deref();
    let sort = sort.map(|text| Sort::parse(options.by, text)).transpose()?;
    let period = options.delay.unwrap_or(plan.interval);
    let count = if options.once { Some(1) } else { options.count };
    let mut page = Page {
        view: View {
            by: options.by,
            filter: plan.filter,
            sort,
            rows: None,
            since: None,
        },
        rows: options.rows,
        output: plan.output,
        host: plan.host,
        first: true,
    };
    let mut ending = Ending::listen()?;
    let mut engine = Engine::start(plan.kernel, HISTORY)?;
    let writer = Writer::start();
    let end = page
        .refresh(&mut engine, &writer, &mut ending, (period, count), names)
        .await;
    // Also after a failure: nothing stays in the kernel.
    engine.stop();
    let end = end?;
    if end == End::Done {
        return writer.finish_unless_told(&mut ending, end).await;
    }
    // Told to end: nobody cares for the rest of a page that the reader does not take at once.
    let _ = timeout(LAST_PAGE, writer.finish()).await;
    Ok(end)
}

/// What one refresh needs to know.
struct Page {
    view: View,
    rows: Option<usize>,
    output: super::Output,
    host: crate::sink::Host,
    first: bool,
}

impl Page {
    /// Hands pages to the writer, one each `period`, until there were `count` or something ends it.
    async fn refresh(
        &mut self,
        engine: &mut Engine,
        writer: &Writer,
        ending: &mut Ending,
        (period, count): (Duration, Option<u64>),
        names: &dyn Names,
    ) -> Result<End, Failure> {
        let mut ticks = interval_at(Instant::now() + period, period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut shown = 0;
        let unread = writer.closed();
        tokio::pin!(unread);
        // Who is there is known at once; only rates take a period.
        if count.is_none() && !self.output.json {
            self.show(engine, writer, names);
        }
        loop {
            tokio::select! {
                biased;
                end = ending.wait() => return Ok(end),
                () = &mut unread => return Ok(End::Done),
                _ = ticks.tick() => {
                    engine.tick();
                    drop(engine.changes());
                    shown += u64::from(self.show(engine, writer, names));
                    if Some(shown) == count {
                        return Ok(End::Done);
                    }
                }
                heard = engine.next() => heard?,
            }
        }
    }

    /// Hands a page to the writer; false if it has no place for one.
    fn show(&mut self, engine: &mut Engine, writer: &Writer, names: &dyn Names) -> bool {
        let Some(place) = writer.place_now() else {
            return false;
        };
        let page = self.render(&engine.snapshot(), engine.clock(), names);
        place.send(page.into_bytes());
        true
    }

    fn render(&mut self, snapshot: &Snapshot, clock: Clock, names: &dyn Names) -> String {
        let lines = self.output.size().map(|(_, lines)| lines);
        let interfaces = snapshot.interfaces.len();
        let fitting = |lines: usize| lines.saturating_sub(LINES_AROUND + interfaces).max(1);
        self.view.rows = self
            .rows
            .or_else(|| (!self.output.json).then(|| lines.map_or(ROWS, fitting)));
        let table = Table::build(snapshot, &self.view, names);
        if self.output.json {
            let mut line = top_line(&table, snapshot, clock);
            line.push('\n');
            return line;
        }
        let text = render_top(&table, snapshot, &self.host, self.output.screen());
        let is_first = std::mem::replace(&mut self.first, false);
        match (self.output.is_terminal, is_first) {
            (true, _) => format!("{CLEAR}{text}"),
            (false, true) => text,
            (false, false) => format!("\n{text}"),
        }
    }
}
