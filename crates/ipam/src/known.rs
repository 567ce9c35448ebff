//! What an operation knows of the datastore: decoded records with their revisions, and which selections are complete.
//!
//! Operations decide from this alone and ask for what is missing. A long-running caller may keep it between operations:
//! the blocks and affinities that it holds from earlier are *hints*, good enough for the common assignment (every write
//! is a compare-and-swap) but read again before a refusal or a new claim is based on them. Settings, pools, reservations
//! and nodes are never hints: no compare-and-swap would notice that an operator has changed them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};
use std::ops::Bound;
use std::sync::Arc;

use calico_api::{
    AffinityOwner, BlockAffinity, Entry, IPPool, IPReservation, IpamBlock, IpamConfig, IpamHandle, Key, Kind,
    Labels, Node, Revision, Selection, decode, decode_record,
};
use calico_net::{Cidr, Family};
use smol_str::SmolStr;

use crate::block;

/// A record decoded once.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    /// A block.
    Block(IpamBlock),
    /// A claim of a block.
    Affinity(BlockAffinity),
    /// A handle.
    Handle(IpamHandle),
    /// IPAM's settings.
    Config(IpamConfig),
    /// A pool.
    Pool(IPPool),
    /// A reservation.
    Reservation(IPReservation),
    /// A node: its labels.
    Node(Labels),
    /// Something that IPAM only needs to know the existence of.
    Marker,
    /// It does not decode; why. Blocks like this are left alone, settings and reservations stop every
    /// assignment, other records count as absent.
    Damaged(Arc<str>),
}

impl Record {
    /// Decodes a stored entry.
    pub fn decode(entry: &Entry) -> Record {
        let record = match &entry.key {
            Key::Block(key) => decode_record(entry).map(|found: IpamBlock| {
                // A tombstone counts as absent, whatever it says.
                match block::contradiction(&found, *key).filter(|_| !found.deleted) {
                    None => Record::Block(found),
                    Some(reason) => Record::Damaged(reason.into()),
                }
            }),
            Key::Affinity { .. } => decode_record(entry).map(Record::Affinity),
            Key::Handle(_) => decode_record(entry).map(Record::Handle),
            Key::IpamConfig => decode_record(entry).map(Record::Config),
            Key::Resource(key) => match key.kind {
                Kind::IPPool => decode::<calico_api::IPPoolSpec>(entry).map(Record::Pool),
                Kind::IPReservation => {
                    decode::<calico_api::IPReservationSpec>(entry).map(Record::Reservation)
                }
                Kind::Node => {
                    decode::<calico_api::NodeSpec>(entry).map(|n: Node| Record::Node(n.metadata.labels))
                }
                _ => Ok(Record::Marker),
            },
            _ => Ok(Record::Marker),
        };
        record.unwrap_or_else(|e| Record::Damaged(e.reason.into()))
    }
}

/// A stored object that IPAM could not read, and why. It counted as absent, or, a block, as occupied; of settings and
/// reservations nobody knows what they forbid, so nothing is assigned.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key} cannot be read: {reason}")]
pub struct Problem {
    /// Which.
    pub key: Key,
    /// Why.
    pub reason: Arc<str>,
}

#[derive(Clone, Debug)]
struct Fact {
    /// `None`: known to be absent.
    value: Option<(Revision, Arc<Record>)>,
    /// The operation that learnt it.
    epoch: u64,
}

/// Something must be read before the decision can be taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Need {
    /// Entries to read.
    pub keys: Vec<Key>,
    /// Selections to list.
    pub selections: Vec<Selection>,
}

impl Need {
    fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.selections.is_empty()
    }
}

/// A record and the revision to name when replacing it.
pub type Held<'a, R> = (&'a R, &'a Revision);

/// Everything known of the datastore.
#[derive(Clone, Debug, Default)]
pub struct Known {
    facts: BTreeMap<Key, Fact>,
    /// What must be read again, although a listing may have seen it. No fact is known of these.
    forgotten: BTreeSet<Key>,
    listed: Vec<(Selection, u64)>,
    /// Counts operations: what earlier ones learnt are hints.
    epoch: u64,
    /// Whether there may be any.
    hints: bool,
}

