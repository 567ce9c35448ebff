//! What leads where: the nesting that the kernel limits, and references that it would refuse.

use std::collections::{BTreeSet, HashMap};

use smol_str::SmolStr;

use crate::fragment::Part;
use crate::ir::{Action, Chain};
use crate::nft::{ChainKind, Element, Verdict};

/// Jumps and gotos that may nest below a base chain. The kernel takes fifteen (NFT_JUMP_STACK_SIZE − 1) and counts a
/// goto like a jump.
pub const DEPTH_MAX: usize = 12;

/// The chains that a verdict map leads to, by map.
fn map_targets(part: &Part) -> HashMap<&SmolStr, Vec<&SmolStr>> {
    let mut targets: HashMap<&SmolStr, Vec<&SmolStr>> = HashMap::new();
    let own = part.sets.iter().flat_map(|s| s.elements.iter().map(|e| (&s.name, e)));
    for (map, element) in own.chain(part.elements.iter().map(|(map, e)| (map, e))) {
        if let Element::Verdict { verdict: Verdict::Jump(to) | Verdict::Goto(to), .. } = element {
            targets.entry(map).or_default().push(to);
        }
    }
    targets
}

/// How deep the chains of a table nest below its base chains; `None` if they do in a circle.
pub fn depth(part: &Part) -> Option<usize> {
    let chains: HashMap<&SmolStr, &Chain> = part.chains.iter().map(|c| (&c.name, c)).collect();
    let maps = map_targets(part);
    let mut known = HashMap::new();
    let base = part.chains.iter().filter(|c| c.kind != ChainKind::Regular);
    base.map(|chain| height(chain, &chains, &maps, &mut known)).try_fold(0, |max, h| Some(max.max(h?)))
}

/// The longest way down from a chain. `known` holds `None` for chains that are being walked.
fn height<'a>(
    chain: &'a Chain,
    chains: &HashMap<&SmolStr, &'a Chain>,
    maps: &HashMap<&SmolStr, Vec<&'a SmolStr>>,
    known: &mut HashMap<&'a SmolStr, Option<usize>>,
) -> Option<usize> {
    if let Some(height) = known.get(&chain.name) {
        return *height;
    }
    known.insert(&chain.name, None);
    let mapped = chain.sets().filter_map(|set| maps.get(set)).flatten().copied();
    let mut highest = 0;
    for target in chain.targets().chain(mapped).filter_map(|name| chains.get(name)) {
        highest = highest.max(height(target, chains, maps, known)? + 1);
    }
    known.insert(&chain.name, Some(highest));
    Some(highest)
}

/// Names of chains and sets that rules and elements refer to and that are not there.
pub fn dangling(part: &Part) -> BTreeSet<SmolStr> {
    let chains: BTreeSet<&SmolStr> = part.chains.iter().map(|c| &c.name).collect();
    let sets: BTreeSet<&SmolStr> = part.sets.iter().map(|s| &s.name).collect();
    let maps = map_targets(part);
    let to_chain = part.chains.iter().flat_map(Chain::targets).chain(maps.values().flatten().copied());
    let to_set = part.chains.iter().flat_map(Chain::sets).chain(part.elements.iter().map(|(set, _)| set));
    let lost_chains = to_chain.filter(|name| !chains.contains(name));
    lost_chains.chain(to_set.filter(|name| !sets.contains(name))).cloned().collect()
}

/// Whether anything follows an action that decides.
pub fn has_dead_actions(chain: &Chain) -> bool {
    chain.rules.iter().any(|rule| {
        let decides = |a: &Action| {
            matches!(a, Action::Accept | Action::Drop | Action::Reject | Action::Return | Action::Goto(_))
        };
        rule.actions.iter().rev().skip(1).any(decides)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::Rule;
    use crate::nft::{ChainType, Hook};

    fn jump(to: &str) -> Rule {
        Rule::new([], [Action::Jump(to.into())])
    }

    fn base(rules: Vec<Rule>) -> Chain {
        let kind = ChainKind::Base { hook: Hook::Input, priority: 0, chain_type: ChainType::Filter };
        Chain { name: "base".into(), kind, rules }
    }

    #[test]
    fn the_longest_way_counts() {
        let mut part = Part::default();
        part.add_chain(base(vec![jump("a"), jump("b")]));
        part.add_chain(Chain::regular("a", vec![jump("b")]));
        let by_map = Rule::new([], [Action::GotoByInInterface { map: "m".into() }]);
        part.add_chain(Chain::regular("b", vec![by_map]));
        part.add_chain(Chain::regular("c", vec![]));
        let verdict = Verdict::Goto("c".into());
        part.elements.push(("m".into(), Element::Verdict { key: Default::default(), verdict }));
        assert_eq!(depth(&part), Some(3));
        assert_eq!(dangling(&part), ["m".into()].into());
    }

    #[test]
    fn circles_and_lost_references_are_found() {
        let mut part = Part::default();
        part.add_chain(base(vec![jump("a")]));
        part.add_chain(Chain::regular("a", vec![jump("b")]));
        part.add_chain(Chain::regular("b", vec![jump("a"), jump("nowhere")]));
        assert_eq!(depth(&part), None);
        assert_eq!(dangling(&part), ["nowhere".into()].into());
    }
}
