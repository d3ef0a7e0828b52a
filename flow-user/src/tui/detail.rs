//! The detail of a process, a flow, a remote, an interface, a user or a cgroup.
//!
//! It is a popup that hides the table: its keys are in `keys`, its drawing in `draw`. A detail
//! keeps the last known state after its process has ended or its flow has closed, even when no
//! snapshot lists it any more, and its totals never fall. They are from the start, whether or not the
//! table was reset.

pub(super) mod detail_layout;
mod draw;
pub(super) mod facts;
mod keys;
pub(super) mod panel;
mod path;
mod subject;

use std::{collections::HashSet, sync::Arc, time::Duration};

use ratatui::buffer::Buffer;

pub(super) use self::subject::{Of, Sums};
use self::{
    panel::{Content, Panel},
    subject::Found,
};
use super::{
    clicks::Clicked,
    key::{Key, Mouse},
    keymap::Action,
    state::{Popup, Reply, State, World},
};
use crate::{
    event::{AppTotals, Instant},
    model::snapshot::{Flow, FlowKey, Interface, Rate, Snapshot},
    query::{
        columns::Context,
        entry::{Entry, Id, Listener, Subject},
        history::Watched,
        human,
        order::order,
        states::{Passed, States},
    },
    source::interfaces::facts::LinkFacts,
};

/// A detail.
#[derive(Clone, Debug)]
pub(super) struct Detail {
    pub of: Of,
    /// The rows that the panels are made of: of a process it and its flows, of a flow all users of
    /// its socket.
    pub part: Snapshot,
    pub sums: Sums,
    /// What earlier flows moved in the place of the flow.
    before: AppTotals,
    /// Packets per second of an interface.
    pub packets: Option<Rate>,
    /// What else the kernel says of an interface.
    pub link: Option<LinkFacts>,
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
    pub fn open(subject: &Subject, state: &State) -> Option<Self> {
        let of = Of::row(subject)?;
        let Found { of, part, sums } = of.alone();
        let panels = panel::of(&of);
        let mut detail = Self {
            of,
            part,
            sums,
            before: AppTotals::default(),
            packets: None,
            link: None,
            states: Vec::new(),
            listed: true,
            focus: 0,
            panels: vec![Rows::default(); panels.len()],
            clicked: Clicked::default(),
        };
        detail.take(&state.shown, &state.states, &*state.world);
        Some(detail)
    }

    /// The detail of a row of one of its panels.
    pub fn open_row(&self, entry: &Entry, state: &State) -> Option<Self> {
        let subject = match &entry.subject {
            Subject::Listener(listener) => self.listening(listener)?,
            // That is the process of this detail.
            Subject::Overflow(_) => return None,
            subject => subject.clone(),
        };
        Self::open(&subject, state)
    }

    /// Takes a new snapshot.
    fn take(&mut self, snapshot: &Snapshot, states: &States, world: &dyn World) {
        let found = self.of.find(snapshot);
        self.listed = found.is_some();
        match found {
            Some(found) => self.take_found(found),
            None => self.sums.rate = Rate::default(),
        }
        match &self.of {
            Of::Flow(flow) => {
                let passed = states.of(flow.key.socket);
                if !passed.is_empty() {
                    self.states = passed.to_vec();
                }
            }
            Of::Interface(interface) if interface.gone.is_none() => {
                self.link = world.link(interface.ifindex).or(self.link.take());
            }
            _ => {}
        }
        for (panel, rows) in panel::of(&self.of).iter().zip(&mut self.panels) {
            rows.renew(panel, &self.part);
        }
    }

    fn take_found(&mut self, found: Found) {
        let Found {
            of,
            mut part,
            mut sums,
        } = found;
        match (&self.of, &of) {
            // A flow of datagrams was over, and another one began in its place.
            (Of::Flow(known), Of::Flow(now))
                if known.key == now.key && now.opened > known.opened =>
            {
                self.before += known.app;
            }
            // Nothing was taken before the first snapshot.
            (Of::Interface(known), Of::Interface(now)) if self.part.time != Instant::default() => {
                let passed = part.time.since(self.part.time);
                self.packets = packet_rates(known, now, passed).or(self.packets);
            }
            _ => {}
        }
        sums.app += self.before;
        self.sums.renew(sums);
        if of.is_over() {
            // No news any more: rows that left the snapshot are still of interest.
            keep(&mut part.flows, &self.part.flows);
        }
        self.part = part;
        self.of = of;
    }

    /// Its panels.
    pub fn table(&self) -> &'static [Panel] {
        panel::of(&self.of)
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

    fn renew(&mut self, snapshot: &Snapshot, states: &States, world: &dyn World) {
        self.take(snapshot, states, world);
    }

    fn watch(&self, watched: &mut Watched) {
        self.of.watch(watched);
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

    /// How many rows there are, without the one of what is no longer listed.
    pub fn count(&self) -> usize {
        let rows = self.entries.iter();
        rows.filter(|entry| !entry.subject.is_rest()).count()
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

/// Packets per second between two readings of an interface.
fn packet_rates(before: &Interface, now: &Interface, passed: Duration) -> Option<Rate> {
    let seconds = passed.as_secs_f64();
    let rate = |of: fn(&Interface) -> u64| of(now).saturating_sub(of(before)) as f64 / seconds;
    (seconds > 0.0).then(|| Rate {
        tx: rate(|it| it.egress.packets),
        rx: rate(|it| it.ingress.packets),
    })
}