impl Known {
    /// Nothing known.
    pub fn new() -> Known {
        Known::default()
    }

    /// Takes in an entry as it is stored now.
    pub fn observe(&mut self, entry: &Entry) {
        let record = Arc::new(Record::decode(entry));
        self.observe_record(entry.key.clone(), entry.revision.clone(), record);
    }

    /// Takes in a record that the caller has decoded already.
    pub fn observe_record(&mut self, key: Key, revision: Revision, record: Arc<Record>) {
        // A tombstone of the Kubernetes back end: readers see it as absent (spec 1 §3.4).
        let gone = match &*record {
            Record::Block(r) => r.deleted,
            Record::Affinity(r) => r.deleted,
            Record::Handle(r) => r.deleted,
            _ => false,
        };
        let value = (!gone).then_some((revision, record));
        self.learn(key, value);
    }

    /// Takes in that there is no such entry.
    pub fn observe_absent(&mut self, key: Key) {
        self.learn(key, None);
    }

    fn learn(&mut self, key: Key, value: Option<(Revision, Arc<Record>)>) {
        self.forgotten.remove(&key);
        self.facts.insert(key, Fact { value, epoch: self.epoch });
    }

    /// Takes in a whole selection: what it does not list is absent.
    pub fn observe_listing(&mut self, selection: Selection, entries: &[Entry]) {
        self.facts.retain(|key, _| !selection.contains(key));
        self.forgotten.retain(|key| !selection.contains(key));
        for entry in entries {
            self.observe(entry);
        }
        self.listed.retain(|(s, _)| *s != selection);
        self.listed.push((selection, self.epoch));
    }

    /// Forgets one entry: it will be read again.
    pub fn forget(&mut self, key: Key) {
        self.facts.remove(&key);
        self.forgotten.insert(key);
    }

    /// Forgets all but blocks and affinities: handles, so that what is kept between operations does not grow with every
    /// workload, and what only an operator changes, which no write of ours compares.
    fn keep_blocks(&mut self) {
        let is_kept = |key: &Key| matches!(key, Key::Block(_) | Key::Affinity { .. });
        self.facts.retain(|key, _| is_kept(key));
        self.forgotten.retain(is_kept);
        self.listed.retain(|(s, _)| matches!(s, Selection::Blocks(_) | Selection::Affinities { .. }));
    }

    /// Makes what is kept a hint: called when an operation starts on what an earlier one left.
    pub(crate) fn age(&mut self) {
        self.keep_blocks();
        self.hints = !self.facts.is_empty() || !self.listed.is_empty();
        self.epoch += 1;
    }

    /// Whether anything rests on hints.
    pub(crate) fn has_hints(&self) -> bool {
        self.hints
    }

    /// Forgets the hints.
    pub(crate) fn drop_hints(&mut self) {
        let epoch = self.epoch;
        self.facts.retain(|_, fact| fact.epoch == epoch);
        self.listed.retain(|(_, learnt)| *learnt == epoch);
        let listed = &self.listed;
        self.forgotten.retain(|key| listed.iter().any(|(s, _)| s.contains(key)));
        self.hints = false;
    }

    fn is_listed(&self, key: &Key) -> bool {
        self.listed.iter().any(|(s, _)| s.contains(key))
    }

    fn is_known(&self, key: &Key) -> bool {
        self.facts.contains_key(key) || (!self.forgotten.contains(key) && self.is_listed(key))
    }

    /// Everything of these must be known, or what is not is asked for, all at once.
    pub fn require(
        &self,
        keys: impl IntoIterator<Item = Key>,
        selections: impl IntoIterator<Item = Selection>,
    ) -> Result<(), Need> {
        let mut need = Need::default();
        for selection in selections {
            if self.listed.iter().any(|(s, _)| *s == selection) {
                need.keys.extend(self.forgotten.iter().filter(|k| selection.contains(k)).cloned());
            } else {
                need.selections.push(selection);
            }
        }
        for key in keys {
            if !self.is_known(&key) && !need.keys.contains(&key) {
                need.keys.push(key);
            }
        }
        if need.is_empty() { Ok(()) } else { Err(need) }
    }

