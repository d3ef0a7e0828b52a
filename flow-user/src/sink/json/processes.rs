//! The text of processes, kept from one line to the next: a process has many flows, and each line
//! of them has its record, with all its ancestors.

use std::sync::Arc;

use serde_json::value::RawValue;

use super::{line::to_line, record::ProcessRecord};
use crate::{event::Clock, model::snapshot::Process};

/// Texts kept; each has a place by the address of its process. No power of two, as addresses are
/// multiples of one.
const PLACES: usize = 127;

/// The texts.
#[derive(Debug, Default)]
pub struct Processes {
    /// With the process itself: while it is here, no other one can have its address.
    places: Vec<Option<(Arc<Process>, Box<RawValue>)>>,
}

impl Processes {
    /// The record of a process as text.
    pub fn text(&mut self, process: &Arc<Process>, clock: Clock) -> &RawValue {
        if self.places.is_empty() {
            self.places.resize_with(PLACES, || None);
        }
        let place = &mut self.places[Arc::as_ptr(process).addr() / align_of::<Process>() % PLACES];
        let (_, text) = match place.take() {
            Some(kept) if Arc::ptr_eq(&kept.0, process) => place.insert(kept),
            _ => {
                let text = to_line(&ProcessRecord::new(process, clock));
                let text = RawValue::from_string(text).expect("a line of JSON is JSON");
                place.insert((Arc::clone(process), text))
            }
        };
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::fixture;

    #[test]
    fn each_process_has_its_own_text_also_where_many_share_a_place() {
        let clock = Clock {
            boot: jiff::Timestamp::UNIX_EPOCH,
        };
        let mut processes = Processes::default();
        let all: Vec<_> = (1..1000)
            .map(|pid| fixture::process(pid, "/bin/\u{202e}", &[]))
            .collect();
        for process in all.iter().chain(&all) {
            for _ in 0..2 {
                let expected = to_line(&ProcessRecord::new(process, clock));
                assert_eq!(processes.text(process, clock).get(), expected);
            }
        }
        // What has become of a process since is another one's text.
        let mut later = Process::clone(&all[0]);
        later.uid = Some(7);
        let text = processes.text(&Arc::new(later), clock).get().to_owned();
        assert!(text.contains("\"uid\":7"), "{text}");
    }
}
