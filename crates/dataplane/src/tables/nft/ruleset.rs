//! The desired ruleset beside what the kernel is known to hold, and the plan from one to the other.
//!
//! Chains and sets are wanted by as many objects as contribute them (`calico_rules::fragment`): each is counted. What
//! changed is remembered, so planning costs what changed and not what there is.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use calico_rules::nft::{Chain, ChainKind, ChainType, Element, Expr, Rule, SetSpec, Table, Verdict};
use rustc_hash::FxHashMap;
use smol_str::SmolStr;

use super::actual::{ActualNft, ActualRule};
use super::diff::{KnownRule, Step, diff};
use super::elements::Elements;
use super::identity::NamedRule;
use super::op::{NftObject, NftOp, Place};

/// Table and name.
type Key = (Table, SmolStr);

const TABLES: [Table; 2] = [Table::Inet, Table::Arp];

#[derive(Debug)]
struct WantedChain {
    kind: ChainKind,
    rules: Vec<NamedRule>,
}

#[derive(Debug)]
struct KnownChain {
    kind: Option<ChainKind>,
    rules: Vec<KnownRule>,
}

#[derive(Debug, Default)]
struct ChainState {
    refs: u32,
    wanted: Option<WantedChain>,
    known: Option<KnownChain>,
    denied: Denial,
}

/// Why a chain drops everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Denial {
    /// The kernel refused something of it.
    refused: bool,
    /// It asks a set that is denied.
    blind: bool,
}

impl Denial {
    fn is_any(self) -> bool {
        let Denial { refused, blind } = self;
        refused || blind
    }
}

#[derive(Debug, Default)]
struct SetState {
    refs: u32,
    wanted: Option<SetSpec>,
    known: Option<Option<SetSpec>>,
    elements: Elements,
    /// Its elements go to the kernel one by one, so that a refusal names one of them.
    single: bool,
    denied: bool,
}

/// The operations of one update. `open` comes before the routes change and `close` after; where nothing has to wait
/// for the routes, everything is in `open` and so in one transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NftPlan {
    /// Makes and changes.
    pub open: Vec<NftOp>,
    /// Takes dispatch and unused objects away.
    pub close: Vec<NftOp>,
}

impl NftPlan {
    /// Nothing to do.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty() && self.close.is_empty()
    }
}

impl fmt::Display for NftPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.open.iter().chain(&self.close).try_for_each(|op| writeln!(f, "{op}"))
    }
}

/// The desired ruleset.
#[derive(Debug, Default)]
pub struct Ruleset {
    chains: FxHashMap<Key, ChainState>,
    sets: FxHashMap<Key, SetState>,
    dirty_chains: BTreeSet<Key>,
    dirty_sets: BTreeSet<Key>,
    /// Chains and sets that are denied: few, whatever the size of the ruleset.
    denied_chains: BTreeSet<Key>,
    denied_sets: BTreeSet<Key>,
    /// Base chains of NAT that the kernel has not got.
    lacking: BTreeSet<Key>,
    counts: RulesetCounts,
    /// Tables that exist and are claimed by this process.
    claimed: BTreeSet<Table>,
}

/// The one rule of a chain that the kernel refused.
fn deny_rule() -> NamedRule {
    let exprs = vec![Expr::Counter, Expr::Verdict(Verdict::Drop)];
    Rule { exprs, comment: SmolStr::new_static("Denied: the kernel refused this object's rules") }.into()
}

impl Ruleset {
    /// Nothing wanted, nothing known.
    pub fn new() -> Ruleset {
        Ruleset::default()
    }

