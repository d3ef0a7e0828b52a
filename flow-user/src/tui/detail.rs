//! The detail of a process or flow.
//!
//! It is a popup that hides the table: its keys are in `keys`, its drawing in `draw`. A detail
//! keeps the last known state after its process has ended or its flow has closed, even when no
//! snapshot lists it any more. Its totals are from the start, whether or not the table was reset.

pub(super) mod detail_layout;
mod draw;
pub(super) mod facts;
mod keys;
pub(super) mod panel;
mod path;

use std::{collections::HashSet, sync::Arc};

use ratatui::buffer::Buffer;

use self::panel::{Content, Panel};
use super::{
    clicks::Clicked,
    key::{Key, Mouse},
    keymap::Action,
    state::{Popup, Reply, State},
};
use crate::{
    event::{self, AppTotals, Instant, ProcessId, WireTotals},
    model::snapshot::{Flow, FlowKey, Process, Snapshot, Totals},
    query::{
        columns::Context,
        entry::{Entry, Id, Listener, Subject},
        history::Watched,
        human,
        order::order,
        states::{Passed, States},
    },
};

/// The detail of a process or flow.
#[derive(Clone, Debug)]
pub(super) struct Detail {
    pub of: Of,
    /// The rows that the panels are made of: of a process it and its flows, of a flow all users of
    /// its socket.
    pub part: Snapshot,
    pub sockets: Sockets,
    /// States that the flow's socket went through.
    pub states: Vec<Passed>,
    /// Whether the last snapshot listed it.
    pub listed: bool,
    /// The panel with the focus.
    pub focus: usize,
    /// The state of each panel.
    pub panels: Vec<Rows>,
    /// The last click: in which panel, and on which row.
    pub clicked: Clicked<(usize, Id)>,
}

#[derive(Clone, Debug)]
pub(super) enum Of {
    Process(Arc<Process>),
    Flow(Arc<Flow>),
}

/// Sums over its sockets, each counted once.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Sockets {
    /// Sockets whose packets are counted.
    pub counted: usize,
    pub wire: WireTotals,
    /// App bytes over the same sockets, of any process.
    pub app: AppTotals,
    /// Of those that speak TCP; `None` if none does.
    pub retransmits: Option<u64>,
    /// What these had sent again before Flow began.
    pub retransmits_before: u64,
}

/// A panel's rows in order, and its cursor.
#[derive(Clone, Debug, Default)]
pub(super) struct Rows {
    pub entries: Vec<Entry>,
    pub chosen: Option<Id>,
    /// The line of the selected row.
    pub line: usize,
    /// The first visible line.
    pub offset: usize,
}

impl Detail {
    /// The detail of a row, if it has one.
    pub fn open(subject: &Subject, snapshot: &Snapshot, states: &States) -> Option<Self> {
        let of = match subject {
            Subject::Process(process) | Subject::Overflow(process) => {
                Of::Process(Arc::clone(process))
            }
            Subject::Flow(flow) => Of::Flow(Arc::clone(flow)),
            Subject::Program(program) => Of::Process(Arc::clone(program.sole()?)),
            Subject::Event(event) => match (event.flow(), event.process()) {
                (Some(flow), _) => Of::Flow(Arc::clone(flow)),
                (None, Some(process)) => Of::Process(Arc::clone(process)),
                (None, None) => return None,
            },
            _ => return None,
        };
        let panels = of.panels();
        let mut detail = Self {
            part: of.alone(),
            of,
            sockets: Sockets::default(),
            states: Vec::new(),
            listed: true,
            focus: 0,
            panels: vec![Rows::default(); panels.len()],
            clicked: Clicked::default(),
        };
        detail.take(snapshot, states);
        Some(detail)
    }

    /// The detail of a row of one of its panels.
    pub fn open_row(&self, entry: &Entry, snapshot: &Snapshot, states: &States) -> Option<Self> {
        let subject = match &entry.subject {
            Subject::Listener(listener) => self.listening(listener)?,
            // That is the process of this detail.
            Subject::Overflow(_) => return None,
            subject => subject.clone(),
        };
        Self::open(&subject, snapshot, states)
    }

