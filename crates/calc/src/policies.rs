//! Policies of the cluster, at rest: what decides whom they select, in which order, and where their rules are.

use std::cmp::Ordering;

use calico_api::rule::PolicyType;
use calico_api::{GlobalNetworkPolicySpec, NetworkPolicySpec, Order, ResourceKey};
use calico_selector::{Selector, translation};
use rustc_hash::FxHashMap;
use smallvec::SmallVec;
use smol_str::SmolStr;

use crate::intern::Interner;
use crate::names::Names;
use crate::rules::{RuleError, RuleLists};

/// The tier of policies that name none.
const DEFAULT_TIER: &str = "default";
/// The hint that a policy is wanted on every node, whomever it selects there.
const NEEDED_EVERYWHERE: &str = "AssumeNeededOnEveryNode";

/// The order of what has none.
pub(crate) const LAST: Order = Order(f64::INFINITY);

/// Which of a host endpoint's four lists a policy goes to (spec 2 §5.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// The normal list; the only one that workload endpoints have.
    Normal,
    /// The normal list and that for forwarded traffic.
    Forward,
    /// Before conntrack only.
    Untracked,
    /// Before destination NAT only.
    PreDnat,
}

/// A policy as read from its resource.
#[derive(Debug)]
pub(crate) struct SourcePolicy {
    tier: SmolStr,
    order: Order,
    subject: Subject,
    ingress: bool,
    egress: bool,
    class: Class,
    needed_everywhere: bool,
    pub(crate) rules: RuleLists,
}

/// Whom a policy selects, as the user says it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Subject {
    /// Empty for a global policy.
    namespace: SmolStr,
    selector: SmolStr,
    namespace_selector: SmolStr,
    service_account_selector: SmolStr,
}

impl Subject {
    /// The selector over endpoints' labels (spec 2 §4.5).
    fn resolve(&self) -> Result<Selector, RuleError> {
        let Subject { namespace, selector, namespace_selector, service_account_selector } = self;
        let wrap = |text: &SmolStr| {
            let text = text.clone();
            |source| RuleError::Selector { text, source }
        };
        // Each text must be a selector by itself, or it could close parentheses that translation opens.
        for text in [selector, namespace_selector, service_account_selector] {
            calico_selector::parse(text).map_err(wrap(text))?;
        }
        let text = if namespace.is_empty() {
            translation::global_network_policy_subject(selector, namespace_selector, service_account_selector)
        } else {
            translation::network_policy_subject(selector, namespace, service_account_selector)
        };
        text.and_then(|text| calico_selector::parse(&text)).map_err(wrap(selector))
    }
}

impl SourcePolicy {
    /// Reads a namespaced policy.
    pub(crate) fn of_namespace(
        key: &ResourceKey,
        spec: &NetworkPolicySpec,
    ) -> Result<SourcePolicy, RuleError> {
        let subject = Subject {
            namespace: key.namespace.clone(),
            selector: trimmed(&spec.selector),
            namespace_selector: SmolStr::default(),
            service_account_selector: trimmed(&spec.service_account_selector),
        };
        let (ingress, egress) = directions(&spec.types)?;
        Ok(SourcePolicy {
            tier: tier_name(&spec.tier),
            order: spec.order.unwrap_or(LAST),
            subject,
            ingress,
            egress,
            class: Class::Normal,
            needed_everywhere: needed_everywhere(&spec.performance_hints),
            rules: RuleLists::read(true, &spec.ingress, &spec.egress)?,
        })
    }

    /// Reads a global policy.
    pub(crate) fn of_cluster(spec: &GlobalNetworkPolicySpec) -> Result<SourcePolicy, RuleError> {
        let subject = Subject {
            namespace: SmolStr::default(),
            selector: trimmed(&spec.selector),
            namespace_selector: trimmed(&spec.namespace_selector),
            service_account_selector: trimmed(&spec.service_account_selector),
        };
        let (ingress, egress) = directions(&spec.types)?;
        let class = match (spec.do_not_track, spec.pre_dnat, spec.apply_on_forward) {
            (true, _, _) => Class::Untracked,
            (false, true, _) => Class::PreDnat,
            (false, false, true) => Class::Forward,
            (false, false, false) => Class::Normal,
        };
        Ok(SourcePolicy {
            tier: tier_name(&spec.tier),
            order: spec.order.unwrap_or(LAST),
            subject,
            ingress,
            egress,
            class,
            needed_everywhere: needed_everywhere(&spec.performance_hints),
            rules: RuleLists::read(false, &spec.ingress, &spec.egress)?,
        })
    }
}

