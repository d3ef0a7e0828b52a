//! The states that each socket went through.
//!
//! A source reports at once that a connection is being made, is established and has ended; other
//! states at ticks, so of several within a tick only the last one is known.

use std::collections::VecDeque;

use foldhash::HashMap;
use smallvec::SmallVec;

use crate::{
    event::{Instant, SocketCookie, State},
    model::change::StateChange,
};

/// The most sockets; beyond that the latest are kept.
const SOCKETS: usize = 16_384;
/// The most states of each; the latest are kept.
const STATES: usize = 16;

/// A state, and when it was first seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passed {
    pub state: State,
    pub time: Instant,
}

/// The states of sockets that have any.
#[derive(Clone, Debug, Default)]
pub struct States {
    sockets: HashMap<SocketCookie, SmallVec<[Passed; 3]>>,
    /// In the order of their first change.
    order: VecDeque<SocketCookie>,
}

impl States {
    /// Takes changes, in order.
    pub fn take(&mut self, changes: &[StateChange]) {
        for &StateChange {
            time,
            socket,
            state,
        } in changes
        {
            self.pass(socket, Passed { state, time });
        }
    }

    /// The states of a socket, the first one first.
    pub fn of(&self, socket: SocketCookie) -> &[Passed] {
        self.sockets.get(&socket).map_or(&[], SmallVec::as_slice)
    }

    fn pass(&mut self, socket: SocketCookie, passed: Passed) {
        let states = self.sockets.entry(socket).or_insert_with(|| {
            self.order.push_back(socket);
            SmallVec::new()
        });
        if states.last().is_some_and(|last| last.state == passed.state) {
            return;
        }
        if states.len() == STATES {
            states.remove(0);
        }
        states.push(passed);
        while self.order.len() > SOCKETS {
            if let Some(oldest) = self.order.pop_front() {
                self.sockets.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(socket: u64, state: State, time: u64) -> StateChange {
        StateChange {
            time: Instant(time),
            socket: SocketCookie(socket),
            state,
        }
    }

    #[test]
    fn each_state_once_with_the_time_it_was_first_seen() {
        let mut states = States::default();
        states.take(&[
            seen(1, State::SynSent, 1),
            seen(1, State::Established, 2),
            seen(1, State::Established, 3),
            seen(2, State::Listen, 4),
            seen(1, State::CloseWait, 5),
        ]);
        let of: Vec<_> = states
            .of(SocketCookie(1))
            .iter()
            .map(|it| (it.state, it.time.0))
            .collect();
        let expected = [
            (State::SynSent, 1),
            (State::Established, 2),
            (State::CloseWait, 5),
        ];
        assert_eq!(of, expected);
        assert!(states.of(SocketCookie(9)).is_empty());
    }

    #[test]
    fn neither_sockets_nor_states_without_end() {
        let mut states = States::default();
        for time in 0..100 {
            let state = [State::Established, State::CloseWait][time as usize % 2];
            states.take(&[seen(0, state, time)]);
        }
        assert_eq!(states.of(SocketCookie(0)).len(), STATES);
        assert_eq!(
            states.of(SocketCookie(0))[0].time,
            Instant(100 - STATES as u64)
        );
        for socket in 1..=SOCKETS as u64 {
            states.take(&[seen(socket, State::Listen, 200)]);
        }
        assert_eq!(
            (states.sockets.len(), states.order.len()),
            (SOCKETS, SOCKETS)
        );
        assert!(states.of(SocketCookie(0)).is_empty());
    }
}
