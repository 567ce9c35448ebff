//! What a selector demands of single labels: facts that every match must satisfy, for quick rejection.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use smol_str::SmolStr;

use crate::expr::{Expr, Test};

/// What every match of a selector has to fulfil for one label. Necessary, not sufficient.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restriction {
    /// The label must be there.
    pub must_be_present: bool,
    /// The label must not be there.
    pub must_be_absent: bool,
    /// The value must be one of these; sorted, each once.
    pub must_have_one_of: Option<Vec<SmolStr>>,
}

impl Restriction {
    /// Whether a label's value (`None`: absent) may belong to a match.
    pub fn permits(&self, value: Option<&str>) -> bool {
        match (value, &self.must_have_one_of) {
            (None, _) => !self.must_be_present,
            (Some(_), _) if self.must_be_absent => false,
            (Some(value), Some(values)) => values.iter().any(|permitted| permitted == value),
            (Some(_), None) => true,
        }
    }

    /// Whether nothing can fulfil it.
    pub fn is_impossible(&self) -> bool {
        self.must_be_present
            && (self.must_be_absent || self.must_have_one_of.as_ref().is_some_and(|values| values.is_empty()))
    }

    fn present() -> Restriction {
        Restriction { must_be_present: true, ..Restriction::default() }
    }

    fn one_of(values: Vec<SmolStr>) -> Restriction {
        Restriction { must_be_present: true, must_be_absent: false, must_have_one_of: Some(values) }
    }

    /// Both hold.
    fn and(self, other: Restriction) -> Restriction {
        let must_have_one_of = match (self.must_have_one_of, other.must_have_one_of) {
            (Some(mut ours), Some(theirs)) => {
                ours.retain(|value| theirs.binary_search(value).is_ok());
                Some(ours)
            }
            (ours, theirs) => ours.or(theirs),
        };
        Restriction {
            must_be_present: self.must_be_present || other.must_be_present,
            must_be_absent: self.must_be_absent || other.must_be_absent,
            must_have_one_of,
        }
    }

    /// At least one holds; `None` when that says nothing.
    fn or(self, other: Restriction) -> Option<Restriction> {
        let must_have_one_of = match (self.must_have_one_of, other.must_have_one_of) {
            (Some(mut ours), Some(theirs)) => {
                ours.extend(theirs);
                ours.sort_unstable();
                ours.dedup();
                Some(ours)
            }
            _ => None,
        };
        let both = Restriction {
            must_be_present: self.must_be_present && other.must_be_present,
            must_be_absent: self.must_be_absent && other.must_be_absent,
            must_have_one_of,
        };
        (both != Restriction::default()).then_some(both)
    }
}

/// The restrictions of an expression by label name (spec 2 §4.3: "and" intersects, "or" keeps what is common, "not"
/// inverts only `has`).
pub(crate) fn restrictions(expr: &Expr) -> BTreeMap<SmolStr, Restriction> {
    match expr {
        Expr::All | Expr::Global => BTreeMap::new(),
        Expr::Label(label, test) => {
            let restriction = match test {
                Test::Present | Test::Contains(_) | Test::StartsWith(_) | Test::EndsWith(_) => {
                    Restriction::present()
                }
                Test::Equal(value) => Restriction::one_of(vec![value.clone()]),
                Test::In(values) => Restriction::one_of(values.to_vec()),
                Test::NotEqual(_) | Test::NotIn(_) => return BTreeMap::new(),
            };
            BTreeMap::from([(label.clone(), restriction)])
        }
        Expr::Not(operand) => match &**operand {
            Expr::Label(label, Test::Present) => BTreeMap::from([(
                label.clone(),
                Restriction { must_be_absent: true, ..Restriction::default() },
            )]),
            _ => BTreeMap::new(),
        },
        Expr::And(operands) => {
            let mut all: BTreeMap<SmolStr, Restriction> = BTreeMap::new();
            for (label, restriction) in operands.iter().flat_map(restrictions) {
                match all.entry(label) {
                    Entry::Vacant(entry) => {
                        entry.insert(restriction);
                    }
                    Entry::Occupied(mut entry) => {
                        let before = std::mem::take(entry.get_mut());
                        entry.insert(before.and(restriction));
                    }
                }
            }
            all
        }
        Expr::Or(operands) => operands
            .iter()
            .map(restrictions)
            .reduce(|common, mut other| {
                common
                    .into_iter()
                    .filter_map(|(label, ours)| Some((ours.or(other.remove(&label)?)?, label)))
                    .map(|(restriction, label)| (label, restriction))
                    .collect()
            })
            .unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests;
