//! A detail outlives its subject, continues where that continues, and pauses with the screen.

use super::*;

#[test]
fn what_has_ended_stays_says_so_and_keeps_its_numbers() {
    let mut state = process_detail((120, 40));
    press(&mut state, "Enter");
    reduce(&mut state, event(ended(40)));
    assert!(line_with(&state, "198.51.100.9:443").contains("reset 500 ms ago"));
    // Later nobody lists it any more.
    let mut gone = snapshot(100);
    gone.processes.retain(|process| process.id.pid != 41007);
    gone.flows.retain(|flow| flow.key.socket.0 != 4);
    reduce(&mut state, event(gone));
    assert!(line_with(&state, "198.51.100.9:443").contains("reset 60 s ago"));
    let flow = text(&state);
    assert!(
        flow.contains("wire 507 MB (+4.6%)") && flow.contains("484 MB"),
        "{flow}"
    );
    assert_eq!(detail(&state).panels[0].entries.len(), 2);
    press(&mut state, "Esc");
    assert!(line_with(&state, " 41007 curl").contains("exited 60 s ago"));
    assert_eq!(
        detail(&state).panels[0].entries.len(),
        1,
        "its flow is still there"
    );
    assert!(text(&state).contains("wire 507 MB (+4.6%)"));
    // Also the graph: up to its end.
    assert!(line_with(&state, "wire 507 MB").contains('⣿'));
    assert!(line_with(&state, "wire 507 MB").contains("▼           0   484 MB"));
}

#[test]
fn an_ended_process_keeps_the_flows_that_leave_before_it() {
    let mut state = process_detail((120, 40));
    reduce(&mut state, event(ended(40)));
    let mut later = ended(40);
    later.flows.retain(|flow| flow.key.socket.0 != 4);
    reduce(&mut state, event(later));
    assert_eq!(detail(&state).panels[0].entries.len(), 1);
    assert!(text(&state).contains("wire 507 MB (+4.6%)"));
}

#[test]
fn a_flow_goes_on_as_its_process_s_once_that_is_known() {
    let mut state = with_scene((120, 40));
    press(&mut state, "2 End Enter");
    let key = |state: &State| match &detail(state).of {
        Of::Flow(flow) => flow.key,
        of => panic!("{of:?}"),
    };
    while key(&state).process.is_some() {
        press(&mut state, "Esc Up Enter");
    }
    assert!(line_with(&state, " process  ").contains("(not accepted yet)"));
    let mut accepted = snapshot(41);
    let postgres = accepted
        .processes
        .iter()
        .find(|it| it.id.pid == 8123)
        .cloned()
        .unwrap();
    change_flows(&mut accepted, |flow| {
        if flow.key == key(&state) {
            flow.key.process = Some(postgres.id);
            flow.process = Some(Arc::clone(&postgres));
        }
    });
    reduce(&mut state, event(accepted));
    assert_eq!(key(&state).process, Some(postgres.id));
    assert!(line_with(&state, " process  ").contains("8123 postgres"));
}

#[test]
fn paused_a_detail_holds_still() {
    let mut state = process_detail((120, 40));
    press(&mut state, "p");
    let below = |state: &State| {
        let text = text(state);
        text[text.find(" 41007 curl").unwrap()..].to_owned()
    };
    let before = below(&state);
    for step in 40..60 {
        reduce(&mut state, event(snapshot(step)));
    }
    assert_eq!(below(&state), before);
    assert!(text(&state).contains("PAUSED"));
    press(&mut state, "p");
    assert_ne!(below(&state), before);
}

#[test]
fn the_past_of_what_is_looked_at_is_kept_and_no_more() {
    let mut state = with_scene((120, 40));
    // It never moved anything.
    press(&mut state, "End Up Enter");
    let id = match &detail(&state).of {
        Of::Process(process) => process.id,
        of => panic!("{of:?}"),
    };
    assert_eq!(id.pid, 666);
    assert!(state.history.process(id).is_none());
    reduce(&mut state, event(snapshot(40)));
    assert!(state.history.process(id).is_some());
    press(&mut state, "Esc");
    reduce(&mut state, event(snapshot(700)));
    assert!(state.history.process(id).is_none());
}
