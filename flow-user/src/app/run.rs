//! The loop of every command that counts.

use std::time::Duration;

use tokio::time::sleep;

use super::{
    End, EndSignals, Failure, beside,
    consumer::{Consumer, Consumers, Proceed},
    engine::{Ages, Engine, Interest, Last, Plan},
    memory::Keeper,
};
use crate::source::{Origin, Pace, Step, tcp_info::Wanted};

/// An open source, and the consumers beside the command's own.
pub struct Run {
    engine: Engine,
    beside: Vec<Box<dyn Consumer>>,
}

impl Run {
    /// Opens the source of a plan, and the consumers beside the command's own.
    ///
    /// # Errors
    /// The source or one of these consumers can't be opened.
    pub fn open(plan: &Plan, pace: Pace, ages: Ages, interest: Interest) -> Result<Self, Failure> {
        let options = &plan.options;
        let user_names = !options.no_resolve;
        let beside = beside::of(options);
        let interests = beside.iter().map(|it| it.interest);
        let interest = interests.fold(interest, Interest::or);
        let mut engine = Engine::open(options.source(), pace, ages, interest, user_names)?;
        if options.tcp_info {
            engine.want_tcp_info(Wanted::All);
        }
        let beside = beside.into_iter().map(|it| (it.open)(&engine));
        let beside = beside.collect::<Result<_, _>>()?;
        engine.begin();
        Ok(Self { engine, beside })
    }

    /// Where the events come from.
    pub fn origin(&self) -> &Origin {
        self.engine.origin()
    }

    /// Has TCP's own view of every connection read at each tick.
    pub fn want_tcp_info(&mut self) {
        self.engine.want_tcp_info(Wanted::All);
    }

    /// Serves a consumer until it ends, the source ends, the time is over or a signal arrives. Then
    /// stops the source, also after a failure, so that nothing stays in the kernel.
    pub async fn serve(
        self,
        consumer: &mut impl Consumer,
        signals: &mut EndSignals,
        duration: Option<Duration>,
    ) -> Served {
        let Self { mut engine, beside } = self;
        let mut consumers = Consumers {
            primary: consumer,
            beside,
            failed: None,
        };
        let end = drive(&mut engine, &mut consumers, signals, duration).await;
        let stopped = engine.stop();
        let Consumers {
            beside, mut failed, ..
        } = consumers;
        for other in beside {
            let finished = tokio::select! {
                finished = other.finish(&stopped) => finished,
                // A second signal: do not wait for a slow consumer.
                _ = signals.wait() => break,
            };
            failed = failed.or(finished.err());
        }
        if let (Err(_), Some(failure)) = (&end, &failed) {
            // The command ends with its own failure.
            log::error!("{failure}");
        }
        Served {
            end,
            last: stopped.finish(),
            beside: failed.map_or(Ok(()), Err),
        }
    }
}

/// How the serving ended.
pub struct Served {
    /// Why the command's own consumer is served no more.
    pub end: Result<End, Failure>,
    pub last: Last,
    /// The first failure of one beside it. The command fails with it once its own output is whole.
    pub beside: Result<(), Failure>,
}

async fn drive(
    engine: &mut Engine,
    consumers: &mut Consumers<'_>,
    signals: &mut EndSignals,
    duration: Option<Duration>,
) -> Result<End, Failure> {
    let over = sleep(duration.unwrap_or(Duration::MAX));
    tokio::pin!(over);
    let is_live = engine.origin().is_live;
    let mut has_ended = false;
    let mut memory = Keeper::start();
    let mut proceed = consumers.state(engine, None)?;
    loop {
        if let Proceed::Break(end) = proceed {
            return Ok(end);
        }
        consumers.deliver(engine)?;
        let may_read = !has_ended && (is_live || !consumers.primary.is_busy());
        proceed = tokio::select! {
            biased;
            end = signals.wait() => return Ok(end),
            () = &mut over => return Ok(End::Done),
            proceed = consumers.ready() => proceed?,
            step = engine.next(), if may_read => match step? {
                Step::Tick(time) => {
                    consumers.deliver(engine)?;
                    let proceed = consumers.state(engine, Some(time))?;
                    memory.tick();
                    proceed
                }
                Step::Events | Step::Restart => Proceed::Continue(()),
                Step::End if consumers.primary.outlives_source() => {
                    has_ended = true;
                    consumers.deliver(engine)?;
                    consumers.state(engine, None)?
                }
                Step::End => return Ok(End::Done),
            },
        };
    }
}

