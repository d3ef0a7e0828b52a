//! Gives the memory that is no longer needed back to the system.
//!
//! The C library keeps what is freed. By itself it gives back only what lies at the end of its
//! heap, and one small object there keeps everything below: after a burst of connections Flow would
//! stay as large as it was at the height of it. So every few seconds the loop looks at how much is
//! free, and gives that back where it is a good part of what is used.

use tokio::time::{Duration, Instant};

/// Time between two looks. One walks through the lists of free memory: some tens of microseconds,
/// a millisecond after a burst.
const INTERVAL: Duration = Duration::from_secs(10);
/// Free memory that is kept in any case, as it will soon be used again: each tick makes its rows
/// anew.
const SPARE: usize = 2 << 20;
/// As much more is kept as this part of what is in use.
const SHARE: usize = 8;

/// Looks after the memory of the process.
pub struct Keeper {
    next: Instant,
    stuck: Stuck,
}

/// Free memory that could not be given back the last time, as it lies between what was in use. Less
/// of it with each look: what was in use goes.
#[derive(Default)]
struct Stuck(usize);

impl Keeper {
    pub fn start() -> Self {
        Self {
            next: Instant::now() + INTERVAL,
            stuck: Stuck::default(),
        }
    }

    /// After a tick: looks, if it is time.
    pub fn tick(&mut self) {
        let now = Instant::now();
        if now >= self.next {
            self.next = now + INTERVAL;
            allocator::look(&mut self.stuck);
        }
    }
}

impl Stuck {
    /// Whether it pays to give memory back, where so much is in use and so much more is free.
    fn pays(&mut self, used: usize, free: usize) -> bool {
        self.0 = (self.0 - self.0 / 4).min(free);
        free - self.0 > SPARE + used / SHARE
    }
}

#[cfg(target_env = "gnu")]
mod allocator {
    use procfs::{page_size, process::Process};

    use super::Stuck;

    pub fn look(stuck: &mut Stuck) {
        let Some((used, free)) = used_and_free() else {
            return;
        };
        if stuck.pays(used, free) {
            // SAFETY: it changes only the allocator's own state, under its own locks.
            unsafe { libc::malloc_trim(0) };
            stuck.0 = used_and_free().map_or(0, |(_, free)| free);
        }
    }

    /// Bytes that the program has allocated, and bytes that the process holds beside them.
    pub fn used_and_free() -> Option<(usize, usize)> {
        // SAFETY: as above.
        let memory = unsafe { libc::mallinfo2() };
        let used = memory.uordblks + memory.hblkhd;
        let pages = Process::myself().and_then(|own| own.statm()).ok()?;
        let private = pages.resident.saturating_sub(pages.shared);
        let held = usize::try_from(private.saturating_mul(page_size())).ok()?;
        Some((used, held.saturating_sub(used)))
    }
}

/// Other C libraries give memory back by themselves, or have no such call.
#[cfg(not(target_env = "gnu"))]
mod allocator {
    use super::Stuck;

    pub fn look(_: &mut Stuck) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    #[test]
    fn what_is_soon_needed_again_is_kept_and_what_is_stuck_is_asked_for_less_often() {
        let mut stuck = Stuck::default();
        assert!(!stuck.pays(8 * MIB, 3 * MIB));
        assert!(stuck.pays(8 * MIB, 4 * MIB));
        stuck.0 = 8 * MIB;
        assert!(!stuck.pays(8 * MIB, 9 * MIB));
        assert!(stuck.pays(8 * MIB, 9 * MIB));
        // What is used again is stuck no longer.
        assert!(!stuck.pays(8 * MIB, MIB));
        assert!(stuck.pays(8 * MIB, 4 * MIB));
    }

    /// Freed by itself it would all stay: the last object lies at the end of the heap.
    #[test]
    #[cfg(target_env = "gnu")]
    fn a_burst_is_given_back_though_something_of_it_is_left() {
        let mut burst: Vec<Box<[u64; 40]>> = (0..300_000).map(|at| Box::new([at; 40])).collect();
        let last = burst.pop();
        drop(burst);
        // The burst took 96 MB. Other tests run beside this one, and may have freed as much.
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            allocator::look(&mut Stuck::default());
            let (_, free) = allocator::used_and_free().expect("the size of this process");
            if free < 48 * MIB {
                break;
            }
            assert!(Instant::now() < end, "{free} bytes are still held");
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(last.map(|it| it[39]), Some(299_999));
    }
}
