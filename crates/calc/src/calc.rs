//! The engine: takes updates in, keeps what they mean, and tells the difference.
//!
//! ```text
//!  Update ─┬─ endpoints, network sets ──▶ Sets (label index, claims) ─────────────┐
//!          │        └─ of this node ────▶ Active (label index, groups) ──┐        │
//!          ├─ policies, tiers ──────────▶ Active ────────────────────────┤ flush  │ flush
//!          ├─ profiles ──▶ labels to both, rules ▶ Profiles ─────────────┤        ▼
//!          │                                                             ├─▶ Programs ──▶ sets in use
//!          └─ pools, nodes, blocks ─────▶ Cluster (Vteps, Routes)        ▼
//!                                                                  Vec<Change>
//! ```
//!
//! An update only stores and marks. The flush decides, from the state as it is then: what came and went in between has
//! never been.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use calico_api::profile::DEFAULT_ALLOW;
use calico_api::tier::Tier;
use calico_api::{Action, Key, Kind, Labels, Node, Profile, ProfileSpec, ResourceKey, WorkloadEndpoint};
use calico_selector::translation::NAMESPACE_LABEL;
use smol_str::{SmolStr, format_smolstr};

use crate::active::{Active, TierRecord};
use crate::change::{self, Change, TierEnd};
use crate::cluster::{Cluster, read_node, read_pool};
use crate::endpoints::{
    Contributor, EndpointError, Local, check_spoofing, read_host, read_local_workload, read_set, read_slice,
    read_workload,
};
use crate::intern::Interner;
use crate::locals::{LocalEndpoint, Locals};
use crate::members::Population;
use crate::names::Names;
use crate::parents::Parents;
use crate::planted::{Bug, planted};
use crate::policies::{LAST, SourcePolicy};
use crate::profiles::Profiles;
use crate::programs::{Origin, Program, Programs};
use crate::rules::{RuleError, RuleLists, SERVICE_LABEL};
use crate::sets::Sets;
use crate::update::{Problem, Update};

/// The incremental calculation of one node's state.
#[derive(Debug)]
pub struct Calc {
    node: SmolStr,
    in_sync: bool,
    /// Endpoints, network sets and slices of services of the whole cluster.
    items: Names,
    /// By item: number of its list of profiles.
    item_parents: Vec<Option<u32>>,
    parents: Parents,
    profiles: Profiles,
    rules: Interner<RuleLists>,
    sets: Sets,
    active: Active,
    locals: Locals,
    programs: Programs,
    cluster: Cluster,
    told_policies: BTreeMap<ResourceKey, Told<change::Policy>>,
    told_profiles: BTreeMap<SmolStr, Told<change::Profile>>,
    /// Profiles that may have become used or unused, or say something else.
    touched_profiles: BTreeSet<SmolStr>,
    problems: BTreeMap<Key, Vec<String>>,
    /// What is to be said of services that rules name, while the datastore has none.
    unknown_services: BTreeMap<Key, Vec<String>>,
    /// Counts changes of what problems there are.
    problems_version: u64,
    /// `WorkloadSourceSpoofing` is `Any`.
    spoofing_allowed: bool,
    /// Workload endpoints that want it: few, and asked again when the option changes.
    spoofing: BTreeMap<ResourceKey, Box<WorkloadEndpoint>>,
}

/// What was told, and the translation that it holds on to.
#[derive(Debug)]
struct Told<T> {
    origin: Origin,
    value: Arc<T>,
}

