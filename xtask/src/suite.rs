//! `cargo xtask test` and `cargo xtask vm`: their steps, in order.

use std::{
    fs,
    sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    cells::{self, Cell, MATRIX, Machine},
    check, fuzz, guest, kernels,
    kernels::Kernel,
    matrix,
    rows::{Row, conclude, counted_beside, heading, step},
    run::{build_release, release},
    setup,
    tally::Tally,
    tools::{as_root, target},
    vm::{self, Verdict},
};

/// Runs setup, check, short fuzzing, the tests of the full-screen view, the live tests on this host
/// and in the guests, and the comparison with docs/kernels.md. Prints the table, and returns
/// whether all passed.
///
/// # Errors
/// When setup fails, and nothing can be tested.
pub fn test(host_only: bool, write_docs: bool) -> Result<bool> {
    heading("setup");
    setup::setup(false)?;
    let mut rows = check::check();
    rows.push(fuzz::short());
    let build = step("release build", build_release);
    let built = build.failed == 0;
    rows.push(build);
    rows.push(if built {
        run_live("terminal", "", |flow| {
            let tests = ["run", "--terminal", "--flow", flow];
            tests.map(str::to_owned).into()
        })
    } else {
        not_run("terminal".to_owned())
    });
    let first = rows.len();
    let wanted = |cell: &Cell<'_>| !host_only || cell.machine == Machine::Host;
    let cells = MATRIX.into_iter().filter(wanted);
    if built {
        let cells: Vec<_> = cells.collect();
        rows.extend(run_cells(&cells, cells::TIME_LIMIT, &[], true));
    } else {
        rows.extend(cells.map(|cell| not_run(cell.to_string())));
    }
    if !host_only {
        let cells = &rows[first..];
        rows.push(step("recorded results", || {
            matrix::record(cells, write_docs)
        }));
    }
    Ok(conclude(&rows))
}

/// Runs the matching guest cells. Prints the table, and returns whether all passed.
///
/// # Errors
/// When there is no such cell, or flow does not build.
pub fn vm(
    kernel: Option<Kernel>,
    backend: Option<&str>,
    keep_going: bool,
    limit: Duration,
    tests: &[String],
) -> Result<bool> {
    let cells = cells::guests(kernel, backend);
    ensure!(
        !cells.is_empty(),
        "no cell of the matrix has this backend; to try it anyway, name a kernel too"
    );
    build_release()?;
    Ok(conclude(&run_cells(&cells, limit, tests, keep_going)))
}

fn not_run(name: String) -> Row {
    let problem = "not run: there is no release build".to_owned();
    Row::from_error(name, Duration::ZERO, problem)
}

fn run_host(cell: Cell<'_>, tests: &[String]) -> Row {
    run_live(&cell.to_string(), &format!("{cell}: "), |flow| {
        live_arguments(cell.backend, flow, &[], tests)
    })
}

/// Runs live tests on this host, with the arguments that `of` returns for the path of flow.
fn run_live(name: &str, mark: &str, of: impl FnOnce(&str) -> Vec<String>) -> Row {
    match (release("flow-live"), release("flow")) {
        (Ok(program), Ok(flow)) => {
            let mut command = as_root(program);
            command.args(of(&flow.to_string_lossy()));
            counted_beside(name, mark, &mut command, cells::TIME_LIMIT)
        }
        (Err(error), _) | (_, Err(error)) => {
            Row::from_error(name.to_owned(), Duration::ZERO, format!("{error:#}"))
        }
    }
}

/// Runs these cells, on the host or each in a guest, as many at a time as this machine has
/// processors, the longest first. Without `keep_going`, none is started after one has failed. The
/// rows are in the order of the cells.
fn run_cells(cells: &[Cell<'_>], limit: Duration, tests: &[String], keep_going: bool) -> Vec<Row> {
    let rows: Vec<OnceLock<Row>> = cells.iter().map(|_| OnceLock::new()).collect();
    let mut order: Vec<_> = cells.iter().zip(&rows).collect();
    order.sort_by_key(|(cell, _)| (!cell.is_first(), cell.machine == Machine::Host));
    let (next, has_failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let work = || {
        while keep_going || !has_failed.load(Ordering::Relaxed) {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some((cell, row)) = order.get(number) else {
                return;
            };
            let done = row.get_or_init(|| match cell.machine {
                Machine::Host => run_host(**cell, tests),
                Machine::Guest(kernel) => run_guest(**cell, kernel, limit, tests),
            });
            has_failed.fetch_or(done.failed > 0, Ordering::Relaxed);
        }
    };
    thread::scope(|scope| {
        for _ in 0..vm::at_once().min(cells.len()) {
            scope.spawn(work);
        }
    });
    rows.into_iter().filter_map(OnceLock::into_inner).collect()
}

fn run_guest(cell: Cell<'_>, kernel: Kernel, limit: Duration, tests: &[String]) -> Row {
    let name = cell.to_string();
    heading(&name);
    let started = Instant::now();
    match boot(kernel, cell, limit, tests) {
        Ok((tally, problem)) => Row::from_tally(name, started.elapsed(), tally, problem),
        Err(error) => Row::from_error(name, started.elapsed(), format!("{error:#}")),
    }
}

/// Counts the tests of a guest, and reports what else went wrong.
fn boot(
    kernel: Kernel,
    cell: Cell<'_>,
    limit: Duration,
    tests: &[String],
) -> Result<(Tally, Option<String>)> {
    let unpacked = kernels::find(kernel)?;
    let folder = target()?.join("vm");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let file = |kind: &str| folder.join(format!("{}-{}.{kind}", kernel.name(), cell.backend));
    let (initramfs, log) = (file("cpio"), file("log"));

    let mut more = IN_A_GUEST.to_vec();
    // Tests that were selected by name run in every selected cell.
    if tests.is_empty() {
        let scope = if cell.is_first() { "kernel" } else { "backend" };
        more.extend(["--scope", scope]);
    }
    let mut command = vec!["/bin/flow-live".to_owned()];
    command.extend(live_arguments(cell.backend, "/bin/flow", &more, tests));
    guest::write_initramfs(&initramfs, &unpacked, &command)?;

    let mut tally = Tally::default();
    let verdict = vm::boot(&unpacked.image, &initramfs, &log, limit, |line| {
        // Cells run in parallel.
        println!("{cell}: {line}");
        tally.line(line);
    })?;
    let problem = match verdict {
        Verdict::Exited(0) => None,
        Verdict::Exited(code) => Some(format!("exit code {code}")),
        Verdict::Broken => Some(format!("the guest broke down; {}", vm::last_words(&log))),
        Verdict::TimedOut => {
            let words = vm::last_words(&log);
            Some(format!("stopped after {} s; {words}", limit.as_secs()))
        }
    };
    Ok((tally, problem))
}

/// Further arguments of a guest's tests: an emulated machine is some fifty times slower, and Flow
/// takes seconds to start.
const IN_A_GUEST: [&str; 4] = ["--scale", "50", "--sessions", "shared"];

fn live_arguments<'a>(
    backend: &'a str,
    flow: &'a str,
    more: &[&'a str],
    tests: &'a [String],
) -> Vec<String> {
    ["run", "--backend", backend, "--flow", flow]
        .iter()
        .chain(more)
        .copied()
        .chain(tests.iter().map(String::as_str))
        .map(str::to_owned)
        .collect()
}
