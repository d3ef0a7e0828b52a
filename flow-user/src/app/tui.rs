//! `flow`: the full-screen view.
//!
//! One loop receives input, snapshots and changes, passes each as an event to the screen's reducer,
//! and performs the effects that it returns. A thread writes what is drawn; while the terminal
//! accepts nothing, nothing is drawn. Slow effects run on another thread.

mod connection;
mod export;
mod outside;
mod signal;
mod work;

use std::{
    env,
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

use self::{outside::Outside, work::Work};
use super::{
    DIRECTORY_PATIENCE, End, EndSignals, Failure, config,
    consumer::{Consumer, Proceed, Ready},
    engine::{Ages, Engine, Interest, Plan},
    output,
    reader::Reader,
    run::{Run, Served},
    writer::Writer,
};
use crate::{
    cli::symbols_for_terminal,
    config::{Config, Loaded, Place, save_columns, save_settings},
    enrich::users::UserResolver,
    event::{Bytes, Instant},
    faults,
    model::change::{StateChange, TimedChange},
    query::{
        filter::{Filter, FilterError},
        human,
    },
    sink::{export::Format, text::Symbols},
    source::{Pace, boottime},
    tui::{
        self, Chosen, Depth, Effect, Event, OwnUse, Settings, State, Theme,
        terminal::{self, Asked, LateAnswer, Screen},
        views::ViewId,
    },
};

/// How long the end waits for an effect that still runs.
const LAST_WORK: Duration = Duration::from_secs(1);

/// Arguments of the command line that the screen shows, as they were typed.
pub struct Arguments {
    pub interfaces: Vec<String>,
    pub color: bool,
}

/// Runs the view.
///
/// # Errors
/// There is no terminal, the kernel side fails, or the terminal can't be written.
pub async fn run(
    plan: Plan,
    loaded: Loaded,
    arguments: Arguments,
    users: Arc<UserResolver>,
) -> Result<End, Failure> {
    terminal::check().map_err(Failure::Screen)?;
    config::report_problems(&loaded);
    let mut problems = problems(&loaded);
    let Loaded { config, place, .. } = loaded;
    let chosen = config.clone();
    let Config {
        screen: mut preferences,
        interval,
        history_ttl,
        udp_idle,
        mouse,
        symbols,
        mut filter,
    } = config;
    if let Err(error) = check_filter(&filter, &users) {
        problems = Some(format!("the configured filter is ignored: {error}"));
        filter.clear();
    }
    if !arguments.color {
        preferences.theme = Some(Theme::Mono);
    }
    // The terminal answers while the kernel side starts.
    let asked = match preferences.theme {
        None => Asked::ask(),
        Some(_) => None,
    };
    let mut signals = EndSignals::listen()?;
    let pace = Pace {
        interval,
        at_once: false,
        as_recorded: true,
    };
    let ages = Ages {
        history: history_ttl,
        udp_idle,
    };
    let run = Run::open(&plan, pace, ages, CHANGES);
    // After a failure too: the shell would take the answer for input.
    let answer = asked.map(Asked::answer).unwrap_or_default();
    if let Some(is_light) = answer.is_light {
        preferences.theme = Some(if is_light { Theme::Light } else { Theme::Dark });
    }
    let run = run?;
    let first_theme = preferences.theme.unwrap_or_default();
    let origin = run.origin();
    let settings = Settings {
        preferences,
        filter,
        interfaces: arguments.interfaces,
        depth: Depth::of(|name| env::var(name).ok()),
        host: origin.host.clone(),
        clock: origin.clock,
        zone: TimeZone::system(),
    };
    let view_config = ViewConfig {
        place,
        config: chosen,
        first_theme,
        mouse,
        symbols: symbols_for_terminal(symbols),
        late_answer: LateAnswer::new(answer.is_late),
        problems,
    };
    let world = Outside::new(users, origin.is_live);
    let mut view = View::start(settings, view_config, world)?;
    let Served { end, beside, .. } = run.serve(&mut view, &mut signals, None).await;
    let written = view.restore_terminal().await;
    let end = end?;
    if let Ok(Err(error)) = written {
        return Err(Failure::Output(error));
    }
    beside.map(|()| end)
}

const CHANGES: Interest = Interest {
    events: false,
    changes: true,
    states: true,
};

/// The part of the configuration that is not the screen's.
struct ViewConfig {
    place: Option<Place>,
    config: Config,
    first_theme: Theme,
    mouse: bool,
    symbols: Symbols,
    late_answer: LateAnswer,
    /// Invalid settings, for the status line.
    problems: Option<String>,
}

/// Whether a filter can be used. That of the command line was read already; one of the configuration
/// may name a user that this host does not have.
fn check_filter(filter: &str, users: &UserResolver) -> Result<(), String> {
    let uid_of = |name: &str| users.uid_within(name, DIRECTORY_PATIENCE);
    let read = Filter::parse(filter, &uid_of);
    let in_one_line = |error: FilterError| error.to_string().lines().next().map(str::to_owned);
    read.map(drop)
        .map_err(|error| in_one_line(error).unwrap_or_default())
}

/// Invalid settings in one line, because the screen covers the messages on standard error.
fn problems(loaded: &Loaded) -> Option<String> {
    let first = loaded.messages().into_iter().next()?;
    Some(match loaded.warnings.len() {
        0 | 1 => first,
        more => format!("{first} (and {} more, see flow config)", more - 1),
    })
}

/// The view, and the thread that writes what it draws.
struct View {
    session: Session,
    writer: Writer,
}

/// The screen, its input, and the program around it.
struct Session {
    state: State,
    screen: Screen,
    input: EventStream,
    late_answer: LateAnswer,
    /// SIGCONT: Flow continues after a stop.
    resumed: unix::Signal,
    /// The configuration file.
    place: Option<Place>,
    /// The configuration at the start, and the theme that it came to.
    config: Config,
    first_theme: Theme,
    meter: Meter,
    work: Work,
    /// Changes since the last tick.
    changes: Vec<TimedChange>,
    states: Vec<StateChange>,
    /// Whether the screen must be drawn.
    is_due: bool,
    /// Whether the user has quit.
    ended: bool,
}

impl Consumer for View {
    fn interest(&self) -> Interest {
        CHANGES
    }

    fn changes(&mut self, changes: &[TimedChange]) -> Result<(), Failure> {
        self.session.changes.extend_from_slice(changes);
        Ok(())
    }

    fn states(&mut self, states: &[StateChange]) {
        self.session.states.extend_from_slice(states);
    }

    /// Also shows the state before the first tick, which has no rates yet.
    fn state(&mut self, engine: &mut Engine, _: Option<Instant>) -> Result<Proceed, Failure> {
        let session = &mut self.session;
        let event = Event::Snapshot {
            changes: mem::take(&mut session.changes),
            states: mem::take(&mut session.states),
            snapshot: engine.snapshot(),
            own: session.meter.take(),
        };
        session.take(event)?;
        engine.want_tcp_info(session.state.wanted_connections());
        Ok(session.proceed())
    }

    fn ready(&mut self) -> Ready<'_> {
        Box::pin(self.handle_next())
    }

    fn outlives_source(&self) -> bool {
        true
    }

    fn notice(&mut self, message: &str) {
        if let Err(failure) = self.session.take(Event::Status(message.to_owned())) {
            log::error!("{failure}");
        }
    }
}

