//! The fake kernel's nf_tables: objects, and the checks that the kernel makes on them.

use std::collections::BTreeMap;

use calico_rules::nft::{ChainKind, Data, Element, Expr, KeyField, Rule, SetSpec, Table, Verdict};
use smol_str::SmolStr;

use crate::tables::nft::{
    ActualChain, ActualRule, ActualSet, ActualTable, NftOp, Place, RuleHandle, RuleId, element_key,
};

/// `NFT_JUMP_STACK_SIZE`: a base chain and 15 jumps below it.
const STACK_SIZE: usize = 16;
/// `NFT_RULE_MAXEXPRS`.
const EXPRESSIONS_MAX: usize = 128;

#[derive(Clone, Debug)]
struct FakeChain {
    kind: ChainKind,
    rules: Vec<(RuleHandle, Rule, RuleId)>,
}

#[derive(Clone, Debug)]
struct FakeSet {
    spec: SetSpec,
    elements: BTreeMap<Data, Element>,
}

/// One table.
#[derive(Clone, Debug, Default)]
pub(super) struct FakeTable {
    chains: BTreeMap<SmolStr, FakeChain>,
    sets: BTreeMap<SmolStr, FakeSet>,
    last_handle: u64,
}

type Refused = &'static str;
const ABSENT: Refused = "No such file or directory";
const BUSY: Refused = "Device or resource busy";
const EXISTS: Refused = "File exists";
const INVALID: Refused = "Invalid argument";
const TOO_MANY_LINKS: Refused = "Too many links";
const TOO_BIG: Refused = "Value too large for defined data type";
const NOT_SUPPORTED: Refused = "Operation not supported";

/// Does one operation, or says why not.
pub(super) fn apply(tables: &mut BTreeMap<Table, FakeTable>, op: &NftOp) -> Result<(), Refused> {
    match op {
        NftOp::AddTable(t) => {
            tables.entry(*t).or_default();
            Ok(())
        }
        NftOp::DeleteTable(t) => {
            tables.remove(t);
            Ok(())
        }
        NftOp::AddChain { table, chain, kind } => {
            tables.get_mut(table).ok_or(ABSENT)?.add_chain(chain, *kind)
        }
        NftOp::FlushChain { table, chain } => {
            tables.get_mut(table).ok_or(ABSENT)?.chain(chain)?.rules.clear();
            Ok(())
        }
        NftOp::DeleteChain { table, chain } => match tables.get_mut(table) {
            Some(table) => table.delete_chain(chain),
            None => Ok(()),
        },
        NftOp::AddSet { table, set, spec } => tables.get_mut(table).ok_or(ABSENT)?.add_set(set, spec),
        NftOp::DeleteSet { table, set } => match tables.get_mut(table) {
            Some(table) => table.delete_set(set),
            None => Ok(()),
        },
        NftOp::AddElements { table, set, elements } => {
            tables.get_mut(table).ok_or(ABSENT)?.add_elements(set, elements)
        }
        NftOp::DeleteElements { table, set, elements } => {
            tables.get_mut(table).ok_or(ABSENT)?.delete_elements(set, elements)
        }
        NftOp::AddRule { table, chain, place, rule, id } => {
            tables.get_mut(table).ok_or(ABSENT)?.add_rule(chain, *place, rule, *id)
        }
        NftOp::DeleteRule { table, chain, handle } => {
            tables.get_mut(table).ok_or(ABSENT)?.chain(chain)?.rules.retain(|(h, _, _)| h != handle);
            Ok(())
        }
    }
}

fn target(verdict: &Verdict) -> Option<&SmolStr> {
    match verdict {
        Verdict::Jump(chain) | Verdict::Goto(chain) => Some(chain),
        Verdict::Accept | Verdict::Drop | Verdict::Return => None,
    }
}

fn key_len(key: &[KeyField]) -> usize {
    let len = |field: &KeyField| match field {
        KeyField::Ipv4Addr => 4,
        KeyField::Ipv6Addr | KeyField::IfName => 16,
        KeyField::InetProto => 1,
        KeyField::InetService => 2,
    };
    match key {
        [field] => len(field),
        fields => fields.iter().map(|f| usize::next_multiple_of(len(f), 4)).sum(),
    }
}

impl FakeTable {
    fn chain(&mut self, name: &str) -> Result<&mut FakeChain, Refused> {
        self.chains.get_mut(name).ok_or(ABSENT)
    }

