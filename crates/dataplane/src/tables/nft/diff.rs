//! The difference of two rule lists, by identity: rules that stay keep their place and their counters.

use super::identity::{NamedRule, RuleId};
use super::op::RuleHandle;

/// A rule that the kernel holds. Its handle is unknown when it was added by us and nobody asked since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KnownRule {
    pub id: Option<RuleId>,
    pub handle: Option<RuleHandle>,
}

/// One step from the kernel's list to the wanted one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Remove all rules.
    Flush,
    /// Remove the kernel's rule at this place of its list.
    Delete(usize),
    /// Add the wanted rule at this place of its list: before a kernel's rule, or last.
    Add {
        /// Place in the wanted list.
        wanted: usize,
        /// Place in the kernel's list of the rule that it goes before.
        before: Option<usize>,
    },
}

/// Above this product of lengths, what differs in the middle of a list is replaced whole: the table of the exact
/// comparison would take more memory and time than the counters are worth.
const EXACT_MAX: usize = 1 << 20;

/// The steps from `actual` to `wanted`: deletions first, then additions in order.
pub(crate) fn diff(actual: &[KnownRule], wanted: &[NamedRule]) -> Vec<Step> {
    let same = |(a, w): (&KnownRule, &NamedRule)| a.id == Some(w.id);
    let head = actual.iter().zip(wanted).take_while(|(a, w)| same((a, w))).count();
    let (old, new) = (&actual[head..], &wanted[head..]);
    let tail = old.iter().rev().zip(new.iter().rev()).take_while(|(a, w)| same((a, w))).count();
    let (old, new) = (&old[..old.len() - tail], &new[..new.len() - tail]);
    let kept = longest_common(old, new);
    if head + tail == 0 && kept.is_empty() && !actual.is_empty() {
        return std::iter::once(Step::Flush)
            .chain((0..wanted.len()).map(|wanted| Step::Add { wanted, before: None }))
            .collect();
    }
    let mut steps = Vec::new();
    let mut kept_old = kept.iter().map(|(o, _)| *o).peekable();
    for o in 0..old.len() {
        if kept_old.next_if_eq(&o).is_none() {
            steps.push(Step::Delete(head + o));
        }
    }
    let behind = (tail > 0).then_some(head + old.len());
    let mut kept = kept.iter().peekable();
    for n in 0..new.len() {
        if kept.next_if(|(_, k)| *k == n).is_some() {
            continue;
        }
        let before = kept.peek().map(|(o, _)| head + o).or(behind);
        steps.push(Step::Add { wanted: head + n, before });
    }
    steps
}

/// A longest common subsequence as pairs of places.
fn longest_common(old: &[KnownRule], new: &[NamedRule]) -> Vec<(usize, usize)> {
    if old.is_empty() || new.is_empty() || old.len().saturating_mul(new.len()) > EXACT_MAX {
        return Vec::new();
    }
    let width = new.len() + 1;
    let mut length = vec![0u32; (old.len() + 1) * width];
    for o in (0..old.len()).rev() {
        for n in (0..new.len()).rev() {
            length[o * width + n] = if old[o].id == Some(new[n].id) {
                length[(o + 1) * width + n + 1] + 1
            } else {
                length[(o + 1) * width + n].max(length[o * width + n + 1])
            };
        }
    }
    let (mut o, mut n, mut pairs) = (0, 0, Vec::new());
    while o < old.len() && n < new.len() {
        if old[o].id == Some(new[n].id) {
            pairs.push((o, n));
            (o, n) = (o + 1, n + 1);
        } else if length[(o + 1) * width + n] >= length[o * width + n + 1] {
            o += 1;
        } else {
            n += 1;
        }
    }
    pairs
}

#[cfg(test)]
mod tests {
    use calico_rules::nft::Rule;
    use proptest::prelude::*;

    use super::*;

    fn rules(text: &str) -> Vec<NamedRule> {
        text.chars().map(|c| Rule { exprs: Vec::new(), comment: c.to_string().into() }.into()).collect()
    }

    fn known(text: &str) -> Vec<KnownRule> {
        let rules = rules(text);
        let number =
            |(i, r): (usize, &NamedRule)| KnownRule { id: Some(r.id), handle: Some(RuleHandle(i as u64)) };
        rules.iter().enumerate().map(number).collect()
    }

    /// Does the steps as the kernel would.
    fn result(actual: &str, wanted: &str) -> (String, usize) {
        let steps = diff(&known(actual), &rules(wanted));
        let mut list: Vec<(Option<usize>, char)> =
            actual.chars().enumerate().map(|(i, c)| (Some(i), c)).collect();
        for step in &steps {
            match *step {
                Step::Flush => list.clear(),
                Step::Delete(place) => list.retain(|(i, _)| *i != Some(place)),
                Step::Add { wanted: n, before } => {
                    let at = match before {
                        Some(place) => list.iter().position(|(i, _)| *i == Some(place)).unwrap(),
                        None => list.len(),
                    };
                    list.insert(at, (None, wanted.chars().nth(n).unwrap()));
                }
            }
        }
        (list.into_iter().map(|(_, c)| c).collect(), steps.len())
    }

    #[test]
    fn the_fewest_steps() {
        for (actual, wanted, steps) in [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "abc", 0),
            ("abc", "abcd", 1),
            ("abc", "xabc", 1),
            ("abc", "ac", 1),
            ("abc", "axc", 2),
            ("aab", "ab", 1),
            ("abc", "xyz", 4),
            ("abc", "", 1),
            ("abcdef", "bcxdf", 3),
        ] {
            assert_eq!(result(actual, wanted), (wanted.to_owned(), steps), "{actual} → {wanted}");
        }
    }

    proptest! {
        #[test]
        fn always_ends_at_the_wanted_list(actual in "[a-e]{0,12}", wanted in "[a-e]{0,12}") {
            prop_assert_eq!(result(&actual, &wanted).0, wanted);
        }
    }
}