impl Calc {
    /// The calculation for the node of this name, knowing nothing.
    pub fn new(node: &str) -> Calc {
        let mut calc = Calc {
            node: SmolStr::new(node),
            in_sync: false,
            items: Names::default(),
            item_parents: Vec::new(),
            parents: Parents::default(),
            profiles: Profiles::default(),
            rules: Interner::default(),
            sets: Sets::default(),
            active: Active::default(),
            locals: Locals::default(),
            programs: Programs::default(),
            cluster: Cluster::new(node),
            told_policies: BTreeMap::new(),
            told_profiles: BTreeMap::new(),
            touched_profiles: BTreeSet::new(),
            problems: BTreeMap::new(),
            unknown_services: BTreeMap::new(),
            problems_version: 0,
            spoofing_allowed: false,
            spoofing: BTreeMap::new(),
        };
        let (rules, labels) = (RuleLists::allow_all(), Labels::new());
        let rules = calc.rules.acquire_owned(rules);
        calc.insert_profile(&SmolStr::new_static(DEFAULT_ALLOW), rules, &labels);
        calc
    }

    /// Takes in what a key holds now. Says nothing yet: see [`Calc::flush`].
    ///
    /// A value that cannot be understood counts as absent and leaves a [`Problem`].
    pub fn update(&mut self, update: Update) {
        let key = update.key();
        let had = self.problems.remove(&key).is_some() | self.unknown_services.remove(&key).is_some();
        let had_slices = self.sets.has_slices();
        self.take_in(update);
        if had || self.sets.has_slices() != had_slices {
            self.problems_version += 1;
        }
    }

    fn take_in(&mut self, update: Update) {
        match update {
            // Pods that have ended are still there, without addresses.
            Update::WorkloadEndpoint(key, Some(endpoint)) if endpoint.spec.ip_networks.is_empty() => {
                self.spoofing.remove(&key);
                self.remove_item(&key);
            }
            Update::WorkloadEndpoint(key, Some(endpoint)) => {
                let local = (endpoint.spec.node == self.node)
                    .then(|| read_local_workload(&key, &endpoint).map(Local::Workload))
                    .transpose();
                let read = check_spoofing(&endpoint, self.spoofing_allowed)
                    .and_then(|()| read_workload(&endpoint))
                    .and_then(|contributor| Ok((contributor, local?)));
                let profiles = endpoint.spec.profiles.iter().map(SmolStr::as_str);
                self.set_item(&key, read, labels(&endpoint.metadata.labels), profiles);
                if endpoint.spec.allow_spoofed_source_prefixes.is_empty() {
                    self.spoofing.remove(&key);
                } else {
                    self.spoofing.insert(key, endpoint);
                }
            }
            Update::HostEndpoint(key, Some(endpoint)) => {
                let is_local = endpoint.spec.node == self.node;
                let read = read_host(&endpoint)
                    .map(|(contributor, host)| (contributor, is_local.then_some(Local::Host(host))));
                let profiles = endpoint.spec.profiles.iter().map(SmolStr::as_str);
                self.set_item(&key, read, labels(&endpoint.metadata.labels), profiles);
            }
            Update::NetworkSet(key, Some(set)) => {
                let read = read_set(&set.spec.nets).map(|contributor| (contributor, None));
                let own = labels(&set.metadata.labels).filter(|(name, _)| *name != NAMESPACE_LABEL);
                let all = own.chain([(NAMESPACE_LABEL, key.namespace.as_str())]);
                let profile = format_smolstr!("kns.{}", key.namespace);
                self.set_item(&key, read, all, [profile.as_str()]);
            }
            Update::GlobalNetworkSet(key, Some(set)) => {
                let read = read_set(&set.spec.nets).map(|contributor| (contributor, None));
                self.set_item(&key, read, labels(&set.metadata.labels), []);
            }
            Update::KubernetesEndpointSlice(key, Some(slice)) => {
                let service = format_smolstr!("{}/{}", key.namespace, slice.spec.service);
                let read = read_slice(&slice.spec).map(|contributor| (contributor, None));
                self.set_item(&key, read, std::iter::once((SERVICE_LABEL, service.as_str())), []);
            }
            Update::WorkloadEndpoint(key, None) => {
                self.spoofing.remove(&key);
                self.remove_item(&key);
            }
            Update::HostEndpoint(key, None)
            | Update::KubernetesEndpointSlice(key, None)
            | Update::NetworkSet(key, None)
            | Update::GlobalNetworkSet(key, None) => self.remove_item(&key),
            Update::NetworkPolicy(key, policy) => {
                let read = policy.map(|policy| SourcePolicy::of_namespace(&key, &policy.spec));
                self.set_policy(&key, read);
            }
            Update::KubernetesNetworkPolicy(key, policy) => {
                let read = policy.map(|policy| SourcePolicy::of_namespace(&key, &policy.spec.0));
                self.set_policy(&key, read);
            }
            Update::GlobalNetworkPolicy(key, policy) => {
                let read = policy.map(|policy| SourcePolicy::of_cluster(&policy.spec));
                self.set_policy(&key, read);
            }
            Update::KubernetesClusterNetworkPolicy(key, policy) => {
                let read = policy.map(|policy| SourcePolicy::of_cluster(&policy.spec.0));
                self.set_policy(&key, read);
            }
            Update::Tier(key, tier) => self.set_tier(&key, tier.as_deref()),
            Update::Profile(key, profile) => self.set_profile(&key, profile.as_deref()),
            Update::IPPool(key, pool) => {
                let read = pool.map(|pool| read_pool(&pool));
                let pool = self.accepted(&key.clone().into(), read);
                self.cluster.set_pool(&key.name, pool);
            }
            Update::Node(key, node) => self.set_node(&key, node.as_deref()),
            Update::IpamBlock(cidr, block) => self.cluster.set_block(cidr, block.as_deref()),
            Update::Unreadable(key, error) => {
                if let Some(absent) = Update::absent(&key) {
                    self.take_in(absent);
                }
                self.note(&key, &error);
            }
        }
    }

