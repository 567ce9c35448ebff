//! YAML as Go's library writes it: keys in natural order, lists not indented, quotes only where they are needed.

use std::cmp::Ordering;
use std::sync::LazyLock;

use regex_lite::Regex;
use serde_json::Value;

/// The text of a value, with a final newline.
pub(crate) fn render(value: &Value) -> String {
    let mut text = String::new();
    match value {
        Value::Object(map) if !map.is_empty() => write_map(&mut text, value, 0, false),
        Value::Array(list) if !list.is_empty() => write_list(&mut text, list, 0),
        other => {
            write_scalar(&mut text, other, 0);
            text.push('\n');
        }
    }
    text
}

fn indent(text: &mut String, depth: usize) {
    text.extend(std::iter::repeat_n(' ', depth));
}

/// Writes the members of a map; `started` says that the first line's indent is there already (after `- `).
fn write_map(text: &mut String, value: &Value, depth: usize, started: bool) {
    let Value::Object(map) = value else { return };
    let mut members: Vec<(&String, &Value)> = map.iter().collect();
    members.sort_by(|a, b| natural(a.0, b.0));
    for (index, (key, member)) in members.into_iter().enumerate() {
        if index > 0 || !started {
            indent(text, depth);
        }
        // A block of lines cannot be a key.
        text.push_str(&if key.contains('\n') { double_quoted(key) } else { scalar_text(key, depth) });
        text.push(':');
        match member {
            Value::Object(inner) if !inner.is_empty() => {
                text.push('\n');
                write_map(text, member, depth + 2, false);
            }
            Value::Array(inner) if !inner.is_empty() => {
                text.push('\n');
                write_list(text, inner, depth);
            }
            scalar => {
                text.push(' ');
                write_scalar(text, scalar, depth);
                text.push('\n');
            }
        }
    }
}

fn write_list(text: &mut String, list: &[Value], depth: usize) {
    for (index, item) in list.iter().enumerate() {
        // The first element of a list inside a list stands on its parent's line.
        if index > 0 || !text.ends_with("- ") {
            indent(text, depth);
        }
        text.push_str("- ");
        match item {
            Value::Object(map) if !map.is_empty() => write_map(text, item, depth + 2, true),
            Value::Array(inner) if !inner.is_empty() => write_list(text, inner, depth + 2),
            scalar => {
                write_scalar(text, scalar, depth);
                text.push('\n');
            }
        }
    }
}

fn write_scalar(text: &mut String, value: &Value, depth: usize) {
    match value {
        Value::Null => text.push_str("null"),
        Value::Bool(b) => text.push_str(if *b { "true" } else { "false" }),
        Value::Number(n) => text.push_str(&n.to_string()),
        Value::String(s) => text.push_str(&scalar_text(s, depth)),
        Value::Array(_) => text.push_str("[]"),
        Value::Object(_) => text.push_str("{}"),
    }
}

/// A string in the plainest style that reads back as itself.
fn scalar_text(text: &str, depth: usize) -> String {
    if !text.chars().all(is_printable) {
        return double_quoted(text);
    }
    // A block of nothing but empty lines reads back as less than it was.
    if text.chars().all(|c| c == '\n') && !text.is_empty() {
        return double_quoted(text);
    }
    if text.contains('\n') {
        return literal(text, depth);
    }
    if means_something_else(text) {
        return double_quoted(text);
    }
    if is_plain(text) { text.to_owned() } else { format!("'{}'", text.replace('\'', "''")) }
}

/// Whether a character may stand for itself (YAML 1.2, 5.1 `c-printable`). The byte order mark and what YAML 1.1 takes for
/// line breaks may not: readers differ about them.
fn is_printable(c: char) -> bool {
    const ESCAPED: [char; 5] = ['\u{feff}', '\u{fffe}', '\u{ffff}', '\u{2028}', '\u{2029}'];
    c == '\n' || (!c.is_control() && !ESCAPED.contains(&c))
}

/// Texts that a reader would take for a number, a truth value, a time or nothing (YAML 1.1).
fn means_something_else(text: &str) -> bool {
    const WORDS: [&str; 17] = [
        "", "~", "null", "y", "n", "yes", "no", "on", "off", "true", "false", "<<", "=", ".nan", ".inf",
        "-.inf", "+.inf",
    ];
    static OTHERS: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(concat!(
            r"^(?:[-+]?[0-9][0-9_]*(?:\.[0-9_]*)?(?:[eE][-+]?[0-9]+)?",
            r"|[-+]?\.[0-9][0-9_]*(?:[eE][-+]?[0-9]+)?",
            r"|[-+]?0[xX][0-9a-fA-F_]+|[-+]?0[bB][01_]+|[-+]?0[oO][0-7_]+",
            r"|[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?",
            r"|[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:[Tt ].*)?)$"
        ))
        .expect("the expression is fixed and tested")
    });
    WORDS.contains(&text.to_ascii_lowercase().as_str()) || OTHERS.is_match(text)
}