#[cfg(test)]
pub mod tests {
    use std::{
        cell::RefCell,
        fs,
        future::{pending, ready},
        path::Path,
        rc::Rc,
    };

    use super::*;
    use crate::{
        app::{
            consumer::{Finished, Proceed as Go, Ready},
            engine::Stopped,
        },
        event::{
            AppFact, AppTotals, Bytes, Capability, Clock, Coverage, Event, Host, Instant,
            ProcessId, SocketCookie, Timed,
        },
        model::{Config, Model, UDP_IDLE, change::TimedChange},
        source::Spec,
        wire::{Entry, Header, VERSION},
    };

    const ALL: Interest = Interest {
        events: true,
        changes: true,
        states: false,
    };

    fn ages(history: u64) -> Ages {
        Ages {
            history: Duration::from_secs(history),
            udp_idle: UDP_IDLE,
        }
    }

    fn at(second: u64) -> Instant {
        Instant(second * 1_000_000_000)
    }

    /// A recording of a process that moves more at each of so many ticks.
    pub fn entries(ticks: u64) -> Vec<String> {
        let started = at(1);
        let header = Header {
            version: VERSION,
            host: Host::default(),
            clock: Clock {
                boot: jiff::Timestamp::UNIX_EPOCH,
            },
            netns: None,
            started,
        };
        let model = Model::new(Config::default(), started);
        let line = |entry: Entry<()>| serde_json::to_string(&entry).unwrap();
        let keyframe = Entry::Keyframe(model.keyframe());
        let mut lines = vec![
            line(Entry::Header(header)),
            serde_json::to_string(&keyframe).unwrap(),
        ];
        for tick in 1..=ticks {
            let time = at(1 + tick);
            let event = Event::App(AppFact {
                socket: SocketCookie(1),
                process: ProcessId {
                    pid: 7,
                    start: at(1),
                },
                remote: None,
                totals: AppTotals {
                    tx_bytes: Bytes(tick * 1000),
                    ..AppTotals::default()
                },
                uid: None,
                cgroup: None,
                comm: Some("worker".into()),
            });
            lines.push(line(Entry::Event(Timed { time, event })));
            lines.push(line(Entry::Tick(time)));
        }
        lines.push(line(Entry::End(at(1 + ticks))));
        lines
    }

    pub fn write(file: &Path, lines: &[String]) {
        fs::write(file, lines.join("\n") + "\n").unwrap();
    }

    /// Takes the end of the last tick and all after it off a file.
    pub fn cut_off(file: &Path) {
        let text = fs::read_to_string(file).unwrap();
        let end = text.rfind("{\"tick\"").unwrap() + 12;
        fs::write(file, &text[..end]).unwrap();
    }

    const PACE: Pace = Pace {
        interval: Duration::from_secs(1),
        at_once: true,
        as_recorded: false,
    };

    pub fn open(file: &Path) -> Engine {
        let spec = Spec::Recording(file.into());
        let mut engine = Engine::open(spec, PACE, ages(60), ALL, true).unwrap();
        engine.begin();
        engine
    }

    /// What a consumer received, in short.
    type Received = Rc<RefCell<Vec<String>>>;

    /// Writes down what it receives, and fails or ends at a tick.
    struct Witness {
        interest: Interest,
        received: Received,
        fails_at: Option<Instant>,
        ends_at: Option<Instant>,
        /// It stays after the end of the source, and ends when it has shown the state once more.
        outlives: bool,
        fails_at_the_end: bool,
    }

