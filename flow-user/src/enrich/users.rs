//! Names of users and their numbers, as the system's directory has them.
//!
//! A directory may be in the network, and may not answer for long. So a thread of its own asks it. Who
//! wants a name waits a moment for the answer, and not at all while an earlier one is overdue.

use std::{
    collections::{HashMap, HashSet},
    hash::Hash,
    net::IpAddr,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        mpsc::{self, Receiver, SyncSender},
    },
    thread,
    time::Duration,
};

use nix::unistd::{Uid, User};
use tokio::sync::Notify;

use super::{Answered, Enricher};
use crate::{
    event::{Event, EventSink, Instant as Time},
    query::names::Names,
    source::boottime,
};

/// Users remembered at most, by name and by number; beyond it all are asked for anew. As many
/// questions wait for the directory at most.
const MOST: usize = 4096;
/// How long an answer is waited for. A local directory takes some 50 microseconds.
const PATIENCE: Duration = Duration::from_millis(50);

/// Where users are looked up.
pub trait Directory: Send + 'static {
    /// The name of the user with this id.
    fn name(&self, uid: u32) -> Option<Arc<str>>;
    /// The id of the user of this name.
    fn uid(&self, name: &str) -> Option<u32>;
}

/// The system's own, `nsswitch.conf` says which.
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
    inquiry: Inquiry<u32, Option<Arc<str>>>,
    asked: HashSet<u32>,
    patience: Duration,
}

impl UserNames {
    /// Of the system's users.
    pub fn start(answered: Answered) -> Self {
        Self::of(System, answered, PATIENCE)
    }

    fn of(directory: impl Directory, answered: Answered, patience: Duration) -> Self {
        let name = move |uid: &u32| directory.name(*uid);
        Self {
            inquiry: Inquiry::start(name, move || answered.notify()),
            asked: HashSet::new(),
            patience,
        }
    }

    fn ask(&mut self, uid: u32, time: Time, out: &mut dyn EventSink) {
        if self.asked.contains(&uid) {
            return;
        }
        self.answers(out);
        if !self.inquiry.ask(uid) {
            return;
        }
        if self.asked.len() >= MOST {
            self.asked.clear();
        }
        self.asked.insert(uid);
        if let Some((uid, name)) = self.inquiry.answer(self.patience) {
            out.event(time, Event::User { uid, name });
        }
    }
}

impl Enricher for UserNames {
    /// The name of a user who is new comes before the event, where the directory answers soon.
    fn observe(&mut self, time: Time, event: &Event, out: &mut dyn EventSink) {
        match event {
            Event::App(fact) => fact
                .uid
                .into_iter()
                .for_each(|uid| self.ask(uid, time, out)),
            Event::ProcessSeen(fact) | Event::ProcessExec(fact) | Event::ProcessFork(fact) => {
                fact.uid
                    .into_iter()
                    .for_each(|uid| self.ask(uid, time, out));
            }
            Event::ProcessesListed(facts) => {
                let uids = facts.iter().filter_map(|fact| fact.uid);
                uids.for_each(|uid| self.ask(uid, time, out));
            }
            _ => {}
        }
    }

    fn answers(&mut self, out: &mut dyn EventSink) {
        while let Some((uid, name)) = self.inquiry.answer(Duration::ZERO) {
            out.event(boottime::now(), Event::User { uid, name });
        }
    }
}

/// Questions to a directory, which a thread asks one after the other.
#[derive(Debug)]
struct Inquiry<Q, A> {
    questions: SyncSender<Q>,
    answers: Receiver<(Q, A)>,
    /// How many answers are to come.
    open: usize,
}

impl<Q: Send + 'static, A: Send + 'static> Inquiry<Q, A> {
    /// Calls `answered` after each answer. Without a thread, if none can be had: then there are no
    /// answers.
    fn start(
        look_up: impl Fn(&Q) -> A + Send + 'static,
        answered: impl Fn() + Send + 'static,
    ) -> Self {
        let (questions, asked) = mpsc::sync_channel(MOST);
        let (answer, answers) = mpsc::channel();
        let spawned = thread::Builder::new().name("users".into()).spawn(move || {
            // Until nobody asks any more.
            for question in asked {
                let found = look_up(&question);
                if answer.send((question, found)).is_err() {
                    break;
                }
                answered();
            }
        });
        if let Err(error) = spawned {
            log::warn!("cannot start a thread that looks users up: {error}");
        }
        Self {
            questions,
            answers,
            open: 0,
        }
    }

    /// Asks; false where too many questions wait already, or there is no thread.
    fn ask(&mut self, question: Q) -> bool {
        let is_asked = self.questions.try_send(question).is_ok();
        self.open += usize::from(is_asked);
        is_asked
    }

    /// The next answer, if it is there. Only where no other is overdue it is waited for.
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

/// Looks users up, and remembers the answers.
#[derive(Debug)]
pub struct UserResolver {
    shared: Arc<Shared>,
    questions: mpsc::Sender<Question>,
    /// Whether names are shown; else numbers are.
    shows_names: bool,
}

#[derive(Debug, Default)]
struct Shared {
    answers: Mutex<Answers>,
    answered: Condvar,
    /// The same, for whoever cannot block.
    changed: Notify,
}

#[derive(Debug, Default)]
struct Answers {
    names: HashMap<u32, Option<Arc<str>>>,
    uids: HashMap<String, Option<u32>>,
    /// What the directory has not answered yet.
    open: HashSet<Question>,
    /// Whether one of them is overdue.
    is_overdue: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Question {
    Name(u32),
    Uid(String),
}

impl UserResolver {
    /// Of the system's users. `shows_names` says whether to show names at all.
    pub fn new(shows_names: bool) -> Self {
        Self::of(System, shows_names)
    }