/// Whether a text can stand without quotes.
fn is_plain(text: &str) -> bool {
    let mut chars = text.chars();
    let (first, second) = (chars.next(), chars.next());
    let indicator = match first {
        Some('-' | '?' | ':') => second.is_none_or(|c| c == ' '),
        Some(c) => ",[]{}#&*!|>'\"%@`".contains(c),
        None => true,
    };
    let ends = text.starts_with(' ') || text.ends_with(' ') || text.ends_with(':');
    let marker = text.starts_with("---") || text.starts_with("...");
    !(indicator || ends || marker || text.contains(": ") || text.contains(" #") || text.contains('\t'))
}

fn double_quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            '\r' => quoted.push_str("\\r"),
            c if is_printable(c) => quoted.push(c),
            c if u32::from(c) < 0x100 => quoted.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => quoted.push_str(&format!("\\u{:04x}", u32::from(c))),
        }
    }
    quoted + "\""
}

/// A block of lines, as they are.
fn literal(text: &str, depth: usize) -> String {
    let chomp = match text.len() - text.trim_end_matches('\n').len() {
        0 => "-",
        1 => "",
        _ => "+",
    };
    let hint = if text.starts_with([' ', '\n']) { "2" } else { "" };
    let mut block = format!("|{hint}{chomp}");
    let body = if chomp.is_empty() { text.strip_suffix('\n').unwrap_or(text) } else { text };
    for line in body.trim_end_matches('\n').split('\n') {
        block.push('\n');
        if !line.is_empty() {
            indent(&mut block, depth + 2);
            block.push_str(line);
        }
    }
    let kept = if chomp == "+" { text.len() - text.trim_end_matches('\n').len() - 1 } else { 0 };
    block.extend(std::iter::repeat_n('\n', kept));
    block
}

/// The order of keys: letters after everything else, runs of digits by value, the rest by code point.
fn natural(a: &str, b: &str) -> Ordering {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let Some(i) = a.iter().zip(&b).position(|(x, y)| x != y) else { return a.len().cmp(&b.len()) };
    let (x, y) = (a[i], b[i]);
    match (x.is_alphabetic(), y.is_alphabetic()) {
        (true, false) => Ordering::Greater,
        (false, true) => Ordering::Less,
        (true, true) => x.cmp(&y),
        (false, false) => digits(&a[i..]).cmp(&digits(&b[i..])).then(x.cmp(&y)),
    }
}

/// The number at the beginning, by its length without leading zeros and its digits, then by its full length.
fn digits(text: &[char]) -> (usize, String, usize) {
    let run: String = text.iter().take_while(|c| c.is_ascii_digit()).collect();
    let value = run.trim_start_matches('0');
    (value.len(), value.to_owned(), run.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_quoted_where_they_must_be() {
        let cases = [
            ("plain", "plain"),
            ("role == 'db' && has(env)", "role == 'db' && has(env)"),
            ("", "\"\""),
            ("true", "\"true\""),
            ("Yes", "\"Yes\""),
            ("y", "\"y\""),
            ("12", "\"12\""),
            ("1.5", "\"1.5\""),
            ("1.2.3.4", "1.2.3.4"),
            ("66:00:00:00:00:01", "\"66:00:00:00:00:01\""),
            ("443:444", "443:444"),
            ("ee:ee:ee:ee:ee:ee", "ee:ee:ee:ee:ee:ee"),
            ("2026-11-23T00:47:11Z", "\"2026-11-23T00:47:11Z\""),
            ("*.calico", "'*.calico'"),
            ("a: b", "'a: b'"),
            ("!has(x)", "'!has(x)'"),
            ("it's: so", "'it''s: so'"),
            ("-1a", "-1a"),
            ("- a", "'- a'"),
            ("fd00::2", "fd00::2"),
            ("a\tb", "\"a\\tb\""),
            ("a\u{ffff}", "\"a\\uffff\""),
            ("a\u{fffd}\u{10ffff}", "a\u{fffd}\u{10ffff}"),
            ("a\u{2028}b", "\"a\\u2028b\""),
            ("\n", "\"\\n\""),
            ("\n\n", "\"\\n\\n\""),
            ("0x1f", "\"0x1f\""),
            ("0XFF", "\"0XFF\""),
            ("0B0", "\"0B0\""),
            ("null", "\"null\""),
            ("+.inf", "\"+.inf\""),
        ];
        for (text, expected) in cases {
            assert_eq!(scalar_text(text, 0), expected, "{text}");
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        let value = serde_json::json!({
            "b": [1, -2.5, true, null, "x", [], {}, [[1, 2], ["a"]], {"k": {"l": []}}],
            "a": {"text": "one\ntwo\n", "bare": "one\ntwo", "many": "x\n\n\n", "lead": "  x\ny"},
            "a10": "1e3", "a9": "~", "é": "ü", "two\nlines": {"\n": 1}, "\u{ffff}": "\u{fffe} \u{2028}",
        });
        let text = render(&value);
        let read = calico_api::document::parse_values(&text).unwrap();
        assert_eq!(read, [value], "{text}");
        assert!(text.find("a9").unwrap() < text.find("a10").unwrap());
    }
}
