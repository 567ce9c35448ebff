//! What makes a sequence of changes illegal.

use super::*;
use crate::change::Side;

fn set(id: &str) -> IpSetId {
    IpSetId(SmolStr::new(id))
}

fn policy_using(id: &str) -> Arc<Policy> {
    let rule = Rule {
        source: Side { ip_sets: vec![set(id)], ..Side::default() },
        ..Rule::new(crate::change::Action::Allow)
    };
    Arc::new(Policy { tier: SmolStr::new("default"), ingress: vec![rule], egress: vec![] })
}

fn key() -> ResourceKey {
    ResourceKey {
        kind: calico_api::Kind::GlobalNetworkPolicy,
        namespace: SmolStr::default(),
        name: SmolStr::new("p"),
    }
}

#[test]
fn order_is_enforced() {
    let mut state = NodeState::default();
    let add = Change::PolicyChanged(key(), policy_using("s:x"));
    assert!(matches!(state.apply(&add), Err(Dangling { .. })));
    let member = Member::Net("10.0.0.1".parse().unwrap());
    let set_added = Change::IpSetAdded { id: set("s:x"), kind: IpSetKind::Net, members: vec![member] };
    assert_eq!(state.apply(&set_added), Ok(()));
    assert_eq!(state.apply(&add), Ok(()));
    assert!(matches!(state.apply(&Change::IpSetRemoved(set("s:x"))), Err(Dangling { .. })));
    assert_eq!(state.apply(&Change::PolicyRemoved(key())), Ok(()));
    assert_eq!(state.apply(&Change::IpSetRemoved(set("s:x"))), Ok(()));
    assert_eq!(state, NodeState::default());
}

#[test]
fn deltas_must_fit() {
    let mut state = NodeState::default();
    let member = Member::Net("10.0.0.1".parse().unwrap());
    let id = set("s:x");
    state.apply(&Change::IpSetAdded { id: id.clone(), kind: IpSetKind::Net, members: vec![] }).unwrap();
    let add = Change::IpSetChanged { id: id.clone(), added: vec![member], removed: vec![] };
    assert_eq!(state.apply(&add), Ok(()));
    assert!(matches!(state.apply(&add), Err(AlreadyThere(_))));
    let remove = Change::IpSetChanged { id: id.clone(), added: vec![], removed: vec![member] };
    assert_eq!(state.apply(&remove), Ok(()));
    assert!(matches!(state.apply(&remove), Err(NotThere(_))));
    let nothing = Change::IpSetChanged { id, added: vec![], removed: vec![] };
    assert!(matches!(state.apply(&nothing), Err(NoChange(_))));
}