    /// Wants a chain, once more if it is wanted already; its contents are these from now on.
    pub fn retain_chain(&mut self, table: Table, name: &SmolStr, chain: Chain) {
        let Chain { kind, rules } = chain;
        let key = (table, name.clone());
        let state = self.chains.entry(key.clone()).or_default();
        state.refs += 1;
        let same = state.wanted.as_ref().is_some_and(|w| {
            w.kind == kind
                && w.rules.len() == rules.len()
                && w.rules.iter().zip(&rules).all(|(a, b)| a.rule == *b)
        });
        if !same {
            let rules: Vec<NamedRule> = rules.into_iter().map(NamedRule::from).collect();
            self.counts.chains += usize::from(state.wanted.is_none());
            self.counts.rules -= state.wanted.as_ref().map_or(0, |w| w.rules.len());
            self.counts.rules += rules.len();
            // Other rules may be taken, but a denied set can not be trusted by any.
            let blind = kind == ChainKind::Regular && asks_any(table, &rules, &self.denied_sets);
            state.wanted = Some(WantedChain { kind, rules });
            state.denied = Denial { refused: false, blind };
            note_denial(&mut self.denied_chains, &key, state.denied);
            self.dirty_chains.insert(key);
        }
    }

    /// Wants a chain once less.
    pub fn release_chain(&mut self, table: Table, name: &SmolStr) {
        let key = (table, name.clone());
        if let Some(state) = self.chains.get_mut(&key) {
            state.refs = state.refs.saturating_sub(1);
            if state.refs == 0 {
                if let Some(wanted) = state.wanted.take() {
                    self.counts.chains -= 1;
                    self.counts.rules -= wanted.rules.len();
                }
                state.denied = Denial::default();
                self.denied_chains.remove(&key);
                self.dirty_chains.insert(key);
            }
        }
    }

    /// Wants a set or map, once more if it is wanted already, with the elements that belong to its definition.
    pub fn retain_set(&mut self, table: Table, name: &SmolStr, spec: SetSpec, elements: Vec<Element>) {
        let key = (table, name.clone());
        let (other, settled) = self.edit_set(&key, |state| {
            state.refs += 1;
            let other = state.wanted.as_ref() != Some(&spec);
            if other {
                state.wanted = Some(spec);
            }
            for element in elements {
                state.elements.insert(element);
            }
            (other, state.elements.is_settled())
        });
        if other {
            self.trust_set(&key);
        }
        if other || !settled {
            self.dirty_sets.insert(key);
        }
    }

    /// Changes what is wanted of a set, and keeps the count.
    fn edit_set<T>(&mut self, key: &Key, edit: impl FnOnce(&mut SetState) -> T) -> T {
        let state = match self.sets.get_mut(key) {
            Some(state) => state,
            None => self.sets.entry(key.clone()).or_default(),
        };
        let count = |state: &SetState| match state.wanted {
            Some(_) => (1, state.elements.len()),
            None => (0, 0),
        };
        let (sets, elements) = count(state);
        self.counts.sets -= sets;
        self.counts.elements -= elements;
        let result = edit(state);
        let (sets, elements) = count(state);
        self.counts.sets += sets;
        self.counts.elements += elements;
        result
    }

    /// Wants a set or map once less.
    pub fn release_set(&mut self, table: Table, name: &SmolStr) {
        let key = (table, name.clone());
        if !self.sets.contains_key(&key) {
            return;
        }
        let gone = self.edit_set(&key, |state| {
            state.refs = state.refs.saturating_sub(1);
            if state.refs == 0 {
                state.wanted = None;
                state.elements.clear();
            }
            state.refs == 0
        });
        if gone {
            self.trust_set(&key);
            self.dirty_sets.insert(key);
        }
    }

    /// Wants an element of a set that is or will be wanted.
    pub fn insert_element(&mut self, table: Table, set: &SmolStr, element: Element) {
        let key = (table, set.clone());
        self.edit_set(&key, |state| state.elements.insert(element));
        self.dirty_sets.insert(key);
    }

    /// Wants an element no more.
    pub fn remove_element(&mut self, table: Table, set: &SmolStr, element: &Element) {
        let key = (table, set.clone());
        if self.sets.contains_key(&key) {
            self.edit_set(&key, |state| state.elements.remove(element));
            self.dirty_sets.insert(key);
        }
    }

    /// How many elements a set shall have.
    pub fn element_count(&self, table: Table, set: &str) -> usize {
        self.sets.get(&(table, SmolStr::new(set))).map_or(0, |s| s.elements.len())
    }

