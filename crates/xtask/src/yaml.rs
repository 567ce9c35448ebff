//! JSON values as YAML: members in their own order, so that a manifest reads as it was written down.

use serde_json::Value;

/// The text of a document, with a final newline.
pub fn render(value: &Value) -> String {
    let mut text = String::new();
    write(&mut text, value, 0);
    text
}

/// Writes a value that begins on the line where `text` ends; its further lines are indented by `depth`.
fn write(text: &mut String, value: &Value, depth: usize) {
    match value {
        Value::Object(members) if !members.is_empty() => {
            for (index, (key, member)) in members.iter().enumerate() {
                if index > 0 {
                    indent(text, depth);
                }
                *text += &scalar(key);
                text.push(':');
                match member {
                    Value::Object(inner) if !inner.is_empty() => {
                        text.push('\n');
                        indent(text, depth + 2);
                        write(text, member, depth + 2);
                    }
                    Value::Array(inner) if !inner.is_empty() => {
                        text.push('\n');
                        indent(text, depth + 2);
                        write(text, member, depth + 2);
                    }
                    Value::String(lines) if lines.ends_with('\n') => block(text, lines, depth + 2),
                    other => {
                        text.push(' ');
                        write(text, other, depth);
                    }
                }
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    indent(text, depth);
                }
                *text += "- ";
                write(text, item, depth + 2);
            }
        }
        Value::String(string) => {
            *text += &scalar(string);
            text.push('\n');
        }
        // Numbers, truth values, null and what is empty are the same in both languages.
        other => {
            *text += &other.to_string();
            text.push('\n');
        }
    }
}

fn indent(text: &mut String, depth: usize) {
    text.extend(std::iter::repeat_n(' ', depth));
}

/// Lines as they are.
fn block(text: &mut String, lines: &str, depth: usize) {
    *text += " |\n";
    for line in lines.lines() {
        if !line.is_empty() {
            indent(text, depth);
        }
        *text += line;
        text.push('\n');
    }
}

/// A string: bare where nothing can be misread, otherwise as JSON writes it.
fn scalar(text: &str) -> String {
    if is_plain(text) { text.to_owned() } else { Value::from(text).to_string() }
}

fn is_plain(text: &str) -> bool {
    const WORDS: [&str; 9] = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    let letter = |c: char| c.is_ascii_alphabetic();
    let begins = match text.as_bytes() {
        // `.spec`, but neither `.5` nor `.inf` and `.nan`.
        [b'.', second, ..] => letter(char::from(*second)) && !matches!(second, b'i' | b'I' | b'n' | b'N'),
        [first, ..] => letter(char::from(*first)) || matches!(first, b'/' | b'_'),
        [] => false,
    };
    begins
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_./ ()=+".contains(c))
        && !text.ends_with(' ')
        && !WORDS.contains(&text.to_ascii_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let value = json!({
            "plain": "text with spaces", "empty": "", "number": 1.5, "like a number": "1.5", "yes": "yes", "n": "N",
            "colon": "a: b", "hash": "a #b", "quote": "it's \"so\"", "dot": ".inf", "path": ".spec.x[?(@.y=='z')]",
            "lines": "one\n  two\n\nthree\n", "no end": "a\nb", "tab": "a\tb", "list": [1, [2, {"a": []}], {"b": {}}],
            "nested": {"list": [{"x": 1, "y": [true, null]}]}, "1": "~", "é": "ü", "-": "- x", "mode": "0755",
        });
        let text = render(&value);
        let read: Value = serde_saphyr::from_str(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
        assert_eq!(read, value, "{text}");
    }
}
