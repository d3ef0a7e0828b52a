//! The whole state of the screen: data, and the user's selections.

use std::{any::Any, collections::HashSet, fmt::Debug, sync::Arc};

use jiff::tz::TimeZone;
use ratatui::buffer::Buffer;

use super::{
    clicks::Clicked,
    effect::Effect,
    event::OwnUse,
    key::{Key, Mouse},
    keymap::KeyMap,
    preferences::{Preferences, Table},
    prompt::{Earlier, Prompt},
    rows::{Arrangement, Ask, Folding, RowKey, Rows},
    theme::{Depth, Theme},
    threshold::Threshold,
    views::{Grouping, ViewId},
    widths::Widths,
};
use crate::{
    event::{Clock, Host, Instant, ProcessId},
    model::snapshot::Snapshot,
    query::{
        baseline::Baseline,
        columns::{Column, Context, Measure},
        filter::{Filter, FilterError},
        history::{History, Span, Watched},
        human::Units,
        log::Log,
        states::States,
        view::View,
    },
    source::interfaces::facts::LinkFacts,
};

/// What the screen asks the outside, at once answered.
pub trait World {
    /// The id of the user of this name.
    fn uid(&self, name: &str) -> Option<u32>;

    /// What the kernel says of the interface with this index.
    fn link(&self, ifindex: u32) -> Option<LinkFacts>;
}

/// Initial settings of the screen.
#[derive(Clone, Debug)]
pub struct Settings {
    pub preferences: Preferences,
    /// The filter as typed.
    pub filter: String,
    /// Only traffic of these interfaces, in addition to the filter; all if there are none.
    pub interfaces: Vec<String>,
    pub depth: Depth,
    pub host: Host,
    pub clock: Clock,
    pub zone: TimeZone,
}

/// The whole state of the screen.
pub struct State {
    pub size: (u16, u16),
    pub view: ViewId,
    pub(super) views: [ViewState; ViewId::ALL.len()],
    /// The latest snapshot, and the one that is shown: an older one while the display is paused.
    pub live: Arc<Snapshot>,
    pub shown: Arc<Snapshot>,
    pub(super) paused: Option<Paused>,
    pub history: History,
    pub log: Log,
    pub(super) states: States,
    pub own: OwnUse,
    pub(super) filter: Filtering,
    pub(super) since: Option<Arc<Baseline>>,
    pub(super) prompt: Option<Prompt>,
    pub(super) popups: Vec<Box<dyn Popup>>,
    /// The last text that was searched for.
    pub(super) searched: String,
    pub follow: bool,
    /// Whether rows that have ended are left out.
    pub hides_ended: bool,
    pub compact: bool,
    pub units: Units,
    pub(super) measures: Measures,
    pub(super) threshold: Threshold,
    /// Processes that reached it when the last snapshot was taken.
    pub(super) alerted: HashSet<ProcessId>,
    /// The span of the graphs of details.
    pub(super) span: Span,
    pub theme: Theme,
    pub depth: Depth,
    pub keys: KeyMap,
    pub host: Host,
    pub clock: Clock,
    pub zone: TimeZone,
    /// A message about the last key, until the next.
    pub(super) note: Option<String>,
    pub(super) clicked: Clicked<RowKey>,
    pub(super) rows: Rows,
    pub(super) world: Arc<dyn World>,
    /// The rows are outdated: the selection of rows or columns changed.
    pub(super) stale: bool,
    /// The screen is outdated.
    pub(super) changed: bool,
}

/// The state of one view.
#[derive(Clone, Debug)]
pub(super) struct ViewState {
    /// Which of its groupings.
    pub grouping: usize,
    pub columns: Vec<&'static Column>,
    pub sort: Option<(&'static Column, bool)>,
    /// Its initial sort.
    pub first_sort: Option<(&'static Column, bool)>,
    pub folding: Folding,
    /// How wide its cells were.
    pub widths: Widths,
    pub chosen: Option<RowKey>,
    /// The line of the selected row when it was last listed.
    pub line: usize,
    /// The line at the top of the table.
    pub offset: usize,
    pub hold: Hold,
}

/// What stays where it is while events come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Hold {
    #[default]
    Nothing,
    /// The selected row, so many lines below the top.
    Row(usize),
    /// The newest event is in view.
    Newest,
}

/// A paused display.
pub(super) struct Paused {
    pub since: Instant,
    /// The log and the graphs as they were.
    pub log: Log,
    pub history: History,
}

/// The filter and its text.
#[derive(Clone, Debug, Default)]
pub(super) struct Filtering {
    pub text: String,
    pub interfaces: Vec<String>,
    pub filter: Filter,
    /// The one of the command line, to which Esc returns.
    pub given: String,
    pub earlier: Earlier,
}

/// A popup over the table. The one on top receives keys and the mouse; it is not among
/// [`State::popups`] meanwhile.
pub(super) trait Popup: Any + Debug {
    fn key(&mut self, state: &mut State, key: Key) -> Reply;