    /// Takes note of all that the kernel holds, after a full read.
    pub fn adopt(&mut self, actual: ActualNft) {
        self.lacking.clear();
        self.claimed.retain(|table| actual.contains_key(table));
        for state in self.chains.values_mut() {
            state.known = None;
        }
        for state in self.sets.values_mut() {
            state.known = None;
        }
        let mut contents: FxHashMap<Key, Vec<Element>> = FxHashMap::default();
        for (table, tables) in actual {
            for (name, chain) in tables.chains {
                let rules =
                    chain.rules.iter().map(|r| KnownRule { id: r.id, handle: Some(r.handle) }).collect();
                self.chains.entry((table, name)).or_default().known =
                    Some(KnownChain { kind: chain.kind, rules });
            }
            for (name, set) in tables.sets {
                let key = (table, name);
                self.sets.entry(key.clone()).or_default().known = Some(set.spec);
                contents.insert(key, set.elements);
            }
        }
        for (key, state) in &mut self.sets {
            state.elements.observe(contents.remove(key).unwrap_or_default());
        }
        self.dirty_chains = self.chains.keys().cloned().collect();
        self.dirty_sets = self.sets.keys().cloned().collect();
        self.sweep();
    }

    /// Takes note of the handles of one chain's rules.
    pub fn learn(&mut self, table: Table, chain: &SmolStr, rules: &[ActualRule]) {
        if let Some(known) = self.chains.get_mut(&(table, chain.clone())).and_then(|s| s.known.as_mut()) {
            known.rules = rules.iter().map(|r| KnownRule { id: r.id, handle: Some(r.handle) }).collect();
        }
    }

    /// Chains whose plan needs handles that nobody has read yet: read them and [`Ruleset::learn`].
    pub fn unknown_handles(&self) -> Vec<(Table, SmolStr)> {
        let unknown = |key: &&Key| {
            let Some(state) = self.chains.get(*key) else { return false };
            let (Some(known), Some(_)) = (&state.known, &state.wanted) else { return false };
            diff(&known.rules, &wanted_rules(state)).iter().any(|step| match step {
                Step::Delete(place) | Step::Add { before: Some(place), .. } => {
                    known.rules[*place].handle.is_none()
                }
                Step::Flush | Step::Add { before: None, .. } => false,
            })
        };
        self.dirty_chains.iter().filter(unknown).cloned().collect()
    }

    /// Tables that can not be changed into the wanted ones: an object of the wanted name is of another kind. They are
    /// made anew, in the same transaction.
    fn misfits(&self) -> BTreeSet<Table> {
        let chains = self.dirty_chains.iter().filter(|key| {
            let state = &self.chains[*key];
            matches!((&state.wanted, &state.known), (Some(w), Some(k)) if k.kind != Some(w.kind))
        });
        let sets = self.dirty_sets.iter().filter(|key| {
            let state = &self.sets[*key];
            matches!((&state.wanted, &state.known), (Some(w), Some(k)) if k.as_ref() != Some(w))
        });
        chains.chain(sets).map(|(table, _)| *table).collect()
    }

    /// The plan from what the kernel is known to hold to what is wanted.
    pub fn plan(&self) -> NftPlan {
        let misfits = self.misfits();
        let mut plan = Planner::default();
        for table in TABLES {
            if misfits.contains(&table) {
                plan.begin.push(NftOp::DeleteTable(table));
            }
            if misfits.contains(&table) || !self.claimed.contains(&table) {
                plan.begin.push(NftOp::AddTable(table));
            }
        }
        if misfits.is_empty() {
            for key in &self.dirty_sets {
                plan.set(key, &self.sets[key], false);
            }
            for key in &self.dirty_chains {
                plan.chain(key, &self.chains[key], false);
            }
        } else {
            let sets: BTreeMap<_, _> = self.sets.iter().collect();
            for (key, state) in
                sets.into_iter().filter(|(key, _)| self.dirty_sets.contains(*key) || misfits.contains(&key.0))
            {
                plan.set(key, state, misfits.contains(&key.0));
            }
            let chains: BTreeMap<_, _> = self.chains.iter().collect();
            for (key, state) in chains
                .into_iter()
                .filter(|(key, _)| self.dirty_chains.contains(*key) || misfits.contains(&key.0))
            {
                plan.chain(key, state, misfits.contains(&key.0));
            }
        }
        plan.finish()
    }

