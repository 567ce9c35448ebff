//! IP sets: who is in them, and what changed since the last flush.
//!
//! ```text
//! item (labels, parents) ──▶ label index ──▶ matched items of each selector ┐
//! item (addresses, ports) ──▶ claims: address → items ──────────────────────┴▶ is this member in that set?
//! ```
//!
//! No set keeps its members. A member is in a set if one of its claimants matches the set's selector and contributes
//! it. When something may change that answer, the old answer is noted first (a *touch*); the flush asks again and
//! reports the difference. Whatever happens in between melts away, and there is no count to get wrong.

use std::collections::BTreeSet;
use std::collections::hash_map::Entry;

use calico_selector::Selector;
use calico_selector::index::{Index, MatchEvent};
use roaring::RoaringBitmap;
use rustc_hash::FxHashMap;
use smallvec::SmallVec;
use smol_str::SmolStr;

use crate::change::{Change, IpSetId, Member};
use crate::claims::Claims;
use crate::intern::Interner;
use crate::members::{Contents, NamedPort, Nets, Population, claimed};
use crate::planted::{Bug, planted};
use crate::slab::Slab;

/// A set as rules ask for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SetSpec {
    /// Its id, which follows from the rest.
    pub(crate) id: IpSetId,
    /// Among whom its items are.
    pub(crate) population: Population,
    /// Which of them it is made of.
    pub(crate) selector: Selector,
    /// What it takes of them.
    pub(crate) contents: Contents,
}

/// What an item contributes.
#[derive(Debug)]
struct Contribution {
    nets: Nets,
    /// Number of its list of named ports.
    ports: u32,
}

#[derive(Debug)]
struct Set {
    id: IpSetId,
    contents: Contents,
    /// Number of the selector in use.
    selector: u32,
    /// Rule lists that name it.
    users: u32,
    /// Whether the consumer knows it.
    live: bool,
    /// Members that may have come or gone since the last flush, and whether they were in it then.
    touched: FxHashMap<Member, bool>,
}

/// A selector that at least one set is made by.
#[derive(Debug)]
struct Use {
    population: Population,
    uid: SmolStr,
    matched: RoaringBitmap,
    sets: SmallVec<[u32; 2]>,
}

/// All sets that active rules name, over all endpoints and network sets of the cluster.
#[derive(Debug, Default)]
pub(crate) struct Sets {
    index: Index,
    claims: Claims,
    contributions: Vec<Option<Contribution>>,
    /// Items that are slices of services: few beside the others.
    slices: RoaringBitmap,
    ports: Interner<Box<[NamedPort]>>,
    uses: Slab<Use>,
    use_by_uid: FxHashMap<(Population, SmolStr), u32>,
    sets: Slab<Set>,
    set_by_id: FxHashMap<IpSetId, u32>,
    /// Sets that have touched members.
    dirty: BTreeSet<u32>,
    /// Sets that the consumer does not know yet.
    fresh: BTreeSet<u32>,
    /// Sets that nothing uses any more.
    unused: BTreeSet<u32>,
    events: Vec<MatchEvent>,
}