    /// Takes a new snapshot.
    fn take(&mut self, snapshot: &Snapshot, states: &States) {
        let found = match &self.of {
            Of::Process(known) => find_process(snapshot, known.id).map(Of::Process),
            Of::Flow(known) => find_flow(snapshot, known.key).map(Of::Flow),
        };
        self.listed = found.is_some();
        if let Some(of) = found {
            let mut part = of.alone();
            let (flows, sockets) = of.flows(snapshot);
            part.time = snapshot.time;
            part.flows = flows;
            let known = std::mem::replace(&mut self.sockets, sockets);
            if of.is_over() {
                // No news any more: rows that left the snapshot are still of interest.
                keep(&mut part.flows, &self.part.flows);
                if sockets.counted < known.counted {
                    self.sockets = known;
                }
            }
            self.part = part;
            self.of = of;
        }
        if let Of::Flow(flow) = &self.of {
            let passed = states.of(flow.key.socket);
            if !passed.is_empty() {
                self.states = passed.to_vec();
            }
        }
        for (panel, rows) in self.of.panels().iter().zip(&mut self.panels) {
            rows.renew(panel, &self.part);
        }
    }

    /// Its panels.
    pub fn table(&self) -> &'static [Panel] {
        self.of.panels()
    }

    /// The row under the cursor in the panel with the focus.
    pub fn chosen(&self) -> Option<&Subject> {
        let rows = self.panels.get(self.focus)?;
        rows.chosen.as_ref()?;
        rows.under_cursor().map(|entry| &entry.subject)
    }

    /// The panel with the focus.
    pub fn focused(&mut self) -> Option<&mut Rows> {
        self.panels.get_mut(self.focus)
    }

    /// The listening socket behind a row of the listeners.
    fn listening(&self, listener: &Listener) -> Option<Subject> {
        let mut flows = self.part.flows.iter();
        let flow = flows.find(|flow| {
            flow.key.remote.is_none()
                && (flow.netns, flow.protocol, flow.local)
                    == (listener.netns, listener.protocol, listener.local)
        })?;
        Some(Subject::Flow(Arc::clone(flow)))
    }
}

impl Popup for Detail {
    fn key(&mut self, state: &mut State, key: Key) -> Reply {
        keys::act(self, state, key)
    }

    fn click(&mut self, state: &mut State, mouse: Mouse, time: Instant) -> Reply {
        keys::click(self, state, mouse, time)
    }

    fn scroll(&mut self, _: &State, lines: isize) {
        keys::scroll(self, lines);
    }

    fn clamp_scroll(&mut self, state: &State) {
        keys::clamp_scroll(self, state);
    }

    fn draw(&self, state: &State, buffer: &mut Buffer) {
        draw::draw(state, self, buffer);
    }

    fn hides_table(&self) -> bool {
        true
    }

    fn hints(&self, state: &State) -> Vec<(String, &'static str)> {
        state.hints(&[
            (Action::Back, "back"),
            (Action::NextView, "panel"),
            (Action::Open, "open"),
            (Action::Span, "range"),
            (Action::Pause, "pause"),
            (Action::Help, "help"),
            (Action::Kill, "kill"),
            (Action::Close, "close"),
            (Action::Copy, "copy"),
            (Action::Units, "units"),
        ])
    }

    /// Which row of the panel the cursor is on.
    fn position(&self) -> String {
        match self.panels.get(self.focus) {
            Some(rows) if rows.chosen.is_some() => {
                format!("{} of {}", rows.line + 1, rows.entries.len())
            }
            Some(rows) if !rows.entries.is_empty() => {
                human::count(rows.entries.len(), "row", "rows")
            }
            _ => String::new(),
        }
    }

    fn renew(&mut self, snapshot: &Snapshot, states: &States) {
        self.take(snapshot, states);
    }

    fn watch(&self, watched: &mut Watched) {
        match &self.of {
            Of::Process(process) => watched.processes.push(process.id),
            Of::Flow(flow) => watched.flows.push(flow.key),
        }
    }
}

impl Of {
    pub fn is_over(&self) -> bool {
        match self {
            Self::Process(process) => process.exited.is_some(),
            Self::Flow(flow) => flow.closed.is_some(),
        }
    }

    /// Whether it is a connection with round trips: no listener and no datagrams.
    pub fn has_round_trips(&self) -> bool {
        match self {
            Self::Process(_) => false,
            Self::Flow(flow) => flow.tcp.is_some() && flow.state != event::State::Listen,
        }
    }

