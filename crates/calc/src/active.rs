//! Which policies apply to each endpoint of this node, and in which order.
//!
//! ```text
//! subject = a selector that policies share          group = endpoints that the same subjects select
//!
//! policy ──▶ subject ─┐
//!                     ├▶ label index over local endpoints ──▶ group ──▶ ordered tiers, shared by its endpoints
//! endpoint, labels ───┘
//! ```
//!
//! Ten thousand policies on two hundred endpoints are a few dozen subjects and a few dozen groups: lists are sorted
//! once per group, and again only for the groups that a change touches.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use calico_api::{Order, ResourceKey};
use calico_selector::index::{Index, MatchEvent};
use calico_selector::translation::NAMESPACE_LABEL;
use rustc_hash::{FxHashMap, FxHashSet};
use smallvec::SmallVec;
use smol_str::SmolStr;

use crate::change::{Tier, TierEnd};
use crate::intern::Interner;
use crate::planted::{Bug, planted};
use crate::policies::{Class, LAST, Policies, Record, SourcePolicy};
use crate::rules::RuleError;
use crate::slab::Slab;

/// A tier as read from its resource.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct TierRecord {
    /// [`LAST`] for none.
    pub(crate) order: Order,
    /// Its default action.
    pub(crate) end: TierEnd,
}

/// The tiers of one endpoint, for each class of policies (spec 2 §5.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lists {
    pub(crate) normal: Arc<[Tier]>,
    pub(crate) untracked: Arc<[Tier]>,
    pub(crate) pre_dnat: Arc<[Tier]>,
    pub(crate) forward: Arc<[Tier]>,
}

/// Endpoints that the same subjects select.
#[derive(Debug, Default)]
struct Group {
    /// Numbers of the four lists, once they are made.
    lists: Option<[u32; 4]>,
    items: BTreeSet<u32>,
}

/// A policy that must be enforced here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ActivePolicy {
    /// The tier that it names.
    pub(crate) tier: SmolStr,
    /// Number of its rules.
    pub(crate) rules: u32,
}

/// Numbers of a few out of many, made dense: the label index keeps a slot for every number up to the highest.
#[derive(Debug, Default)]
struct Dense {
    inner: FxHashMap<u32, u32>,
    outer: Slab<u32>,
}

impl Dense {
    fn find(&self, outer: u32) -> Option<u32> {
        self.inner.get(&outer).copied()
    }

    fn find_or_insert(&mut self, outer: u32) -> u32 {
        let slots = &mut self.outer;
        *self.inner.entry(outer).or_insert_with(|| slots.insert(outer))
    }

    fn remove(&mut self, outer: u32) {
        if let Some(inner) = self.inner.remove(&outer) {
            self.outer.remove(inner);
        }
    }

    fn outer(&self, inner: u32) -> u32 {
        self.outer[inner]
    }
}

/// Policies, tiers and local endpoints.
#[derive(Debug, Default)]
pub(crate) struct Active {
    policies: Policies,
    tiers: BTreeMap<SmolStr, TierRecord>,
    /// Local endpoints against subjects. Here endpoints and profiles have numbers of their own.
    index: Index,
    endpoints: Dense,
    parents: Dense,
    /// Namespaces of local endpoints, as their labels say, and how many endpoints each has. A subject that stays
    /// inside a namespace is in the index only while its namespace is here: most policies of a large cluster are not.
    namespaces: FxHashMap<SmolStr, u32>,
    namespace_of: FxHashMap<u32, SmolStr>,
    /// Subjects that select somebody.
    selecting: FxHashSet<u32>,
    /// Group numbers, by their subjects.
    group_keys: Interner<Box<[u32]>>,
    groups: Vec<Group>,
    /// By subject: the groups that it is part of.
    groups_of: FxHashMap<u32, BTreeSet<u32>>,
    /// Local endpoints, and the group of each once it has one.
    group_of: FxHashMap<u32, Option<u32>>,
    lists: Interner<Arc<[Tier]>>,
    /// Endpoints that may belong to another group than they did.
    moved: BTreeSet<u32>,
    /// Groups whose lists may not be right.
    stale: BTreeSet<u32>,
    /// Policies that may have become active or inactive, or say something else.
    touched: BTreeSet<ResourceKey>,
    events: Vec<MatchEvent>,
}

