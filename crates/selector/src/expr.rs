//! The syntax tree of a selector, and its meaning on one set of labels.

use smol_str::SmolStr;

use crate::labels::Labels;

/// A selector's expression.
///
/// Trees that the parser makes are in normal form: `And` and `Or` have at least two operands, a `Not` never holds a
/// `Not`, and value lists are sorted bytewise without duplicates. Nested nodes of the same operator stay nested, as
/// the user's parentheses put them (spec 2 §4.3).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Expr {
    /// `all()`: anything.
    All,
    /// `global()`: anything too; only a marker, which [`crate::translation`] gives a meaning.
    Global,
    /// A test of one label.
    Label(SmolStr, Test),
    /// `!x`.
    Not(Box<Expr>),
    /// `(x && y && …)`.
    And(Vec<Expr>),
    /// `(x || y || …)`.
    Or(Vec<Expr>),
}

/// What is asked of one label.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Test {
    /// `has(label)`.
    Present,
    /// `label == "v"`.
    Equal(SmolStr),
    /// `label != "v"`: also true when the label is absent.
    NotEqual(SmolStr),
    /// `label contains "v"`.
    Contains(SmolStr),
    /// `label starts with "v"`.
    StartsWith(SmolStr),
    /// `label ends with "v"`.
    EndsWith(SmolStr),
    /// `label in {"v", …}`; sorted, each once.
    In(Box<[SmolStr]>),
    /// `label not in {"v", …}`; sorted, each once; also true when the label is absent.
    NotIn(Box<[SmolStr]>),
}

impl Test {
    /// Whether the test holds for a label's value (`None`: the label is absent), by the table of spec 2 §4.2.
    pub fn holds(&self, value: Option<&str>) -> bool {
        let Some(value) = value else {
            return matches!(self, Test::NotEqual(_) | Test::NotIn(_));
        };
        match self {
            Test::Present => true,
            Test::Equal(wanted) => value == wanted,
            Test::NotEqual(unwanted) => value != unwanted,
            Test::Contains(part) => value.contains(part.as_str()),
            Test::StartsWith(part) => value.starts_with(part.as_str()),
            Test::EndsWith(part) => value.ends_with(part.as_str()),
            Test::In(values) => contains(values, value),
            Test::NotIn(values) => !contains(values, value),
        }
    }
}

/// Whether a sorted list has the value.
fn contains(sorted: &[SmolStr], value: &str) -> bool {
    sorted.binary_search_by(|probe| probe.as_str().cmp(value)).is_ok()
}

impl Expr {
    /// The negation, kept in normal form: `!!x` is `x`.
    ///
    /// Calico collapses a row of `!` but prints `!(!x)` as `!!x`, which it would read back as `x`; here both are `x`
    /// at once, so that canonical text is a fixed point.
    pub(crate) fn negated(self) -> Expr {
        match self {
            Expr::Not(inner) => *inner,
            other => Expr::Not(Box::new(other)),
        }
    }

    /// Whether the labels satisfy the expression.
    pub fn matches<L: Labels + ?Sized>(&self, labels: &L) -> bool {
        match self {
            Expr::All | Expr::Global => true,
            Expr::Label(name, test) => test.holds(labels.label(name)),
            Expr::Not(operand) => !operand.matches(labels),
            Expr::And(operands) => operands.iter().all(|operand| operand.matches(labels)),
            Expr::Or(operands) => operands.iter().any(|operand| operand.matches(labels)),
        }
    }

    /// The same expression with `prefix` before every label name.
    pub(crate) fn prefixed(&self, prefix: &str) -> Expr {
        let each = |operands: &[Expr]| operands.iter().map(|operand| operand.prefixed(prefix)).collect();
        match self {
            Expr::All => Expr::All,
            Expr::Global => Expr::Global,
            Expr::Label(name, test) => Expr::Label(smol_str::format_smolstr!("{prefix}{name}"), test.clone()),
            Expr::Not(operand) => Expr::Not(Box::new(operand.prefixed(prefix))),
            Expr::And(operands) => Expr::And(each(operands)),
            Expr::Or(operands) => Expr::Or(each(operands)),
        }
    }
}