    /// Whether workload endpoints may have `allowSpoofedSourcePrefixes` (`WorkloadSourceSpoofing: Any`). Those that do
    /// count as absent otherwise, on every node (spec 3 §6.2), as they do until this is called.
    pub fn set_source_spoofing(&mut self, allowed: bool) {
        if std::mem::replace(&mut self.spoofing_allowed, allowed) == allowed {
            return;
        }
        for (key, endpoint) in std::mem::take(&mut self.spoofing) {
            self.update(Update::WorkloadEndpoint(key, Some(endpoint)));
        }
    }

    /// From now on the updates seen are the whole datastore: flushes report.
    pub fn in_sync(&mut self) {
        self.in_sync = true;
    }

    /// Appends what changed since the last flush, in an order that is safe to apply as it comes. Nothing before
    /// [`Calc::in_sync`].
    pub fn flush(&mut self, out: &mut Vec<Change>) {
        if !self.in_sync {
            return;
        }
        let (mut policies_changed, mut policies_removed) = (Vec::new(), Vec::new());
        self.flush_policies(&mut policies_changed, &mut policies_removed);
        let (mut profiles_changed, mut profiles_removed) = (Vec::new(), Vec::new());
        self.flush_profiles(&mut profiles_changed, &mut profiles_removed);
        self.sets.flush_changed(out);
        out.append(&mut policies_changed);
        out.append(&mut profiles_changed);
        let endpoints_removed = self.locals.flush(&mut self.active, &self.items, out);
        out.extend(endpoints_removed);
        out.append(&mut profiles_removed);
        out.append(&mut policies_removed);
        self.sets.flush_removed(out);
        self.cluster.flush(out);
    }

