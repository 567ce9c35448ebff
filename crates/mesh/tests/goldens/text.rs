//! BIRD's configuration language as far as its shape goes: tokens, statements and blocks, and a cursor that a reader
//! moves over them. A reader says what it expects; whatever else is there is an error.

/// One token: a word, a string with its quotes, or a symbol. A prefix pattern such as `10.0.0.0/8{16,24}` is one word.
pub type Token = String;

/// Why a text was not understood.
pub type Unknown = String;

/// Cuts a text into tokens; comments are dropped.
pub fn tokens(text: &str) -> Result<Vec<Token>, Unknown> {
    let mut tokens = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start();
        let Some(first) = rest.chars().next() else { return Ok(tokens) };
        let length = match first {
            '#' => {
                rest = rest.find('\n').map_or("", |end| &rest[end..]);
                continue;
            }
            '"' | '\'' => 2 + rest[1..].find(first).ok_or("a quote is not closed")?,
            _ if rest.starts_with("&&") || rest.starts_with("||") => 2,
            '!' if rest.starts_with("!=") || rest.starts_with("!~") => 2,
            '{' | '}' | '(' | ')' | '[' | ']' | ';' | ',' | '=' | '~' | '!' | '<' | '>' | '-' | '+' | '*' => {
                1
            }
            _ => word(rest),
        };
        if length == 0 {
            return Err(format!("no token begins with {first:?}"));
        }
        tokens.push(rest[..length].to_owned());
        rest = &rest[length..];
    }
}

/// The length of the word at the beginning.
fn word(text: &str) -> usize {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_.:/".contains(c);
    let end = text.find(|c| !plain(c)).unwrap_or(text.len());
    let is_prefix = text[..end].contains('/');
    match text[end..].chars().next() {
        Some('{') if is_prefix => end + text[end..].find('}').map_or(0, |close| close + 1),
        Some('+') if is_prefix => end + 1,
        _ => end,
    }
}

/// A statement: its words, and what is in its braces if it has any.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// Tokens with one blank between any two.
    pub head: String,
    /// Of a block.
    pub body: Option<Vec<Item>>,
}

/// Puts tokens together to statements.
pub fn items(tokens: &[Token]) -> Result<Vec<Item>, Unknown> {
    let mut rest = tokens.iter().map(String::as_str).peekable();
    let items = block(&mut rest)?;
    match rest.next() {
        None => Ok(items),
        Some(token) => Err(format!("a {token} too many")),
    }
}

fn block<'a>(rest: &mut std::iter::Peekable<impl Iterator<Item = &'a str>>) -> Result<Vec<Item>, Unknown> {
    let mut items = Vec::new();
    let mut head: Vec<&str> = Vec::new();
    loop {
        match rest.peek().copied() {
            None | Some("}") => {
                // What a list in braces ends with.
                if !head.is_empty() {
                    items.push(Item { head: head.join(" "), body: None });
                }
                return Ok(items);
            }
            Some(";") => {
                rest.next();
                if head.is_empty() {
                    return Err("a statement without words".to_owned());
                }
                items.push(Item { head: std::mem::take(&mut head).join(" "), body: None });
            }
            Some("{") => {
                rest.next();
                let body = block(rest)?;
                rest.next_if_eq(&"}").ok_or("a block is not closed")?;
                rest.next_if_eq(&";");
                items.push(Item { head: std::mem::take(&mut head).join(" "), body: Some(body) });
            }
            Some(token) => {
                head.push(token);
                rest.next();
            }
        }
    }
}

/// A place among statements.
#[derive(Clone, Copy, Debug)]
pub struct Cursor<'a> {
    items: &'a [Item],
}

/// What stood where a pattern has `<…>`, in order.
pub type Captures<'a> = Vec<&'a str>;

impl<'a> Cursor<'a> {
    /// Before the first.
    pub fn new(items: &'a [Item]) -> Cursor<'a> {
        Cursor { items }
    }

    /// The next statement if it is a plain one that matches.
    pub fn try_leaf(&mut self, pattern: &str) -> Option<Captures<'a>> {
        let (first, rest) = self.items.split_first()?;
        let captures = matches(pattern, &first.head).filter(|_| first.body.is_none())?;
        self.items = rest;
        Some(captures)
    }

