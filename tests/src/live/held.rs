//! What one Flow holds in the kernel, by id, as others may have programs of the same names.

use std::{collections::HashSet, fs, time::Duration};

use anyhow::{Context as _, Result, ensure};

use super::waiting;

/// Programs and maps that a process held.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    pub programs: HashSet<u32>,
    maps: HashSet<u32>,
}

impl Held {
    /// What a process holds now; it must hold both programs and maps.
    pub fn of(pid: u32) -> Result<Self> {
        let held = Self::so_far(pid)?;
        ensure!(!held.programs.is_empty(), "pid {pid} holds no programs");
        ensure!(!held.maps.is_empty(), "pid {pid} holds no maps");
        Ok(held)
    }

    /// As [`Self::of`], for a process that may have just started.
    pub fn so_far(pid: u32) -> Result<Self> {
        let directory = format!("/proc/{pid}/fdinfo");
        let mut held = Self::default();
        for entry in fs::read_dir(&directory).with_context(|| format!("reading {directory}"))? {
            // A descriptor may be closed meanwhile.
            if let Ok(text) = fs::read_to_string(entry?.path()) {
                held.take(&text);
            }
        }
        Ok(held)
    }

    /// Reads the `fdinfo` of one descriptor.
    fn take(&mut self, text: &str) {
        let id = |name: &str| {
            let id = text.lines().find_map(|line| line.strip_prefix(name))?;
            id.trim().parse::<u32>().ok()
        };
        // Links name their program too, but only a program's descriptor has its tag.
        if text.contains("prog_tag:") {
            self.programs.extend(id("prog_id:"));
        }
        self.maps.extend(id("map_id:"));
    }

    /// Waits until the kernel has removed all of it; programs of interfaces, and maps, are removed
    /// a little later.
    pub fn until_gone(&self, patience: Duration) -> Result<()> {
        let what = format!("the kernel to remove the programs {:?}", self.programs);
        waiting::until(patience, &what, || {
            let programs = aya::programs::loaded_programs().flatten();
            let maps = aya::maps::loaded_maps().flatten();
            let is_there = programs
                .map(|it| it.id())
                .any(|id| self.programs.contains(&id))
                || maps.map(|it| it.id()).any(|id| self.maps.contains(&id));
            Ok((!is_there).then_some(()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_and_maps_are_distinguished_from_links() {
        let mut held = Held::default();
        for text in [
            "pos:\t0\nprog_type:\t5\nprog_tag:\tab\nprog_id:\t7\n",
            "pos:\t0\nlink_type:\ttcx\nlink_id:\t3\nprog_tag:\tab\nprog_id:\t7\n",
            "pos:\t0\nmap_type:\t1\nmap_id:\t9\n",
            "pos:\t0\nflags:\t02\n",
        ] {
            held.take(text);
        }
        assert_eq!(held.programs, [7].into());
        assert_eq!(held.maps, [9].into());
        held.take("prog_tag:\tab\nprog_id:\t8\n");
        assert_eq!(held.programs, [7, 8].into());
    }

    #[test]
    fn who_has_loaded_nothing_holds_nothing() {
        let pid = std::process::id();
        assert_eq!(Held::so_far(pid).unwrap(), Held::default());
        assert!(Held::of(pid).is_err());
        Held::default().until_gone(Duration::ZERO).unwrap();
    }
}
