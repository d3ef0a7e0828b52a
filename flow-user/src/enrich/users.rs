//! Names of users and their numbers, as the system's directory has them.
//!
//! A directory may be remote and may take long to answer, so a thread of its own queries it.
//! Callers wait briefly for an answer, and not at all while an earlier one is overdue.
//!
//! - [`UserNames`]: the name of each user that events name, as an event of its own.
//! - [`UserResolver`]: the number of a user whose name is typed.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, Receiver, SyncSender},
    },
    thread,
    time::{Duration, Instant},
};

use nix::unistd::{Uid, User};

use super::{Answered, Enricher};
use crate::event::{Event, EventSink, Instant as Time};

/// Users cached at most, by name and by number; when the cache is full, it is cleared. At most as
/// many questions wait for the directory.
const MAX_CACHED: usize = 4096;
/// How long the events of one tick wait for answers, all together. A local directory takes some 50
/// microseconds.
const PATIENCE: Duration = Duration::from_millis(50);

/// A directory of users.
pub trait Directory: Send + 'static {
    /// The name of the user with this id.
    fn name(&self, uid: u32) -> Option<Arc<str>>;
    /// The id of the user of this name.
    fn uid(&self, name: &str) -> Option<u32>;
}

/// The system's directory, as configured in `nsswitch.conf`.
#[derive(Clone, Copy, Debug)]
pub struct System;

impl Directory for System {
    fn name(&self, uid: u32) -> Option<Arc<str>> {
        let user = User::from_uid(Uid::from_raw(uid)).ok().flatten()?;
        Some(user.name.into())
    }

    fn uid(&self, name: &str) -> Option<u32> {
        let user = User::from_name(name).ok().flatten()?;
        Some(user.uid.as_raw())
    }
}

/// Adds the name of each user that events name.
#[derive(Debug)]
pub struct UserNames {
    /// A question is a user, and the time of the event.
    inquiry: Inquiry<(Time, u32), Option<Arc<str>>>,
    asked: HashSet<u32>,
    patience: Duration,
    /// How long answers may still delay events before the next tick.
    left: Duration,
}

impl UserNames {
    /// Of the system's users.
    pub fn start(answered: Answered) -> Self {
        Self::of(System, answered, PATIENCE)
    }

    fn of(directory: impl Directory, answered: Answered, patience: Duration) -> Self {
        let name = move |(_, uid): &(Time, u32)| directory.name(*uid);
        Self {
            inquiry: Inquiry::start(name, move || answered.notify()),
            asked: HashSet::new(),
            patience,
            left: patience,
        }
    }

    fn ask(&mut self, uid: u32, time: Time, out: &mut dyn EventSink) {
        if self.asked.contains(&uid) {
            return;
        }
        self.answers(out);
        if !self.inquiry.ask((time, uid)) {
            return;
        }
        if self.asked.len() >= MAX_CACHED {
            self.asked.clear();
        }
        self.asked.insert(uid);
        let began = Instant::now();
        self.take_answers(self.left, out);
        self.left = self.left.saturating_sub(began.elapsed());
    }

    fn take_answers(&mut self, patience: Duration, out: &mut dyn EventSink) {
        while let Some(((time, uid), name)) = self.inquiry.answer(patience) {
            out.event(time, Event::User { uid, name });
        }
    }
}

impl Enricher for UserNames {
    /// The name of a new user comes before the event, if the directory answers soon.
    fn observe(&mut self, time: Time, event: &Event, out: &mut dyn EventSink) {
        let (one, listed) = match event {
            Event::App(fact) => (fact.uid, &[][..]),
            Event::ProcessSeen(fact) | Event::ProcessExec(fact) | Event::ProcessFork(fact) => {
                (fact.uid, &[][..])
            }
            Event::ProcessesListed(facts) => (None, &facts[..]),
            _ => return,
        };
        for uid in listed.iter().filter_map(|fact| fact.uid).chain(one) {
            self.ask(uid, time, out);
        }
    }

    fn answers(&mut self, out: &mut dyn EventSink) {
        self.take_answers(Duration::ZERO, out);
    }

    fn retry(&mut self, _time: Time, _out: &mut dyn EventSink) {
        self.left = self.patience;
    }
}

