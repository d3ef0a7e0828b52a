//! `flow`: the full-screen view.
//!
//! One loop hears the terminal, the kernel and the clock, hands each event to the screen's reducer, and does what
//! that asks for. A thread writes what is drawn; while the terminal takes nothing, nothing is drawn. What may take
//! a moment is done on another.

mod connection;
mod export;
mod signal;
mod work;

use std::{
    future::poll_fn,
    io,
    path::Path,
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use crossterm::event::EventStream;
use futures_core::Stream as _;
use jiff::tz::TimeZone;
use nix::{
    sys::{
        resource::{UsageWho, getrusage},
        signal::{Signal, kill},
        time::{TimeVal, TimeValLike as _},
    },
    unistd::{Pid, SysconfVar, sysconf},
};
use tokio::{
    signal::unix::{SignalKind, signal as listen},
    time::{self, MissedTickBehavior, interval_at, timeout},
};

use self::work::Work;
use super::{
    End, Ending, Failure, config,
    engine::{Engine, Plan},
    output,
    reader::Reader,
    writer::Writer,
};
use crate::{
    config::{Config, Loaded, Place, keep_columns},
    enrich::users::UserResolver,
    event::Bytes,
    faults,
    query::human,
    sink::export::Format,
    source::kernel,
    tui::{
        self, Effect, Event, OwnUse, Settings, State, Theme, World,
        terminal::{self, Screen},
        views::ViewId,
    },
};

/// How long something that was begun is waited for at the end.
const LAST_WORK: Duration = Duration::from_secs(1);

/// What the command line says of the filter, as it was typed.
pub struct Asked {
    pub filter: String,
    pub interfaces: Vec<String>,
    pub color: bool,
}

impl World for UserResolver {
    fn uid(&self, name: &str) -> Option<u32> {
        Self::uid(self, name)
    }
}

/// Runs the view.
///
/// # Errors
/// There is no terminal, the kernel side fails, or the terminal can't be written.
pub async fn run(
    plan: Plan,
    loaded: Loaded,
    asked: Asked,
    names: Arc<UserResolver>,
) -> Result<End, Failure> {
    terminal::check().map_err(Failure::Screen)?;
    config::tell(&loaded);
    let problems = problems(&loaded);
    let Loaded { config, place, .. } = loaded;
    let Config {
        screen: mut preferences,
        interval,
        history_ttl,
        mouse,
    } = config;
    if !asked.color {
        preferences.theme = Some(Theme::Mono);
    }
    let mut ending = Ending::listen()?;
    let mut engine = Engine::start(plan.kernel, history_ttl)?;
    let settings = Settings {
        preferences,
        filter: asked.filter,
        interfaces: asked.interfaces,
        host: plan.host,
        clock: engine.clock(),
        zone: TimeZone::system(),
    };
    let kept = Kept {
        place,
        mouse,
        problems,
    };
    let end = show(settings, kept, &mut engine, &mut ending, interval, names).await;
    // Also after a failure: nothing stays in the kernel.
    engine.stop();
    end
}

/// What of the configuration is not the screen's own.
struct Kept {
    place: Option<Place>,
    mouse: bool,
    /// What to say of it first.
    problems: Option<String>,
}

/// That something is wrong with the configuration, in one line: the screen covers what was told.
fn problems(loaded: &Loaded) -> Option<String> {
    let first = loaded.messages().into_iter().next()?;
    Some(match loaded.warnings.len() {
        0 | 1 => first,
        more => format!("{first} (and {} more, see flow config)", more - 1),
    })
}

/// Shows the screen until something ends it, and gives the terminal back.
async fn show(
    settings: Settings,
    kept: Kept,
    engine: &mut Engine,
    ending: &mut Ending,
    period: Duration,
    names: Arc<UserResolver>,
) -> Result<End, Failure> {
    let state = State::new(settings, names.clone(), terminal::size())?;
    let screen = Screen::take(kept.mouse).map_err(Failure::Screen)?;
    let mut shown = Shown {
        state,
        screen,
        place: kept.place,
        meter: Meter::start(),
        work: Work::new(),
        names,
        ended: false,
    };
    if let Some(problems) = kept.problems {
        shown.take(Event::Told(problems))?;
    }
    let writer = Writer::to(Reader::of_stdout(), |page| {
        terminal::write(|| output::write(page))
    });
    let end = shown.follow(engine, &writer, ending, period).await;
    // What is half written would stand in the shell's way.
    let written = timeout(terminal::LAST_PAGE, writer.finish()).await;
    let Shown { screen, work, .. } = shown;
    drop(screen);
    // A half-written file would stay behind. What hangs is left to itself.
    let _ = timeout(LAST_WORK, work.finish()).await;
    match written {
        Ok(Err(failure)) if end.is_ok() => Err(failure),
        _ => end,
    }
}

/// The screen and what is around it.
struct Shown {
    state: State,
    screen: Screen,
    /// Where the configuration is.
    place: Option<Place>,
    meter: Meter,
    work: Work,
    names: Arc<UserResolver>,
    /// The user wants to end.
    ended: bool,
}

impl Shown {
    async fn follow(
        &mut self,
        engine: &mut Engine,
        writer: &Writer,
        ending: &mut Ending,
        period: Duration,
    ) -> Result<End, Failure> {
        let mut input = EventStream::new();
        let mut resumed =
            listen(SignalKind::from_raw(Signal::SIGCONT as i32)).map_err(Failure::Runtime)?;
        let mut ticks = interval_at(time::Instant::now() + period, period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // At once: what there was before. Rates come with the first tick.
        self.look(engine)?;
        let mut waits = true;
        let hung_up = writer.closed();
        tokio::pin!(hung_up);
        while !self.ended {
            waits |= self.state.take_changed();
            tokio::select! {
                biased;
                end = ending.wait() => return Ok(end),
                heard = next(&mut input) => match heard {
                    Some(Ok(event)) => self.hear(event)?,
                    // The terminal is gone.
                    Some(Err(_)) | None => return Ok(End::HungUp),
                },
                () = &mut hung_up => return Ok(End::HungUp),
                _ = resumed.recv() => {
                    // Whoever stopped Flow may have left the terminal in any state.
                    self.screen.resume().map_err(Failure::Output)?;
                    let (columns, rows) = terminal::size();
                    self.take(Event::Resize(columns, rows))?;
                    self.take(Event::Redraw)?;
                }
                _ = ticks.tick() => {
                    engine.tick();
                    self.look(engine)?;
                }
                told = self.work.told() => self.take(Event::Told(told))?,
                () = self.names.changed() => self.take(Event::NamesChanged)?,
                place = writer.place(), if waits => match place {
                    Some(place) => {
                        let page = self.screen.draw(&self.state).map_err(Failure::Output)?;
                        place.send(page);
                        waits = false;
                    }
                    None => return Ok(End::HungUp),
                },
                heard = engine.next() => heard?,
            }
        }
        Ok(End::Done)
    }

    fn look(&mut self, engine: &mut Engine) -> Result<(), Failure> {
        let own = self.meter.take();
        self.take(Event::Snapshot {
            changes: engine.changes(),
            snapshot: engine.snapshot(),
            own,
        })
    }

    fn hear(&mut self, event: crossterm::event::Event) -> Result<(), Failure> {
        if let crossterm::event::Event::Resize(..) = event {
            let (columns, rows) = terminal::size();
            return self.take(Event::Resize(columns, rows));
        }
        faults::panic_in("main");
        match terminal::input(event) {
            Some(input) => self.take(Event::Input(input, kernel::now())),
            None => Ok(()),
        }
    }

    fn take(&mut self, event: Event) -> Result<(), Failure> {
        for effect in tui::reduce(&mut self.state, event) {
            match effect {
                Effect::Quit => self.ended = true,
                Effect::Clear => self.screen.clear(),
                Effect::Suspend => self.suspend()?,
                Effect::Copy(text) => self.screen.copy(&text),
                Effect::Export(format) => self.export(format)?,
                Effect::Signal(target, signal) => self.begin(move || {
                    let sent = signal::send(&target, signal);
                    sent.map(|()| format!("sent {signal} to {}", target.name))
                })?,
                Effect::Close(connection) => self.begin(move || {
                    let closed = connection::close(&connection);
                    closed.map(|()| format!("closed {}", connection.name))
                })?,
                Effect::KeepColumns(view, columns) => self.keep(view, columns)?,
            }
        }
        Ok(())
    }

    fn keep(&mut self, view: ViewId, columns: Vec<&'static str>) -> Result<(), Failure> {
        let place = self.place.clone();
        self.begin(move || match keep_columns(place.as_ref(), view, &columns) {
            Ok(place) => Ok(format!("columns kept in {place}")),
            Err(error) => Err(format!("columns hold until Flow ends; not kept: {error}")),
        })
    }

    fn export(&mut self, format: Format) -> Result<(), Failure> {
        let (sheet, name) = (self.state.sheet(), self.state.sheet_name());
        let names = Arc::clone(&self.names);
        self.begin(move || {
            let written = export::write(&sheet, format, &*names, (Path::new("."), &name));
            written.map(|file| {
                let rows = human::count(sheet.rows.len(), "row", "rows");
                format!("wrote {rows} to {}", file.display())
            })
        })
    }

    /// Begins something that may take a moment; what comes of it is told.
    fn begin<E: ToString>(
        &mut self,
        job: impl FnOnce() -> Result<String, E> + Send + 'static,
    ) -> Result<(), Failure> {
        let job = move || {
            faults::panic_in("work");
            job().unwrap_or_else(|error| error.to_string())
        };
        match self.work.begin(job) {
            Ok(()) => Ok(()),
            Err(error) => self.take(Event::Told(error.to_string())),
        }
    }

    /// Back to the shell, as if the terminal had been asked to stop everything in it. The kernel counts on.
    fn suspend(&mut self) -> Result<(), Failure> {
        self.screen.pause();
        // Returns once the shell says to go on; a shell without job control says so at once.
        let _ = kill(Pid::from_raw(0), Signal::SIGTSTP);
        self.screen.resume().map_err(Failure::Output)
    }
}

/// The next event of the terminal; `None` when there are no more.
async fn next(input: &mut EventStream) -> Option<io::Result<crossterm::event::Event>> {
    poll_fn(|context| Pin::new(&mut *input).poll_next(context)).await
}

/// Measures what Flow itself takes.
struct Meter {
    at: Instant,
    cpu: Duration,
    page_bytes: u64,
}

impl Meter {
    fn start() -> Self {
        let page = sysconf(SysconfVar::PAGE_SIZE).ok().flatten();
        Self {
            at: Instant::now(),
            cpu: cpu_time(),
            page_bytes: page
                .and_then(|bytes| u64::try_from(bytes).ok())
                .unwrap_or(4096),
        }
    }

    /// Since it was last asked.
    fn take(&mut self) -> OwnUse {
        let (now, cpu) = (Instant::now(), cpu_time());
        let over = now.duration_since(std::mem::replace(&mut self.at, now));
        let used = cpu.saturating_sub(std::mem::replace(&mut self.cpu, cpu));
        // Its second number is the resident memory in pages.
        let pages = std::fs::read_to_string("/proc/self/statm")
            .ok()
            .and_then(|text| {
                let resident = text.split(' ').nth(1)?;
                resident.parse::<u64>().ok()
            });
        let share = used.as_secs_f64() / over.as_secs_f64();
        OwnUse {
            cpu: if share.is_finite() { share } else { 0.0 },
            memory: Bytes(pages.unwrap_or(0).saturating_mul(self.page_bytes)),
        }
    }
}

/// Time of all threads, in user space and in the kernel.
fn cpu_time() -> Duration {
    let of = |time: TimeVal| {
        let microseconds = u64::try_from(time.num_microseconds()).unwrap_or(0);
        Duration::from_micros(microseconds)
    };
    getrusage(UsageWho::RUSAGE_SELF)
        .map(|usage| of(usage.user_time()) + of(usage.system_time()))
        .unwrap_or_default()
}