    fn of(directory: impl Directory, shows_names: bool) -> Self {
        let (questions, asked) = mpsc::channel();
        let shared = Arc::new(Shared::default());
        let worker = Arc::clone(&shared);
        let spawned = thread::Builder::new()
            .name("users".into())
            .spawn(move || answer(&directory, &asked, &worker));
        if let Err(error) = spawned {
            log::warn!("cannot start a thread that looks users up: {error}");
        }
        Self {
            shared,
            questions,
            shows_names,
        }
    }

    /// The id of the user of this name; absent if there is none, or as long as the directory does not
    /// answer.
    pub fn uid(&self, name: &str) -> Option<u32> {
        self.uid_within(name, PATIENCE)
    }

    /// The same, with another patience.
    pub fn uid_within(&self, name: &str, patience: Duration) -> Option<u32> {
        let find = |answers: &Answers| answers.uids.get(name).copied();
        self.ask(Question::Uid(name.to_owned()), patience, find)
            .flatten()
    }

    /// Waits until the directory has answered what was overdue.
    pub async fn changed(&self) {
        self.shared.changed.notified().await;
    }

    /// The answer, if it is there or comes soon.
    fn ask<T>(
        &self,
        question: Question,
        patience: Duration,
        find: impl Fn(&Answers) -> Option<T>,
    ) -> Option<T> {
        let mut answers = self.shared.lock();
        if let Some(found) = find(&answers) {
            return Some(found);
        }
        if answers.open.insert(question.clone()) && self.questions.send(question).is_err() {
            return None;
        }
        if answers.is_overdue {
            return None;
        }
        let is_missing = |answers: &mut Answers| find(answers).is_none();
        let waited = self
            .shared
            .answered
            .wait_timeout_while(answers, patience, is_missing);
        let (mut answers, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let found = find(&answers);
        answers.is_overdue = found.is_none();
        found
    }
}

impl Names for UserResolver {
    fn user(&self, uid: u32) -> Option<Arc<str>> {
        if !self.shows_names {
            return None;
        }
        let find = |answers: &Answers| answers.names.get(&uid).cloned();
        self.ask(Question::Name(uid), PATIENCE, find).flatten()
    }

    /// Nothing looks hosts up yet.
    fn host(&self, _address: IpAddr) -> Option<Arc<str>> {
        None
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Answers> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Answers questions until nobody asks any more.
fn answer(directory: &impl Directory, asked: &Receiver<Question>, shared: &Shared) {
    for question in asked {
        match &question {
            Question::Name(uid) => {
                let name = directory.name(*uid);
                remember(&mut shared.lock().names, *uid, name);
            }
            Question::Uid(name) => {
                let uid = directory.uid(name);
                remember(&mut shared.lock().uids, name.clone(), uid);
            }
        }
        let mut answers = shared.lock();
        answers.open.remove(&question);
        let was_overdue = answers.is_overdue;
        if answers.open.is_empty() {
            answers.is_overdue = false;
        }
        drop(answers);
        shared.answered.notify_all();
        if was_overdue {
            shared.changed.notify_one();
        }
    }
}

fn remember<K: Eq + Hash, V>(answers: &mut HashMap<K, V>, key: K, answer: V) {
    if answers.len() >= MOST {
        answers.clear();
    }
    answers.insert(key, answer);
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::event::{ProcessFact, ProcessId, Program, Timed};

    #[test]
    fn root_has_a_name_and_a_stranger_has_none() {
        let users = UserResolver::new(true);
        assert_eq!(users.user(0).as_deref(), Some("root"));
        assert_eq!(users.uid("root"), Some(0));
        assert_eq!(users.user(4_294_000_000), None);
        assert_eq!(users.uid("nobody of this name"), None);
        assert_eq!(UserResolver::new(false).user(0), None);
    }

    #[test]
    fn the_memory_is_bounded() {
        let mut names: HashMap<u32, u32> = (0..MOST as u32).map(|uid| (uid, uid)).collect();
        remember(&mut names, u32::MAX, 1);
        assert_eq!(names.len(), 1);
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
        // Only the first one waits, and no more are asked for than can wait.
        let began = Instant::now();
        for uid in 0..2 * MOST as u32 {
            names.observe(Time(1), &process_of(uid), &mut out);
        }
        assert!(began.elapsed() < 100 * PATIENCE);
        assert_eq!(out, []);
        assert!(names.inquiry.open <= MOST + 1);
        go.send(()).unwrap();
        answered.wait().await;
        names.answers(&mut out);
        assert_eq!(out, [user(out[0].time, 0, Some("user0"))]);
        drop(go);
    }

    /// Answers once the test lets it.
    struct Slow(Mutex<Receiver<()>>);

    impl Directory for Slow {
        fn name(&self, uid: u32) -> Option<Arc<str>> {
            let go = self.0.lock().unwrap();
            go.recv().ok()?;
            Some(format!("user{uid}").into())
        }

        fn uid(&self, _: &str) -> Option<u32> {
            None
        }
    }

    #[tokio::test]
    async fn a_directory_that_does_not_answer_keeps_nobody_waiting() {
        let (go, went) = mpsc::channel();
        let users = UserResolver::of(Slow(Mutex::new(went)), true);
        assert_eq!(users.user(7), None);
        // Only the first one waits.
        let began = Instant::now();
        for uid in 8..1008 {
            assert_eq!(users.user(uid), None);
        }
        assert!(began.elapsed() < 100 * PATIENCE);
        go.send(()).unwrap();
        users.changed().await;
        assert_eq!(users.user(7).as_deref(), Some("user7"));
        assert_eq!(users.user(8), None);
        drop(go);
    }
}
