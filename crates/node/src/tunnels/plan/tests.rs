//! Every state that an agent may find, and the step out of it.

use calico_api::{AllocationAttribute, Labels};

use super::*;

const KIND: TunnelKind = TunnelKind::Vxlan;

fn addr(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn assigned(text: &str) -> Assigned {
    Assigned { address: addr(text), block: Cidr::new(addr(text), 26).unwrap() }
}

fn assignment(attributes: Labels) -> Assignment {
    let attribute =
        AllocationAttribute { secondary: Some(attributes.into()), ..AllocationAttribute::default() };
    Assignment { block: "10.1.0.0/26".parse().unwrap(), owner: None, attribute, sequence: None }
}

fn check(pools: &[&str], stored: Option<&str>, holder: Option<Labels>, held: &[&str], expected: &Step) {
    let pools: Vec<Cidr> = pools.iter().map(|p| p.parse().unwrap()).collect();
    let held: Vec<Assigned> = held.iter().map(|h| assigned(h)).collect();
    let holder = holder.map(assignment);
    let stored = stored.map(addr);
    let facts = Facts { node: "n", pools: &pools, stored, holder: holder.as_ref(), held: &held };
    assert_eq!(plan(KIND, &facts), *expected, "{facts:?}");
}

fn ours() -> Option<Labels> {
    let mut labels = KIND.attributes("n");
    labels.insert("timestamp".into(), "whenever".into());
    Some(labels)
}

#[test]
fn a_needed_address_is_assigned_then_told() {
    let pools = ["10.1.0.0/16"];
    check(&pools, None, None, &[], &Step::Assign);
    check(&pools, None, None, &["10.1.0.7"], &Step::Publish(addr("10.1.0.7")));
    check(&pools, Some("10.1.0.7"), ours(), &["10.1.0.7"], &Step::Done);
}

#[test]
fn a_wrong_address_is_replaced_before_it_is_released() {
    // The pool serves this node no more.
    let pools = ["10.2.0.0/16"];
    check(&pools, Some("10.1.0.7"), ours(), &["10.1.0.7"], &Step::Assign);
    check(&pools, Some("10.1.0.7"), ours(), &["10.1.0.7", "10.2.0.1"], &Step::Publish(addr("10.2.0.1")));
    let rest = Step::Release(vec![addr("10.1.0.7")]);
    check(&pools, Some("10.2.0.1"), ours(), &["10.1.0.7", "10.2.0.1"], &rest);
    // Somebody else has it, or it is for something else: not ours to release.
    let pools = ["10.1.0.0/16"];
    check(&pools, Some("10.1.0.7"), Some(Labels::new()), &[], &Step::Assign);
    check(&pools, Some("10.1.0.7"), Some(TunnelKind::Ipip.attributes("n")), &["10.1.0.7"], &Step::Assign);
    check(&pools, Some("10.1.0.7"), Some(KIND.attributes("other")), &["10.1.0.7"], &Step::Assign);
}

#[test]
fn an_address_that_nobody_has_is_claimed() {
    check(&["10.1.0.0/16"], Some("10.1.0.7"), None, &[], &Step::Claim(addr("10.1.0.7")));
    check(&["10.2.0.0/16"], Some("10.1.0.7"), None, &[], &Step::Assign);
}

#[test]
fn what_is_not_needed_is_withdrawn_then_released() {
    check(&[], Some("10.1.0.7"), ours(), &["10.1.0.7"], &Step::Withdraw);
    check(&[], None, None, &["10.1.0.7"], &Step::Release(vec![addr("10.1.0.7")]));
    check(&[], None, None, &[], &Step::Done);
}