impl Active {
    /// Adds or replaces a policy. The rules that it had and that the caller may release are returned.
    ///
    /// # Errors
    /// The policy's subject is no selector; it is as it was before.
    pub(crate) fn set_policy(
        &mut self,
        key: &ResourceKey,
        source: &SourcePolicy,
        rules: u32,
    ) -> Result<Option<u32>, RuleError> {
        let (old, was_active) = (self.policies.get(key).copied(), self.is_active(key));
        let change = self.policies.set(key, source, rules)?;
        let new = self.policies.get(key).copied();
        let only_order = old.zip(new).is_some_and(|(old, new)| old.differs_only_in_order(&new));
        if planted(Bug::PolicyOrderStale) && only_order {
            return Ok(old.map(|old| old.rules));
        }
        self.follow_subject(change.before, change.gone, change.now.as_ref().map(|(now, _)| *now));
        if let Some((subject, Some(selector))) = &change.now
            && self.policies.namespace(*subject).is_none_or(|name| self.namespaces.contains_key(name))
        {
            self.index.add_selector(*subject, selector, &mut self.events);
            self.follow_events();
        }
        if was_active || self.is_active(key) {
            self.touched.insert(key.clone());
        }
        Ok(old.map(|old| old.rules))
    }

    /// Takes a policy away, if it is there; its rules, which the caller may release.
    pub(crate) fn remove_policy(&mut self, key: &ResourceKey) -> Option<u32> {
        let (old, was_active) = (self.policies.get(key).copied(), self.is_active(key));
        let change = self.policies.remove(key);
        self.follow_subject(change.before, change.gone, None);
        if was_active {
            self.touched.insert(key.clone());
        }
        old.map(|old| old.rules)
    }

    /// Makes stale the groups of a subject that gained, lost or kept a policy. Groups, not endpoints that match now:
    /// one that has ceased to match is in its group until the next flush, and the subject's number may be another's by
    /// then.
    fn follow_subject(&mut self, before: Option<u32>, gone: Option<u32>, now: Option<u32>) {
        for subject in before.into_iter().chain(now) {
            self.stale.extend(self.groups_of.get(&subject).into_iter().flatten());
        }
        if let Some(subject) = gone {
            self.index.remove_selector(subject, &mut self.events);
            self.follow_events();
        }
    }

    /// Adds, replaces or removes a tier.
    pub(crate) fn set_tier(&mut self, name: &SmolStr, tier: Option<TierRecord>) {
        let old = match tier {
            Some(tier) => self.tiers.insert(name.clone(), tier),
            None => self.tiers.remove(name),
        };
        if old == tier || (planted(Bug::TierOrderStale) && old.is_some() && tier.is_some()) {
            return;
        }
        for (group, lists) in self.groups.iter().enumerate().filter_map(|(n, group)| Some((n, group.lists?)))
        {
            let mut tiers = lists.iter().flat_map(|list| self.lists.get(*list).iter());
            if tiers.any(|tier| tier.name == *name) {
                self.stale.insert(group as u32);
            }
        }
    }