impl View {
    /// Takes over the terminal.
    fn start(settings: Settings, view_config: ViewConfig, world: Outside) -> Result<Self, Failure> {
        let state = State::new(settings, Arc::new(world), terminal::size())?;
        let screen =
            Screen::take(view_config.mouse, view_config.symbols).map_err(Failure::Screen)?;
        let continued = SignalKind::from_raw(Signal::SIGCONT as i32);
        let mut session = Session {
            state,
            screen,
            input: EventStream::new(),
            late_answer: view_config.late_answer,
            resumed: listen(continued).map_err(Failure::Runtime)?,
            place: view_config.place,
            config: view_config.config,
            first_theme: view_config.first_theme,
            meter: Meter::start(),
            work: Work::new(),
            changes: Vec::new(),
            states: Vec::new(),
            is_due: true,
            ended: false,
        };
        if let Some(problems) = view_config.problems {
            session.take(Event::Status(problems))?;
        }
        let writer = Writer::to(Reader::of_stdout(), |page| {
            terminal::write(|| output::write(page))
        });
        Ok(Self { session, writer })
    }

    /// Restores the terminal. Returns the result of the last write, or that it timed out.
    async fn restore_terminal(self) -> Result<io::Result<()>, Elapsed> {
        let Self { session, writer } = self;
        // A half-written page would end up in the shell.
        let written = timeout(terminal::LAST_PAGE, writer.finish()).await;
        drop(session.screen);
        // Lets an export finish its file. Work that hangs is abandoned.
        let _ = timeout(LAST_WORK, session.work.finish()).await;
        written
    }

    /// Handles the next input, signal, result of work, or room for a page.
    async fn handle_next(&mut self) -> Result<Proceed, Failure> {
        let Self { session, writer } = self;
        session.is_due |= session.state.take_changed();
        tokio::select! {
            biased;
            event = next(&mut session.input) => match event {
                Some(Ok(event)) => session.terminal_event(event)?,
                // The terminal is gone.
                Some(Err(_)) | None => return Ok(ControlFlow::Break(End::HungUp)),
            },
            () = writer.closed() => return Ok(ControlFlow::Break(End::HungUp)),
            _ = session.resumed.recv() => {
                // The terminal may be in any state after a stop.
                session.screen.resume().map_err(Failure::Output)?;
                let (columns, rows) = terminal::size();
                session.take(Event::Resize(columns, rows))?;
                session.take(Event::Redraw)?;
            }
            message = session.work.result() => session.take(Event::Status(message))?,
            place = writer.place(), if session.is_due => match place {
                Some(place) => {
                    let page = session.screen.draw(&session.state).map_err(Failure::Output)?;
                    place.send(page.into());
                    session.is_due = false;
                }
                None => return Ok(ControlFlow::Break(End::HungUp)),
            },
        }
        Ok(session.proceed())
    }
}