    fn click(&mut self, state: &mut State, mouse: Mouse, time: Instant) -> Reply;

    /// The wheel was turned.
    fn scroll(&mut self, state: &State, lines: isize);

    /// After every event: limits scrolling to its end.
    fn clamp_scroll(&mut self, state: &State);

    fn draw(&self, state: &State, buffer: &mut Buffer);

    /// Whether it hides the table: then it is drawn also when it is not on top.
    fn hides_table(&self) -> bool {
        false
    }

    /// Keys with hints, for the last line.
    fn hints(&self, _state: &State) -> Vec<(String, &'static str)> {
        Vec::new()
    }

    /// The range of its visible rows, for the last line.
    fn position(&self) -> String {
        String::new()
    }

    /// Takes a new snapshot.
    fn renew(&mut self, _snapshot: &Snapshot, _states: &States, _world: &dyn World) {}

    /// Adds what its graphs need to be recorded.
    fn watch(&self, _watched: &mut Watched) {}
}

/// The reply of a popup to a key or a click.
#[derive(Debug)]
pub(super) enum Reply {
    Stay,
    Close,
    /// Opens another one over it.
    Open(Box<dyn Popup>),
    /// It stays; perform the effect.
    Do(Effect),
    CloseAndDo(Effect),
    /// Closes all of them; shows a view.
    Show(ViewId),
}

/// Which measures of app bytes are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Measures {
    #[default]
    Both,
    Rates,
    Totals,
}

impl Measures {
    pub fn shows(self, column: &Column) -> bool {
        match (self, column.measure) {
            (Self::Both, _) | (_, None) => true,
            (Self::Rates, Some(measure)) => measure == Measure::Rate,
            (Self::Totals, Some(measure)) => measure == Measure::Total,
        }
    }

    pub fn next(self) -> Self {
        match self {
            Self::Both => Self::Rates,
            Self::Rates => Self::Totals,
            Self::Totals => Self::Both,
        }
    }
}

impl Filtering {
    /// Reads the expression and narrows it to the interfaces; the text stays as it is.
    pub fn parse(&self, text: &str, world: &dyn World) -> Result<Filter, FilterError> {
        let filter = Filter::parse(text, &|name| world.uid(name))?;
        Ok(self.narrowed(filter))
    }

    /// The filter, narrowed to the interfaces.
    pub fn narrowed(&self, filter: Filter) -> Filter {
        filter.on_interfaces(self.interfaces.iter().cloned())
    }
}

impl State {
    /// A screen of this size before the first snapshot.
    ///
    /// # Errors
    /// The filter is invalid.
    pub fn new(
        settings: Settings,
        world: Arc<dyn World>,
        size: (u16, u16),
    ) -> Result<Self, FilterError> {
        let Settings {
            preferences,
            filter,
            interfaces,
            depth,
            host,
            clock,
            zone,
        } = settings;
        let Preferences {
            view,
            theme,
            units,
            compact,
            threshold,
            keys,
            tables,
        } = preferences;
        let mut filtering = Filtering {
            text: String::new(),
            interfaces,
            filter: Filter::all(),
            given: filter.clone(),
            earlier: Earlier::default(),
        };
        filtering.filter = filtering.parse(&filter, &*world)?;
        filtering.earlier.remember(&filter);
        filtering.text = filter;
        let empty = Arc::new(Snapshot::default());
        Ok(Self {
            size,
            view,
            views: tables.map(ViewState::new),
            live: empty.clone(),
            shown: empty,
            paused: None,
            history: History::default(),
            log: Log::new(clock, zone.clone()),
            states: States::default(),
            own: OwnUse::default(),
            filter: filtering,
            since: None,
            prompt: None,
            popups: Vec::new(),
            searched: String::new(),
            follow: false,
            hides_ended: false,
            compact,
            threshold: Threshold::of(threshold),
            alerted: HashSet::new(),
            units,
            measures: Measures::default(),
            span: Span::default(),
            theme: theme.unwrap_or_default(),
            depth,
            keys,
            host,
            clock,
            zone,
            note: None,
            clicked: Clicked::default(),
            rows: Rows::none(),
            world,
            stale: true,
            changed: true,
        })
    }