    impl Witness {
        fn new(interest: Interest) -> (Self, Received) {
            let received = Received::default();
            let witness = Self {
                interest,
                received: Rc::clone(&received),
                fails_at: None,
                ends_at: None,
                outlives: false,
                fails_at_the_end: false,
            };
            (witness, received)
        }

        fn note(&self, text: String) {
            self.received.borrow_mut().push(text);
        }
    }

    impl Consumer for Witness {
        fn interest(&self) -> Interest {
            self.interest
        }

        fn events(&mut self, events: &[Timed]) {
            self.note(format!("{} events", events.len()));
        }

        fn changes(&mut self, changes: &[TimedChange]) -> Result<(), Failure> {
            self.note(format!("{} changes", changes.len()));
            Ok(())
        }

        fn state(&mut self, engine: &mut Engine, tick: Option<Instant>) -> Result<Go, Failure> {
            if tick.is_some() && tick == self.fails_at {
                return Err(full());
            }
            self.note(format!("{} sent", engine.snapshot().totals.app.tx_bytes.0));
            let is_last = self.outlives && tick.is_none() && self.received.borrow().len() > 1;
            if is_last || tick.is_some() && tick == self.ends_at {
                return Ok(Go::Break(End::Done));
            }
            Ok(Go::Continue(()))
        }

        fn ready(&mut self) -> Ready<'_> {
            Box::pin(pending())
        }

        fn outlives_source(&self) -> bool {
            self.outlives
        }

