//! Reading and translating rules, against the texts of spec 2 §4.5 and spec 3 §6.3.

use calico_api::number::Port;
use calico_api::rule::{self, EntityRule};
use calico_net::PortRange;

use super::*;
use crate::change::{IpSetId, Rule};

fn rule(source: EntityRule) -> rule::Rule {
    rule::Rule { source, ..rule::Rule::new(rule::Action::Allow) }
}

fn translated(namespace: Option<&str>, source: EntityRule) -> (Rule, Vec<String>) {
    translated_rule(namespace, rule(source))
}

fn translated_rule(namespace: Option<&str>, rule: rule::Rule) -> (Rule, Vec<String>) {
    let lists = RuleLists::read(namespace.is_some(), &[rule], &[]).unwrap();
    lists.check_selectors().unwrap();
    let Translation { mut ingress, sets, .. } = translate(&lists, namespace).unwrap();
    let text = |spec: &crate::sets::SetSpec| spec.selector.to_string();
    (ingress.remove(0), sets.iter().map(text).collect())
}

fn selecting(selector: &str) -> EntityRule {
    EntityRule { selector: selector.into(), ..EntityRule::default() }
}

#[test]
fn a_selector_is_a_set_under_its_uid() {
    let (rule, sets) = translated(None, selecting("all()"));
    assert_eq!(rule.source.ip_sets, [IpSetId("s:5y5I3VdRZfDU01O--xXAPx2yxCQQqMf0M6IWug".into())]);
    assert_eq!(sets, ["all()"]);
}

#[test]
fn a_namespaced_policy_stays_in_its_namespace() {
    let (_, sets) = translated(Some("blue"), selecting("has(a)"));
    assert_eq!(sets, [r#"(projectcalico.org/namespace == "blue" && has(a))"#]);
    let only_not = EntityRule { not_selector: "has(a)".into(), ..EntityRule::default() };
    let (rule, sets) = translated(Some("blue"), only_not);
    assert_eq!(sets, [r#"(projectcalico.org/namespace == "blue" && !has(a))"#]);
    assert!(rule.source.not_ip_sets.is_empty());
}

#[test]
fn positive_and_negative_selectors_merge() {
    let both =
        EntityRule { selector: "has(a)".into(), not_selector: "has(b)".into(), ..EntityRule::default() };
    let (rule, sets) = translated(None, both);
    assert_eq!(sets, ["(has(a) && !has(b))"]);
    assert_eq!((rule.source.ip_sets.len(), rule.source.not_ip_sets.len()), (1, 0));
    let negative = EntityRule { not_selector: "has(b)".into(), ..EntityRule::default() };
    let (rule, sets) = translated(None, negative);
    assert_eq!(sets, ["has(b)"]);
    assert_eq!((rule.source.ip_sets.len(), rule.source.not_ip_sets.len()), (0, 1));
}

#[test]
fn named_ports_carry_the_selector() {
    let ports = vec![Port::Named("http".into())];
    let entity = EntityRule { ports, ..selecting("has(a)") };
    let tcp = rule::Rule { protocol: Some("TCP".into()), ..rule(entity.clone()) };
    let (rule, sets) = translated_rule(None, tcp);
    assert_eq!(sets, ["has(a)"]);
    assert!(rule.source.ip_sets.is_empty());
    let content = format!("{},tcp,http", calico_selector::parse("has(a)").unwrap().uid());
    assert_eq!(rule.source.named_ports, [IpSetId(calico_selector::unique_id("n", &content).into())]);

    let mixed = EntityRule { ports: vec![Port::Named("http".into()), Port::from(80)], ..entity };
    let (rule, sets) = translated(None, mixed);
    assert_eq!(sets.len(), 2);
    assert_eq!(rule.source.ip_sets.len(), 1);
    assert_eq!(rule.source.ports, [PortRange::single(80)]);
}

#[test]
fn what_is_not_understood_is_refused() {
    let refused = |source: EntityRule| {
        let lists = RuleLists::read(false, &[rule(source)], &[]);
        lists.and_then(|lists| lists.check_selectors()).unwrap_err().to_string()
    };
    assert!(refused(selecting("has(")).contains("has("));
    assert!(refused(selecting("has(a)) || (has(b)")).contains("has(b)"));
    let bad_net = EntityRule { nets: vec!["10.0.0.0/33".into()], ..EntityRule::default() };
    assert!(refused(bad_net).contains("10.0.0.0/33"));
    let unknown = rule::Rule::new(rule::Action::from("Shrug"));
    assert!(RuleLists::read(false, &[unknown], &[]).unwrap_err().to_string().contains("Shrug"));
}

#[test]
fn a_service_is_a_set_of_its_slices() {
    let check = |name: &str, selector: &str| {
        let service = rule::ServiceMatch { name: name.into(), namespace: Default::default() };
        let entity = EntityRule { services: Some(service), ..EntityRule::default() };
        let (rule, sets) = translated(Some("blue"), entity);
        let id = calico_selector::unique_id("svcnoport", &format!("blue/{name}"));
        assert_eq!(rule.source.ip_sets, [IpSetId(id.into())]);
        assert_eq!(sets, [selector]);
    };
    check("web", "service == \"blue/web\"");
    check("x' || has(service) || 'y", "!all()");
}
