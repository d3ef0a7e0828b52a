//! Long texts leave room for the others, and are cut in the middle.

use super::*;
use crate::event::ProcessId;

#[test]
fn a_deep_lineage_ends_with_the_process_and_the_panels_stay() {
    for size in [(60, 15), (80, 24)] {
        let mut state = with_scene(size);
        let mut snapshot = snapshot(40);
        change_process(&mut snapshot, 41007, |process| {
            let ancestor = |pid| {
                let start = Instant(u64::from(pid));
                (ProcessId { pid, start }, "bash".into())
            };
            process.lineage = (1..=30).rev().map(ancestor).collect();
            let arguments = ["curl".to_owned(), "x".repeat(4_000)];
            process.program.cmdline = Some(arguments.into());
        });
        reduce(&mut state, event(snapshot));
        press(&mut state, "Down Down Enter");
        let shown = text(&state);
        for part in ["lineage         bash(1) › ", "…", "› curl(41007)"] {
            assert!(shown.contains(part), "no {part} at {size:?}:\n{shown}");
        }
        let after = |part: &str| shown.split_once(part).map_or("", |it| it.1);
        let panel = after("› curl(41007)");
        assert!(panel.contains("Flows 1"), "no panel at {size:?}:\n{shown}");
        assert!(after("Flows 1").contains("198.51.100.9"), "{shown}");
    }
}