/// Looks up the numbers of users whose names were typed.
#[derive(Debug)]
pub struct UserResolver(Mutex<Numbers>);

#[derive(Debug)]
struct Numbers {
    inquiry: Inquiry<String, Option<u32>>,
    /// Absent if there is no such user, or while the directory has not answered.
    known: HashMap<String, Option<u32>>,
}

impl Default for UserResolver {
    /// Of the system's users.
    fn default() -> Self {
        Self::of(System)
    }
}

impl UserResolver {
    fn of(directory: impl Directory) -> Self {
        let uid = move |name: &String| directory.uid(name);
        Self(Mutex::new(Numbers {
            inquiry: Inquiry::start(uid, || {}),
            known: HashMap::new(),
        }))
    }

    /// The id of the user of this name; absent if there is none, or while the directory has not
    /// answered.
    pub fn uid(&self, name: &str) -> Option<u32> {
        self.uid_within(name, PATIENCE)
    }

    /// The same, with another patience.
    pub fn uid_within(&self, name: &str, patience: Duration) -> Option<u32> {
        let mut numbers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        numbers.take_answers(Duration::ZERO);
        if !numbers.known.contains_key(name) && numbers.inquiry.ask(name.to_owned()) {
            if numbers.known.len() >= MAX_CACHED {
                numbers.known.clear();
            }
            numbers.known.insert(name.to_owned(), None);
            numbers.take_answers(patience);
        }
        numbers.known.get(name).copied().flatten()
    }
}

impl Numbers {
    fn take_answers(&mut self, patience: Duration) {
        while let Some((name, uid)) = self.inquiry.answer(patience) {
            self.known.insert(name, uid);
        }
    }
}

/// Questions to a directory, answered by a thread, one after the other.
#[derive(Debug)]
struct Inquiry<Q, A> {
    questions: SyncSender<Q>,
    answers: Receiver<(Q, A)>,
    /// How many answers are outstanding.
    open: usize,
}

impl<Q: Send + 'static, A: Send + 'static> Inquiry<Q, A> {
    /// Calls `answered` after each answer. If no thread can be started, there are no answers.
    fn start(
        look_up: impl Fn(&Q) -> A + Send + 'static,
        answered: impl Fn() + Send + 'static,
    ) -> Self {
        let (questions, asked) = mpsc::sync_channel(MAX_CACHED);
        let (answer, answers) = mpsc::channel();
        let spawned = thread::Builder::new().name("users".into()).spawn(move || {
            // Until the other end is dropped.
            for question in asked {
                let found = look_up(&question);
                if answer.send((question, found)).is_err() {
                    break;
                }
                answered();
            }
        });
        if let Err(error) = spawned {
            log::warn!("cannot look up names of users: cannot start a thread: {error}");
        }
        Self {
            questions,
            answers,
            open: 0,
        }
    }

    /// Queues a question; false if too many wait already, or there is no thread.
    fn ask(&mut self, question: Q) -> bool {
        // Not `open += usize::from(is_asked)`: if a comparison is also branched on, rustc 1.95
        // casts it to 0 in optimized builds (rust-lang/rust#158206), and no answer would ever be
        // taken.
        if self.questions.try_send(question).is_err() {
            return false;
        }
        self.open += 1;
        true
    }