    /// Takes note that the kernel did these operations.
    pub fn applied(&mut self, ops: &[NftOp]) {
        for op in ops {
            self.note(op);
        }
        self.sweep();
    }

    fn note(&mut self, op: &NftOp) {
        let chain = |chains: &mut FxHashMap<Key, ChainState>,
                     table: &Table,
                     name: &SmolStr,
                     f: &dyn Fn(&mut KnownChain)| {
            if let Some(known) = chains.get_mut(&(*table, name.clone())).and_then(|s| s.known.as_mut()) {
                f(known);
            }
        };
        match op {
            NftOp::AddTable(table) => {
                self.claimed.insert(*table);
            }
            NftOp::DeleteTable(table) => {
                self.claimed.remove(table);
                self.chains.iter_mut().filter(|((t, _), _)| t == table).for_each(|(_, s)| s.known = None);
                for (_, state) in self.sets.iter_mut().filter(|((t, _), _)| t == table) {
                    state.known = None;
                    state.elements.note_emptied();
                }
            }
            NftOp::AddChain { table, chain, kind } => {
                let known = KnownChain { kind: Some(*kind), rules: Vec::new() };
                self.chains.entry((*table, chain.clone())).or_default().known = Some(known);
            }
            NftOp::FlushChain { table, chain: name } => {
                chain(&mut self.chains, table, name, &|k| k.rules.clear())
            }
            NftOp::DeleteChain { table, chain } => {
                if let Some(state) = self.chains.get_mut(&(*table, chain.clone())) {
                    state.known = None;
                }
            }
            NftOp::AddRule { table, chain: name, place, rule: _, id } => {
                let new = KnownRule { id: Some(*id), handle: None };
                chain(&mut self.chains, table, name, &|known| match place {
                    Place::Last => known.rules.push(new),
                    Place::Before(at) => {
                        let place = known.rules.iter().position(|r| r.handle == Some(*at));
                        known.rules.insert(place.unwrap_or(known.rules.len()), new);
                    }
                });
            }
            NftOp::DeleteRule { table, chain: name, handle } => {
                chain(&mut self.chains, table, name, &|known| {
                    known.rules.retain(|r| r.handle != Some(*handle))
                });
            }
            NftOp::AddSet { table, set, spec } => {
                let state = self.sets.entry((*table, set.clone())).or_default();
                state.known = Some(Some(spec.clone()));
                state.elements.note_emptied();
            }
            NftOp::DeleteSet { table, set } => {
                if let Some(state) = self.sets.get_mut(&(*table, set.clone())) {
                    state.known = None;
                    state.elements.note_emptied();
                }
            }
            NftOp::AddElements { table, set, elements } => {
                if let Some(state) = self.sets.get_mut(&(*table, set.clone())) {
                    state.elements.note_added(elements);
                }
            }
            NftOp::DeleteElements { table, set, elements } => {
                if let Some(state) = self.sets.get_mut(&(*table, set.clone())) {
                    state.elements.note_removed(elements);
                }
            }
        }
    }

    /// Forgets what is neither wanted nor there, and which of the rest is settled.
    fn sweep(&mut self) {
        let chains = &mut self.chains;
        self.dirty_chains.retain(|key| {
            let Some(state) = chains.get(key) else { return false };
            let Some(known) = &state.known else {
                if state.wanted.is_none() {
                    chains.remove(key);
                    return false;
                }
                return true;
            };
            let wanted = wanted_rules(state);
            state.wanted.as_ref().is_none_or(|w| known.kind != Some(w.kind))
                || known.rules.len() != wanted.len()
                || known.rules.iter().zip(wanted.iter()).any(|(k, w)| k.id != Some(w.id))
        });
        let sets = &mut self.sets;
        self.dirty_sets.retain(|key| {
            let Some(state) = sets.get(key) else { return false };
            match (&state.wanted, &state.known) {
                (None, None) if state.elements.len() == 0 => {
                    sets.remove(key);
                    false
                }
                (None, None) => false,
                (Some(wanted), Some(known)) if known.as_ref() == Some(wanted) => {
                    !state.elements.is_settled() && !state.denied
                }
                (Some(_), _) => !state.denied,
                (None, Some(_)) => true,
            }
        });
    }