    /// The next statement, which must be a plain one that matches.
    pub fn leaf(&mut self, pattern: &str) -> Result<Captures<'a>, Unknown> {
        self.try_leaf(pattern).ok_or_else(|| self.expected(pattern))
    }

    /// The next statement if it is a block that matches, and a cursor in it.
    pub fn try_block(&mut self, pattern: &str) -> Option<(Captures<'a>, Cursor<'a>)> {
        let (first, rest) = self.items.split_first()?;
        let captures = matches(pattern, &first.head)?;
        let body = first.body.as_deref()?;
        self.items = rest;
        Some((captures, Cursor::new(body)))
    }

    /// The next statement, which must be a block that matches.
    pub fn block(&mut self, pattern: &str) -> Result<(Captures<'a>, Cursor<'a>), Unknown> {
        self.try_block(pattern).ok_or_else(|| self.expected(pattern))
    }

    /// The next statement, which must be a block that matches and holds just these plain statements.
    pub fn fixed(&mut self, head: &str, leaves: &[&str]) -> Result<Captures<'a>, Unknown> {
        let (mut captures, mut inside) = self.block(head)?;
        for leaf in leaves {
            captures.extend(inside.leaf(leaf)?);
        }
        inside.end()?;
        Ok(captures)
    }

    /// As [`Cursor::fixed`], if the head and the first leaf match.
    pub fn try_fixed(&mut self, head: &str, leaves: &[&str]) -> Option<Captures<'a>> {
        let mut ahead = *self;
        let captures = ahead.fixed(head, leaves).ok()?;
        *self = ahead;
        Some(captures)
    }

    /// Whether nothing is left.
    pub fn is_at_end(&self) -> bool {
        self.items.is_empty()
    }

    /// Nothing may be left.
    pub fn end(&self) -> Result<(), Unknown> {
        match self.items.first() {
            None => Ok(()),
            Some(item) => Err(format!("not understood: {}", item.head)),
        }
    }

    fn expected(&self, pattern: &str) -> Unknown {
        let found = self.items.first().map_or("the end", |item| &item.head);
        format!("{pattern:?} is expected, not {found:?}")
    }
}

/// Compares token by token. `<…>` stands for one token; `<*>` at the end for any number.
pub fn matches<'a>(pattern: &str, text: &'a str) -> Option<Captures<'a>> {
    let mut captures = Vec::new();
    let mut rest = text;
    let mut words = pattern;
    while let Some((word, further)) = split_token(words) {
        words = further;
        if word == "<*>" {
            captures.push(rest);
            return Some(captures);
        }
        let (token, after) = split_token(rest)?;
        if word.starts_with('<') && word.len() > 1 {
            captures.push(token);
        } else if word != token {
            return None;
        }
        rest = after;
    }
    rest.is_empty().then_some(captures)
}

/// The first token of a head; strings may have blanks in them.
pub fn split_token(text: &str) -> Option<(&str, &str)> {
    let quote = text.chars().next().filter(|c| "\"'".contains(*c));
    let end = match quote {
        Some(quote) => 2 + text[1..].find(quote)?,
        None => text.find(' ').unwrap_or(text.len()),
    };
    (end > 0).then(|| (&text[..end], text[end..].trim_start()))
}

/// The parts of a condition that `&&` joins outside all parentheses, without the parentheses around each.
pub fn conjuncts(condition: &str) -> Vec<String> {
    let mut parts = vec![Vec::new()];
    let mut depth = 0;
    let mut rest = condition;
    while let Some((token, after)) = split_token(rest) {
        rest = after;
        match token {
            "(" => depth += 1,
            ")" => depth -= 1,
            _ => {}
        }
        if token == "&&" && depth == 0 {
            parts.push(Vec::new());
        } else if let Some(part) = parts.last_mut() {
            part.push(token);
        }
    }
    parts.iter().map(|part| bare(part).join(" ")).collect()
}

/// Without parentheses around the whole.
fn bare<'a, 'b>(tokens: &'b [&'a str]) -> &'b [&'a str] {
    let [first, inner @ .., last] = tokens else { return tokens };
    if (*first, *last) != ("(", ")") {
        return tokens;
    }
    let mut depth = 0;
    for token in inner {
        match *token {
            "(" => depth += 1,
            ")" => depth -= 1,
            _ => {}
        }
        if depth < 0 {
            return tokens;
        }
    }
    inner
}
