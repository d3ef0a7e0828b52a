//! How often something may be done that holds everything else up.

use std::time::Duration;

use tokio::time::Instant;

/// How many times as long as it took the next time has to wait: it takes 1 % of the time.
const REST: u32 = 100;

/// Work that takes 1 % of the time at most.
#[derive(Debug, Default)]
pub struct Sparing {
    next: Option<Instant>,
}

impl Sparing {
    pub fn is_due(&self, now: Instant) -> bool {
        self.next.is_none_or(|next| now >= next)
    }

    /// It was done, and took so long until `now`.
    pub fn done(&mut self, took: Duration, now: Instant) {
        self.next = Some(now + took * REST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_long_rests_long() {
        let mut sparing = Sparing::default();
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        assert!(sparing.is_due(begin));
        sparing.done(Duration::from_millis(300), begin);
        assert!(!sparing.is_due(at(29)));
        assert!(sparing.is_due(at(30)));
        sparing.done(Duration::from_millis(5), at(30));
        assert!(sparing.is_due(at(31)));
    }
}
