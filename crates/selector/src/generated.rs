//! Generated selectors and labels for property tests: few names and values, so that they meet often.

use std::collections::BTreeMap;

use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;
use smol_str::SmolStr;

use crate::{Expr, Test};

/// A label name, from a handful.
pub(crate) fn name() -> impl Strategy<Value = String> + Clone {
    prop::sample::select(vec!["a", "b", "c", "in", "not", "has", "a/b.c-d"]).prop_map(str::to_owned)
}

/// A label value, from a handful; some with quotes, some empty.
pub(crate) fn value() -> impl Strategy<Value = String> + Clone {
    prop::sample::select(vec!["", "x", "y", "xy", "yxy", "it's", "say \"x\"", "é\n"]).prop_map(str::to_owned)
}

/// A set of labels.
pub(crate) fn labels() -> impl Strategy<Value = BTreeMap<String, String>> {
    btree_map(name(), value(), 0..5)
}

fn test() -> impl Strategy<Value = Test> {
    let text = || value().prop_map(SmolStr::from);
    let list = || btree_set(text(), 0..4).prop_map(|values| values.into_iter().collect::<Box<[SmolStr]>>());
    prop_oneof![
        2 => Just(Test::Present),
        2 => text().prop_map(Test::Equal),
        2 => text().prop_map(Test::NotEqual),
        1 => text().prop_map(Test::Contains),
        1 => text().prop_map(Test::StartsWith),
        1 => text().prop_map(Test::EndsWith),
        2 => list().prop_map(Test::In),
        2 => list().prop_map(Test::NotIn),
    ]
}

/// An expression in normal form.
pub(crate) fn expr() -> impl Strategy<Value = Expr> {
    let leaf = prop_oneof![
        1 => Just(Expr::All),
        1 => Just(Expr::Global),
        10 => (name(), test()).prop_map(|(name, test)| Expr::Label(name.into(), test)),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            inner.clone().prop_map(Expr::negated),
            vec(inner.clone(), 2..4).prop_map(Expr::And),
            vec(inner, 2..4).prop_map(Expr::Or),
        ]
    })
}

/// Tokens in any order, most of it nonsense.
pub(crate) fn token_soup() -> impl Strategy<Value = String> {
    let token = prop::sample::select(vec![
        "(",
        ")",
        "{",
        "}",
        ",",
        "==",
        "!=",
        "!",
        "&&",
        "||",
        "'x'",
        "\"y\"",
        "a",
        "in",
        "not",
        "not in",
        "starts",
        "starts with",
        "ends with",
        "contains",
        "has(a)",
        "has(",
        "all()",
        "all(",
        "global()",
        " ",
        "\t",
        "=",
        "&",
        "é",
    ]);
    vec(token, 0..12).prop_map(|tokens| tokens.join(""))
}
