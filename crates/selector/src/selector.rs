//! A parsed selector: the crate's main word.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use smol_str::SmolStr;

use crate::expr::Expr;
use crate::labels::Labels;
use crate::parser::{self, ParseError};
use crate::restriction::{self, Restriction};
use crate::uid;

/// A selector. Two are equal if their canonical texts are equal.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Selector {
    expr: Expr,
}

/// Reads a selector; a blank text is `all()`.
///
/// # Errors
/// [`ParseError`] names the byte where the text departs from the grammar of spec 2 §4.1.
pub fn parse(text: &str) -> Result<Selector, ParseError> {
    Ok(Selector { expr: parser::parse_expr(text)? })
}

/// The canonical text of a selector, or the trimmed input where it is none (spec 2 §4.3).
pub fn normalise(text: &str) -> String {
    match parse(text) {
        Ok(selector) => selector.to_string(),
        Err(_) => text.trim().to_owned(),
    }
}

impl Selector {
    /// The selector `all()`.
    pub fn all() -> Selector {
        Selector { expr: Expr::All }
    }

    /// Its syntax tree, in normal form.
    pub fn expr(&self) -> &Expr {
        &self.expr
    }

    /// Whether the (effective) labels satisfy it.
    pub fn matches<L: Labels + ?Sized>(&self, labels: &L) -> bool {
        self.expr.matches(labels)
    }

    /// Its unique id, `s:` and 38 characters: equal for equal canonical texts, the same as Calico's (spec 2 §4.3).
    pub fn uid(&self) -> String {
        uid::unique_id("s", &self.to_string())
    }

    /// What it demands of single labels, by label name; labels without demands are left out.
    pub fn restrictions(&self) -> BTreeMap<SmolStr, Restriction> {
        restriction::restrictions(&self.expr)
    }

    /// The same selector with `prefix` before every label name (spec 2 §4.5).
    #[must_use]
    pub fn prefixed(&self, prefix: &str) -> Selector {
        Selector { expr: self.expr.prefixed(prefix) }
    }
}

/// Prints the canonical text, which parses to an equal selector.
impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.expr.fmt(f)
    }
}

impl FromStr for Selector {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Selector, ParseError> {
        parse(text)
    }
}

#[cfg(test)]
mod tests;
