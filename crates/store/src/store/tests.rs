//! Ranges and shapes.

use bytes::Bytes;
use calico_api::{Expect, Kind};

use super::*;

fn holds(selection: &Selection, key: &Key) -> bool {
    let (start, end) = key_range(selection);
    let text = key.to_string();
    start <= text && text < end
}

#[test]
fn the_range_of_all_affinities_leaves_blocks_and_handles_out() {
    let all = Selection::Affinities { owner: None, family: None };
    let block = "10.0.0.0/26".parse().unwrap();
    for owner in [AffinityOwner::Host("n1".into()), AffinityOwner::Virtual("load-balancer".into())] {
        assert!(holds(&all, &Key::Affinity { owner, block }));
    }
    assert!(!holds(&all, &Key::Block(block)));
    assert!(!holds(&all, &Key::Handle("h".into())));
    assert!(!holds(&all, &Key::IpamConfig));
}

#[test]
fn a_prefix_ends_before_its_neighbour() {
    let ns = |n: &str| Selection::Resources {
        kind: Kind::NetworkPolicy,
        namespace: Some(n.into()),
        name_prefix: "".into(),
    };
    assert!(holds(&ns("a"), &Key::resource(Kind::NetworkPolicy, "a", "p")));
    assert!(!holds(&ns("a"), &Key::resource(Kind::NetworkPolicy, "ab", "p")));
}

#[test]
fn the_range_of_one_object_holds_nothing_else() {
    let one = Selection::one(Kind::NetworkPolicy, "a", "p");
    let (start, end) = key_range(&one);
    assert!(holds(&one, &Key::resource(Kind::NetworkPolicy, "a", "p")));
    for name in ["", "o", "p-", "p.q", "p0", "pp"] {
        assert!(
            !holds(&one, &Key::resource(Kind::NetworkPolicy, "a", name)),
            "{name:?} in {start:?}..{end:?}"
        );
    }
}

#[test]
fn a_key_is_written_once_but_may_be_checked_besides() {
    let key = Key::IpamConfig;
    let put = Write::put(key.clone(), Bytes::new());
    let check = Write::Check { key: key.clone(), expect: Expect::Absent };
    assert!(check_shape(&[check.clone(), put.clone(), check]).is_ok());
    let delete = Write::Delete { key, expect: Expect::Any };
    assert!(matches!(check_shape(&[put.clone(), delete]), Err(CommitError::Duplicate { .. })));
    let many = vec![put; MAX_WRITES + 1];
    assert!(matches!(check_shape(&many), Err(CommitError::TooLarge { writes }) if writes == MAX_WRITES + 1));
}