impl Sets {
    /// Adds or replaces an endpoint, network set or slice. An item never changes its population.
    pub(crate) fn set_item<'a>(
        &mut self,
        item: u32,
        population: Population,
        labels: impl IntoIterator<Item = (&'a str, &'a str)>,
        parents: &[u32],
        nets: Nets,
        ports: &[NamedPort],
    ) {
        if self.contributions.len() <= item as usize {
            self.contributions.resize_with(item as usize + 1, || None);
        }
        let same = self.contributions[item as usize]
            .as_ref()
            .is_some_and(|old| old.nets == nets && **self.ports.get(old.ports) == *ports);
        if !same {
            // With other addresses it is another item to the sets: all of the old one's members leave first.
            self.remove_item(item);
            for net in nets.iter() {
                self.claims.add(net, item);
            }
            let ports = self.ports.acquire(ports);
            self.contributions[item as usize] = Some(Contribution { nets, ports });
        }
        if population == Population::Slices {
            self.slices.insert(item);
        }
        self.index.set_item(item, labels, parents, &mut self.events);
        self.follow_events();
    }

    /// Whether there are slices of services at all.
    pub(crate) fn has_slices(&self) -> bool {
        !self.slices.is_empty()
    }

    /// Takes an endpoint, network set or slice away, if it is there.
    pub(crate) fn remove_item(&mut self, item: u32) {
        self.index.remove_item(item, &mut self.events);
        self.follow_events();
        self.slices.remove(item);
        let Some(contribution) = self.contributions.get_mut(item as usize).and_then(Option::take) else {
            return;
        };
        if !planted(Bug::OldAddressStays) {
            for net in contribution.nets.iter() {
                self.claims.remove(net, item);
            }
        }
        self.ports.release(contribution.ports);
    }

    /// Adds a profile's labels, or replaces them.
    pub(crate) fn set_parent<'a>(
        &mut self,
        parent: u32,
        labels: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) {
        self.index.set_parent(parent, labels, &mut self.events);
        self.follow_events();
    }

    /// The labels of a profile; none for one that does not exist.
    pub(crate) fn labels_of_parent(&self, parent: u32) -> impl Iterator<Item = (&str, &str)> {
        self.index.labels_of_parent(parent)
    }

    /// Takes a profile's labels away.
    pub(crate) fn remove_parent(&mut self, parent: u32) {
        self.index.remove_parent(parent, &mut self.events);
        self.follow_events();
    }

    /// Notes what the members concerned were, then who matches now.
    fn follow_events(&mut self) {
        let mut events = std::mem::take(&mut self.events);
        for event in events.drain(..) {
            if (self.uses[event.selector].population == Population::Slices)
                != self.slices.contains(event.item)
            {
                continue;
            }
            let sets = self.uses[event.selector].sets.clone();
            for set in sets {
                self.touch(set, event.item);
            }
            let matched = &mut self.uses[event.selector].matched;
            if event.started {
                matched.insert(event.item);
            } else {
                matched.remove(event.item);
            }
        }
        self.events = events;
    }

    /// Notes for each member that the item contributes to a known set whether it is in the set now.
    fn touch(&mut self, number: u32, item: u32) {
        let Sets { claims, contributions, ports, uses, sets, dirty, .. } = self;
        let Set { contents, selector, live, touched, .. } = &mut sets[number];
        if !*live {
            return;
        }
        let selector = *selector;
        let Some(Contribution { nets, ports: port_list }) = &contributions[item as usize] else { return };
        for member in contents.members(nets, ports.get(*port_list)) {
            if let Entry::Vacant(entry) = touched.entry(member) {
                let view = View { claims, contributions, ports };
                entry.insert(view.has(member, contents, &uses[selector].matched));
                dirty.insert(number);
            }
        }
    }

    /// The number of a set, with one user more. A set that was not there is made.
    pub(crate) fn acquire(&mut self, spec: &SetSpec) -> u32 {
        if let Some(number) = self.set_by_id.get(&spec.id) {
            self.sets[*number].users += 1;
            self.unused.remove(number);
            return *number;
        }
        let SetSpec { id, population, selector, contents } = spec.clone();
        let selector = self.acquire_selector(population, &selector);
        let touched = FxHashMap::default();
        let number =
            self.sets.insert(Set { id: id.clone(), contents, selector, users: 1, live: false, touched });
        self.uses[selector].sets.push(number);
        self.set_by_id.insert(id, number);
        self.fresh.insert(number);
        number
    }

    /// Takes back [`Sets::acquire`]. The set goes with the next flush unless somebody wants it before.
    pub(crate) fn release(&mut self, number: u32) {
        let set = &mut self.sets[number];
        set.users -= 1;
        if set.users == 0 && !planted(Bug::SetNeverRemoved) {
            self.unused.insert(number);
        }
    }

    fn acquire_selector(&mut self, population: Population, selector: &Selector) -> u32 {
        let uid = SmolStr::from(selector.uid());
        if let Some(number) = self.use_by_uid.get(&(population, uid.clone())) {
            return *number;
        }
        let (matched, sets) = (RoaringBitmap::new(), SmallVec::new());
        let number = self.uses.insert(Use { population, uid: uid.clone(), matched, sets });
        self.use_by_uid.insert((population, uid), number);
        // The set is not live yet: nothing is touched.
        self.index.add_selector(number, selector, &mut self.events);
        self.follow_events();
        number
    }

    fn remove_set(&mut self, number: u32) -> Set {
        let set = self.sets.remove(number);
        self.set_by_id.remove(&set.id);
        self.dirty.remove(&number);
        let users = &mut self.uses[set.selector].sets;
        users.retain(|other| *other != number);
        if users.is_empty() {
            self.index.remove_selector(set.selector, &mut self.events);
            self.events.clear();
            let Use { population, uid, .. } = self.uses.remove(set.selector);
            self.use_by_uid.remove(&(population, uid));
        }
        set
    }

    /// Reports new sets whole, and then what came and went in known ones.
    pub(crate) fn flush_changed(&mut self, out: &mut Vec<Change>) {
        for number in std::mem::take(&mut self.fresh) {
            if self.unused.remove(&number) {
                self.remove_set(number);
                continue;
            }
            let members = self.members(number);
            let set = &mut self.sets[number];
            set.live = true;
            out.push(Change::IpSetAdded { id: set.id.clone(), kind: set.contents.kind(), members });
        }
        for number in std::mem::take(&mut self.dirty) {
            let touched = std::mem::take(&mut self.sets[number].touched);
            if self.unused.contains(&number) {
                continue;
            }
            let Set { id, contents, selector, .. } = &self.sets[number];
            let matched = &self.uses[*selector].matched;
            let (mut added, mut removed) = (Vec::new(), Vec::new());
            for (member, was_there) in touched {
                match (was_there, self.view().has(member, contents, matched)) {
                    (false, true) => added.push(member),
                    (true, false) => removed.push(member),
                    (true, true) if planted(Bug::SharedAddressLeaves) => removed.push(member),
                    (false, false) if planted(Bug::DeltaNotCoalesced) => removed.push(member),
                    (true, true) | (false, false) => {}
                }
            }
            if !added.is_empty() || !removed.is_empty() {
                out.push(Change::IpSetChanged { id: id.clone(), added, removed });
            }
        }
    }

    /// Reports sets that nothing uses any more.
    pub(crate) fn flush_removed(&mut self, out: &mut Vec<Change>) {
        for number in std::mem::take(&mut self.unused) {
            let set = self.remove_set(number);
            if set.live {
                out.push(Change::IpSetRemoved(set.id));
            }
        }
    }

    /// The members of a set, each once: every member comes from the first of its claimants that contributes it.
    fn members(&self, number: u32) -> Vec<Member> {
        let Set { contents, selector, .. } = &self.sets[number];
        let matched = &self.uses[*selector].matched;
        let view = self.view();
        let mut members = Vec::new();
        for item in matched {
            let Some(Contribution { nets, ports }) = &self.contributions[item as usize] else { continue };
            let of_item = contents.members(nets, self.ports.get(*ports));
            members.extend(of_item.filter(|member| view.first(*member, contents, matched) == Some(item)));
        }
        members.shrink_to_fit();
        members
    }

    fn view(&self) -> View<'_> {
        View { claims: &self.claims, contributions: &self.contributions, ports: &self.ports }
    }

    /// Whether nothing is left: no items, no sets, no interned lists.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        let no_items = self.contributions.iter().all(Option::is_none) && self.claims.is_empty();
        no_items
            && self.slices.is_empty()
            && self.ports.len() == 0
            && self.sets.len() == 0
            && self.uses.len() == 0
    }
}

/// What is needed to answer whether a member is in a set.
struct View<'a> {
    claims: &'a Claims,
    contributions: &'a [Option<Contribution>],
    ports: &'a Interner<Box<[NamedPort]>>,
}

impl View<'_> {
    fn has(&self, member: Member, contents: &Contents, matched: &RoaringBitmap) -> bool {
        match member {
            Member::Net(net) => self.claims.of(net).any_of(matched),
            Member::IpPort { .. } => self.first(member, contents, matched).is_some(),
        }
    }

    /// The lowest matching item that contributes the member.
    fn first(&self, member: Member, contents: &Contents, matched: &RoaringBitmap) -> Option<u32> {
        let contributes = |item: u32| {
            let contribution = self.contributions[item as usize].as_ref();
            contribution.is_some_and(|it| contents.contributes(member, self.ports.get(it.ports)))
        };
        self.claims.of(claimed(member)).find(matched, contributes)
    }
}