    /// Adds or replaces a local endpoint. Its profiles must have been introduced by [`Active::set_parent`].
    pub(crate) fn set_local<'a>(
        &mut self,
        item: u32,
        labels: impl IntoIterator<Item = (&'a str, &'a str)>,
        parents: &[u32],
    ) {
        let item = self.endpoints.find_or_insert(item);
        self.group_of.entry(item).or_insert(None);
        self.moved.insert(item);
        let parents: SmallVec<[u32; 4]> =
            parents.iter().filter_map(|parent| self.parents.find(*parent)).collect();
        self.index.set_item(item, labels, &parents, &mut self.events);
        self.follow_events();
        self.follow_namespace(item);
    }

    /// Notes the namespace that an endpoint's effective labels say, and brings in or takes out its subjects.
    fn follow_namespace(&mut self, item: u32) {
        let new = self.index.effective_label(item, NAMESPACE_LABEL).map(SmolStr::new);
        let old = match &new {
            Some(name) => self.namespace_of.insert(item, name.clone()),
            None => self.namespace_of.remove(&item),
        };
        if old == new {
            return;
        }
        if let Some(name) = new {
            let endpoints = self.namespaces.entry(name.clone()).or_insert(0);
            *endpoints += 1;
            if *endpoints == 1 {
                for (subject, selector) in self.policies.in_namespace(&name) {
                    self.index.add_selector(subject, &selector, &mut self.events);
                }
            }
        }
        if let Some(name) = old
            && let Some(endpoints) = self.namespaces.get_mut(&name)
        {
            *endpoints -= 1;
            if *endpoints == 0 {
                self.namespaces.remove(&name);
                for (subject, _) in self.policies.in_namespace(&name) {
                    self.index.remove_selector(subject, &mut self.events);
                }
            }
        }
        self.follow_events();
    }

    /// Labels of a profile may say a namespace too.
    fn follow_namespaces(&mut self) {
        let items: Vec<u32> = self.group_of.keys().copied().collect();
        for item in items {
            self.follow_namespace(item);
        }
    }

    /// Takes a local endpoint away, if it is there.
    pub(crate) fn remove_local(&mut self, item: u32) {
        let Some(inner) = self.endpoints.find(item) else { return };
        self.index.remove_item(inner, &mut self.events);
        self.follow_events();
        self.follow_namespace(inner);
        self.moved.remove(&inner);
        if let Some(Some(group)) = self.group_of.remove(&inner) {
            self.leave(group, inner);
        }
        self.endpoints.remove(item);
    }

    /// Adds a profile that a local endpoint uses, which need not exist, or replaces its labels.
    pub(crate) fn set_parent<'a>(
        &mut self,
        parent: u32,
        labels: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) {
        let parent = self.parents.find_or_insert(parent);
        self.index.set_parent(parent, labels, &mut self.events);
        self.follow_events();
        self.follow_namespaces();
    }

    /// Takes a profile's labels away, if it is there.
    pub(crate) fn clear_parent(&mut self, parent: u32) {
        if let Some(parent) = self.parents.find(parent) {
            self.index.remove_parent(parent, &mut self.events);
            self.follow_events();
            self.follow_namespaces();
        }
    }

    /// Takes a profile away that no local endpoint uses any more.
    pub(crate) fn remove_parent(&mut self, parent: u32) {
        self.clear_parent(parent);
        self.parents.remove(parent);
    }

    fn follow_events(&mut self) {
        let mut events = std::mem::take(&mut self.events);
        for MatchEvent { selector: subject, item, started: _ } in events.drain(..) {
            self.moved.insert(item);
            let selects = self.index.match_count(subject) > 0;
            let flips =
                if selects { self.selecting.insert(subject) } else { self.selecting.remove(&subject) };
            if flips {
                let policies = self.policies.of_subject(subject).iter();
                self.touched.extend(policies.map(|policy| self.policies.key(*policy)));
            }
        }
        self.events = events;
    }

    fn is_active(&self, key: &ResourceKey) -> bool {
        self.policies.get(key).is_some_and(|record| self.enforced(record))
    }

    fn enforced(&self, record: &Record) -> bool {
        record.needed_everywhere || self.index.match_count(record.subject) > 0
    }

    /// The policy, if it must be enforced here: it selects a local endpoint, or asks to be enforced everywhere.
    pub(crate) fn active(&self, key: &ResourceKey) -> Option<ActivePolicy> {
        let record = self.policies.get(key).filter(|record| self.enforced(record))?;
        Some(ActivePolicy { tier: self.policies.tier(record).clone(), rules: record.rules })
    }

    /// Policies to look at again since the last call.
    pub(crate) fn take_touched(&mut self) -> BTreeSet<ResourceKey> {
        std::mem::take(&mut self.touched)
    }

    /// Brings groups and lists up to date; endpoints whose lists differ go into `changed`.
    pub(crate) fn settle(&mut self, changed: &mut BTreeSet<u32>) {
        for item in std::mem::take(&mut self.moved) {
            let Some(old) = self.group_of.get(&item).copied() else { continue };
            let subjects: Box<[u32]> = self.index.selectors_of(item).collect();
            let group = self.acquire_group(subjects);
            if old == Some(group) {
                self.group_keys.release(group);
                continue;
            }
            if let Some(old) = old {
                self.leave(old, item);
            }
            let joined = &mut self.groups[group as usize];
            joined.items.insert(item);
            if joined.lists.is_none() {
                self.stale.insert(group);
            }
            self.group_of.insert(item, Some(group));
            changed.insert(self.endpoints.outer(item));
        }
        for group in std::mem::take(&mut self.stale) {
            if self.groups[group as usize].items.is_empty() {
                continue;
            }
            let lists =
                self.build(self.group_keys.get(group)).map(|tiers| self.lists.acquire_owned(tiers.into()));
            let old = self.groups[group as usize].lists.replace(lists);
            if old != Some(lists) {
                let items = self.groups[group as usize].items.iter();
                changed.extend(items.map(|item| self.endpoints.outer(*item)));
            }
            self.release_lists(old);
        }
    }

    /// The group of these subjects, one member more.
    fn acquire_group(&mut self, subjects: Box<[u32]>) -> u32 {
        if let Some(group) = self.group_keys.find(&*subjects) {
            self.group_keys.retain(group);
            return group;
        }
        let group = self.group_keys.acquire_owned(subjects);
        for subject in self.group_keys.get(group) {
            self.groups_of.entry(*subject).or_default().insert(group);
        }
        if self.groups.len() <= group as usize {
            self.groups.resize_with(group as usize + 1, Group::default);
        }
        group
    }

    fn leave(&mut self, group: u32, item: u32) {
        let left = &mut self.groups[group as usize];
        left.items.remove(&item);
        let Some(subjects) = self.group_keys.release(group) else { return };
        let lists = left.lists.take();
        self.release_lists(lists);
        for subject in subjects {
            if let Some(groups) = self.groups_of.get_mut(&subject) {
                groups.remove(&group);
                if groups.is_empty() {
                    self.groups_of.remove(&subject);
                }
            }
        }
    }

    fn release_lists(&mut self, lists: Option<[u32; 4]>) {
        for list in lists.into_iter().flatten() {
            self.lists.release(list);
        }
    }

    /// The lists of a local endpoint, up to date after [`Active::settle`].
    pub(crate) fn lists(&self, item: u32) -> Option<Lists> {
        let group = (*self.group_of.get(&self.endpoints.find(item)?)?)?;
        let list = |number: u32| self.lists.get(number).clone();
        let [normal, untracked, pre_dnat, forward] = self.groups[group as usize].lists?.map(list);
        Some(Lists { normal, untracked, pre_dnat, forward })
    }

    /// The tiers of an endpoint that these subjects select: normal, untracked, pre-DNAT, forward.
    fn build(&self, subjects: &[u32]) -> [Vec<Tier>; 4] {
        let policies = subjects.iter().flat_map(|subject| self.policies.of_subject(*subject).iter().copied());
        let mut by_tier: BTreeMap<TierPlace<'_>, Vec<u32>> = BTreeMap::new();
        for policy in policies {
            let name = self.policies.tier(self.policies.record(policy));
            by_tier.entry(self.place(name)).or_default().push(policy);
        }
        let mut lists = [const { Vec::new() }; 4];
        for (place, mut policies) in by_tier {
            policies.sort_unstable_by(|left, right| self.policies.cmp(*left, *right));
            let end = self.tiers.get(place.name).map_or(TierEnd::Deny, |tier| tier.end);
            let empty = |end| Tier { name: place.name.clone(), end, ingress: Vec::new(), egress: Vec::new() };
            // Untracked and pre-DNAT policies never drop at the end of a tier (spec 2 §5.3).
            let mut tiers = [empty(end), empty(TierEnd::Pass), empty(TierEnd::Pass), empty(end)];
            for policy in policies {
                let record = self.policies.record(policy);
                let classes: &[usize] = match record.class {
                    Class::Normal => &[0],
                    Class::Forward => &[0, 3],
                    Class::Untracked => &[1],
                    Class::PreDnat => &[2],
                };
                let key = self.policies.key(policy);
                for class in classes {
                    if record.ingress {
                        tiers[*class].ingress.push(key.clone());
                    }
                    if record.egress && record.class != Class::PreDnat {
                        tiers[*class].egress.push(key.clone());
                    }
                }
            }
            for (list, tier) in lists.iter_mut().zip(tiers) {
                if !tier.ingress.is_empty() || !tier.egress.is_empty() {
                    list.push(tier);
                }
            }
        }
        lists
    }

    /// Where a tier stands. One that does not exist comes after all that do, and is enforced all the same.
    fn place<'a>(&self, name: &'a SmolStr) -> TierPlace<'a> {
        match self.tiers.get(name) {
            Some(tier) => TierPlace { missing: false, order: tier.order, name },
            None => TierPlace { missing: true, order: LAST, name },
        }
    }

    /// Whether nothing is left.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        let interned = self.group_keys.len() + self.lists.len() + self.groups_of.len();
        self.policies.is_empty()
            && self.tiers.is_empty()
            && self.group_of.is_empty()
            && interned == 0
            && self.namespaces.is_empty()
            && self.endpoints.inner.is_empty()
            && self.parents.inner.is_empty()
    }
}

/// The sort key of tiers: those that exist first, then by order, then by name (spec 2 §5.1).
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct TierPlace<'a> {
    missing: bool,
    order: Order,
    name: &'a SmolStr,
}
