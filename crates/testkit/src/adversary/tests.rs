//! The adversary's streams are legal, reproducible and lively.

use super::*;

fn targets(seed: u64) -> Vec<BTreeMap<u8, u8>> {
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut target = || {
        let mut target: BTreeMap<u8, u8> = (0..8).map(|key| (key, rng.random_range(0..6))).collect();
        target.retain(|_, value| *value < 3);
        target
    };
    (0..6).map(|_| target()).collect()
}

fn replay(steps: &[Step<u8, u8>], targets: &[BTreeMap<u8, u8>]) -> BTreeMap<u8, u8> {
    let mut state = BTreeMap::new();
    for step in steps {
        match step {
            Step::Event(key, Some(value)) => {
                state.insert(*key, *value);
            }
            Step::Event(key, None) => {
                state.remove(key);
            }
            Step::Pause => {}
            Step::CaughtUp(number) => assert_eq!(state, targets[*number]),
        }
    }
    state
}

#[test]
fn streams_end_at_the_last_target_and_pass_through_those_they_name() {
    for seed in 0..500 {
        let targets = targets(seed);
        let steps = EventAdversary::new(seed, Temper::default()).stream(&targets);
        assert_eq!(Some(&replay(&steps, &targets)), targets.last());
        assert_eq!(steps.last(), Some(&Step::CaughtUp(targets.len() - 1)));
    }
}

#[test]
fn equal_seeds_make_equal_streams_and_others_do_not() {
    let targets = targets(1);
    let stream = |seed| EventAdversary::new(seed, Temper::default()).stream(&targets);
    assert_eq!(stream(5), stream(5));
    assert_ne!(stream(5), stream(6));
}

#[test]
fn every_trick_is_played() {
    let (mut deletes_of_nothing, mut duplicates, mut pauses, mut skipped) = (0, 0, 0, 0);
    for seed in 0..50 {
        let targets = targets(seed);
        let steps = EventAdversary::new(seed, Temper::default()).stream(&targets);
        let mut state: BTreeMap<u8, u8> = BTreeMap::new();
        let mut caught_up = 0;
        for step in &steps {
            match step {
                Step::Event(key, Some(value)) => {
                    if state.insert(*key, *value) == Some(*value) {
                        duplicates += 1;
                    }
                }
                Step::Event(key, None) => {
                    if state.remove(key).is_none() {
                        deletes_of_nothing += 1;
                    }
                }
                Step::Pause => pauses += 1,
                Step::CaughtUp(_) => caught_up += 1,
            }
        }
        skipped += targets.len() - caught_up;
    }
    assert!(deletes_of_nothing > 20 && duplicates > 20 && pauses > 20 && skipped > 20);
}
