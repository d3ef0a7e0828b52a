//! The kernel matrix: which backends are tested on which kernel.

use std::{fmt, time::Duration};

use crate::kernels::Kernel;

/// Where a cell's tests run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Machine {
    Host,
    Guest(Kernel),
}

/// One run of the live tests: on one kernel, with flow forced to one backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell<'a> {
    pub machine: Machine,
    pub backend: &'a str,
}

/// The matrix, one line for each cell. The first cell of each machine runs all its tests: with
/// tracepoints Flow starts fastest.
pub const MATRIX: [Cell<'static>; 6] = [
    cell(Machine::Host, "tracepoint"),
    cell(Machine::Guest(Kernel::V6_12), "tracepoint"),
    cell(Machine::Guest(Kernel::V6_12), "fexit"),
    cell(Machine::Guest(Kernel::V6_12), "kprobe"),
    cell(Machine::Guest(Kernel::V6_1), "fexit"),
    cell(Machine::Guest(Kernel::V6_1), "kprobe"),
];

/// A cell that takes longer fails.
pub const TIME_LIMIT: Duration = Duration::from_secs(2400);

const fn cell(machine: Machine, backend: &str) -> Cell<'_> {
    Cell { machine, backend }
}

impl Cell<'_> {
    /// Whether it is the first cell of its machine, which also runs the tests that no backend
    /// affects.
    pub fn is_first(&self) -> bool {
        let mut of_machine = MATRIX.iter().filter(|cell| cell.machine == self.machine);
        of_machine.next() == Some(self)
    }
}

/// The guest cells of this kernel and this backend. A pair that is not in the matrix is a cell of
/// its own, for experiments.
pub fn guests<'a>(kernel: Option<Kernel>, backend: Option<&'a str>) -> Vec<Cell<'a>> {
    let matches = |cell: &Cell<'_>| match cell.machine {
        Machine::Host => false,
        Machine::Guest(its) => {
            kernel.is_none_or(|kernel| kernel == its)
                && backend.is_none_or(|backend| backend == cell.backend)
        }
    };
    let cells: Vec<_> = MATRIX.into_iter().filter(matches).collect();
    match (kernel, backend) {
        (Some(kernel), Some(backend)) if cells.is_empty() => {
            vec![cell(Machine::Guest(kernel), backend)]
        }
        _ => cells,
    }
}

impl fmt::Display for Cell<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.machine {
            Machine::Host => write!(f, "host {}", self.backend),
            Machine::Guest(kernel) => write!(f, "{} {}", kernel.name(), self.backend),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(kernel: Option<Kernel>, backend: Option<&str>) -> Vec<String> {
        guests(kernel, backend)
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn one_cell_of_each_machine_is_the_first() {
        let first: Vec<_> = MATRIX.iter().filter(|cell| cell.is_first()).collect();
        let names: Vec<_> = first.iter().map(ToString::to_string).collect();
        assert_eq!(names, ["host tracepoint", "6.12 tracepoint", "6.1 fexit"]);
    }

    #[test]
    fn guests_are_chosen_by_kernel_and_backend() {
        assert_eq!(names(None, None).len(), 5);
        assert_eq!(names(Some(Kernel::V6_1), None), ["6.1 fexit", "6.1 kprobe"]);
        assert_eq!(names(None, Some("tracepoint")), ["6.12 tracepoint"]);
        assert_eq!(
            names(Some(Kernel::V6_1), Some("tracepoint")),
            ["6.1 tracepoint"]
        );
        assert!(names(None, Some("no such")).is_empty());
    }
}