        fn finish(self: Box<Self>, _: &Stopped) -> Finished<'_> {
            let result = if self.fails_at_the_end {
                Err(full())
            } else {
                Ok(())
            };
            Box::pin(ready(result))
        }

        fn notice(&mut self, message: &str) {
            self.note(message.to_owned());
        }
    }

    fn full() -> Failure {
        Failure::Output(std::io::ErrorKind::StorageFull.into())
    }

    fn boxed(beside: Vec<Witness>) -> Vec<Box<dyn Consumer>> {
        let beside = beside.into_iter();
        beside.map(|it| Box::new(it) as Box<dyn Consumer>).collect()
    }

    /// Serves consumers with a recording of so many ticks.
    async fn serve_all(ticks: u64, primary: &mut Witness, beside: Vec<Witness>) -> Served {
        serve_lines(&entries(ticks), primary, beside).await
    }

    /// The same with a recording of these lines.
    async fn serve_lines(lines: &[String], primary: &mut Witness, beside: Vec<Witness>) -> Served {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("recording");
        write(&file, lines);
        let run = Run {
            engine: open(&file),
            beside: boxed(beside),
        };
        let mut signals = EndSignals::listen().unwrap();
        let served = run.serve(primary, &mut signals, None);
        let served = tokio::time::timeout(Duration::from_secs(60), served).await;
        served.unwrap()
    }

    async fn drive_all(ticks: u64, primary: &mut Witness, beside: Vec<Witness>) -> End {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("recording");
        write(&file, &entries(ticks));
        let mut engine = open(&file);
        let mut consumers = Consumers {
            primary,
            beside: boxed(beside),
            failed: None,
        };
        let mut signals = EndSignals::listen().unwrap();
        let driven = drive(&mut engine, &mut consumers, &mut signals, None);
        let end = tokio::time::timeout(Duration::from_secs(60), driven).await;
        end.unwrap().unwrap()
    }

    #[tokio::test]
    async fn each_consumer_receives_what_it_wants() {
        let (mut states, of_states) = Witness::new(Interest::default());
        let (events, of_events) = Witness::new(Interest {
            events: true,
            changes: false,
            states: false,
        });
        assert_eq!(drive_all(2, &mut states, vec![events]).await, End::Done);
        assert_eq!(*of_states.borrow(), ["0 sent", "1000 sent", "2000 sent"]);
        let expected = ["0 sent", "1 events", "1000 sent", "1 events", "2000 sent"];
        assert_eq!(*of_events.borrow(), expected);
    }

    #[tokio::test]
    async fn coverage_that_changed_twice_between_two_ticks_arrives_twice() {
        let mut lines = entries(1);
        for limits in ["being attached", ""] {
            let coverage = Coverage {
                capability: Capability::Interfaces,
                backend: Some("TCX".to_owned()),
                limits: limits.to_owned(),
            };
            let event = Event::Coverage(vec![coverage]);
            let entry = Entry::<()>::Event(Timed { time: at(1), event });
            lines.insert(lines.len() - 3, serde_json::to_string(&entry).unwrap());
        }
        let (mut primary, received) = Witness::new(Interest {
            events: false,
            changes: true,
            states: false,
        });
        let served = serve_lines(&lines, &mut primary, Vec::new()).await;
        assert_eq!(served.end.unwrap(), End::Done);
        assert_eq!(received.borrow()[1..3], ["1 changes", "1 changes"]);
    }

    #[tokio::test]
    async fn one_beside_another_ends_alone() {
        let (mut primary, received) = Witness::new(Interest::default());
        let (mut failing, of_failing) = Witness::new(Interest::default());
        failing.fails_at = Some(at(3));
        let (staying, of_staying) = Witness::new(Interest::default());
        drive_all(3, &mut primary, vec![failing, staying]).await;
        assert_eq!(*of_failing.borrow(), ["0 sent", "1000 sent"]);
        assert_eq!(of_staying.borrow().len(), 4);
        let received = received.borrow();
        assert_eq!(received.len(), 5);
        assert!(received[3].contains("no storage space"), "{}", received[3]);
    }

    #[tokio::test]
    async fn one_beside_another_that_failed_makes_the_command_fail() {
        for fails_at in [Some(at(2)), None] {
            let (mut primary, _) = Witness::new(Interest::default());
            let (mut failing, _) = Witness::new(Interest::default());
            failing.fails_at = fails_at;
            failing.fails_at_the_end = fails_at.is_none();
            let served = serve_all(3, &mut primary, vec![failing]).await;
            assert_eq!(served.end.unwrap(), End::Done);
            let message = served.beside.unwrap_err().to_string();
            assert!(message.contains("no storage space"), "{message}");
        }
    }

    #[tokio::test]
    async fn who_outlives_the_source_sees_its_last_state() {
        let mut lines = entries(2);
        // After the last event there is no tick.
        lines.remove(lines.len() - 2);
        let (mut primary, received) = Witness::new(Interest::default());
        primary.outlives = true;
        let served = serve_lines(&lines, &mut primary, Vec::new()).await;
        assert_eq!(served.end.unwrap(), End::Done);
        assert_eq!(*received.borrow(), ["0 sent", "1000 sent", "2000 sent"]);
    }

    #[tokio::test]
    async fn the_primary_one_ends_them_all() {
        let (mut primary, _) = Witness::new(Interest::default());
        primary.ends_at = Some(at(3));
        let (other, received) = Witness::new(Interest::default());
        drive_all(9, &mut primary, vec![other]).await;
        assert_eq!(received.borrow().len(), 3);
    }

    #[tokio::test]
    async fn what_is_no_recording_is_refused_with_the_reason() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("recording");
        let refused = |lines: &[String]| {
            write(&file, lines);
            let spec = Spec::Recording(file.clone());
            let opened = Engine::open(spec, PACE, ages(0), ALL, true);
            opened.err().map(|failure| failure.to_string())
        };
        let good = entries(1);
        assert_eq!(refused(&good), None);
        let foreign = refused(&["hello".to_owned()]).unwrap();
        assert!(foreign.contains("no recording"), "{foreign}");
        let headless = refused(&good[1..]).unwrap();
        assert!(headless.contains("no recording"), "{headless}");
        let version = format!("\"version\":{VERSION}");
        let newer = good[0].replace(&version, "\"version\":99");
        let newer = refused(&[newer, good[1].clone()]).unwrap();
        assert!(newer.contains("99"), "{newer}");
        let mut broken = good.clone();
        broken[2] = "{\"event\":{}}".to_owned();
        write(&file, &broken);
        let error = open(&file).next().await.unwrap_err().to_string();
        assert!(error.contains("line 3"), "{error}");
    }
}
