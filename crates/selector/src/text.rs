//! The canonical text of a selector: what is hashed into its uid, shown and compared (spec 2 §4.3).

use std::fmt::{Display, Formatter, Result};

use smol_str::SmolStr;

use crate::expr::{Expr, Test};

impl Display for Expr {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Expr::All => f.write_str("all()"),
            Expr::Global => f.write_str("global()"),
            Expr::Label(label, test) => write_test(f, label, test),
            Expr::Not(operand) => write!(f, "!{operand}"),
            Expr::And(operands) => write_joined(f, operands, " && "),
            Expr::Or(operands) => write_joined(f, operands, " || "),
        }
    }
}

fn write_test(f: &mut Formatter<'_>, label: &str, test: &Test) -> Result {
    match test {
        Test::Present => write!(f, "has({label})"),
        Test::Equal(value) => write!(f, "{label} == {}", Quoted(value)),
        Test::NotEqual(value) => write!(f, "{label} != {}", Quoted(value)),
        Test::Contains(value) => write!(f, "{label} contains {}", Quoted(value)),
        Test::StartsWith(value) => write!(f, "{label} starts with {}", Quoted(value)),
        Test::EndsWith(value) => write!(f, "{label} ends with {}", Quoted(value)),
        Test::In(values) => write_values(f, label, "in", values),
        Test::NotIn(values) => write_values(f, label, "not in", values),
    }
}

fn write_values(f: &mut Formatter<'_>, label: &str, operator: &str, values: &[SmolStr]) -> Result {
    write!(f, "{label} {operator} {{")?;
    for (position, value) in values.iter().enumerate() {
        if position > 0 {
            f.write_str(", ")?;
        }
        write!(f, "{}", Quoted(value))?;
    }
    f.write_str("}")
}

fn write_joined(f: &mut Formatter<'_>, operands: &[Expr], operator: &str) -> Result {
    f.write_str("(")?;
    for (position, operand) in operands.iter().enumerate() {
        if position > 0 {
            f.write_str(operator)?;
        }
        write!(f, "{operand}")?;
    }
    f.write_str(")")
}

/// A value in the quotes that it does not contain. There are no escapes, so no value has both kinds.
struct Quoted<'a>(&'a str);

impl Display for Quoted<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let quote = if self.0.contains('"') { '\'' } else { '"' };
        write!(f, "{quote}{}{quote}", self.0)
    }
}
