//! The filter language.

use super::scene::Scene;
use crate::{
    query::filter::{Filter, FilterError, while_typed},
    sink::text::is_hostile,
};

/// A filter is shown as an expression that is the same filter, and answers alike for everything; a
/// mistake is reported in three lines that a terminal only shows. While it is typed, its beginning
/// applies.
pub fn run(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    is_typed(&text);
    let filter = match read(&text) {
        Ok(filter) => filter,
        Err(error) => return complain(&error),
    };
    let shown = filter.to_string();
    assert!(
        filter.is_all() || !shown.is_empty(),
        "a filter shown as none"
    );
    match read(&shown) {
        Ok(again) => assert_eq!(again, filter, "shown as {shown:?}"),
        // It may be longer than what was typed, and length and depth are bounded.
        Err(error) => assert!(is_too_much(&shown, &error), "{shown:?}: {error}"),
    }
    answers(&filter);
    if let Ok(opposite) = read(&format!("not ({text})"))
        && !filter.is_all()
    {
        opposes(&filter, &opposite);
    }
}

fn read(text: &str) -> Result<Filter, FilterError> {
    Filter::parse(text, &uid_of)
}

fn uid_of(name: &str) -> Option<u32> {
    (!name.starts_with("no")).then_some(33)
}

/// What applies while it is typed is what its beginning reads as.
fn is_typed(text: &str) {
    let typed = while_typed(text, text.len(), &uid_of);
    if let Some((filter, length)) = typed.read {
        assert_eq!(read(&text[..length]), Ok(filter));
    }
}

fn complain(error: &FilterError) {
    let text = error.to_string();
    assert_eq!(text.lines().count(), 3, "{text:?}");
    assert!(!text.chars().any(|it| it != '\n' && is_hostile(it)));
    assert!(error.column() >= 1);
}

fn is_too_much(shown: &str, error: &FilterError) -> bool {
    shown.len() > 4096 || error.message().contains("64 levels")
}

/// A process whose verdict does not depend on its flows passes or fails with them.
fn answers(filter: &Filter) {
    let scene = Scene::plain();
    for process in &scene.snapshot.processes {
        let flows = || scene.flows_of(process.id);
        let passes = filter.matches_process(process, flows());
        if let Some(verdict) = filter.process_verdict(process) {
            assert_eq!(passes, verdict);
        } else {
            assert_eq!(passes, flows().any(|flow| filter.matches_flow(flow)));
        }
    }
    for interface in &scene.snapshot.interfaces {
        let _passes = filter.matches_interface(interface);
    }
}

fn opposes(filter: &Filter, opposite: &Filter) {
    let scene = Scene::plain();
    for flow in &scene.snapshot.flows {
        assert_ne!(filter.matches_flow(flow), opposite.matches_flow(flow));
    }
    for process in &scene.snapshot.processes {
        assert_eq!(
            filter.process_verdict(process).map(|verdict| !verdict),
            opposite.process_verdict(process)
        );
    }
}