fn trimmed(text: &SmolStr) -> SmolStr {
    if text.trim_matches([' ', '\t']).is_empty() { SmolStr::default() } else { text.clone() }
}

fn tier_name(tier: &SmolStr) -> SmolStr {
    if tier.is_empty() { SmolStr::new_static(DEFAULT_TIER) } else { tier.clone() }
}

fn needed_everywhere(hints: &[SmolStr]) -> bool {
    hints.iter().any(|hint| hint == NEEDED_EVERYWHERE)
}

/// Ingress and egress. No types at all means both (spec 2 §5.2).
fn directions(types: &[PolicyType]) -> Result<(bool, bool), RuleError> {
    let mut found = (types.is_empty(), types.is_empty());
    for direction in types {
        match direction {
            PolicyType::Ingress => found.0 = true,
            PolicyType::Egress => found.1 = true,
            PolicyType::Other(word) => {
                return Err(RuleError::Value { field: "types", text: word.to_string() });
            }
        }
    }
    Ok(found)
}

/// A policy at rest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Record {
    tier: u32,
    /// [`LAST`] for none.
    order: Order,
    /// Whom it selects, by number.
    pub(crate) subject: u32,
    /// Its rules, by number.
    pub(crate) rules: u32,
    /// Whether it applies to traffic to the endpoint.
    pub(crate) ingress: bool,
    /// Whether it applies to traffic from the endpoint.
    pub(crate) egress: bool,
    /// The lists that it goes to.
    pub(crate) class: Class,
    /// Whether it is active without selecting anybody.
    pub(crate) needed_everywhere: bool,
}

impl Record {
    /// Whether two versions of a policy are the same but for their place in the tier.
    pub(crate) fn differs_only_in_order(&self, other: &Record) -> bool {
        self.order != other.order && *self == (Record { order: self.order, ..*other })
    }
}

/// Numbers of the texts of a [`Subject`].
type SubjectKey = [u32; 4];

/// What a change of a policy did to the subjects.
#[derive(Debug, Default)]
pub(crate) struct SubjectChange {
    /// Whom the policy selected before.
    pub(crate) before: Option<u32>,
    /// Nobody selects those any more.
    pub(crate) gone: Option<u32>,
    /// Whom it selects now, and the selector if that is new.
    pub(crate) now: Option<(u32, Option<Selector>)>,
}

/// All policies.
#[derive(Debug, Default)]
pub(crate) struct Policies {
    names: Names,
    records: Vec<Option<Record>>,
    texts: Interner<Box<str>>,
    tiers: Interner<SmolStr>,
    subjects: Interner<SubjectKey>,
    /// By subject: the policies that have it.
    by_subject: Vec<SmallVec<[u32; 2]>>,
    /// Subjects that stay inside a namespace, by the number of its name.
    by_namespace: FxHashMap<u32, SmallVec<[u32; 2]>>,
}

impl Policies {
    /// The policy of a key, if it is there.
    pub(crate) fn get(&self, key: &ResourceKey) -> Option<&Record> {
        self.records[self.names.find(key)? as usize].as_ref()
    }

    /// A policy by number.
    pub(crate) fn record(&self, number: u32) -> &Record {
        self.records[number as usize].as_ref().expect("numbers come from the names in use")
    }

    /// The key of a policy.
    pub(crate) fn key(&self, number: u32) -> ResourceKey {
        self.names.key(number)
    }

    /// The policies of a subject.
    pub(crate) fn of_subject(&self, subject: u32) -> &[u32] {
        &self.by_subject[subject as usize]
    }

    /// The tier that a policy names.
    pub(crate) fn tier(&self, record: &Record) -> &SmolStr {
        self.tiers.get(record.tier)
    }

    /// Adds or replaces a policy. Of the rules, only their number is kept here.
    ///
    /// # Errors
    /// The subject is no selector; nothing has changed then.
    pub(crate) fn set(
        &mut self,
        key: &ResourceKey,
        source: &SourcePolicy,
        rules: u32,
    ) -> Result<SubjectChange, RuleError> {
        let SourcePolicy { tier, order, subject, ingress, egress, class, needed_everywhere, rules: _ } =
            source;
        let (subject, selector) = self.acquire_subject(subject)?;
        let record = Record {
            tier: self.tiers.acquire(tier.as_str()),
            order: *order,
            subject,
            rules,
            ingress: *ingress,
            egress: *egress,
            class: *class,
            needed_everywhere: *needed_everywhere,
        };
        let number = self.names.find(key).unwrap_or_else(|| self.names.insert(key));
        if self.records.len() <= number as usize {
            self.records.resize(number as usize + 1, None);
        }
        let old = self.records[number as usize].replace(record);
        let before = old.map(|old| old.subject);
        if before != Some(subject) {
            self.by_subject[subject as usize].push(number);
        }
        let gone = old.and_then(|old| self.release(number, &old, before != Some(subject)));
        Ok(SubjectChange { before, gone, now: Some((subject, selector)) })
    }

