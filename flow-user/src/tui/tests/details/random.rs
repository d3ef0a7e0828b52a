//! Random input in a detail: nothing breaks, and the cursor stays on its row.

use proptest::prelude::*;

use super::*;

fn consistent(state: &State) -> Result<(), TestCaseError> {
    for popup in &state.popups {
        let Some(detail) = popup_as::<Detail>(&**popup) else {
            continue;
        };
        prop_assert!(detail.focus < detail.table().len());
        for rows in &detail.panels {
            let under_cursor = rows.entries.get(rows.line).map(|it| it.subject.id());
            if rows.chosen.is_some() {
                prop_assert_eq!(&rows.chosen, &under_cursor);
            }
        }
    }
    Ok(())
}

/// What the host shows at a moment, without some of it, and some of it ended.
fn any_snapshot(step: u64, without: u64, over: u64) -> Snapshot {
    let mut snapshot = snapshot(step);
    let mut bits = (0..).map(move |bit| without >> (bit % 64) & 1 == 0);
    snapshot.processes.retain(|_| bits.next() == Some(true));
    snapshot.flows.retain(|_| bits.next() == Some(true));
    let time = snapshot.time;
    for (bit, process) in (0..).zip(&mut snapshot.processes) {
        if over >> (bit % 64) & 1 == 1 {
            Arc::make_mut(process).exited = Some(time);
        }
    }
    change_flows(&mut snapshot, |flow| {
        if over >> (flow.key.socket.0 % 64) & 1 == 1 {
            flow.closed = Some((time, CloseReason::Closed));
        }
    });
    snapshot
}

/// Rows of a panel by their identities.
fn rows(state: &State) -> Option<(usize, Option<Id>, Vec<Id>)> {
    let detail: &Detail = popup_as(&**state.popups.last()?)?;
    let panel = &detail.panels[detail.focus];
    let ids = panel.entries.iter().map(|entry| entry.subject.id());
    Some((detail.focus, panel.chosen.clone(), ids.collect()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn nothing_breaks_in_a_detail_and_its_cursor_stays_on_its_row(
        acts in prop::collection::vec((0..14_u8, any::<u64>(), any::<u64>()), 0..60),
        opened in 0..8_usize,
    ) {
        let mut state = with_scene((100, 30));
        let keys = [
            "1 Home Enter", "2 Home Enter", "3 Home Enter", "3 a Home Enter", "5 Home Enter",
            "6 Home Enter", "7 Home Enter", "9 End Enter",
        ];
        press(&mut state, keys[opened]);
        let keys = ["Tab", "BackTab", "Down", "Up", "Enter", "Enter", "z", "PgDn", "End", "p", "Esc"];
        for (act, a, b) in acts {
            let before = rows(&state);
            let is_snapshot = act == 11;
            match act {
                11 => drop(reduce(&mut state, event(any_snapshot(40 + a % 90, a & b, a & !b)))),
                12 => drop(reduce(&mut state, Event::Resize((a % 220) as u16, (b % 70) as u16))),
                13 => {
                    let action = [MouseAction::Click, MouseAction::WheelUp, MouseAction::WheelDown][(a % 3) as usize];
                    let mouse = Mouse { action, column: (a % 220) as u16, row: (b % 70) as u16 };
                    reduce(&mut state, Event::Input(Input::Mouse(mouse), Instant(a % 1_000_000_000)));
                }
                key => drop(press(&mut state, keys[usize::from(key)])),
            }
            if state.popups.is_empty() {
                press(&mut state, "Down Enter");
            }
            drawn(&state);
            consistent(&state)?;
            if is_snapshot
                && let (Some((_, Some(chosen), _)), Some((_, now, ids))) = (before, rows(&state))
                && ids.contains(&chosen)
            {
                prop_assert_eq!(now, Some(chosen));
            }
        }
    }
}
