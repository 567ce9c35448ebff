//! Cuts a selector's text into tokens, with Calico's quirks (spec 2 §4.1).
//!
//! The quirks: `has(`, `all(` and `global(` want their parenthesis attached; word operators exist only right after a
//! label (elsewhere `in` is a label like any other) and their inner blanks are optional; a newline is not white space.

use smol_str::SmolStr;

use crate::parser::ParseError;

/// The longest label name that is read, in bytes.
const MAX_LABEL: usize = 512;

/// How much of the offending text an error quotes, in characters.
const MAX_QUOTED: usize = 20;

/// The longest piece of text that an error shows mended, in bytes.
const MAX_SHOWN: usize = 80;

/// One token, borrowing from the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Token<'a> {
    LeftParen,
    RightParen,
    LeftBrace,
    RightBrace,
    Comma,
    Equal,
    NotEqual,
    Not,
    And,
    Or,
    Text(&'a str),
    Label(&'a str),
    Has(&'a str),
    All,
    Global,
    In,
    NotIn,
    Contains,
    StartsWith,
    EndsWith,
    End,
}

/// Where words are being read: right after a label they are operators, elsewhere operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Words {
    Operand,
    Operator,
}

/// Reads tokens one after another.
pub(crate) struct Lexer<'a> {
    text: &'a str,
    next: usize,
}

impl<'a> Lexer<'a> {
    pub(crate) fn new(text: &'a str) -> Lexer<'a> {
        Lexer { text, next: 0 }
    }

    /// The next token where no label came directly before, and the byte where it begins.
    pub(crate) fn operand(&mut self) -> Result<(Token<'a>, usize), ParseError> {
        self.token(Words::Operand)
    }

    /// The next token directly after a label, and the byte where it begins.
    pub(crate) fn operator(&mut self) -> Result<(Token<'a>, usize), ParseError> {
        self.token(Words::Operator)
    }

    /// An error about what stands at `position`.
    pub(crate) fn error(&self, position: usize, expected: &'static str) -> ParseError {
        let rest = &self.text[position..];
        let found = match rest.char_indices().nth(MAX_QUOTED) {
            None if rest.is_empty() => SmolStr::new_static("the end"),
            None => smol_str::format_smolstr!("`{rest}`"),
            Some((cut, _)) => smol_str::format_smolstr!("`{}…`", &rest[..cut]),
        };
        ParseError { position, found, expected, right: None }
    }

    /// An error about what stands at `position` in place of a quoted value: a bare word is shown with quotes, together
    /// with the text from `start` on that it belongs to.
    pub(crate) fn unquoted(&self, position: usize, start: usize, expected: &'static str) -> ParseError {
        let rest = &self.text[position..];
        let is_end = |c: char| c.is_whitespace() || "&|(){},!='\"".contains(c);
        let word = &rest[..rest.find(is_end).unwrap_or(rest.len())];
        let right = (!word.is_empty() && position + word.len() - start <= MAX_SHOWN)
            .then(|| smol_str::format_smolstr!("{}\"{word}\"", &self.text[start..position]));
        ParseError { right, ..self.error(position, expected) }
    }

    fn token(&mut self, words: Words) -> Result<(Token<'a>, usize), ParseError> {
        self.next = skip_blanks(self.text, self.next);
        let start = self.next;
        let bytes = self.text.as_bytes();
        let Some(&first) = bytes.get(start) else {
            return Ok((Token::End, start));
        };
        let doubled = bytes.get(start + 1) == Some(&first);
        let (token, length) = match first {
            b'(' => (Token::LeftParen, 1),
            b')' => (Token::RightParen, 1),
            b'{' => (Token::LeftBrace, 1),
            b'}' => (Token::RightBrace, 1),
            b',' => (Token::Comma, 1),
            b'=' if doubled => (Token::Equal, 2),
            b'=' => return Err(self.error(start, "`==`")),
            b'&' if doubled => (Token::And, 2),
            b'&' => return Err(self.error(start, "`&&`")),
            b'|' if doubled => (Token::Or, 2),
            b'|' => return Err(self.error(start, "`||`")),
            b'!' if bytes.get(start + 1) == Some(&b'=') => (Token::NotEqual, 2),
            b'!' => (Token::Not, 1),
            b'"' | b'\'' => self.text_token(start, first)?,
            _ if words == Words::Operator => self.word_operator(start)?,
            _ => self.word_operand(start)?,
        };
        self.next = start + length;
        Ok((token, start))
    }

    /// A quoted text: everything up to the same quote, without escapes.
    fn text_token(&self, start: usize, quote: u8) -> Result<(Token<'a>, usize), ParseError> {
        let body = &self.text[start + 1..];
        match body.bytes().position(|byte| byte == quote) {
            Some(end) => Ok((Token::Text(&body[..end]), end + 2)),
            None => Err(self.error(start, "a closing quote")),
        }
    }

    fn word_operator(&self, start: usize) -> Result<(Token<'a>, usize), ParseError> {
        const OPERATORS: [(&str, &str, Token<'static>); 5] = [
            ("contains", "", Token::Contains),
            ("starts", "with", Token::StartsWith),
            ("ends", "with", Token::EndsWith),
            ("not", "in", Token::NotIn),
            ("in", "", Token::In),
        ];
        for (word, second, token) in OPERATORS {
            if !self.text[start..].starts_with(word) {
                continue;
            }
            let mut end = start + word.len();
            if !second.is_empty() {
                end = skip_blanks(self.text, end);
                if !self.text[end..].starts_with(second) {
                    continue;
                }
                end += second.len();
            }
            let at_boundary = self
                .text
                .as_bytes()
                .get(end)
                .is_none_or(|byte| !byte.is_ascii_alphanumeric() && *byte != b'_');
            if at_boundary {
                return Ok((token, end - start));
            }
        }
        Err(self.error(start, "an operator after the label"))
    }

    fn word_operand(&self, start: usize) -> Result<(Token<'a>, usize), ParseError> {
        let label = self.label_at(start)?;
        if label.is_empty() {
            return Err(self.error(start, "a label, a function, `!` or `(`"));
        }
        let end = start + label.len();
        if self.text.as_bytes().get(end) == Some(&b'(') {
            let inside = skip_blanks(self.text, end + 1);
            let argument = if label == "has" { self.label_at(inside)? } else { "" };
            let close = skip_blanks(self.text, inside + argument.len());
            let closed = self.text.as_bytes().get(close) == Some(&b')');
            let function = match label {
                "has" if argument.is_empty() => return Err(self.error(inside, "a label name")),
                "has" => Token::Has(argument),
                "all" => Token::All,
                "global" => Token::Global,
                _ => return Ok((Token::Label(label), label.len())),
            };
            if !closed {
                return Err(self.error(close, "`)`"));
            }
            return Ok((function, close + 1 - start));
        }
        Ok((Token::Label(label), label.len()))
    }

    /// The label name that begins at `start`; empty if there is none.
    fn label_at(&self, start: usize) -> Result<&'a str, ParseError> {
        let rest = &self.text[start..];
        let length = rest.bytes().position(|byte| !is_label_byte(byte)).unwrap_or(rest.len());
        if length > MAX_LABEL {
            return Err(self.error(start, "a label name of at most 512 bytes"));
        }
        Ok(&rest[..length])
    }
}

/// The first position from `start` on that is neither a space nor a tab.
fn skip_blanks(text: &str, start: usize) -> usize {
    let blanks = text.as_bytes()[start..].iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    start + blanks
}

fn is_label_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'/' | b'-')
}
