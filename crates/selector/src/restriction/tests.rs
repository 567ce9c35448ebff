//! Restrictions are necessary: what matches satisfies them.

use proptest::prelude::*;

use crate::generated;
use crate::{Restriction, parse};

use super::restrictions;

fn check(text: &str, expected: &[(&str, Restriction)]) {
    let found = parse(text).expect(text).restrictions();
    let expected =
        expected.iter().map(|(label, restriction)| ((*label).into(), restriction.clone())).collect();
    assert_eq!(found, expected, "restrictions of {text}");
}

fn one_of(values: &[&str]) -> Restriction {
    Restriction::one_of(values.iter().map(|value| (*value).into()).collect())
}

#[test]
fn by_operator() {
    let absent = Restriction { must_be_absent: true, ..Restriction::default() };
    check("all()", &[]);
    check("has(a)", &[("a", Restriction::present())]);
    check("!has(a)", &[("a", absent.clone())]);
    check("a == 'x'", &[("a", one_of(&["x"]))]);
    check("a != 'x'", &[]);
    check("!a == 'x'", &[]);
    check("a in {'y', 'x'}", &[("a", one_of(&["x", "y"]))]);
    check("a not in {'x'}", &[]);
    check("a contains 'x'", &[("a", Restriction::present())]);
    check("a == 'x' && has(b)", &[("a", one_of(&["x"])), ("b", Restriction::present())]);
    check("a in {'x', 'y'} && a in {'y', 'z'}", &[("a", one_of(&["y"]))]);
    check("a == 'x' || a == 'y'", &[("a", one_of(&["x", "y"]))]);
    check("a == 'x' || has(a)", &[("a", Restriction::present())]);
    check("a == 'x' || has(b)", &[]);
    check("has(a) || !has(a)", &[]);
    check("!has(a) && has(b) || !has(a)", &[("a", absent)]);
}

#[test]
fn contradictions_are_impossible() {
    let found = parse("a == 'x' && a == 'y'").expect("parses").restrictions();
    assert!(found["a"].is_impossible());
    let found = parse("has(a) && !has(a)").expect("parses").restrictions();
    assert!(found["a"].is_impossible());
}

proptest! {
    #[test]
    fn every_match_fulfils_them(expr in generated::expr(), labels in generated::labels()) {
        if expr.matches(&labels) {
            for (label, restriction) in restrictions(&expr) {
                let value = labels.get(label.as_str()).map(String::as_str);
                prop_assert!(restriction.permits(value), "{} {:?}", label, restriction);
                prop_assert!(!restriction.is_impossible());
            }
        }
    }
}