    fn add_chain(&mut self, name: &SmolStr, kind: ChainKind) -> Result<(), Refused> {
        match self.chains.get(name) {
            Some(chain) if chain.kind == kind => Ok(()),
            Some(_) => Err(EXISTS),
            None => {
                self.last_handle += 1;
                self.chains.insert(name.clone(), FakeChain { kind, rules: Vec::new() });
                Ok(())
            }
        }
    }

    /// Chains that rules and elements lead to.
    fn jumps(&self) -> impl Iterator<Item = (Option<&SmolStr>, &SmolStr)> {
        let by_rules = self.chains.iter().flat_map(|(name, chain)| {
            chain.rules.iter().flat_map(move |(_, rule, _)| {
                rule.exprs.iter().filter_map(move |e| match e {
                    Expr::Verdict(verdict) => Some((Some(name), target(verdict)?)),
                    _ => None,
                })
            })
        });
        let by_elements = self.sets.values().flat_map(|set| {
            set.elements.values().filter_map(|e| match e {
                Element::Verdict { verdict, .. } => Some((None, target(verdict)?)),
                Element::Exact(_) | Element::Interval { .. } => None,
            })
        });
        by_rules.chain(by_elements)
    }

    fn delete_chain(&mut self, name: &SmolStr) -> Result<(), Refused> {
        // Its own rules go with it; those of others hold it.
        if self.jumps().any(|(from, to)| to == name && from != Some(name)) {
            return Err(BUSY);
        }
        self.chains.remove(name);
        Ok(())
    }

    fn add_set(&mut self, name: &SmolStr, spec: &SetSpec) -> Result<(), Refused> {
        match self.sets.get(name) {
            Some(set) if set.spec == *spec => Ok(()),
            Some(_) => Err(EXISTS),
            None => {
                self.last_handle += 1;
                self.sets.insert(name.clone(), FakeSet { spec: spec.clone(), elements: BTreeMap::new() });
                Ok(())
            }
        }
    }

    fn delete_set(&mut self, name: &SmolStr) -> Result<(), Refused> {
        let asks = |expr: &Expr| match expr {
            Expr::Lookup { set, .. } => set == name,
            Expr::VerdictMap { map, .. } => map == name,
            _ => false,
        };
        if self.chains.values().any(|c| c.rules.iter().any(|(_, rule, _)| rule.exprs.iter().any(asks))) {
            return Err(BUSY);
        }
        self.sets.remove(name);
        Ok(())
    }

    fn add_elements(&mut self, name: &SmolStr, elements: &[Element]) -> Result<(), Refused> {
        let mut leads = false;
        for element in elements {
            if let Element::Verdict { verdict, .. } = element
                && let Some(chain) = target(verdict)
            {
                let to = self.chains.get(chain).ok_or(ABSENT)?;
                if to.kind != ChainKind::Regular {
                    return Err(NOT_SUPPORTED);
                }
                leads = true;
            }
            let set = self.sets.get_mut(name).ok_or(ABSENT)?;
            let key = element_key(element).clone();
            let fits = match element {
                Element::Exact(_) => !set.spec.interval && !set.spec.verdict_map,
                Element::Interval { .. } => set.spec.interval && !set.spec.verdict_map,
                Element::Verdict { .. } => !set.spec.interval && set.spec.verdict_map,
            };
            if !fits || key.len() != key_len(&set.spec.key) {
                return Err(INVALID);
            }
            if let Element::Interval { first, last } = element {
                let overlaps = |e: &Element| match e {
                    Element::Interval { first: f, last: l } => f <= last && first <= l && e != element,
                    Element::Exact(_) | Element::Verdict { .. } => false,
                };
                if set.elements.values().any(overlaps) {
                    return Err(EXISTS);
                }
            }
            match set.elements.get(&key) {
                Some(same) if same == element => {}
                Some(_) => return Err(EXISTS),
                None => {
                    set.elements.insert(key, element.clone());
                }
            }
        }
        if leads { self.check_depth() } else { Ok(()) }
    }

    fn delete_elements(&mut self, name: &SmolStr, elements: &[Element]) -> Result<(), Refused> {
        let set = self.sets.get_mut(name).ok_or(ABSENT)?;
        for element in elements {
            set.elements.remove(element_key(element));
        }
        Ok(())
    }