    /// Whether the display is paused.
    pub fn is_paused(&self) -> bool {
        self.paused.is_some()
    }

    /// Whether it must be redrawn; asked once for each drawing.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// The row under the cursor.
    pub(crate) fn chosen(&self) -> Option<&RowKey> {
        self.here().chosen.as_ref()
    }

    pub(super) fn here(&self) -> &ViewState {
        &self.views[self.view.index()]
    }

    pub(super) fn here_mut(&mut self) -> &mut ViewState {
        &mut self.views[self.view.index()]
    }

    pub(super) fn grouping(&self) -> &'static Grouping {
        let groupings = self.view.def().groupings;
        &groupings[self.here().grouping % groupings.len()]
    }

    /// The columns that may be shown, in order.
    pub(super) fn columns(&self) -> Vec<&'static Column> {
        let columns = &self.here().columns;
        let mut shown = columns.clone();
        shown.retain(|column| self.measures.shows(column));
        // If the measure hides every column, all are shown.
        if shown.is_empty() {
            columns.clone()
        } else {
            shown
        }
    }

    /// The log, as of the pause if paused.
    pub(super) fn shown_log(&self) -> &Log {
        self.paused.as_ref().map_or(&self.log, |paused| &paused.log)
    }

    /// The history, as of the pause if paused.
    pub(super) fn shown_history(&self) -> &History {
        let paused = self.paused.as_ref();
        paused.map_or(&self.history, |paused| &paused.history)
    }

    pub(super) fn context(&self) -> Context<'_> {
        Context {
            history: Some((self.shown_history(), self.shown.time)),
        }
    }

    /// Rebuilds the rows if they are outdated.
    pub(super) fn refresh(&mut self) {
        if !std::mem::take(&mut self.stale) {
            return;
        }
        self.changed = true;
        // Before there are new ones, which then take the same memory.
        self.rows = Rows::none();
        let view = View {
            by: self.view.def().by.unwrap_or_default(),
            filter: self.filter.filter.clone(),
            sort: None,
            rows: None,
            since: self.since.clone(),
        };
        let ask = Ask {
            snapshot: &self.shown,
            view: &view,
            log: self.shown_log(),
        };
        let here = self.here();
        let arrangement = Arrangement {
            grouping: self.grouping(),
            sort: here.sort,
            folding: &here.folding,
            hides_ended: self.hides_ended,
        };
        let rows = Rows::build(&ask, &arrangement, &self.context());
        self.rows = rows;
        self.find_chosen();
    }

    /// Measures the rows around those that are seen, and the total.
    pub(super) fn measure(&mut self) {
        const AROUND: usize = 100;
        let here = self.here();
        let first = here.offset.saturating_sub(AROUND);
        let last = here.offset + usize::from(self.size.1) + AROUND;
        let lines = self.rows.lines.get(first..last.min(self.rows.lines.len()));
        let lines = lines.unwrap_or_default().iter();
        // Rows with a label have their text across the columns.
        let in_columns = |line: &&super::rows::Line| !line.labelled;
        let entries = lines
            .filter(in_columns)
            .map(|line| &self.rows.entries[line.at as usize])
            .chain([&self.rows.total]);
        let mut widths = here.widths.clone();
        widths.take(&self.columns(), entries, &self.context(), self.units);
        self.here_mut().widths = widths;
    }

    /// Finds the selected row among new ones. If it is gone, the one in its place is selected;
    /// where there are no rows, the selection stays until there are some.
    fn find_chosen(&mut self) {
        let Some(chosen) = self.here().chosen.clone() else {
            return;
        };
        let Some(last) = self.rows.len().checked_sub(1) else {
            return;
        };
        let found = self.rows.find(&chosen);
        let found = found.or_else(|| self.rows.find_elsewhere(&chosen));
        let line = found.unwrap_or(self.here().line.min(last));
        let key = self.rows.key(line);
        let here = self.here_mut();
        here.chosen = key;
        here.line = line;
    }
}

impl ViewState {
    fn new(table: Table) -> Self {
        let Table {
            columns,
            sort,
            grouping,
        } = table;
        Self {
            grouping,
            columns,
            sort,
            first_sort: sort,
            folding: Folding::default(),
            widths: Widths::default(),
            chosen: None,
            line: 0,
            offset: 0,
            hold: Hold::default(),
        }
    }
}
