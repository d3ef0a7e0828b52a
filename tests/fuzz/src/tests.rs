//! The seeds, and changed copies of them.

use std::{fs, path::Path};

use proptest::{prelude::*, sample::Index, test_runner::TestRunner};

use super::*;

/// Changed copies that are tried for each target.
const COPIES: u32 = 300;

/// A change of one place.
#[derive(Clone, Debug)]
enum Change {
    Set(Index, u8),
    Flip(Index, u8),
    Remove(Index),
    Repeat(Index, usize),
    CutAt(Index),
}

fn seeds(target: &Target) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("seeds")
        .join(target.name);
    let mut files: Vec<_> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

fn change() -> impl Strategy<Value = Change> {
    let place = any::<Index>;
    prop_oneof![
        (place(), any::<u8>()).prop_map(|(at, value)| Change::Set(at, value)),
        (place(), 0..8_u8).prop_map(|(at, bit)| Change::Flip(at, 1 << bit)),
        place().prop_map(Change::Remove),
        (place(), 1..40_usize).prop_map(|(at, times)| Change::Repeat(at, times)),
        place().prop_map(Change::CutAt),
    ]
}

fn changed(mut bytes: Vec<u8>, changes: &[Change]) -> Vec<u8> {
    for change in changes {
        if bytes.is_empty() {
            break;
        }
        let length = bytes.len();
        match change {
            Change::Set(at, value) => bytes[at.index(length)] = *value,
            Change::Flip(at, bit) => bytes[at.index(length)] ^= bit,
            Change::Remove(at) => drop(bytes.remove(at.index(length))),
            Change::Repeat(at, times) => {
                let (at, value) = (at.index(length), bytes[at.index(length)]);
                bytes.splice(at..at, std::iter::repeat_n(value, *times));
            }
            Change::CutAt(at) => bytes.truncate(at.index(length)),
        }
    }
    bytes
}

#[test]
fn every_target_has_seeds_and_every_folder_a_target() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds");
    for entry in fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name();
        assert!(target(name.to_str().unwrap()).is_some(), "{name:?}");
    }
    for target in &TARGETS {
        assert!(!seeds(target).is_empty(), "{}", target.name);
    }
}

#[test]
fn promises_hold_for_the_seeds_and_copies_of_them() {
    let mut guarded = Guarded::new().unwrap();
    for target in &TARGETS {
        let seeds = seeds(target);
        for seed in &seeds {
            (target.run)(guarded.hold(seed));
        }
        let input = (
            prop::sample::select(seeds),
            prop::collection::vec(change(), 1..8),
        )
            .prop_map(|(seed, changes)| changed(seed, &changes));
        let config = ProptestConfig {
            cases: COPIES,
            failure_persistence: None,
            ..ProptestConfig::default()
        };
        let outcome = TestRunner::new(config).run(&input, |bytes| {
            (target.run)(&bytes);
            Ok(())
        });
        if let Err(error) = outcome {
            panic!("{}: {error}", target.name);
        }
    }
}