    /// A record, if it is known and exists.
    pub fn record(&self, key: &Key) -> Option<(&Record, &Revision)> {
        let (revision, record) = self.facts.get(key)?.value.as_ref()?;
        Some((record, revision))
    }

    /// A handle; `None` also if nothing is known of it.
    pub fn handle(&self, id: &SmolStr) -> Option<Held<'_, IpamHandle>> {
        match self.record(&Key::Handle(id.clone()))? {
            (Record::Handle(handle), revision) => Some((handle, revision)),
            _ => None,
        }
    }

    /// A block.
    pub fn block(&self, cidr: Cidr) -> Option<Held<'_, IpamBlock>> {
        match self.record(&Key::Block(cidr))? {
            (Record::Block(block), revision) => Some((block, revision)),
            _ => None,
        }
    }

    /// An affinity.
    pub fn affinity(&self, owner: &AffinityOwner, block: Cidr) -> Option<Held<'_, BlockAffinity>> {
        match self.record(&Key::Affinity { owner: owner.clone(), block })? {
            (Record::Affinity(affinity), revision) => Some((affinity, revision)),
            _ => None,
        }
    }

    /// IPAM's settings for an assignment; the defaults if there is no record (spec 5 §2.4).
    ///
    /// # Errors
    /// When there is a record that cannot be read: under the defaults, an assignment could do what it forbids.
    pub fn readable_config(&self) -> Result<IpamConfig, Problem> {
        self.problem(&Key::IpamConfig).map_or_else(|| Ok(self.config()), Err)
    }

    /// Why a record that is known cannot be read, if so.
    pub fn problem(&self, key: &Key) -> Option<Problem> {
        match self.record(key)? {
            (Record::Damaged(reason), _) => Some(Problem { key: key.clone(), reason: reason.clone() }),
            _ => None,
        }
    }

    /// IPAM's settings; the defaults if there is no record, or none that can be read.
    pub fn config(&self) -> IpamConfig {
        match self.record(&Key::IpamConfig) {
            Some((Record::Config(config), _)) => config.clone(),
            _ => IpamConfig::default(),
        }
    }

    /// A node's labels, if the node exists.
    pub fn node_labels(&self, name: &str) -> Option<&Labels> {
        match self.record(&Key::resource(Kind::Node, "", name))? {
            (Record::Node(labels), _) => Some(labels),
            _ => None,
        }
    }

    fn present(&self, from: Key, to: Key) -> impl Iterator<Item = (&Key, &Record, &Revision)> {
        self.facts.range((Bound::Included(from), Bound::Included(to))).filter_map(|(key, fact)| {
            let (revision, record) = fact.value.as_ref()?;
            Some((key, &**record, revision))
        })
    }

    /// The known blocks of a family, damaged ones included, in numeric order.
    pub fn blocks(&self, family: Family) -> impl Iterator<Item = (Cidr, Option<Held<'_, IpamBlock>>)> {
        let (from, to) = (Key::Block(Cidr::everything(family)), Key::Block(last(family)));
        self.present(from, to).filter_map(|(key, record, revision)| match (key, record) {
            (Key::Block(cidr), Record::Block(block)) => Some((*cidr, Some((block, revision)))),
            (Key::Block(cidr), _) => Some((*cidr, None)),
            _ => None,
        })
    }

    /// The known affinities of an owner in a family, in numeric order of their blocks.
    pub fn affinities(
        &self,
        owner: &AffinityOwner,
        family: Family,
    ) -> impl Iterator<Item = (Cidr, Held<'_, BlockAffinity>)> {
        let key = |block| Key::Affinity { owner: owner.clone(), block };
        self.present(key(Cidr::everything(family)), key(last(family))).filter_map(
            |(key, record, revision)| match (key, record) {
                (Key::Affinity { block, .. }, Record::Affinity(affinity)) => {
                    Some((*block, (affinity, revision)))
                }
                _ => None,
            },
        )
    }

    /// The known affinities of everybody.
    pub fn all_affinities(&self) -> impl Iterator<Item = (&AffinityOwner, Cidr, Held<'_, BlockAffinity>)> {
        self.records().filter_map(|(key, record, revision)| match (key, record) {
            (Key::Affinity { owner, block }, Record::Affinity(a)) => Some((owner, *block, (a, revision))),
            _ => None,
        })
    }

    /// The known handles.
    pub fn handles(&self) -> impl Iterator<Item = (&SmolStr, Held<'_, IpamHandle>)> {
        self.records().filter_map(|(key, record, revision)| match (key, record) {
            (Key::Handle(id), Record::Handle(handle)) => Some((id, (handle, revision))),
            _ => None,
        })
    }

    /// The known pools, by name.
    pub fn pools(&self) -> impl Iterator<Item = &IPPool> {
        let kind = |kind| Key::resource(kind, "", "");
        self.present(kind(Kind::IPPool), kind(Kind::IPReservation)).filter_map(
            |(_, record, _)| match record {
                Record::Pool(pool) => Some(pool),
                _ => None,
            },
        )
    }

    /// The known reserved ranges that can be read.
    pub fn reservations(&self) -> Vec<Cidr> {
        self.reserved_ranges().filter_map(Result::ok).collect()
    }

    /// The known reserved ranges.
    ///
    /// # Errors
    /// When one cannot be read: nobody knows what it forbids, and an address that was given would not come back.
    pub fn readable_reservations(&self) -> Result<Vec<Cidr>, Problem> {
        self.reserved_ranges().collect()
    }

    fn reserved_ranges(&self) -> impl Iterator<Item = Result<Cidr, Problem>> {
        let kind = |kind| Key::resource(kind, "", "");
        let records = self.present(kind(Kind::IPReservation), kind(Kind::KubeControllersConfiguration));
        records.flat_map(|(key, record, _)| match record {
            Record::Reservation(reservation) => {
                let ranges = &reservation.spec.reserved_cidrs;
                let read = |text: &SmolStr| text.parse().map_err(|_| not_a_range(key, text));
                ranges.iter().map(read).collect()
            }
            Record::Damaged(reason) => vec![Err(Problem { key: key.clone(), reason: reason.clone() })],
            _ => Vec::new(),
        })
    }

    /// Everything that exists, by key.
    pub fn records(&self) -> impl Iterator<Item = (&Key, &Record, &Revision)> {
        self.facts.iter().filter_map(|(key, fact)| {
            let (revision, record) = fact.value.as_ref()?;
            Some((key, &**record, revision))
        })
    }

    /// What could not be read, whole records or reserved ranges.
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        for (key, record, _) in self.records() {
            match record {
                Record::Damaged(reason) => {
                    problems.push(Problem { key: key.clone(), reason: reason.clone() })
                }
                Record::Reservation(reservation) => {
                    let ranges = reservation.spec.reserved_cidrs.iter();
                    let bad = ranges.filter(|text| text.parse::<Cidr>().is_err());
                    problems.extend(bad.map(|text| not_a_range(key, text)));
                }
                _ => {}
            }
        }
        problems
    }
}

fn not_a_range(key: &Key, text: &str) -> Problem {
    let reason = format!("spec.reservedCIDRs: {text:?} is no CIDR; no address is assigned until it is one");
    Problem { key: key.clone(), reason: reason.into() }
}

/// The greatest CIDR of a family.
fn last(family: Family) -> Cidr {
    Cidr::host(match family {
        Family::V4 => IpAddr::from([255; 4]),
        Family::V6 => IpAddr::V6(Ipv6Addr::from(u128::MAX)),
    })
}

#[cfg(test)]
mod tests;
