//! Builds a selector's tree from its text (grammar: spec 2 §4.1).
//!
//! Open parentheses stand on an explicit stack, not on the thread's: hostile nesting is an error, never an overflow.
//!
//! ```text
//!            ┌──────── && or || ────────┐
//!            ▼                          │
//!   ▶ operand position ── operand ─▶ operator position ── end ─▶ done
//!        │       ▲                     │      ▲
//!        └─ ! ( ─┘                     └─ ) ──┘
//! ```

use smol_str::SmolStr;

use crate::expr::{Expr, Test};
use crate::lexer::{Lexer, Token};

/// The deepest nesting of parentheses that is read. The API allows selectors of 1,024 characters, in which no more
/// than 510 pairs fit; translation (spec 2 §4.5) adds a few.
pub const MAX_NESTING: usize = 520;

/// Why a text is not a selector.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "bad selector at byte {position}: expected {expected}, found {found}{}",
    right.as_ref().map_or_else(String::new, |right| format!("; write {right}"))
)]
pub struct ParseError {
    /// Where, in bytes from the text's beginning.
    pub position: usize,
    /// What stands there, shortened.
    pub found: SmolStr,
    /// What could have stood there.
    pub expected: &'static str,
    /// What was probably meant.
    pub right: Option<SmolStr>,
}

/// One open parenthesis (or the whole text): the operands read so far.
#[derive(Default)]
struct Group {
    /// Whether an odd number of `!` stood before the parenthesis.
    negated: bool,
    /// Finished operands of `||`.
    alternatives: Vec<Expr>,
    /// The conjunction being read: operands of `&&`.
    conjunction: Vec<Expr>,
}

impl Group {
    /// Ends the conjunction being read: it becomes an operand of `||`.
    fn end_conjunction(&mut self) {
        let operands = std::mem::take(&mut self.conjunction);
        self.alternatives.push(joined(operands, Expr::And));
    }

    /// The whole group as one expression.
    fn end(mut self) -> Expr {
        if self.alternatives.is_empty() {
            return signed(joined(self.conjunction, Expr::And), self.negated);
        }
        self.end_conjunction();
        signed(Expr::Or(self.alternatives), self.negated)
    }
}

/// One operand stands for itself; several make one node.
fn joined(mut operands: Vec<Expr>, node: fn(Vec<Expr>) -> Expr) -> Expr {
    match operands.pop() {
        Some(only) if operands.is_empty() => only,
        last => {
            operands.extend(last);
            node(operands)
        }
    }
}

fn signed(expr: Expr, negated: bool) -> Expr {
    if negated { expr.negated() } else { expr }
}

/// Reads a whole selector. A blank text means `all()`.
pub(crate) fn parse_expr(text: &str) -> Result<Expr, ParseError> {
    if text.bytes().all(|byte| matches!(byte, b' ' | b'\t')) {
        return Ok(Expr::All);
    }
    let mut lexer = Lexer::new(text);
    let mut outer: Vec<Group> = Vec::new();
    let mut group = Group::default();
    loop {
        let (negated, token, position) = operand_start(&mut lexer)?;
        let operand = match token {
            Token::LeftParen if outer.len() == MAX_NESTING => {
                return Err(lexer.error(position, "fewer nested parentheses"));
            }
            Token::LeftParen => {
                outer.push(std::mem::replace(&mut group, Group { negated, ..Group::default() }));
                continue;
            }
            Token::All => Expr::All,
            Token::Global => Expr::Global,
            Token::Has(label) => Expr::Label(label.into(), Test::Present),
            Token::Label(label) => Expr::Label(label.into(), comparison(&mut lexer, position)?),
            _ => return Err(lexer.error(position, "a label, a function, `!` or `(`")),
        };
        group.conjunction.push(signed(operand, negated));
        // Operator position: close what closes here, then go on to the next operand or end.
        loop {
            let (token, position) = lexer.operand()?;
            match token {
                Token::And => break,
                Token::Or => {
                    group.end_conjunction();
                    break;
                }
                Token::RightParen => {
                    let Some(parent) = outer.pop() else {
                        return Err(lexer.error(position, "`&&`, `||` or the end"));
                    };
                    let inner = std::mem::replace(&mut group, parent).end();
                    group.conjunction.push(inner);
                }
                Token::End if outer.is_empty() => return Ok(group.end()),
                _ if outer.is_empty() => return Err(lexer.error(position, "`&&`, `||` or the end")),
                _ => return Err(lexer.error(position, "`&&`, `||` or `)`")),
            }
        }
    }
}

/// Skips a row of `!`: whether their number is odd, then the token after them and where it stands.
fn operand_start<'a>(lexer: &mut Lexer<'a>) -> Result<(bool, Token<'a>, usize), ParseError> {
    let mut negated = false;
    loop {
        match lexer.operand()? {
            (Token::Not, _) => negated = !negated,
            (token, position) => return Ok((negated, token, position)),
        }
    }
}

/// What follows a label, which stands at `label`.
fn comparison(lexer: &mut Lexer<'_>, label: usize) -> Result<Test, ParseError> {
    let (token, position) = lexer.operator()?;
    let value = |lexer: &mut Lexer<'_>| value(lexer, label);
    match token {
        Token::Equal => Ok(Test::Equal(value(lexer)?)),
        Token::NotEqual => Ok(Test::NotEqual(value(lexer)?)),
        Token::Contains => Ok(Test::Contains(value(lexer)?)),
        Token::StartsWith => Ok(Test::StartsWith(value(lexer)?)),
        Token::EndsWith => Ok(Test::EndsWith(value(lexer)?)),
        Token::In => Ok(Test::In(values(lexer)?)),
        Token::NotIn => Ok(Test::NotIn(values(lexer)?)),
        _ => Err(lexer.error(position, "an operator after the label")),
    }
}

fn value(lexer: &mut Lexer<'_>, label: usize) -> Result<SmolStr, ParseError> {
    match lexer.operand()? {
        (Token::Text(text), _) => Ok(text.into()),
        (_, position) => Err(lexer.unquoted(position, label, "a quoted value")),
    }
}

/// `{ "a", 'b', }`: may be empty and may end in a comma.
fn values(lexer: &mut Lexer<'_>) -> Result<Box<[SmolStr]>, ParseError> {
    match lexer.operand()? {
        (Token::LeftBrace, _) => {}
        (_, position) => return Err(lexer.error(position, "`{`")),
    }
    let mut found: Vec<SmolStr> = Vec::new();
    loop {
        match lexer.operand()? {
            (Token::RightBrace, _) => break,
            (Token::Text(text), _) => found.push(text.into()),
            (_, position) => return Err(lexer.unquoted(position, position, "a quoted value or `}`")),
        }
        match lexer.operand()? {
            (Token::RightBrace, _) => break,
            (Token::Comma, _) => {}
            (_, position) => return Err(lexer.error(position, "`,` or `}`")),
        }
    }
    found.sort_unstable();
    found.dedup();
    Ok(found.into_boxed_slice())
}

#[cfg(test)]
mod tests;
