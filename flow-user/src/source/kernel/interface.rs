//! One interface that is followed: what it and its classifiers have counted, and how the two
//! compare.

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use flow_common::{Class, LinkLayout};

use super::{
    classifier::{self, Classifiers, Counts},
    counter_baseline::{CounterBaseline, as_counted, since},
    counting::{Counting, Passed, Seen},
    own::{Expected, Own},
    stacking::{Place, Stacking, kinds_of},
};
use crate::{
    event::{Bytes, ClassCount, Event, InterfaceFact, InterfaceSide},
    source::interfaces::{Counters, Interfaces, Link},
};

/// How often a ledger's beginning is looked for at which nothing passes.
const BEGINNINGS: usize = 6;
/// How long a packet is given that one of the two has counted and the other has not.
const ON_ITS_WAY: Duration = Duration::from_micros(100);
/// How long nothing must have passed until no packet waits for its classifier; as `ON_ITS_WAY` in
/// `model/ledger.rs`.
const CALM: Duration = Duration::from_millis(500);
/// How often an interface is read again in which something passed between its own counters and the
/// classifier's.
const READINGS: usize = 2;

/// When an interface gets its classifiers. Each takes the kernel 10 to 20 ms to attach and 16 to
/// detach, also where no packet will ever pass.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Attaching {
    /// One that has just appeared, so that they are there before it is up.
    AtOnce,
    /// One that was there before, which may stay down for good.
    WhenUp,
}

/// An interface that is followed.
pub(super) struct Known {
    pub(super) link: Link,
    pub(super) attaching: Attaching,
    baseline: CounterBaseline,
    /// Whether it is reported.
    pub(super) is_chosen: bool,
    /// Its own counters.
    pub(super) own: Own,
    /// How it counts what it receives, and what it sends.
    counting: [Counting; 2],
    /// What the classifier last had counted, since the ledger began: received, sent.
    seen: [Counts; 2],
    /// All that had come in after that reading.
    came: ClassCount,
    /// When the last reading was taken that showed something new.
    taken: Instant,
    /// How many of the further segments of buffers it had counted by themselves, and of how many.
    apart: [(u64, u64); 2],
}

impl Known {
    pub(super) fn new(link: Link, attaching: Attaching, is_chosen: bool) -> Self {
        let header = link.layout().header;
        let [mut received, sent] = link
            .presumed_more()
            .map(|more| Counting::presumed(header, more));
        if link.may_leave_header_out() {
            received = received.or_without_header();
        }
        Self {
            baseline: CounterBaseline {
                own: link.counters,
                ..CounterBaseline::default()
            },
            own: Own::new(link.counters),
            counting: [received, sent],
            seen: Default::default(),
            came: ClassCount::default(),
            taken: Instant::now(),
            apart: Default::default(),
            link,
            attaching,
            is_chosen,
        }
    }

    /// Begins its ledger, if possible at a moment when nothing passes.
    pub(super) fn begin(&mut self, classifiers: &Classifiers, interfaces: &mut Interfaces) {
        let ifindex = self.link.ifindex;
        for _ in 0..BEGINNINGS {
            // In an order in which a packet that comes in between is one that settling finds.
            let Ok((ingress, _)) = classifiers.counts(ifindex) else {
                break;
            };
            let Ok(Some(read)) = interfaces.stats_of(ifindex) else {
                break;
            };
            let Ok((_, egress)) = classifiers.counts(ifindex) else {
                break;
            };
            self.own.take(read, None);
            let now = CounterBaseline {
                own: *self.own.counters(),
                ingress,
                egress,
            };
            if self.baseline == now {
                break;
            }
            self.baseline = now;
            thread::sleep(ON_ITS_WAY);
        }
        let CounterBaseline {
            own,
            ingress,
            egress,
        } = &self.baseline;
        let [received, sent] = &mut self.counting;
        received.begin(own.received(), total(ingress));
        sent.begin(own.sent(), total(egress));
        self.seen = Default::default();
        let begun = self.expected(&self.seen);
        self.own.compare(&begun, &begun);
    }

    /// Corrects the beginning of its ledger, unless the kernel does not report its counters.
    pub(super) fn settle(&mut self, classifiers: &Classifiers, interfaces: &mut Interfaces) {
        let ifindex = self.link.ifindex;
        let counts = || classifiers.counts(ifindex);
        if let Ok(before) = counts()
            && let Ok(Some(read)) = interfaces.stats_of(ifindex)
            && let Ok(after) = counts()
        {
            self.take(&before, read, &after);
            let own = self.own.counters();
            self.baseline.settle(&before, own, &after, &self.counting);
        }
    }