    /// What is wrong in the datastore, by key.
    pub fn problems(&self) -> impl Iterator<Item = Problem> + '_ {
        let services = (!self.sets.has_slices()).then_some(&self.unknown_services);
        let of_one = self.problems.iter().chain(services.into_iter().flatten()).flat_map(|(key, texts)| {
            texts.iter().map(|text| Problem { key: key.clone(), text: text.clone() })
        });
        let between_nodes = self
            .cluster
            .conflicts()
            .map(|(node, text)| Problem { key: Key::resource(Kind::Node, "", node), text: text.to_owned() });
        of_one.chain(between_nodes)
    }

    /// Another number whenever [`Calc::problems`] may say something else.
    pub fn problems_version(&self) -> u64 {
        self.problems_version + self.cluster.conflicts_version()
    }

    /// Whether nothing of the datastore is left in memory: what came and went must leave no trace.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        let Calc { items, parents, profiles, rules, sets, active, locals, programs, cluster, .. } = self;
        // The built-in profile stays: its name and its rules.
        let profiles = profiles.count() == (1, 0) && parents.count() == (1, 0) && rules.len() == 1;
        let endpoints = items.len() == 0 && sets.is_empty() && locals.is_empty();
        let told = self.told_policies.len() + self.told_profiles.len();
        let spoofing = self.spoofing.is_empty();
        profiles
            && endpoints
            && spoofing
            && active.is_empty()
            && programs.is_empty()
            && cluster.is_empty()
            && told == 0
    }

    fn note(&mut self, key: &Key, problem: &dyn std::fmt::Display) {
        self.problems_version += 1;
        self.problems.entry(key.clone()).or_default().push(problem.to_string());
    }

    /// The value, if it was understood; a problem otherwise.
    fn accepted<T, E: std::fmt::Display>(&mut self, key: &Key, read: Option<Result<T, E>>) -> Option<T> {
        match read? {
            Ok(value) => Some(value),
            Err(error) => {
                self.note(key, &format!("{error}; it counts as absent"));
                None
            }
        }
    }

    fn set_item<'a>(
        &mut self,
        key: &ResourceKey,
        read: Result<(Contributor, Option<Local>), EndpointError>,
        labels: impl Iterator<Item = (&'a str, &'a str)> + Clone,
        profiles: impl IntoIterator<Item = &'a str>,
    ) {
        let Some((Contributor { nets, ports }, local)) = self.accepted(&key.clone().into(), Some(read))
        else {
            return self.remove_item(key);
        };
        let item = self.items.find(key).unwrap_or_else(|| self.items.insert(key));
        if self.item_parents.len() <= item as usize {
            self.item_parents.resize(item as usize + 1, None);
        }
        let list = self.parents.acquire_list(profiles);
        let population = match key.kind {
            Kind::KubernetesEndpointSlice => Population::Slices,
            _ => Population::Labelled,
        };
        self.sets.set_item(item, population, labels.clone(), self.parents.list(list), nets, &ports);
        let was_local = self.locals.get(item).is_some();
        // New users first, so that a profile that stays in use is never without one.
        if local.is_some() {
            self.add_profile_users(list);
        }
        match local {
            Some(data) => {
                self.active.set_local(item, labels, self.parents.list(list));
                let names = self.parents.list(list).iter().map(|parent| self.parents.name(*parent).clone());
                let endpoint = LocalEndpoint { data, profiles: names.collect() };
                self.locals.set(item, &key.name, endpoint);
            }
            None => self.forget_local(item, &key.name),
        }
        if let Some(old) = self.item_parents[item as usize].replace(list) {
            if was_local {
                self.remove_profile_users(old);
            }
            self.parents.release_list(old);
        }
    }

    fn remove_item(&mut self, key: &ResourceKey) {
        let Some(item) = self.items.find(key) else { return };
        self.sets.remove_item(item);
        let was_local = self.locals.get(item).is_some();
        self.forget_local(item, &key.name);
        if let Some(list) = self.item_parents[item as usize].take() {
            if was_local {
                self.remove_profile_users(list);
            }
            self.parents.release_list(list);
        }
        self.items.remove(item);
    }

    fn forget_local(&mut self, item: u32, name: &str) {
        self.active.remove_local(item);
        self.locals.remove(item, name);
    }

    /// Local endpoints need the labels of their profiles: the first user of a profile brings them along.
    fn add_profile_users(&mut self, list: u32) {
        for parent in self.parents.list(list) {
            if self.profiles.add_user(*parent) {
                self.touched_profiles.insert(self.parents.name(*parent).clone());
                self.active.set_parent(*parent, self.sets.labels_of_parent(*parent));
            }
        }
    }

    fn remove_profile_users(&mut self, list: u32) {
        for parent in self.parents.list(list) {
            if self.profiles.remove_user(*parent) {
                self.touched_profiles.insert(self.parents.name(*parent).clone());
                self.active.remove_parent(*parent);
            }
        }
    }

    fn set_policy(&mut self, key: &ResourceKey, read: Option<Result<SourcePolicy, RuleError>>) {
        let accepted = self.accepted(&key.clone().into(), read);
        let set = accepted.map(|source| self.intern_rules(&source.rules).map(|rules| (source, rules)));
        let old = match self.accepted(&key.clone().into(), set) {
            None => self.active.remove_policy(key),
            Some((source, rules)) => match self.active.set_policy(key, &source, rules) {
                Ok(old) => {
                    self.note_services(key, rules);
                    old
                }
                Err(error) => {
                    self.rules.release(rules);
                    self.note(&key.clone().into(), &format!("{error}; it counts as absent"));
                    self.active.remove_policy(key)
                }
            },
        };
        if let Some(old) = old {
            self.rules.release(old);
        }
    }

    /// The number of the rules, one use more. New ones are checked.
    fn intern_rules(&mut self, rules: &RuleLists) -> Result<u32, RuleError> {
        match self.rules.find(rules) {
            Some(number) => {
                self.rules.retain(number);
                Ok(number)
            }
            None => {
                rules.check_selectors()?;
                Ok(self.rules.acquire_owned(rules.clone()))
            }
        }
    }

    fn note_services(&mut self, key: &ResourceKey, rules: u32) {
        let services = self.rules.get(rules).services();
        let texts: Vec<String> = services
            .map(|(namespace, name)| {
                format!("service {namespace}/{name} is not known: its rule matches nothing")
            })
            .collect();
        if !texts.is_empty() {
            self.problems_version += 1;
            self.unknown_services.insert(key.clone().into(), texts);
        }
    }

    fn set_tier(&mut self, key: &ResourceKey, tier: Option<&Tier>) {
        let read = tier.map(|tier| {
            let end = match &tier.spec.default_action {
                None | Some(Action::Deny) => TierEnd::Deny,
                Some(Action::Pass) => TierEnd::Pass,
                Some(other) => return Err(format!("defaultAction {other:?} is not understood")),
            };
            Ok(TierRecord { order: tier.spec.order.unwrap_or(LAST), end })
        });
        let record = self.accepted(&key.clone().into(), read);
        self.active.set_tier(&key.name, record);
    }

    fn set_profile(&mut self, key: &ResourceKey, profile: Option<&Profile>) {
        if key.name == DEFAULT_ALLOW {
            // Built in: what the datastore says of it does not count (spec 1 §1.3).
            return;
        }
        let read = profile.map(|profile| self.read_profile(&profile.spec));
        match self.accepted(&key.clone().into(), read) {
            Some((rules, labels)) => {
                self.note_services(key, rules);
                self.insert_profile(&key.name, rules, labels);
            }
            None => self.remove_profile(&key.name),
        }
    }

    /// The number of a profile's rules, one use more, and its labels.
    fn read_profile<'a>(&mut self, spec: &'a ProfileSpec) -> Result<(u32, &'a Labels), RuleError> {
        let ProfileSpec { ingress, egress, labels_to_apply } = spec;
        let rules = RuleLists::read(false, ingress, egress)?;
        Ok((self.intern_rules(&rules)?, labels_to_apply))
    }

    fn insert_profile(&mut self, name: &SmolStr, rules: u32, own: &Labels) {
        let known = self.parents.find(name).filter(|parent| self.profiles.rules(*parent).is_some());
        let parent = known.unwrap_or_else(|| self.parents.acquire(name));
        if !(planted(Bug::ParentChangeIgnored) && known.is_some()) {
            self.sets.set_parent(parent, labels(own));
            if self.profiles.is_used(parent) {
                self.active.set_parent(parent, labels(own));
            }
        }
        if !(planted(Bug::LateProfileIgnored) && known.is_none()) {
            self.touched_profiles.insert(name.clone());
        }
        if let Some(old) = self.profiles.set(parent, rules) {
            self.rules.release(old);
        }
    }

    fn remove_profile(&mut self, name: &SmolStr) {
        let Some(parent) = self.parents.find(name) else { return };
        let Some(old) = self.profiles.remove(parent) else { return };
        self.touched_profiles.insert(name.clone());
        self.rules.release(old);
        self.sets.remove_parent(parent);
        self.active.clear_parent(parent);
        self.parents.release(parent);
    }

    fn set_node(&mut self, key: &ResourceKey, node: Option<&Node>) {
        let mut problems = Vec::new();
        let info = node.map(|node| read_node(node, &mut problems));
        for problem in problems {
            self.note(&key.clone().into(), &problem);
        }
        self.cluster.set_node(&key.name, info);
    }

    fn flush_policies(&mut self, changed: &mut Vec<Change>, removed: &mut Vec<Change>) {
        for key in self.active.take_touched() {
            let origin = self.active.active(&key).map(|active| Origin {
                rules: Some(active.rules),
                namespace: key.namespace.clone(),
                tier: Some(active.tier),
            });
            let told = self.told_policies.get(&key);
            let Some(origin) = origin else {
                if planted(Bug::PolicyNeverInactive) {
                    continue;
                }
                if let Some(told) = self.told_policies.remove(&key) {
                    self.programs.release(&told.origin, &mut self.rules, &mut self.sets);
                    removed.push(Change::PolicyRemoved(key));
                }
                continue;
            };
            if told.is_some_and(|told| told.origin == origin) {
                continue;
            }
            let Program::Policy(value) = self.programs.acquire(&origin, &mut self.rules, &mut self.sets)
            else {
                continue;
            };
            let same = told.is_some_and(|told| *told.value == *value);
            let told = Told { origin, value: value.clone() };
            if let Some(old) = self.told_policies.insert(key.clone(), told) {
                self.programs.release(&old.origin, &mut self.rules, &mut self.sets);
            }
            if !same {
                changed.push(Change::PolicyChanged(key, value));
            }
        }
    }

    fn flush_profiles(&mut self, changed: &mut Vec<Change>, removed: &mut Vec<Change>) {
        for name in std::mem::take(&mut self.touched_profiles) {
            let used = self.parents.find(&name).filter(|parent| self.profiles.is_used(*parent));
            let Some(parent) = used else {
                if let Some(told) = self.told_profiles.remove(&name) {
                    self.programs.release(&told.origin, &mut self.rules, &mut self.sets);
                    removed.push(Change::ProfileRemoved(name));
                }
                continue;
            };
            // A profile that does not exist denies everything (spec 2 §5.1).
            let origin =
                Origin { rules: self.profiles.rules(parent), namespace: SmolStr::default(), tier: None };
            let told = self.told_profiles.get(&name);
            if told.is_some_and(|told| told.origin == origin) {
                continue;
            }
            let Program::Profile(value) = self.programs.acquire(&origin, &mut self.rules, &mut self.sets)
            else {
                continue;
            };
            let same = told.is_some_and(|told| *told.value == *value);
            let told = Told { origin, value: value.clone() };
            if let Some(old) = self.told_profiles.insert(name.clone(), told) {
                self.programs.release(&old.origin, &mut self.rules, &mut self.sets);
            }
            if !same {
                changed.push(Change::ProfileChanged(name, value));
            }
        }
    }
}

fn labels(labels: &Labels) -> impl Iterator<Item = (&str, &str)> + Clone {
    labels.iter().map(|(name, value)| (name.as_str(), value.as_str()))
}

#[cfg(test)]
mod tests;