    /// Makes the object of a refused operation deny. Whether that changes the next plan: if not, there is nothing more
    /// to leave out.
    ///
    /// A chain drops everything. An element of a verdict map is left out (no dispatch is a drop). Any other set can
    /// not be trusted: every chain that asks it drops everything. A chain that the kernel enters itself is everybody's:
    /// what cannot be said of it holds all of the update up, rather than cut this host off. Only translation is done
    /// without.
    pub fn deny(&mut self, op: &NftOp) -> bool {
        match op {
            NftOp::AddTable(_) | NftOp::DeleteTable(_) => false,
            NftOp::AddChain { table, chain, kind: ChainKind::Base { chain_type: ChainType::Nat, .. } } => {
                self.lacking.insert((*table, chain.clone()));
                self.give_up_chain(*table, chain)
            }
            NftOp::AddChain { table, chain, .. }
            | NftOp::AddRule { table, chain, .. }
            | NftOp::DeleteRule { table, chain, .. }
            | NftOp::FlushChain { table, chain } => {
                let key = (*table, chain.clone());
                let wanted = self.chains.get(&key).and_then(|state| state.wanted.as_ref());
                wanted.is_none_or(|wanted| wanted.kind == ChainKind::Regular) && self.deny_chain(&key)
            }
            // It stays until something else makes it removable.
            NftOp::DeleteChain { table, chain } => self.give_up_chain(*table, chain),
            NftOp::DeleteSet { table, set } => self.dirty_sets.remove(&(*table, set.clone())),
            NftOp::AddSet { table, set, .. } => self.deny_set(&(*table, set.clone())),
            NftOp::AddElements { table, set, elements } | NftOp::DeleteElements { table, set, elements } => {
                let key = (*table, set.clone());
                let Some(state) = self.sets.get_mut(&key) else { return false };
                let map = state.wanted.as_ref().is_some_and(|s| s.verdict_map);
                let adds = matches!(op, NftOp::AddElements { .. });
                match &elements[..] {
                    [element] if map && adds => {
                        state.elements.refuse(element);
                        true
                    }
                    // The others still lead where they should. It is looked at again with the next full read.
                    [element] if map => {
                        state.elements.keep(element);
                        true
                    }
                    [_] => self.deny_set(&key),
                    _ if state.single => self.deny_set(&key),
                    _ => {
                        state.single = true;
                        true
                    }
                }
            }
        }
    }

    fn give_up_chain(&mut self, table: Table, chain: &SmolStr) -> bool {
        self.dirty_chains.remove(&(table, chain.clone()))
    }

    fn deny_chain(&mut self, key: &Key) -> bool {
        match self.chains.get_mut(key) {
            Some(state) if !state.denied.is_any() && state.wanted.is_some() => {
                state.denied.refused = true;
                self.denied_chains.insert(key.clone());
                self.dirty_chains.insert(key.clone());
                true
            }
            _ => false,
        }
    }

    fn deny_set(&mut self, key: &Key) -> bool {
        let Some(state) = self.sets.get_mut(key) else { return false };
        if state.denied {
            return false;
        }
        state.denied = true;
        self.denied_sets.insert(key.clone());
        self.dirty_sets.remove(key);
        self.blind_users(key.0);
        true
    }

    /// A set is not denied any more.
    fn trust_set(&mut self, key: &Key) {
        if let Some(state) = self.sets.get_mut(key) {
            state.denied = false;
        }
        if self.denied_sets.remove(key) {
            self.blind_users(key.0);
        }
    }

