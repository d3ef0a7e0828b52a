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
    io, mem,
    ops::ControlFlow,
    path::Path,
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant as Moment},
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
    unistd::Pid,
};
use procfs::{page_size, process::Process};
use tokio::{
    signal::unix::{self, SignalKind, signal as listen},
    time::{error::Elapsed, timeout},
};

use self::work::Work;
use super::{
    End, Ending, Failure, config,
    consumer::{Consumer, Proceed, Ready},
    engine::{Engine, Interest, Plan},
    output,
    reader::Reader,
    run::{Run, Served},
    writer::Writer,
};
use crate::{
    config::{Config, Loaded, Place, save_columns},
    enrich::users::UserResolver,
    event::{Bytes, Instant},
    faults,
    model::change::TimedChange,
    query::human,
    sink::export::Format,
    source::{Pace, boottime},
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
    users: Arc<UserResolver>,
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
    let pace = Pace {
        interval,
        at_once: false,
        as_recorded: true,
    };
    let run = Run::open(&plan, pace, history_ttl, CHANGES)?;
    let origin = run.origin();
    let settings = Settings {
        preferences,
        filter: asked.filter,
        interfaces: asked.interfaces,
        host: origin.host.clone(),
        clock: origin.clock,
        zone: TimeZone::system(),
    };
    let kept = Kept {
        place,
        mouse,
        problems,
    };
    let mut view = View::start(settings, kept, users)?;
    let Served { end, beside, .. } = run.serve(&mut view, &mut ending, None).await;
    let written = view.give_back().await;
    let end = end?;
    if let Ok(Err(error)) = written {
        return Err(Failure::Output(error));
    }
    beside.map(|()| end)
}

const CHANGES: Interest = Interest {
    events: false,
    changes: true,
};

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

/// The view, and the thread that writes what it draws.
struct View {
    shown: Shown,
    writer: Writer,
}

/// The screen and what is around it.
struct Shown {
    state: State,
    screen: Screen,
    input: EventStream,
    /// Flow was stopped, and goes on.
    resumed: unix::Signal,
    /// Where the configuration is.
    place: Option<Place>,
    meter: Meter,
    work: Work,
    /// What changed since the last tick.
    changes: Vec<TimedChange>,
    /// Something is to be drawn.
    is_due: bool,
    /// The user wants to end.
    ended: bool,
}

impl Consumer for View {
    fn interest(&self) -> Interest {
        CHANGES
    }

    fn changes(&mut self, changes: &[TimedChange]) -> Result<(), Failure> {
        self.shown.changes.extend_from_slice(changes);
        Ok(())
    }

    /// Before the first tick it shows what there was. Rates come with that.
    fn state(&mut self, engine: &mut Engine, _: Option<Instant>) -> Result<Proceed, Failure> {
        let shown = &mut self.shown;
        let event = Event::Snapshot {
            changes: mem::take(&mut shown.changes),
            snapshot: engine.snapshot(),
            own: shown.meter.take(),
        };
        shown.take(event)?;
        Ok(shown.proceed())
    }

    fn ready(&mut self) -> Ready<'_> {
        Box::pin(self.deal())
    }

    fn outlives_source(&self) -> bool {
        true
    }

    fn notice(&mut self, message: &str) {
        if let Err(failure) = self.shown.take(Event::Status(message.to_owned())) {
            log::error!("{failure}");
        }
    }
}

impl View {
    /// Takes the terminal.
    fn start(settings: Settings, kept: Kept, users: Arc<UserResolver>) -> Result<Self, Failure> {
        let state = State::new(settings, users, terminal::size())?;
        let screen = Screen::take(kept.mouse).map_err(Failure::Screen)?;
        let continued = SignalKind::from_raw(Signal::SIGCONT as i32);
        let mut shown = Shown {
            state,
            screen,
            input: EventStream::new(),
            resumed: listen(continued).map_err(Failure::Runtime)?,
            place: kept.place,
            meter: Meter::start(),
            work: Work::new(),
            changes: Vec::new(),
            is_due: true,
            ended: false,
        };
        if let Some(problems) = kept.problems {
            shown.take(Event::Status(problems))?;
        }
        let writer = Writer::to(Reader::of_stdout(), |page| {
            terminal::write(|| output::write(page))
        });
        Ok(Self { shown, writer })
    }

