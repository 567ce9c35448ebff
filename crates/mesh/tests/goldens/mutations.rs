//! Every text that differs from a given one in one place: a statement or a block that is left out, or one token that is
//! another.

use crate::text::{Token, tokens};

/// What was done, and what came of it.
pub struct Mutant {
    /// For the message of a failure.
    pub change: String,
    /// The text, in other white space and without comments.
    pub text: String,
}

/// All of them.
pub fn mutants(text: &str) -> Vec<Mutant> {
    let tokens = tokens(text).unwrap();
    let mut mutants = Vec::new();
    for (begin, end) in statements(&tokens) {
        let rest = [&tokens[..begin], &tokens[end..]].concat();
        mutants.push(Mutant {
            change: format!("without {}", tokens[begin..end].join(" ")),
            text: rest.join(" "),
        });
    }
    for (at, token) in tokens.iter().enumerate() {
        let Some(other) = other(token) else { continue };
        let mut changed = tokens.clone();
        let near = changed[at.saturating_sub(6)..(at + 4).min(changed.len())].join(" ");
        changed[at] = other.clone();
        mutants.push(Mutant {
            change: format!("{token} became {other} in … {near} …"),
            text: changed.join(" "),
        });
    }
    mutants
}

/// Where statements and blocks begin and end. What follows an `if` without braces is part of its statement; an `else` is
/// one of its own.
fn statements(tokens: &[Token]) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut open = Vec::new();
    let mut begin = 0;
    for (at, token) in tokens.iter().enumerate() {
        match token.as_str() {
            ";" => {
                // After a block it belongs to that.
                if begin < at {
                    found.push((begin, at + 1));
                }
                begin = at + 1;
            }
            "{" => {
                open.push(begin);
                begin = at + 1;
            }
            "}" => {
                // The last word of a list.
                if begin < at {
                    found.push((begin, at));
                }
                let first = open.pop().unwrap();
                let end = if tokens.get(at + 1).is_some_and(|t| t == ";") { at + 2 } else { at + 1 };
                found.push((first, end));
                begin = end;
            }
            _ => {}
        }
    }
    found
}

/// Another token of the same kind; `None` for those that only hold others together.
fn other(token: &str) -> Option<Token> {
    Some(match token {
        "{" | "}" | "(" | ")" | "[" | "]" | ";" | "," => return None,
        "=" => "!=".to_owned(),
        "!=" => "=".to_owned(),
        "~" => "!~".to_owned(),
        "!~" => "~".to_owned(),
        "&&" => "||".to_owned(),
        "||" => "&&".to_owned(),
        "<" => ">".to_owned(),
        ">" => "<".to_owned(),
        "-" => "+".to_owned(),
        "+" => "-".to_owned(),
        "!" => "-".to_owned(),
        "*" => "+".to_owned(),
        "accept" => "reject".to_owned(),
        "reject" => "accept".to_owned(),
        "true" => "false".to_owned(),
        "false" => "true".to_owned(),
        "on" => "off".to_owned(),
        "off" => "on".to_owned(),
        _ if token.starts_with(['"', '\'']) => format!("{}x{}", &token[..1], &token[1..]),
        _ => match token.parse::<u64>() {
            Ok(number) => (number + 1).to_string(),
            Err(_) => digit(token).unwrap_or_else(|| format!("{token}x")),
        },
    })
}

/// An address or a prefix with another last digit.
fn digit(token: &str) -> Option<Token> {
    let address = token.split('/').next().filter(|a| a.parse::<std::net::IpAddr>().is_ok())?;
    let last = address.chars().next_back()?;
    let other = if last == '1' { '2' } else { '1' };
    Some(format!("{}{other}{}", &address[..address.len() - 1], &token[address.len()..]))
}
