//! Records that contradict themselves, what was forgotten, and what could not be read.

use calico_api::{AffinityOwner, Entry, Key, Kind, Revision, Selection, encode_record};
use calico_net::{Cidr, Family};

use super::{Known, Need, Record};
use crate::block;
use crate::time::UnixTime;

fn cidr(text: &str) -> Cidr {
    text.parse().unwrap()
}

fn entry(key: Key, value: impl Into<bytes::Bytes>) -> Entry {
    Entry { key, value: value.into(), revision: Revision::from(1_i64) }
}

#[test]
fn a_block_that_contradicts_itself_is_damaged() {
    let owner = AffinityOwner::Host("n1".into());
    let key = cidr("10.0.0.0/30");
    let mut sound = block::new(key, &owner, UnixTime::from_secs(1_800_000_000));
    block::assign(&mut sound, 2, &"a".into(), &Default::default(), &[]);
    let decode = |b: &calico_api::IpamBlock| Record::decode(&entry(Key::Block(key), encode_record(b)));
    assert_eq!(decode(&sound), Record::Block(sound.clone()));

    type Edit = fn(&mut calico_api::IpamBlock);
    let cases: [(Edit, &str); 8] = [
        (|b| b.cidr = cidr("10.0.0.4/30"), "cidr: 10.0.0.4/30: the key says 10.0.0.0/30"),
        (|b| b.allocations.clear(), "allocations: 0 of them for 4 addresses"),
        (|b| b.allocations.push(None), "allocations: 5 of them for 4 addresses"),
        (|b| b.attributes.clear(), "allocations: 0: there are only 0 attributes"),
        (|b| b.unallocated.push(0), "unallocated: 0: is allocated"),
        (|b| b.unallocated.push(2), "unallocated: 2: is listed twice"),
        (|b| b.unallocated.push(4), "unallocated: 4: lies beyond the block"),
        (|b| b.unallocated.push(65_535), "unallocated: 65535: lies beyond the block"),
    ];
    for (edit, reason) in cases {
        let mut damaged = sound.clone();
        edit(&mut damaged);
        assert_eq!(decode(&damaged), Record::Damaged(reason.into()));
        damaged.deleted = true;
        assert!(matches!(decode(&damaged), Record::Block(_)), "a tombstone is absent whatever it says");
    }
}

#[test]
fn what_was_forgotten_is_read_again_and_nothing_else() {
    let mut known = Known::new();
    let blocks = Selection::Blocks(Family::V4);
    let (a, b) = (Key::Block(cidr("10.0.0.0/30")), Key::Block(cidr("10.0.0.4/30")));
    known.observe_listing(blocks.clone(), &[]);
    assert_eq!(known.require([a.clone(), b.clone()], [blocks.clone()]), Ok(()));
    known.forget(a.clone());
    let need = Need { keys: vec![a.clone()], selections: Vec::new() };
    assert_eq!(known.require([], [blocks.clone()]), Err(need.clone()));
    assert_eq!(known.require([a.clone(), b], []), Err(need.clone()));
    known.drop_hints();
    assert_eq!(
        known.require([], [blocks.clone()]),
        Err(need),
        "the listing is of this operation, and still old"
    );
    known.observe_absent(a.clone());
    assert_eq!(known.require([a.clone()], [blocks.clone()]), Ok(()));
    known.forget(a.clone());
    known.observe_listing(blocks.clone(), &[]);
    assert_eq!(known.require([a], [blocks]), Ok(()));
}

#[test]
fn a_reserved_range_that_cannot_be_read_is_a_problem() {
    let mut known = Known::new();
    let key = Key::resource(Kind::IPReservation, "", "r");
    let value = r#"{"metadata":{"name":"r"},"spec":{"reservedCIDRs":["10.0.0.0/29","10.0.0.300"]}}"#;
    known.observe(&entry(key.clone(), value));
    assert_eq!(known.reservations(), [cidr("10.0.0.0/29")]);
    let problems = known.problems();
    assert_eq!(problems.len(), 1);
    assert_eq!(problems[0].key, key);
    assert!(problems[0].reason.contains("10.0.0.300"), "{}", problems[0].reason);
}