    /// Takes its own counters, which were read after the classifier had counted so much. Reads
    /// again where something passed meanwhile and it matters what.
    pub(super) fn read(
        &mut self,
        classifiers: &Classifiers,
        interfaces: &mut Interfaces,
        before: &(Counts, Counts),
        read: Counters,
    ) {
        if self.own.is_same(&read) && self.since_begun(before) == self.seen {
            if self.taken.elapsed() >= CALM {
                self.confirm(before);
            }
            return;
        }
        let ifindex = self.link.ifindex;
        let (mut before, mut read) = (*before, read);
        for round in 0.. {
            let Ok(after) = classifiers.counts(ifindex) else {
                return;
            };
            if round < READINGS
                && after != before
                && self.wants_calm(&read, &after)
                && let Ok(Some(again)) = interfaces.stats_of(ifindex)
            {
                (before, read) = (after, again);
                continue;
            }
            self.take(&before, read, &after);
            return;
        }
    }

    /// Nothing has passed for a while, so no packet waits between its own counters and the
    /// classifier's.
    fn confirm(&mut self, (ingress, egress): &(Counts, Counts)) {
        let own = self.own.counters();
        let [received, sent] = &mut self.counting;
        received.take_calm(own.received(), total(ingress));
        sent.take_calm(own.sent(), total(egress));
        let now = self.expected(&self.seen);
        self.own.compare(&now, &now);
        self.own.confirm();
    }

    /// Whether a reading is of use only at a moment when nothing passes.
    fn wants_calm(&self, read: &Counters, after: &(Counts, Counts)) -> bool {
        self.own.falls(read)
            || !self.counting.iter().all(Counting::is_shown)
            || self.own.differs(&self.expected(&self.since_begun(after)))
    }

    /// Takes a reading of its own counters, and of the classifier's before and after it.
    ///
    /// Of what came in the ledger takes the total from before and what became of it from after: a
    /// packet on its way from the classifier to its socket has arrived, as a rule, and what came
    /// meanwhile makes the remainder less, not more, until the next reading.
    fn take(&mut self, before: &(Counts, Counts), read: Counters, after: &(Counts, Counts)) {
        self.taken = Instant::now();
        let seen_after = self.since_begun(after);
        self.own.take(read, Some(&self.expected(&seen_after)));
        let own = [self.own.counters().received(), self.own.counters().sent()];
        let totals = [(&before.0, &after.0), (&before.1, &after.1)];
        for ((counting, own), (before, after)) in self.counting.iter_mut().zip(own).zip(totals) {
            let seen = Seen {
                before: *total(before),
                after: *total(after),
            };
            counting.take(own, &seen);
        }
        let mut seen = self.since_begun(before);
        for ((apart, own), (seen, begun)) in self.apart.iter_mut().zip(own).zip([
            (&seen[0], self.baseline.own.rx_packets),
            (&seen[1], self.baseline.own.tx_packets),
        ]) {
            let total = total(seen);
            let further = total.frames.saturating_sub(total.packets);
            let packets = own.packets.saturating_sub(begun);
            let more = packets.saturating_sub(total.packets).min(further);
            // Nearly all or nearly none are all or none: some may be on their way.
            *apart = match (more, further) {
                (more, further) if more >= further - further / 16 => (further, further),
                (more, further) if more <= further / 16 => (0, further),
                some => some,
            };
        }
        let (expected_before, expected_after) = (self.expected(&seen), self.expected(&seen_after));
        self.own.compare(&expected_before, &expected_after);
        let came = *total(&seen[0]);
        seen = seen_after;
        self.came = *total(&seen[0]);
        seen[0][Class::Total as usize] = came;
        self.seen = seen;
    }

    /// No later reading will show how it counts: all that passed decides.
    pub(super) fn conclude(&mut self) {
        let own = self.own.counters();
        let begun = &self.baseline.own;
        let passed = [
            own.received().since(begun.received()),
            own.sent().since(begun.sent()),
        ];
        // What the classifiers had counted after the interface.
        let seen = [&self.came, total(&self.seen[1])];
        for ((counting, passed), seen) in self.counting.iter_mut().zip(passed).zip(seen) {
            counting.end(passed, seen);
        }
    }

    /// It is gone: its last counters, if they were read, and the classifier's.
    pub(super) fn end(&mut self, read: Option<Counters>, counts: &(Counts, Counts)) {
        // What was not read goes on as after a reset.
        let read = read.unwrap_or_default();
        if read.received() == Passed::default() {
            let [received, _] = self.expected(&self.since_begun(counts));
            self.own.lost(received);
        }
        self.take(counts, read, counts);
        self.conclude();
        let own = self.own.counters();
        self.baseline.settle(counts, own, counts, &self.counting);
        self.seen = self.since_begun(counts);
        self.came = *total(&self.seen[0]);
    }