impl Session {
    fn proceed(&self) -> Proceed {
        if self.ended {
            ControlFlow::Break(End::Done)
        } else {
            ControlFlow::Continue(())
        }
    }

    fn terminal_event(&mut self, event: crossterm::event::Event) -> Result<(), Failure> {
        if let crossterm::event::Event::Resize(..) = event {
            let (columns, rows) = terminal::size();
            return self.take(Event::Resize(columns, rows));
        }
        faults::panic_in("main");
        if self.late_answer.takes(&event) {
            return Ok(());
        }
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
                Effect::Signal(target, signal) => self.start_work(move || {
                    let sent = signal::send(&target, signal);
                    sent.map(|()| format!("sent {signal} to {}", target.name))
                })?,
                Effect::Close(connection) => self.start_work(move || {
                    let closed = connection::close(&connection);
                    closed.map(|()| format!("closed {}", connection.name))
                })?,
                Effect::SaveColumns(view, columns) => self.save_columns(view, columns)?,
                Effect::SaveSettings(chosen) => self.save_settings(chosen)?,
            }
        }
        Ok(())
    }

    fn save_columns(&mut self, view: ViewId, columns: Vec<&'static str>) -> Result<(), Failure> {
        let place = self.place.clone();
        self.start_work(move || match save_columns(place.as_ref(), view, &columns) {
            Ok(place) => Ok(format!("columns saved in {place}")),
            Err(error) => Err(format!(
                "columns not saved, they last until Flow ends: {error}"
            )),
        })
    }

    fn save_settings(&mut self, chosen: Chosen) -> Result<(), Failure> {
        let Chosen {
            view,
            theme,
            units,
            compact,
            threshold,
        } = chosen;
        let place = self.place.clone();
        let mut config = self.config.clone();
        // The theme that nobody chose stays `auto`.
        if theme != self.first_theme {
            config.screen.theme = Some(theme);
        }
        config.screen.view = view;
        config.screen.units = units;
        config.screen.compact = compact;
        config.screen.threshold = threshold;
        self.start_work(move || match save_settings(place.as_ref(), &config) {
            Ok((place, names)) if names.is_empty() => {
                Ok(format!("nothing to save: {place} has these settings"))
            }
            Ok((place, names)) => Ok(format!("saved {} in {place}", names.join(", "))),
            Err(error) => Err(format!("settings not saved: {error}")),
        })
    }

    fn export(&mut self, format: Format) -> Result<(), Failure> {
        let (sheet, name) = (self.state.sheet(), self.state.sheet_name());
        self.start_work(move || {
            let written = export::write(&sheet, format, (Path::new("."), &name));
            written.map(|file| {
                let rows = human::count(sheet.rows.len(), "row", "rows");
                format!("wrote {rows} to {}", file.display())
            })
        })
    }

    /// Runs a job on the work thread; its result appears in the status line.
    fn start_work<E: ToString>(
        &mut self,
        job: impl FnOnce() -> Result<String, E> + Send + 'static,
    ) -> Result<(), Failure> {
        let job = move || {
            faults::panic_in("work");
            job().unwrap_or_else(|error| error.to_string())
        };
        match self.work.start(job) {
            Ok(()) => Ok(()),
            Err(error) => self.take(Event::Status(error.to_string())),
        }
    }

    /// Stops the process group, as Ctrl-Z does. The kernel side continues to count.
    fn suspend(&mut self) -> Result<(), Failure> {
        self.screen.pause();
        // Returns on SIGCONT; without job control at once.
        let _ = kill(Pid::from_raw(0), Signal::SIGTSTP);
        self.screen.resume().map_err(Failure::Output)
    }
}

/// The next event of the terminal; `None` if it is closed.
async fn next(input: &mut EventStream) -> Option<io::Result<crossterm::event::Event>> {
    poll_fn(|context| Pin::new(&mut *input).poll_next(context)).await
}

/// Measures Flow's own CPU time and memory.
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

    /// The share of a CPU since the last call, and the memory now.
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

/// CPU time of all threads, in user space and in the kernel.
fn cpu_time() -> Duration {
    let of = |time: TimeVal| {
        let microseconds = u64::try_from(time.num_microseconds()).unwrap_or(0);
        Duration::from_micros(microseconds)
    };
    getrusage(UsageWho::RUSAGE_SELF)
        .map(|usage| of(usage.user_time()) + of(usage.system_time()))
        .unwrap_or_default()
}