    /// Gives the terminal back. Returns whether everything was written, if that was soon.
    async fn give_back(self) -> Result<io::Result<()>, Elapsed> {
        let Self { shown, writer } = self;
        // What is half written would stand in the shell's way.
        let written = timeout(terminal::LAST_PAGE, writer.finish()).await;
        drop(shown.screen);
        // A half-written file would stay behind. What hangs is left to itself.
        let _ = timeout(LAST_WORK, shown.work.finish()).await;
        written
    }

    /// Deals with one thing that happened to the terminal, or with what was begun.
    async fn deal(&mut self) -> Result<Proceed, Failure> {
        let Self { shown, writer } = self;
        shown.is_due |= shown.state.take_changed();
        tokio::select! {
            biased;
            heard = next(&mut shown.input) => match heard {
                Some(Ok(event)) => shown.hear(event)?,
                // The terminal is gone.
                Some(Err(_)) | None => return Ok(ControlFlow::Break(End::HungUp)),
            },
            () = writer.closed() => return Ok(ControlFlow::Break(End::HungUp)),
            _ = shown.resumed.recv() => {
                // Whoever stopped Flow may have left the terminal in any state.
                shown.screen.resume().map_err(Failure::Output)?;
                let (columns, rows) = terminal::size();
                shown.take(Event::Resize(columns, rows))?;
                shown.take(Event::Redraw)?;
            }
            told = shown.work.told() => shown.take(Event::Status(told))?,
            place = writer.place(), if shown.is_due => match place {
                Some(place) => {
                    let page = shown.screen.draw(&shown.state).map_err(Failure::Output)?;
                    place.send(page.into());
                    shown.is_due = false;
                }
                None => return Ok(ControlFlow::Break(End::HungUp)),
            },
        }
        Ok(shown.proceed())
    }
}

impl Shown {
    fn proceed(&self) -> Proceed {
        if self.ended {
            ControlFlow::Break(End::Done)
        } else {
            ControlFlow::Continue(())
        }
    }

    fn hear(&mut self, event: crossterm::event::Event) -> Result<(), Failure> {
        if let crossterm::event::Event::Resize(..) = event {
            let (columns, rows) = terminal::size();
            return self.take(Event::Resize(columns, rows));
        }
        faults::panic_in("main");
        match terminal::input(event) {
            Some(input) => self.take(Event::Input(input, boottime::now())),
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
                Effect::SaveColumns(view, columns) => self.keep(view, columns)?,
            }
        }
        Ok(())
    }

    fn keep(&mut self, view: ViewId, columns: Vec<&'static str>) -> Result<(), Failure> {
        let place = self.place.clone();
        self.begin(move || match save_columns(place.as_ref(), view, &columns) {
            Ok(place) => Ok(format!("columns kept in {place}")),
            Err(error) => Err(format!("columns hold until Flow ends; not kept: {error}")),
        })
    }

    fn export(&mut self, format: Format) -> Result<(), Failure> {
        let (sheet, name) = (self.state.sheet(), self.state.sheet_name());
        self.begin(move || {
            let written = export::write(&sheet, format, (Path::new("."), &name));
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
            Err(error) => self.take(Event::Status(error.to_string())),
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
    at: Moment,
    cpu: Duration,
}

impl Meter {
    fn start() -> Self {
        Self {
            at: Moment::now(),
            cpu: cpu_time(),
        }
    }

    /// Since it was last asked.
    fn take(&mut self) -> OwnUse {
        let (now, cpu) = (Moment::now(), cpu_time());
        let over = now.duration_since(mem::replace(&mut self.at, now));
        let used = cpu.saturating_sub(mem::replace(&mut self.cpu, cpu));
        let memory = Process::myself().and_then(|own| own.statm());
        let pages = memory.map_or(0, |memory| memory.resident);
        let share = used.as_secs_f64() / over.as_secs_f64();
        OwnUse {
            cpu: if share.is_finite() { share } else { 0.0 },
            memory: Bytes(pages.saturating_mul(page_size())),
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