    /// What the classifier counted since its ledger began.
    fn since_begun(&self, counts: &(Counts, Counts)) -> [Counts; 2] {
        let CounterBaseline {
            ingress, egress, ..
        } = &self.baseline;
        [since(counts.0, ingress), since(counts.1, egress)]
    }

    /// What its own counters should have grown by.
    fn expected(&self, seen: &[Counts; 2]) -> Expected {
        let of = |direction: usize| {
            let mut total = *total(&seen[direction]);
            self.counting[direction].apply(&mut total);
            let (apart, further) = self.apart[direction];
            let share = |of: u64| {
                let share = u128::from(of) * u128::from(apart) / u128::from(further.max(1));
                u64::try_from(share).unwrap_or(of)
            };
            Passed {
                bytes: total.bytes.0 + share(total.header_bytes.0),
                packets: total.packets + share(total.frames.saturating_sub(total.packets)),
            }
        };
        let (received, sent) = (of(0), of(1));
        let Counters {
            rx_bytes,
            rx_packets,
            tx_bytes,
            tx_packets,
            ..
        } = self.baseline.own;
        let after = |begun: u64, passed: u64| begun.saturating_add(passed);
        [
            Passed {
                bytes: after(rx_bytes, received.bytes),
                packets: after(rx_packets, received.packets),
            },
            Passed {
                bytes: after(tx_bytes, sent.bytes),
                packets: after(tx_packets, sent.packets),
            },
        ]
    }

    pub(super) fn described(&self, stacking: &Stacking) -> classifier::Link<'_> {
        let stacked = stacking.links.get(&self.link.ifindex);
        let place = stacked.copied().unwrap_or_default();
        let Place {
            flags,
            master,
            lower,
        } = place;
        classifier::Link {
            ifindex: self.link.ifindex,
            name: &self.link.name,
            layout: LinkLayout {
                flags,
                master,
                lower,
                ..self.link.layout()
            },
            kinds: kinds_of(&self.link, place),
        }
    }

    /// What is known of it; `is_beginning` says that its ledger is about to begin.
    pub(super) fn event(&self, is_classified: bool, is_beginning: bool) -> Event {
        let counters = if is_beginning {
            &self.baseline.own
        } else {
            self.own.counters()
        };
        let mut fact = InterfaceFact {
            ifindex: self.link.ifindex,
            name: Arc::clone(&self.link.name),
            up: self.link.up,
            classified: is_classified,
            ingress: InterfaceSide {
                bytes_at_attach: Bytes(self.baseline.own.rx_bytes),
                packets_at_attach: self.baseline.own.rx_packets,
                ..counters.ingress()
            },
            egress: InterfaceSide {
                bytes_at_attach: Bytes(self.baseline.own.tx_bytes),
                packets_at_attach: self.baseline.own.tx_packets,
                ..counters.egress()
            },
        };
        if is_classified && !is_beginning {
            let [ingress, egress] = &self.seen;
            let [received, sent] = self.counting.each_ref().map(Counting::least);
            fact.ingress.classes = as_counted(*ingress, &received);
            let mut came = self.came;
            received.apply(&mut came);
            fact.ingress.meanwhile = came.since(total(&fact.ingress.classes));
            fact.egress.classes = as_counted(*egress, &sent);
        }
        Event::Interface(Box::new(fact))
    }
}

fn total(counts: &Counts) -> &ClassCount {
    &counts[Class::Total as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The counter of a device that counts 986 bytes of each packet of 1000.
    fn own(packets: u64) -> Counters {
        Counters {
            rx_packets: packets,
            rx_bytes: packets * 986,
            ..Counters::default()
        }
    }

    fn classified(packets: u64) -> (Counts, Counts) {
        let mut ingress = Counts::default();
        ingress[Class::Total as usize] = ClassCount {
            packets,
            bytes: Bytes(packets * 1000),
            frames: packets,
            header_bytes: Bytes(0),
        };
        (ingress, Counts::default())
    }

    #[test]
    fn how_it_counts_is_no_difference_once_a_calm_moment_showed_it() {
        let mut known = Known::new(Link::of_kind(5, "veth"), Attaching::AtOnce, true);
        // It holds packets back for a while, so that no reading agrees with another.
        for (packets, held) in [(0, 1), (20, 3), (40, 2), (60, 5), (65, 0)] {
            let counts = classified(packets);
            known.take(&counts, own(packets + held), &counts);
            assert!(!known.counting[0].is_shown());
        }
        known.confirm(&classified(65));
        assert!(known.counting[0].is_shown());
        // Its other end is gone, and the counter with it.
        known.end(None, &classified(80));
        assert_eq!(known.own.counters().rx_bytes, own(80).rx_bytes);
    }
}
