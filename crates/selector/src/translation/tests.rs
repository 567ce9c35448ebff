//! Policies' selectors as the calculation sees them.

use smol_str::SmolStr;

use super::{RuleEntity, global_network_policy_subject, network_policy_subject, prefixed};

#[test]
fn prefixes() {
    assert_eq!(prefixed("a=='x' && has(b)", "pcns.").expect("parses"), r#"(pcns.a == "x" && has(pcns.b))"#);
    assert_eq!(prefixed("", "pcns.").expect("parses"), "all()");
    assert!(prefixed("a ==", "pcns.").is_err());
}

#[test]
fn subjects_of_network_policies() {
    let subject = |selector, account| network_policy_subject(selector, "ns", account).expect("parses");
    assert_eq!(subject("", ""), "projectcalico.org/namespace == 'ns'");
    assert_eq!(subject("a == 'x'", ""), "(a == 'x') && projectcalico.org/namespace == 'ns'");
    assert_eq!(subject("", "has(r)"), "(projectcalico.org/namespace == 'ns') && has(pcsa.r)");
    assert!(network_policy_subject("", "ns", "r ==").is_err());
}

#[test]
fn subjects_of_global_network_policies() {
    let subject = |selector, namespace, account| {
        global_network_policy_subject(selector, namespace, account).expect("parses")
    };
    assert_eq!(subject("all()", "", ""), "all()");
    assert_eq!(subject("", "", ""), "");
    assert_eq!(subject("", "t == 'x'", ""), r#"pcns.t == "x""#);
    assert_eq!(subject("has(a)", "all()", ""), "(has(a)) && has(projectcalico.org/namespace)");
    // The replacement is textual: the subject's own all() is struck as well.
    assert_eq!(subject("all()", "has(t)", ""), "(has(projectcalico.org/namespace)) && has(pcns.t)");
    assert_eq!(subject("", "", "all()"), "has(projectcalico.org/serviceaccount)");
    assert_eq!(
        subject("all()", "has(t)", "has(r)"),
        "((has(projectcalico.org/namespace)) && has(pcns.t)) && has(pcsa.r)"
    );
}

#[test]
fn rule_entities() {
    let check = |entity: RuleEntity<'_>, namespace: Option<&str>, expected: &str| {
        assert_eq!(
            entity.resolve_selector(namespace).expect("parses"),
            expected,
            "{entity:?} in {namespace:?}"
        );
    };
    let none = RuleEntity::default();
    let names: [SmolStr; 2] = ["sb".into(), "sa".into()];
    check(none, None, "");
    // Only nets or ports: no selector, even in a namespaced policy.
    check(none, Some("ns"), "");
    let selector = RuleEntity { selector: "has(a)", ..none };
    check(selector, None, "has(a)");
    check(selector, Some("ns"), "(projectcalico.org/namespace == 'ns') && (has(a))");
    // notSelector alone confines a namespaced rule to its namespace.
    let not_selector = RuleEntity { not_selector: "has(a)", ..none };
    check(not_selector, None, "");
    check(not_selector, Some("ns"), "projectcalico.org/namespace == 'ns'");
    let namespaces = RuleEntity { namespace_selector: "t == 'x'", ..none };
    check(namespaces, None, r#"pcns.t == "x""#);
    check(RuleEntity { selector: "has(a)", ..namespaces }, Some("ns"), r#"(pcns.t == "x") && (has(a))"#);
    let any_namespace = RuleEntity { namespace_selector: "all()", ..selector };
    check(any_namespace, Some("ns"), "(has(projectcalico.org/namespace)) && (has(a))");
    let no_namespace = RuleEntity { namespace_selector: "global()", ..selector };
    check(no_namespace, Some("ns"), "(!has(projectcalico.org/namespace)) && (has(a))");
    let named = RuleEntity { service_account_names: &names, ..none };
    check(named, None, r#"projectcalico.org/serviceaccount in {"sa", "sb"}"#);
    let account = RuleEntity { service_account_selector: "has(r)", ..named };
    check(
        RuleEntity { selector: "has(a)", ..account },
        Some("ns"),
        "(projectcalico.org/namespace == 'ns') && (((has(pcsa.r)) && \
         (projectcalico.org/serviceaccount in {\"sa\", \"sb\"})) && (has(a)))",
    );
    assert!(RuleEntity { namespace_selector: "t ==", ..none }.resolve_selector(None).is_err());
}