    /// The next answer, if it has arrived. Waits for it only if it is the only one outstanding.
    fn answer(&mut self, patience: Duration) -> Option<(Q, A)> {
        let answer = match self.open {
            0 => return None,
            1 => self.answers.recv_timeout(patience).ok()?,
            _ => self.answers.try_recv().ok()?,
        };
        self.open -= 1;
        Some(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{ProcessFact, ProcessId, Program, Timed};

    #[test]
    fn root_has_a_number_and_an_unknown_name_has_none() {
        let users = UserResolver::default();
        let patience = Duration::from_secs(10);
        for _ in 0..2 {
            assert_eq!(users.uid_within("root", patience), Some(0));
            assert_eq!(users.uid_within("nobody of this name", patience), None);
        }
    }

    fn process_of(uid: u32) -> Event {
        Event::ProcessSeen(ProcessFact {
            id: ProcessId {
                pid: 7,
                start: Time(1),
            },
            parent: None,
            program: Program::default(),
            uid: Some(uid),
            cgroup: None,
        })
    }

    fn user(time: Time, uid: u32, name: Option<&str>) -> Timed {
        let name = name.map(Into::into);
        let event = Event::User { uid, name };
        Timed { time, event }
    }

    #[test]
    fn a_user_s_name_comes_with_the_first_event_once() {
        let patience = Duration::from_secs(10);
        let mut names = UserNames::of(System, Answered::default(), patience);
        let mut out = Vec::new();
        for time in 1..4 {
            names.observe(Time(time), &process_of(0), &mut out);
        }
        let Event::ProcessSeen(stranger) = process_of(4_294_000_000) else {
            return;
        };
        names.observe(Time(4), &Event::ProcessesListed(vec![stranger]), &mut out);
        let expected = [
            user(Time(1), 0, Some("root")),
            user(Time(4), 4_294_000_000, None),
        ];
        assert_eq!(out, expected);
    }

    #[tokio::test]
    async fn a_directory_that_does_not_answer_delays_no_event() {
        let (go, went) = mpsc::channel();
        let answered = Answered::default();
        let slow = Slow(Mutex::new(went));
        let mut names = UserNames::of(slow, answered.clone(), PATIENCE);
        let mut out = Vec::new();
        // Only the first one waits, and the queue is bounded.
        let began = Instant::now();
        for uid in 0..2 * MAX_CACHED as u32 {
            names.observe(Time(1), &process_of(uid), &mut out);
        }
        assert!(began.elapsed() < 100 * PATIENCE);
        assert_eq!(out, []);
        assert!(names.inquiry.open <= MAX_CACHED + 1);
        go.send(()).unwrap();
        answered.wait().await;
        names.answers(&mut out);
        assert_eq!(out, [user(Time(1), 0, Some("user0"))]);
        drop(go);
    }

    /// Answers after a while.
    struct Remote(Duration);

    impl Directory for Remote {
        fn name(&self, uid: u32) -> Option<Arc<str>> {
            thread::sleep(self.0);
            Some(format!("user{uid}").into())
        }

        fn uid(&self, _: &str) -> Option<u32> {
            None
        }
    }

    #[test]
    fn a_slow_directory_delays_the_events_of_a_tick_by_a_moment_only() {
        let remote = Remote(PATIENCE / 10);
        let mut names = UserNames::of(remote, Answered::default(), PATIENCE);
        let mut out = Vec::new();
        let mut observe = |names: &mut UserNames, uids: std::ops::Range<u32>| {
            for uid in uids {
                names.observe(Time(1), &process_of(uid), &mut out);
            }
        };
        observe(&mut names, 0..200);
        assert!(
            names.inquiry.open > 100,
            "{} answered",
            200 - names.inquiry.open
        );
        assert_eq!(names.left, Duration::ZERO);
        names.retry(Time(2), &mut Vec::new());
        assert_eq!(names.left, PATIENCE);
    }

    /// Answers once the test lets it.
    struct Slow(Mutex<Receiver<()>>);

    impl Directory for Slow {
        fn name(&self, uid: u32) -> Option<Arc<str>> {
            let go = self.0.lock().unwrap();
            go.recv().ok()?;
            Some(format!("user{uid}").into())
        }

        fn uid(&self, name: &str) -> Option<u32> {
            self.0.lock().unwrap().recv().ok()?;
            name.parse().ok()
        }
    }

    #[test]
    fn a_directory_that_does_not_answer_delays_nobody() {
        let (go, went) = mpsc::channel();
        let users = UserResolver::of(Slow(Mutex::new(went)));
        // Only the first one waits, and the cache is bounded.
        let began = Instant::now();
        for number in 7..7 + 2 * MAX_CACHED {
            assert_eq!(users.uid(&number.to_string()), None);
        }
        assert!(began.elapsed() < 100 * PATIENCE);
        let known = |users: &UserResolver| users.0.lock().unwrap().known.len();
        assert!(known(&users) <= MAX_CACHED);
        go.send(()).unwrap();
        while users.uid("7").is_none() {
            thread::yield_now();
        }
        assert_eq!(users.uid("8"), None);
        drop(go);
    }
}
