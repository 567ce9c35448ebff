//! Inside one block: order, attributes, rest and collection; and a block as Calico stores it.

use calico_api::{AffinityOwner, Entry, IpamBlock, Key, Labels, decode_record, encode_record};

use super::{Slot, assign, bump, collect, free, held_by, is_empty, new, ordinals_of, release, slot};
use crate::time::UnixTime;

const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);

fn block() -> IpamBlock {
    new("10.0.0.0/30".parse().unwrap(), &AffinityOwner::Host("n1".into()), NOW)
}

fn take(block: &mut IpamBlock, count: usize, handle: &str) -> Vec<String> {
    let taken = assign(block, count, &handle.into(), &Labels::new(), &[]);
    bump(block);
    taken.iter().map(|a| a.to_string()).collect()
}

#[test]
fn first_in_first_out_with_a_rest() {
    let mut b = block();
    assert_eq!(take(&mut b, 2, "a"), ["10.0.0.0", "10.0.0.1"]);
    release(&mut b, &[0], NOW);
    assert!(matches!(slot(&b, 0), Slot::Resting(t) if t == NOW));
    collect(&mut b, NOW, 10);
    assert_eq!(take(&mut b, 1, "b"), ["10.0.0.2"], "the released one rests");
    collect(&mut b, UnixTime::from_secs(NOW.secs() + 10), 10);
    assert_eq!(take(&mut b, 2, "c"), ["10.0.0.3", "10.0.0.0"]);
    assert_eq!(b.sequence_number_for_allocation[&0], NOW.0 + 2);
}

#[test]
fn equal_attributes_are_shared_and_unused_ones_dropped() {
    let mut b = block();
    take(&mut b, 1, "a");
    take(&mut b, 1, "b");
    take(&mut b, 1, "a");
    assert_eq!(b.attributes.len(), 2);
    assert_eq!(held_by(&b, "a"), 2);
    let ordinals = ordinals_of(&b, "a");
    release(&mut b, &ordinals, NOW);
    assert_eq!(b.attributes.len(), 2, "b's, and the time of the release");
    collect(&mut b, NOW, 0);
    assert_eq!(b.attributes.len(), 1);
    assert_eq!(b.allocations, [None, Some(0), None, None]);
    assert_eq!(b.unallocated, [3, 0, 2]);
    assert!(!is_empty(&b, NOW, 0));
}

#[test]
fn reserved_ordinals_stay_where_they_are() {
    let mut b = block();
    let reserved = ["10.0.0.0/31".parse().unwrap()];
    assert_eq!(free(&b, &reserved).collect::<Vec<_>>(), [2, 3]);
    assign(&mut b, 4, &"a".into(), &Labels::new(), &reserved);
    assert_eq!(b.unallocated, [0, 1]);
}

#[test]
fn damaged_indexes_do_no_harm() {
    let mut b = block();
    take(&mut b, 1, "a");
    b.allocations[3] = Some(9);
    b.unallocated.retain(|n| *n != 3);
    assert!(matches!(slot(&b, 3), Slot::Used(a) if a.handle_id.is_none()));
    release(&mut b, &[0], NOW);
    collect(&mut b, NOW, 0);
    assert_eq!(b.allocations[3], Some(9));
}

/// Calico's own block: read, written back byte for byte, and gone on with as Calico would.
#[test]
#[allow(clippy::disallowed_methods)] // Reference data beside the checkout.
fn calico_block_comes_back() {
    let beside = || concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared").to_owned();
    let shared = std::env::var("CALICO_SHARED").unwrap_or_else(|_| beside());
    let Ok(text) = std::fs::read_to_string(format!("{shared}/data/etcd-samples.txt")) else {
        println!("skipped: no ../shared");
        return;
    };
    let mut lines = text.lines();
    let mut blocks = 0;
    while let Some(line) = lines.next() {
        let Ok(key @ (Key::Block(_) | Key::Handle(_) | Key::Affinity { .. })) = Key::parse(line) else {
            continue;
        };
        let value = lines.next().unwrap().to_owned();
        let entry = Entry { key: key.clone(), value: value.clone().into(), revision: 1.into() };
        let record = match crate::known::Record::decode(&entry) {
            crate::known::Record::Block(b) => encode_record(&b),
            crate::known::Record::Handle(h) => encode_record(&h),
            crate::known::Record::Affinity(a) => encode_record(&a),
            other => panic!("{key}: {other:?}"),
        };
        assert_eq!(std::str::from_utf8(&record).unwrap(), value);
        if let Key::Block(_) = key {
            blocks += 1;
            let mut b: IpamBlock = decode_record(&entry).unwrap();
            assert_eq!(take(&mut b, 1, "x"), ["10.244.119.4"]);
        }
    }
    assert!(blocks > 0);
}

#[test]
fn a_damaged_list_of_free_ordinals_assigns_nothing_wrong() {
    let mut b = block();
    take(&mut b, 1, "a");
    b.unallocated = vec![0, 7, 2];
    assert!(!super::assign_ordinal(&mut b, 0, &"b".into(), &Labels::new()), "it is a's");
    assert!(!super::assign_ordinal(&mut b, 7, &"b".into(), &Labels::new()), "there is no such ordinal");
    assert_eq!(take(&mut b, 3, "b"), ["10.0.0.2"]);
    b.unallocated = vec![1, 1, 3];
    assert_eq!(take(&mut b, 2, "c"), ["10.0.0.1", "10.0.0.3"], "listed twice, given once");
    b.allocations.clear();
    assert_eq!(free(&b, &[]).count(), 0);
}