    fn add_rule(&mut self, name: &SmolStr, place: Place, rule: &Rule, id: RuleId) -> Result<(), Refused> {
        if rule.exprs.len() > EXPRESSIONS_MAX {
            return Err(TOO_BIG);
        }
        self.chain(name)?;
        let mut leads = false;
        for expr in &rule.exprs {
            match expr {
                Expr::Lookup { set, .. } if self.sets.get(set).ok_or(ABSENT)?.spec.verdict_map => {
                    return Err(INVALID);
                }
                Expr::VerdictMap { map, .. } => {
                    if !self.sets.get(map).ok_or(ABSENT)?.spec.verdict_map {
                        return Err(INVALID);
                    }
                    leads = true;
                }
                Expr::Verdict(verdict) => {
                    if let Some(to) = target(verdict) {
                        if self.chains.get(to).ok_or(ABSENT)?.kind != ChainKind::Regular {
                            return Err(NOT_SUPPORTED);
                        }
                        leads = true;
                    }
                }
                _ => {}
            }
        }
        self.last_handle += 1;
        let new = (RuleHandle(self.last_handle), rule.clone(), id);
        let rules = &mut self.chain(name)?.rules;
        match place {
            Place::Last => rules.push(new),
            Place::Before(at) => {
                let at = rules.iter().position(|(h, _, _)| *h == at).ok_or(ABSENT)?;
                rules.insert(at, new);
            }
        }
        if leads { self.check_depth() } else { Ok(()) }
    }

    /// Base chains may not lead deeper than the kernel's stack, nor in circles.
    fn check_depth(&self) -> Result<(), Refused> {
        let mut depths: BTreeMap<&SmolStr, usize> = BTreeMap::new();
        for name in self.chains.keys() {
            self.depth(name, &mut depths, 0)?;
        }
        let too_deep = |name: &SmolStr, chain: &FakeChain| {
            matches!(chain.kind, ChainKind::Base { .. }) && depths.get(name).is_some_and(|d| *d >= STACK_SIZE)
        };
        if self.chains.iter().any(|(name, chain)| too_deep(name, chain)) {
            Err(TOO_MANY_LINKS)
        } else {
            Ok(())
        }
    }

    /// How many chains nest below one.
    fn depth<'a>(
        &'a self,
        name: &'a SmolStr,
        depths: &mut BTreeMap<&'a SmolStr, usize>,
        above: usize,
    ) -> Result<usize, Refused> {
        if let Some(depth) = depths.get(name) {
            return Ok(*depth);
        }
        if above > self.chains.len() {
            return Err(TOO_MANY_LINKS);
        }
        let mut deepest = 0;
        let rules = self.chains.get(name).map_or(&[][..], |c| &c.rules);
        for expr in rules.iter().flat_map(|(_, rule, _)| &rule.exprs) {
            let targets: Vec<&SmolStr> = match expr {
                Expr::Verdict(verdict) => target(verdict).into_iter().collect(),
                Expr::VerdictMap { map, .. } => self
                    .sets
                    .get(map)
                    .into_iter()
                    .flat_map(|s| s.elements.values())
                    .filter_map(|e| match e {
                        Element::Verdict { verdict, .. } => target(verdict),
                        Element::Exact(_) | Element::Interval { .. } => None,
                    })
                    .collect(),
                _ => Vec::new(),
            };
            for to in targets {
                deepest = deepest.max(1 + self.depth(to, depths, above + 1)?);
            }
        }
        depths.insert(name, deepest);
        Ok(deepest)
    }

    pub fn chain_rules(&self, name: &str) -> Vec<ActualRule> {
        let rules = self.chains.get(name).map_or(&[][..], |c| &c.rules);
        rules.iter().map(|(handle, _, id)| ActualRule { handle: *handle, id: Some(*id) }).collect()
    }

    pub fn actual(&self) -> ActualTable {
        let chain = |(name, chain): (&SmolStr, &FakeChain)| {
            (name.clone(), ActualChain { kind: Some(chain.kind), rules: self.chain_rules(name) })
        };
        let set = |(name, set): (&SmolStr, &FakeSet)| {
            let elements = set.elements.values().cloned().collect();
            (name.clone(), ActualSet { spec: Some(set.spec.clone()), elements })
        };
        ActualTable {
            chains: self.chains.iter().map(chain).collect(),
            sets: self.sets.iter().map(set).collect(),
        }
    }
}
