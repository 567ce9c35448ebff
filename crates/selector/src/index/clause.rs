//! What must be true of an item for a selector to match it: the handles by which the index finds selectors and items.

use super::vocabulary::{Fact, Vocabulary};
use crate::expr::{Expr, Test};

/// Facts of which every match has at least one. Without facts nothing can match.
pub(super) type Clause = Vec<Fact>;

/// The clauses that an expression implies. None at all means that nothing positive is known: `a != "x"` matches items
/// without any label. All words of the expression must be in use.
pub(super) fn clauses(expr: &Expr, words: &Vocabulary) -> Vec<Clause> {
    let mut found = Vec::new();
    require(expr, true, words, &mut found);
    found
}

/// Which clause finds the fewest selectors beside a new one, so that a label that many selectors share does not
/// become the handle of all; then the one that finds the fewest items.
pub(super) fn best_key(clauses: Vec<Clause>, words: &Vocabulary) -> Option<Clause> {
    clauses.into_iter().min_by_key(|clause| {
        let neighbours: usize = clause.iter().map(|fact| words.keyed(*fact).len() + 1).sum();
        (neighbours, item_count(clause, words))
    })
}

/// Which clause finds the fewest items.
pub(super) fn narrowest<'a>(clauses: &'a [Clause], words: &Vocabulary) -> Option<&'a Clause> {
    clauses.iter().min_by_key(|clause| item_count(clause, words))
}

fn item_count(clause: &[Fact], words: &Vocabulary) -> usize {
    clause.iter().map(|fact| words.items(*fact).len()).sum()
}

/// Adds what `expr` being `wanted` implies.
fn require(expr: &Expr, wanted: bool, words: &Vocabulary, found: &mut Vec<Clause>) {
    match (expr, wanted) {
        (Expr::All | Expr::Global, true) => {}
        (Expr::All | Expr::Global, false) => found.push(Clause::new()),
        (Expr::Not(operand), _) => require(operand, !wanted, words, found),
        (Expr::And(operands), true) | (Expr::Or(operands), false) => {
            operands.iter().for_each(|operand| require(operand, wanted, words, found));
        }
        (Expr::Or(operands), true) | (Expr::And(operands), false) => {
            let mut either = Clause::new();
            for operand in operands {
                let mut implied = Vec::new();
                require(operand, wanted, words, &mut implied);
                match best_key(implied, words) {
                    Some(clause) => either.extend(clause),
                    None => return,
                }
            }
            either.sort_unstable();
            either.dedup();
            found.push(either);
        }
        (Expr::Label(name, test), _) => {
            let pair = |value: &str| words.lookup_pair(name, value).map(|bound| Fact::Pair(bound.pair));
            match (test, wanted) {
                (Test::Equal(value), true) | (Test::NotEqual(value), false) => {
                    found.push(pair(value).into_iter().collect());
                }
                (Test::In(values), true) | (Test::NotIn(values), false) => {
                    found.push(values.iter().filter_map(|value| pair(value)).collect());
                }
                (Test::Present | Test::Contains(_) | Test::StartsWith(_) | Test::EndsWith(_), true) => {
                    found.push(words.names().lookup(name).map(Fact::Label).into_iter().collect());
                }
                _ => {}
            }
        }
    }
}
