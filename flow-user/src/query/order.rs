//! Sorts rows.
//!
//! Only their numbers are sorted: a row is large, and there may be many.

use std::ops::Range;

use super::{
    columns::{Column, Context, Key, falling_rate},
    entry::Entry,
};

/// The numbers of `entries` in order: by `column`, reversed if asked; then the busiest first, by
/// rate, then by total. Equals are in order of their identity, the same in every refresh.
pub(crate) fn order(
    entries: &[Entry],
    column: Option<(&Column, bool)>,
    context: &Context<'_>,
) -> Vec<u32> {
    first(entries.len(), entries, column, context)
}

/// The first `most` of that order: less work than all of it.
pub(crate) fn first(
    most: usize,
    entries: &[Entry],
    column: Option<(&Column, bool)>,
    context: &Context<'_>,
) -> Vec<u32> {
    let (keys, reverse) = match column {
        Some((column, reverse)) => {
            let values = entries.iter().map(|entry| (column.value)(entry, context));
            (values.map(Key::from).collect(), reverse)
        }
        None => (Vec::new(), false),
    };
    // What is no longer listed is last, whatever the order.
    let is_rest = |row: u32| entries[row as usize].subject.is_rest();
    let rest = entries
        .iter()
        .filter(|entry| entry.subject.is_rest())
        .count();
    let sorting = Sorting {
        entries,
        keys,
        reverse,
        most: most.saturating_add(rest),
    };
    let mut places: Vec<u128> = (0..).take(entries.len()).collect();
    let mut equals = vec![(0..places.len(), Step::Key(0))];
    while let Some((range, step)) = equals.pop() {
        sorting.sort(&mut places, range, step, &mut equals);
    }
    let mut rows: Vec<u32> = places.into_iter().map(row).collect();
    if rest > 0 {
        rows.sort_by_key(|row| is_rest(*row));
    }
    rows.truncate(most);
    rows
}

/// Rows behind numbers: sorted as numbers they are far sooner in order than by looking at rows.
/// What one number leaves equal is sorted by the next.
struct Sorting<'a> {
    entries: &'a [Entry],
    /// Of every row, or of none.
    keys: Vec<Key>,
    reverse: bool,
    /// Rows from this place on may be in any order.
    most: usize,
}

/// The number that rows are sorted by.
#[derive(Clone, Copy)]
enum Step {
    /// A number of their keys.
    Key(usize),
    Rate,
    Total,
}

/// Prefix of rows whose key has no such number: they are last, whatever the direction.
const LAST: u128 = 1 << (u64::BITS + u32::BITS);

impl Sorting<'_> {
    /// Sorts a range by one number; `equals` gets what it leaves equal, and what comes next.
    fn sort(
        &self,
        places: &mut [u128],
        range: Range<usize>,
        step: Step,
        equals: &mut Vec<(Range<usize>, Step)>,
    ) {
        let places = &mut places[range.clone()];
        for place in &mut *places {
            *place = self.number(row(*place), step);
        }
        places.sort_unstable();
        let mut from = range.start;
        for equal in places.chunk_by_mut(|a, b| a >> u32::BITS == b >> u32::BITS) {
            let all = from..from + equal.len();
            from = all.end;
            let next = match step {
                _ if equal.len() == 1 || all.start >= self.most => continue,
                // Keys without this number have no further one.
                Step::Key(_) if equal[0] >= LAST => Step::Rate,
                Step::Key(at) => Step::Key(at + 1),
                Step::Rate => Step::Total,
                Step::Total => {
                    equal.sort_by_cached_key(|place| self.entry(row(*place)).subject.id());
                    continue;
                }
            };
            equals.push((all, next));
        }
    }

    /// The number of a row, and behind it the row.
    fn number(&self, row: u32, step: Step) -> u128 {
        let entry = self.entry(row);
        let number = match step {
            Step::Key(at) => match self.keys.get(row as usize).and_then(|key| key.number(at)) {
                Some(number) if self.reverse => !number,
                Some(number) => number,
                None => return LAST | u128::from(row),
            },
            Step::Rate => falling_rate(entry.rate.rx + entry.rate.tx),
            Step::Total => !entry.total(),
        };
        u128::from(number) << u32::BITS | u128::from(row)
    }

    fn entry(&self, row: u32) -> &Entry {
        &self.entries[row as usize]
    }
}

/// The row behind a number: its lower bits.
fn row(place: u128) -> u32 {
    place as u32
}

#[cfg(test)]
mod tests {
    use std::cmp::Ordering;

    use super::*;
    use crate::query::{columns, entry::Subject, fixture, view::By};

    /// Many rows of few numbers, so that there are equals of every kind.
    fn crowd() -> Vec<Entry> {
        let row = |number: u64| {
            let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
            let program = format!(
                "/bin/{}",
                &"server-number-"[..(mixed >> 16 & 15).min(14) as usize]
            );
            let process = fixture::process(number as u32 + 1, &program, &[]);
            let remote = format!("10.0.{}.1:443", mixed >> 8 & 3);
            let remote = (mixed >> 10 & 3 > 0).then_some(&*remote);
            let flow = fixture::flow(mixed, &process, "10.0.0.2:5000", remote);
            let mut entry = Entry::new(Subject::Flow(flow.into()));
            entry.rate.rx = (mixed & 3) as f64;
            entry.app = fixture::totals(mixed >> 4 & 3, 0);
            entry
        };
        (0..500).map(row).collect()
    }

    /// As [`order`] has it, for two rows.
    fn compare(a: &Entry, b: &Entry, column: &Column, reverse: bool) -> Ordering {
        let context = Context::default();
        let numbers = |entry| -> Vec<u64> {
            let key = Key::from((column.value)(entry, &context));
            (0..).map_while(|at| key.number(at)).collect()
        };
        match (numbers(a), numbers(b)) {
            (a, b) if a.is_empty() || b.is_empty() => a.is_empty().cmp(&b.is_empty()),
            (a, b) if reverse => b.cmp(&a),
            (a, b) => a.cmp(&b),
        }
    }

    #[test]
    fn rows_stand_as_if_each_were_compared_with_each() {
        let entries = crowd();
        let columns = columns::of(By::Flow).iter();
        let sorts = columns.flat_map(|column| [Some((column, false)), Some((column, true))]);
        for sort in sorts.chain([None]) {
            let mut expected: Vec<u32> = (0..entries.len() as u32).collect();
            expected.sort_by(|a, b| {
                let (a, b) = (&entries[*a as usize], &entries[*b as usize]);
                sort.map_or(Ordering::Equal, |(column, reverse)| {
                    compare(a, b, column, reverse)
                })
                .then_with(|| b.rate.rx.total_cmp(&a.rate.rx))
                .then_with(|| b.total().cmp(&a.total()))
                .then_with(|| a.subject.id().cmp(&b.subject.id()))
            });
            let name = sort.map(|(column, reverse)| (column.name, reverse));
            let context = Context::default();
            assert_eq!(order(&entries, sort, &context), expected, "{name:?}");
            for most in [0, 1, 20, 333] {
                let first = first(most, &entries, sort, &context);
                assert_eq!(first, expected[..most], "{name:?} {most}");
            }
        }
    }
}