    /// Finds out which chains of a table ask a denied set, after such a set came or went: rare enough to look at all.
    fn blind_users(&mut self, table: Table) {
        let Ruleset { chains, denied_sets, denied_chains, dirty_chains, .. } = self;
        for (key, state) in chains.iter_mut().filter(|((t, _), _)| *t == table) {
            let regular = state.wanted.as_ref().filter(|w| w.kind == ChainKind::Regular);
            let blind = regular.is_some_and(|w| asks_any(table, &w.rules, denied_sets));
            if state.denied.blind != blind {
                state.denied.blind = blind;
                note_denial(denied_chains, key, state.denied);
                dirty_chains.insert(key.clone());
            }
        }
    }

    /// Objects that deny, or are missing, because the kernel refused them.
    pub fn denied(&self) -> Vec<NftObject> {
        let chains =
            self.denied_chains.iter().chain(&self.lacking).map(|(t, n)| NftObject::Chain(*t, n.clone()));
        let sets = self.denied_sets.iter().map(|(t, n)| NftObject::Set(*t, n.clone()));
        let mut all: Vec<_> = chains.chain(sets).collect();
        all.sort_unstable();
        all
    }

    /// Whether a chain drops everything because the kernel refused something of it.
    pub fn is_denied(&self, table: Table, chain: &SmolStr) -> bool {
        !self.denied_chains.is_empty() && self.denied_chains.contains(&(table, chain.clone()))
    }

    /// Whether the kernel refused an element.
    pub fn is_refused(&self, table: Table, set: &SmolStr, element: &Element) -> bool {
        self.sets.get(&(table, set.clone())).is_some_and(|s| s.elements.is_refused(element))
    }

    /// Tries denied objects again with the next plan: the reason may have been passing (no memory).
    pub fn retry_denied(&mut self) {
        for key in std::mem::take(&mut self.denied_chains) {
            if let Some(state) = self.chains.get_mut(&key) {
                state.denied = Denial::default();
                self.dirty_chains.insert(key);
            }
        }
        for key in std::mem::take(&mut self.denied_sets) {
            if let Some(state) = self.sets.get_mut(&key) {
                state.denied = false;
                self.dirty_sets.insert(key);
            }
        }
    }

    /// Chains, rules, sets and elements that are wanted, for metrics.
    pub fn counts(&self) -> RulesetCounts {
        self.counts
    }
}

/// Whether any of the rules asks one of these sets of their table.
fn asks_any(table: Table, rules: &[NamedRule], sets: &BTreeSet<Key>) -> bool {
    let asks = |name: &SmolStr| sets.contains(&(table, name.clone()));
    !sets.is_empty()
        && rules.iter().flat_map(|rule| &rule.rule.exprs).any(|expr| match expr {
            Expr::Lookup { set, .. } => asks(set),
            Expr::VerdictMap { map, .. } => asks(map),
            _ => false,
        })
}

fn note_denial(chains: &mut BTreeSet<Key>, key: &Key, denial: Denial) {
    if denial.is_any() {
        chains.insert(key.clone());
    } else {
        chains.remove(key);
    }
}

/// How much is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RulesetCounts {
    /// Chains.
    pub chains: usize,
    /// Rules in them.
    pub rules: usize,
    /// Sets and maps.
    pub sets: usize,
    /// Elements in them.
    pub elements: usize,
}

/// What a chain shall hold: its rules, or the one that denies.
fn wanted_rules(state: &ChainState) -> std::borrow::Cow<'_, [NamedRule]> {
    match &state.wanted {
        None => (&[]).into(),
        Some(_) if state.denied.is_any() => vec![deny_rule()].into(),
        Some(wanted) => (&wanted.rules[..]).into(),
    }
}

/// Operations by the place that the kernel's checks give them in a transaction.
#[derive(Default)]
struct Planner {
    begin: Vec<NftOp>,
    chains: Vec<NftOp>,
    sets: Vec<NftOp>,
    removals: Vec<NftOp>,
    additions: Vec<NftOp>,
    rules: Vec<NftOp>,
    dispatch: Vec<NftOp>,
    flushes: Vec<NftOp>,
    gone_chains: Vec<NftOp>,
    gone_sets: Vec<NftOp>,
}

