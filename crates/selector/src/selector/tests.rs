//! Canonical text, ids and evaluation, against a naive evaluator.

use std::collections::BTreeMap;

use proptest::prelude::*;

use crate::generated;
use crate::{Expr, Selector, Test, normalise, parse};

/// The meaning of spec 2 §4.2 once more, straight from its table, to judge the real one by.
fn naive(expr: &Expr, labels: &BTreeMap<String, String>) -> bool {
    let (name, test) = match expr {
        Expr::All | Expr::Global => return true,
        Expr::Not(operand) => return !naive(operand, labels),
        Expr::And(operands) => return operands.iter().filter(|operand| !naive(operand, labels)).count() == 0,
        Expr::Or(operands) => return operands.iter().filter(|operand| naive(operand, labels)).count() > 0,
        Expr::Label(name, test) => (name.to_string(), test),
    };
    let absent = !labels.contains_key(&name);
    let value = labels.get(&name).cloned().unwrap_or_default();
    match test {
        Test::Present => !absent,
        Test::Equal(wanted) => !absent && value == *wanted,
        Test::NotEqual(wanted) => absent || value != *wanted,
        Test::Contains(part) => !absent && value.split(part.as_str()).count() > 1,
        Test::StartsWith(part) => !absent && value.strip_prefix(part.as_str()).is_some(),
        Test::EndsWith(part) => !absent && value.strip_suffix(part.as_str()).is_some(),
        Test::In(values) => !absent && values.iter().any(|wanted| *wanted == value),
        Test::NotIn(values) => absent || values.iter().all(|wanted| *wanted != value),
    }
}

proptest! {
    #[test]
    fn any_text_parses_or_is_an_error(text in ".{0,60}") {
        if let Ok(selector) = parse(&text) {
            prop_assert_eq!(parse(&selector.to_string()), Ok(selector));
        }
    }

    #[test]
    fn any_row_of_tokens_parses_or_is_an_error(text in generated::token_soup()) {
        if let Ok(selector) = parse(&text) {
            prop_assert_eq!(parse(&selector.to_string()), Ok(selector));
        } else {
            prop_assert_eq!(normalise(&text), text.trim());
        }
    }

    #[test]
    fn canonical_text_is_a_fixed_point(expr in generated::expr()) {
        let text = expr.to_string();
        let selector = parse(&text).map_err(|error| TestCaseError::fail(format!("{text}: {error}")))?;
        prop_assert_eq!(selector.expr(), &expr);
        prop_assert_eq!(selector.to_string(), text.clone());
        prop_assert_eq!(normalise(&text), text);
    }

    #[test]
    fn evaluation_is_as_the_table_says(expr in generated::expr(), labels in generated::labels()) {
        prop_assert_eq!(expr.matches(&labels), naive(&expr, &labels));
        let list: Vec<(&str, &str)> = labels.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        prop_assert_eq!(expr.matches(list.as_slice()), naive(&expr, &labels));
    }
}

/// Bytes from a fixed sequence: the fuzz target's check, where libFuzzer is not at hand.
#[test]
fn seeded_bytes_never_panic() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let alphabet = b"()!&|={},'\"\t \nabhsinotwel/.-_0\xc3\xa9";
    for _ in 0..50_000 {
        let length = (next() % 40) as usize;
        let bytes: Vec<u8> = (0..length).map(|_| alphabet[next() as usize % alphabet.len()]).collect();
        let text = String::from_utf8_lossy(&bytes);
        if let Ok(selector) = parse(&text) {
            assert_eq!(parse(&selector.to_string()), Ok(selector), "{text:?}");
        }
    }
}

#[test]
fn uids_are_calicos() {
    for (text, uid) in [
        ("all()", "s:5y5I3VdRZfDU01O--xXAPx2yxCQQqMf0M6IWug"),
        ("", "s:5y5I3VdRZfDU01O--xXAPx2yxCQQqMf0M6IWug"),
        ("! (has( b)||! has(a ))", "s:Iss0uCleLYv1GSv_pNm7hAO58kE9jAx1NKyG3Q"),
        ("projectcalico.org/namespace == 'default'", "s:4g010_DunYvItGg3dv2MxnaJYxWEVRwn0exiaA"),
    ] {
        assert_eq!(parse(text).expect(text).uid(), uid, "uid of {text:?}");
    }
}

#[test]
fn absent_labels() {
    let matches = |text: &str, labels: &[(&str, &str)]| parse(text).expect(text).matches(labels);
    for text in ["a != 'x'", "a not in {'x'}", "a not in {}", "all()", "global()", "!has(a)", "!a == 'x'"] {
        assert!(matches(text, &[]), "{text}");
    }
    for text in ["a == 'x'", "a == ''", "a in {'x'}", "a contains ''", "a starts with ''", "a ends with ''"] {
        assert!(!matches(text, &[]), "{text}");
        assert!(!matches(text, &[("A", "x")]), "names are case-sensitive: {text}");
    }
    assert!(matches("a contains '' && a == ''", &[("a", "")]));
    assert!(!matches("a in {}", &[("a", "")]));
}

#[test]
fn normalising_what_does_not_parse_trims_it() {
    assert_eq!(normalise("  has(b)&&has(a) "), "(has(b) && has(a))");
    assert_eq!(normalise("  not a selector\n"), "not a selector");
}

#[test]
fn prefixing_reaches_every_label() {
    let selector = parse("has(a) && !(b in {'x'} || all()) && global()").expect("parses");
    assert_eq!(selector.prefixed("p.").to_string(), r#"(has(p.a) && !(p.b in {"x"} || all()) && global())"#);
    assert_eq!(Selector::all().prefixed("p."), Selector::all());
}