    /// Takes a policy away, if it is there.
    pub(crate) fn remove(&mut self, key: &ResourceKey) -> SubjectChange {
        let Some(number) = self.names.find(key) else { return SubjectChange::default() };
        let Some(old) = self.records[number as usize].take() else { return SubjectChange::default() };
        self.names.remove(number);
        let gone = self.release(number, &old, true);
        SubjectChange { before: Some(old.subject), gone, now: None }
    }

    /// Gives back what a record held, and says if its subject is gone.
    fn release(&mut self, number: u32, old: &Record, leaves_subject: bool) -> Option<u32> {
        self.tiers.release(old.tier);
        if leaves_subject {
            let policies = &mut self.by_subject[old.subject as usize];
            if let Some(at) = policies.iter().position(|policy| *policy == number) {
                policies.swap_remove(at);
            }
        }
        let key = self.subjects.release(old.subject)?;
        if let Some(subjects) = self.by_namespace.get_mut(&key[0]) {
            subjects.retain(|subject| *subject != old.subject);
            if subjects.is_empty() {
                self.by_namespace.remove(&key[0]);
            }
        }
        for text in key {
            self.texts.release(text);
        }
        Some(old.subject)
    }

    /// The number of a subject, one use more; with its selector if nobody has used it before.
    fn acquire_subject(&mut self, subject: &Subject) -> Result<(u32, Option<Selector>), RuleError> {
        let Subject { namespace, selector, namespace_selector, service_account_selector } = subject;
        let texts = [namespace, selector, namespace_selector, service_account_selector];
        let known = texts.map(|text| self.texts.find(text.as_str()));
        if let [Some(a), Some(b), Some(c), Some(d)] = known
            && let Some(number) = self.subjects.find(&[a, b, c, d])
        {
            self.subjects.retain(number);
            return Ok((number, None));
        }
        let resolved = subject.resolve()?;
        let key = texts.map(|text| self.texts.acquire(text.as_str()));
        let number = self.subjects.acquire_owned(key);
        if self.by_subject.len() <= number as usize {
            self.by_subject.resize_with(number as usize + 1, SmallVec::new);
        }
        if !namespace.is_empty() {
            self.by_namespace.entry(key[0]).or_default().push(number);
        }
        Ok((number, Some(resolved)))
    }

    /// The namespace that a subject stays inside, if it does.
    pub(crate) fn namespace(&self, subject: u32) -> Option<&str> {
        let [namespace, ..] = *self.subjects.get(subject);
        Some(&**self.texts.get(namespace)).filter(|namespace| !namespace.is_empty())
    }

    /// The subjects that stay inside a namespace, with their selectors.
    pub(crate) fn in_namespace(&self, namespace: &str) -> Vec<(u32, Selector)> {
        let number = self.texts.find(namespace);
        let subjects = number.and_then(|number| self.by_namespace.get(&number)).into_iter().flatten();
        let resolve = |subject: &u32| {
            let text = |text: u32| SmolStr::new(&**self.texts.get(text));
            let [namespace, selector, namespace_selector, service_account_selector] =
                self.subjects.get(*subject).map(text);
            let texts = Subject { namespace, selector, namespace_selector, service_account_selector };
            // It resolved when it was new.
            texts.resolve().ok().map(|selector| (*subject, selector))
        };
        subjects.filter_map(resolve).collect()
    }

    /// The order of two policies of one tier: by order, then by the text `name/namespace/kind` (spec 2 §5.1).
    pub(crate) fn cmp(&self, left: u32, right: u32) -> Ordering {
        let order = |number| self.record(number).order;
        order(left).cmp(&order(right)).then_with(|| {
            let text = |number| {
                let (kind, namespace, name) = self.names.parts(number);
                let parts = [name, "/", namespace, "/", kind.name()];
                parts.into_iter().flat_map(str::bytes)
            };
            text(left).cmp(text(right))
        })
    }

    /// Whether nothing is left.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        let interned = self.texts.len() + self.tiers.len() + self.subjects.len();
        self.names.len() == 0
            && interned == 0
            && self.by_namespace.is_empty()
            && self.by_subject.iter().all(SmallVec::is_empty)
    }
}

#[cfg(test)]
mod tests;
