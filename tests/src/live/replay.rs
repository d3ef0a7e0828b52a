//! Tests that a replay shows what was shown when the recording was made.

use std::thread;

use anyhow::{Result, ensure};

use super::{
    World,
    flow::Flow,
    generator::Generator,
    outputs::loopback_server,
    recording::{recording, same},
};

/// The commands that show the state: their arguments, and the names of their output files.
const VIEWS: &[(&str, &[&str])] = &[
    ("process", &["top", "--json", "--count", "3"]),
    ("flow", &["top", "--json", "--count", "3", "--by", "flow"]),
    (
        "remote",
        &["top", "--json", "--count", "3", "--by", "remote"],
    ),
    (
        "listener",
        &["top", "--json", "--count", "3", "--by", "listener"],
    ),
    (
        "interface",
        &["top", "--json", "--count", "3", "--by", "interface"],
    ),
    ("user", &["top", "--json", "--count", "3", "--by", "user"]),
    (
        "cgroup",
        &["top", "--json", "--count", "3", "--by", "cgroup"],
    ),
    ("text", &["top", "--count", "3"]),
    ("events", &["events", "--duration", "3s"]),
    ("report", &["snapshot", "--duration", "3s"]),
];

/// Every command that shows the state shows the same from a recording.
pub fn views(world: &World) -> Result<()> {
    let (far, address) = loopback_server(world, "views")?;
    let files = VIEWS
        .iter()
        .map(|(name, _)| world.scratch.join(format!("{name}.recording")));
    let files: Vec<_> = files.collect();
    let mut flows = Vec::new();
    for ((name, arguments), file) in VIEWS.iter().zip(&files) {
        let backend = ["--backend", world.options.backend.name()];
        let arguments = [*arguments, &recording(file)?, &backend].concat();
        flows.push(Flow::start(world, &format!("{name}.live"), &arguments)?);
    }
    let traffic = thread::scope(|scope| {
        let near = scope.spawn(|| -> Result<()> {
            for bytes in [50_000, 70_000, 90_000] {
                let arguments = [
                    "--peer",
                    &address.to_string(),
                    "--bytes",
                    &bytes.to_string(),
                ];
                let arguments = arguments.map(str::to_owned);
                Generator::start(world, "views.near", "tcp-both", &arguments, None)?.join()?;
            }
            Ok(())
        });
        near.join()
    });
    ensure!(
        traffic.is_ok_and(|result| result.is_ok()),
        "the traffic failed"
    );
    for ((name, arguments), (mut flow, file)) in VIEWS.iter().zip(flows.into_iter().zip(&files)) {
        let live = flow.wait()?;
        live.expect_code(0)?;
        ensure!(!live.stdout.is_empty(), "{name}: nothing was shown");
        same(world, name, arguments, file, &live.stdout)?;
    }
    far.finish()?;
    Ok(())
}