impl Planner {
    /// `anew`: the table is made anew, so the kernel holds nothing of it.
    fn chain(&mut self, key: &Key, state: &ChainState, anew: bool) {
        let (table, chain) = (key.0, key.1.clone());
        let known = state.known.as_ref().filter(|_| !anew);
        let Some(wanted) = &state.wanted else {
            if known.is_some() {
                self.flushes.push(NftOp::FlushChain { table, chain: chain.clone() });
                self.gone_chains.push(NftOp::DeleteChain { table, chain });
            }
            return;
        };
        if known.is_none() {
            self.chains.push(NftOp::AddChain { table, chain: chain.clone(), kind: wanted.kind });
        }
        let known: &[KnownRule] = known.map_or(&[], |k| &k.rules);
        let rules = wanted_rules(state);
        for step in diff(known, &rules) {
            self.rules.push(match step {
                Step::Flush => NftOp::FlushChain { table, chain: chain.clone() },
                Step::Delete(place) => match known[place].handle {
                    Some(handle) => NftOp::DeleteRule { table, chain: chain.clone(), handle },
                    None => continue,
                },
                Step::Add { wanted, before } => {
                    let NamedRule { id, rule } = rules[wanted].clone();
                    let place = before.and_then(|b| known[b].handle).map_or(Place::Last, Place::Before);
                    NftOp::AddRule { table, chain: chain.clone(), place, rule, id }
                }
            });
        }
    }

    fn set(&mut self, key: &Key, state: &SetState, anew: bool) {
        let (table, set) = (key.0, key.1.clone());
        let known = state.known.as_ref().filter(|_| !anew);
        let Some(spec) = &state.wanted else {
            if known.is_some() {
                self.gone_sets.push(NftOp::DeleteSet { table, set });
            }
            return;
        };
        if state.denied {
            return;
        }
        if known.is_none() {
            self.sets.push(NftOp::AddSet { table, set: set.clone(), spec: spec.clone() });
            let mut elements: Vec<Element> =
                if anew { state.elements.wanted().collect() } else { state.elements.plan_additions() };
            elements.sort_unstable();
            self.add(state, table, set, elements);
            return;
        }
        let (replaced, gone) = state.elements.plan_removals();
        // What leads to endpoints, and what keeps the host from answering for them, goes after their routes.
        if spec.verdict_map || table == Table::Arp {
            delete(&mut self.removals, state, table, &set, replaced);
            delete(&mut self.dispatch, state, table, &set, gone);
        } else {
            let mut all = replaced;
            all.extend(gone);
            delete(&mut self.removals, state, table, &set, all);
        }
        self.add(state, table, set, state.elements.plan_additions());
    }

    fn add(&mut self, state: &SetState, table: Table, set: SmolStr, elements: Vec<Element>) {
        if state.single {
            let one = |element| NftOp::AddElements { table, set: set.clone(), elements: vec![element] };
            self.additions.extend(elements.into_iter().map(one));
        } else if !elements.is_empty() {
            self.additions.push(NftOp::AddElements { table, set, elements });
        }
    }

    fn finish(self) -> NftPlan {
        let Planner {
            begin,
            chains,
            sets,
            removals,
            additions,
            rules,
            dispatch,
            flushes,
            gone_chains,
            gone_sets,
        } = self;
        let waits = !dispatch.is_empty();
        let mut open = begin;
        open.extend([chains, sets, removals, additions, rules].into_iter().flatten());
        let mut close = dispatch;
        close.extend([flushes, gone_chains, gone_sets].into_iter().flatten());
        if !waits {
            open.append(&mut close);
        }
        NftPlan { open, close }
    }
}

fn delete(ops: &mut Vec<NftOp>, state: &SetState, table: Table, set: &SmolStr, elements: Vec<Element>) {
    if state.single {
        let one = |element| NftOp::DeleteElements { table, set: set.clone(), elements: vec![element] };
        ops.extend(elements.into_iter().map(one));
    } else if !elements.is_empty() {
        ops.push(NftOp::DeleteElements { table, set: set.clone(), elements });
    }
}