    fn panels(&self) -> &'static [Panel] {
        match self {
            Self::Process(_) => panel::PROCESS,
            Self::Flow(_) => panel::FLOW,
        }
    }

    /// A snapshot of it, without flows.
    fn alone(&self) -> Snapshot {
        let (processes, app) = match self {
            Self::Process(process) => (vec![Arc::clone(process)], process.totals),
            Self::Flow(_) => (Vec::new(), AppTotals::default()),
        };
        Snapshot {
            processes,
            totals: Totals {
                app,
                ..Totals::default()
            },
            ..Snapshot::default()
        }
    }

    /// Its flows, and the sums over their sockets. The rows of a socket are adjacent.
    fn flows(&self, snapshot: &Snapshot) -> (Vec<Arc<Flow>>, Sockets) {
        let is_own = |flow: &Flow| match self {
            Self::Process(process) => flow.key.process == Some(process.id),
            Self::Flow(own) => flow.key.socket == own.key.socket,
        };
        let mut flows = Vec::new();
        let mut sockets = Sockets::default();
        for rows in snapshot.flows.chunk_by(|a, b| a.key.socket == b.key.socket) {
            let before = flows.len();
            flows.extend(rows.iter().filter(|flow| is_own(flow)).cloned());
            if flows.len() > before {
                sockets.add(rows);
            }
        }
        (flows, sockets)
    }
}

impl Sockets {
    /// Takes a socket by its rows, which show the same counters.
    fn add(&mut self, rows: &[Arc<Flow>]) {
        let Some(row) = rows.first() else { return };
        if let Some(wire) = row.wire {
            self.counted += 1;
            self.wire += wire;
            for row in rows {
                self.app += row.app;
            }
        }
        if let Some(more) = row.retransmits() {
            let retransmits = self.retransmits.get_or_insert_default();
            *retransmits = retransmits.saturating_add(more.into());
            let before = row.found.map_or(0, |found| found.retransmits);
            self.retransmits_before = self.retransmits_before.saturating_add(before.into());
        }
    }
}

impl Rows {
    /// Takes new rows; the cursor goes where its row goes.
    fn renew(&mut self, panel: &Panel, part: &Snapshot) {
        let Content::Table { rows, .. } = panel.content else {
            return;
        };
        let entries = rows(part);
        let places = order(&entries, None, &Context::default());
        let mut entries: Vec<Option<Entry>> = entries.into_iter().map(Some).collect();
        let ordered = places
            .into_iter()
            .filter_map(|at| entries[at as usize].take());
        self.entries = ordered.collect();
        let Some(chosen) = &self.chosen else { return };
        let found = self.find(chosen);
        self.choose(found.unwrap_or(self.line));
    }

    /// Puts the cursor on a line; on the last one if there are not so many.
    pub fn choose(&mut self, line: usize) {
        self.line = line.min(self.entries.len().saturating_sub(1));
        self.chosen = self.entries.get(self.line).map(|it| it.subject.id());
    }

    /// The row under the cursor; without one, the first that is shown.
    pub fn under_cursor(&self) -> Option<&Entry> {
        let line = match self.chosen {
            Some(_) => self.line,
            None => self.offset,
        };
        self.entries.get(line)
    }

    fn find(&self, id: &Id) -> Option<usize> {
        let mut entries = self.entries.iter();
        entries.position(|entry| entry.subject.id() == *id)
    }
}

/// Adds those that are known and no longer listed.
fn keep(flows: &mut Vec<Arc<Flow>>, known: &[Arc<Flow>]) {
    let listed: HashSet<FlowKey> = flows.iter().map(|flow| flow.key).collect();
    let gone = known.iter().filter(|flow| !listed.contains(&flow.key));
    flows.extend(gone.cloned());
}

fn find_process(snapshot: &Snapshot, id: ProcessId) -> Option<Arc<Process>> {
    let mut processes = snapshot.processes.iter();
    processes.find(|process| process.id == id).cloned()
}

/// The flow. One without an owner or remote so far continues as another row of its socket.
fn find_flow(snapshot: &Snapshot, key: FlowKey) -> Option<Arc<Flow>> {
    let rows = || {
        let flows = snapshot.flows.iter();
        flows.filter(|flow| flow.key.socket == key.socket)
    };
    let same = rows().find(|flow| flow.key == key);
    let same_remote = || rows().find(|flow| flow.key.remote == key.remote);
    same.or_else(same_remote).or_else(|| rows().next()).cloned()
}
