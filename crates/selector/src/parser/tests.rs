//! The grammar, its quirks, and where errors point.

use crate::{MAX_NESTING, parse};

fn check(text: &str, canonical: &str) {
    match parse(text) {
        Ok(selector) => assert_eq!(selector.to_string(), canonical, "canonical text of {text:?}"),
        Err(error) => panic!("{text:?}: {error}"),
    }
}

fn check_error(text: &str, position: usize, found: &str, expected: &str) {
    let error = parse(text).expect_err(text);
    assert_eq!(
        (error.position, error.found.as_str(), error.expected),
        (position, found, expected),
        "error of {text:?}"
    );
}

#[test]
fn every_operation() {
    check("", "all()");
    check(" \t ", "all()");
    check("all()", "all()");
    check("all( \t)", "all()");
    check("global()", "global()");
    check("has( a/b.c-d_0 )", "has(a/b.c-d_0)");
    check("a=='x'", r#"a == "x""#);
    check("a\t!=\"x\"", r#"a != "x""#);
    check("a == 'say \"x\"'", r#"a == 'say "x"'"#);
    check("a == \"it's\"", r#"a == "it's""#);
    check("a == ''", r#"a == """#);
    check("a == 'two\nlines é'", "a == \"two\nlines é\"");
    check("a contains'x'", r#"a contains "x""#);
    check("a startswith 'x'", r#"a starts with "x""#);
    check("a starts \t with'x'", r#"a starts with "x""#);
    check("a ends with 'x'", r#"a ends with "x""#);
    check("a in {'b','a', 'b' , }", r#"a in {"a", "b"}"#);
    check("a in{}", "a in {}");
    check("a not in {'x'}", r#"a not in {"x"}"#);
    check("a notin{'x'}", r#"a not in {"x"}"#);
}

#[test]
fn combinations() {
    check("has(a)&&has(b)&&has(c)", "(has(a) && has(b) && has(c))");
    check("has(a) || has(b) && has(c)", "(has(a) || (has(b) && has(c)))");
    check("(has(a) || has(b)) && has(c)", "((has(a) || has(b)) && has(c))");
    check("(has(a) && has(b)) && has(c)", "((has(a) && has(b)) && has(c))");
    check("((has(a)))", "has(a)");
    check("!has(a) && ! has(b)", "(!has(a) && !has(b))");
    check("!!!has(a)", "!has(a)");
    check("! !has(a)", "has(a)");
    check("!(!has(a))", "has(a)");
    check("!!(has(a)||has(b))", "(has(a) || has(b))");
    check("!(has(a)||has(b))", "!(has(a) || has(b))");
    check("!a == 'x'", r#"!a == "x""#);
    check("!a in {'x'} && all()", r#"(!a in {"x"} && all())"#);
}

#[test]
fn words_are_labels_where_operands_stand() {
    check("in in {'in'}", r#"in in {"in"}"#);
    check("not == 'x'", r#"not == "x""#);
    check("has == 'x'", r#"has == "x""#);
    check("all != 'x' && global == 'y'", r#"(all != "x" && global == "y")"#);
    check("has(has) && has(in)", "(has(has) && has(in))");
    check("contains contains 'contains'", r#"contains contains "contains""#);
    check("starts starts with 'x'", r#"starts starts with "x""#);
}

#[test]
fn errors_name_place_found_and_expected() {
    let operand = "a label, a function, `!` or `(`";
    let operator = "an operator after the label";
    check_error("a", 1, "the end", operator);
    check_error("a =", 2, "`=`", "`==`");
    check_error("a = 'x'", 2, "`= 'x'`", "`==`");
    check_error("a == x", 5, "`x`", "a quoted value");
    check_error("a == 'x", 5, "`'x`", "a closing quote");
    check_error("a == 'x' &", 9, "`&`", "`&&`");
    check_error("a == 'x' | b == 'y'", 9, "`| b == 'y'`", "`||`");
    check_error("a == 'x' &&", 11, "the end", operand);
    check_error("a == 'x' || ", 12, "the end", operand);
    check_error("&& all()", 0, "`&& all()`", operand);
    check_error("'x' == a", 0, "`'x' == a`", operand);
    check_error("a in 'x'", 5, "`'x'`", "`{`");
    check_error("a in {'x' 'y'}", 10, "`'y'}`", "`,` or `}`");
    check_error("a in {,}", 6, "`,}`", "a quoted value or `}`");
    check_error("a in {'x'", 9, "the end", "`,` or `}`");
    check_error("a IN {'x'}", 2, "`IN {'x'}`", operator);
    check_error("a infix {'x'}", 2, "`infix {'x'}`", operator);
    check_error("a starts with_ 'x'", 2, "`starts with_ 'x'`", operator);
    check_error("a not 'x'", 2, "`not 'x'`", operator);
    check_error("a b", 2, "`b`", operator);
    check_error("a\n== 'x'", 1, "`\n== 'x'`", operator);
    check_error("\n", 0, "`\n`", operand);
    check_error("has (a)", 4, "`(a)`", operator);
    check_error("has()", 4, "`)`", "a label name");
    check_error("has(a b)", 6, "`b)`", "`)`");
    check_error("all(", 4, "the end", "`)`");
    check_error("all ()", 4, "`()`", operator);
    check_error("(has(a)", 7, "the end", "`&&`, `||` or `)`");
    check_error("has(a))", 6, "`)`", "`&&`, `||` or the end");
    check_error("has(a) has(b)", 7, "`has(b)`", "`&&`, `||` or the end");
    check_error("has(a) in {'x'}", 7, "`in {'x'}`", "`&&`, `||` or the end");
    check_error("!", 1, "the end", operand);
    check_error("()", 1, "`)`", operand);
    check_error("é == 'x'", 0, "`é == 'x'`", operand);
    check_error("has(a) || $ and a long tail of text", 10, "`$ and a long tail of…`", operand);
}

#[test]
fn values_without_quotes_are_shown_with_them() {
    let check = |text: &str, expected: Option<&str>| {
        assert_eq!(parse(text).expect_err(text).right.as_deref(), expected, "{text:?}");
    };
    check("app == web", Some(r#"app == "web""#));
    check("has(x) && app!=web-1:2 && has(y)", Some(r#"app!="web-1:2""#));
    check("(a starts with b)", Some(r#"a starts with "b""#));
    check("app in {web, 'db'}", Some(r#""web""#));
    check("app == é", None);
    check("app == ", None);
    check("app == {'web'}", None);
    check("app", None);
    check(&format!("{} == web", "l".repeat(100)), None);
    let told = "bad selector at byte 7: expected a quoted value, found `web`; write app == \"web\"";
    assert_eq!(parse("app == web").expect_err("no quotes").to_string(), told);
}

#[test]
fn label_names_have_at_most_512_bytes() {
    let longest = "l".repeat(512);
    check(&format!("has({longest})"), &format!("has({longest})"));
    assert!(parse(&format!("{longest} == 'x'")).is_ok());
    for text in [format!("has({longest}l)"), format!("{longest}l == 'x'")] {
        assert_eq!(parse(&text).expect_err(&text).expected, "a label name of at most 512 bytes");
    }
}

#[test]
fn nesting_is_bounded() {
    let nested = |depth: usize, body: &str| format!("{}{body}{}", "(".repeat(depth), ")".repeat(depth));
    check(&nested(MAX_NESTING, "has(a)"), "has(a)");
    let error = parse(&nested(MAX_NESTING + 1, "has(a)")).expect_err("too deep");
    assert_eq!((error.position, error.expected), (MAX_NESTING, "fewer nested parentheses"));
    assert!(parse(&"(".repeat(1_000_000)).is_err());
    assert!(parse(&"!(".repeat(1_000_000)).is_err());
    assert!(parse(&"!".repeat(1_000_001)).is_err());
    // The deepest tree that parses can be evaluated, printed and dropped on a test thread's stack.
    let deep = format!("{}has(b){}", "!(has(a) && ".repeat(MAX_NESTING), ")".repeat(MAX_NESTING));
    let selector = parse(&deep).expect("within bounds");
    let labels = [("a", "")];
    assert_eq!(selector.matches(&labels), MAX_NESTING % 2 == 1);
    assert_eq!(parse(&selector.to_string()).as_ref(), Ok(&selector));
}

#[test]
fn long_chains_are_not_deep() {
    let long = vec!["has(a)"; 100_000].join(" && ");
    assert!(parse(&long).is_ok_and(|selector| selector.matches(&[("a", "1")])));
}
