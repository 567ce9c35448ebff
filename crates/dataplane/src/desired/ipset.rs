//! IP sets: members to elements of the kernel's sets.

use calico_calc::change::{IpSetId, IpSetKind, Member};
use calico_net::{Cidr, Family};
use calico_rules::nft::Table;
use calico_rules::sets::{Placement, place};
use smol_str::SmolStr;

use super::Desired;
use crate::interval::{IntervalDelta, IntervalUnion};
use crate::tables::nft::Ruleset;

/// The disjoint unions of an IP set's prefixes, or of another list of prefixes.
#[derive(Clone, Debug)]
pub(super) struct Unions {
    v4: IntervalUnion,
    v6: IntervalUnion,
}

impl Default for Unions {
    fn default() -> Unions {
        Unions { v4: IntervalUnion::new(Family::V4), v6: IntervalUnion::new(Family::V6) }
    }
}

impl Unions {
    /// Adds a prefix, or takes it out, and tells the ruleset.
    pub fn change(&mut self, ruleset: &mut Ruleset, set: &SmolStr, net: Cidr, add: bool) {
        let union = match net.family() {
            Family::V4 => &mut self.v4,
            Family::V6 => &mut self.v6,
        };
        let IntervalDelta { removed, added } = if add { union.insert(net) } else { union.remove(&net) };
        for range in removed {
            ruleset.remove_element(Table::Inet, set, &union.element(range));
        }
        for range in added {
            ruleset.insert_element(Table::Inet, set, union.element(range));
        }
    }
}

/// An IP set: what kind it is, and its prefixes. Its single addresses are in the ruleset only.
#[derive(Debug)]
pub(super) struct IpSet {
    kind: IpSetKind,
    unions: Unions,
}

impl Desired {
    pub(super) fn add_ip_set(&mut self, id: IpSetId, kind: IpSetKind, members: Vec<Member>) {
        // Making it anew costs nothing in the kernel: what comes back before the next plan never left.
        self.remove_ip_set(&id);
        for set in calico_rules::ip_set(&id, kind) {
            self.ruleset.retain_set(Table::Inet, &set.name, set.spec, set.elements);
        }
        self.ip_sets.insert(id.clone(), IpSet { kind, unions: Unions::default() });
        self.change_ip_set(&id, &members, &[]);
    }

    /// A change to a set that is not there changes nothing.
    pub(super) fn change_ip_set(&mut self, id: &IpSetId, added: &[Member], removed: &[Member]) {
        let Some(ip_set) = self.ip_sets.get_mut(id) else { return };
        for (member, add) in removed.iter().map(|m| (m, false)).chain(added.iter().map(|m| (m, true))) {
            match place(id, member) {
                Placement::Exact(set, element) if add => {
                    self.ruleset.insert_element(Table::Inet, &set, element)
                }
                Placement::Exact(set, element) => self.ruleset.remove_element(Table::Inet, &set, &element),
                Placement::Net(set, net) => ip_set.unions.change(&mut self.ruleset, &set, net, add),
            }
        }
    }

    pub(super) fn remove_ip_set(&mut self, id: &IpSetId) {
        if let Some(old) = self.ip_sets.remove(id) {
            for set in calico_rules::ip_set(id, old.kind) {
                self.ruleset.release_set(Table::Inet, &set.name);
            }
        }
    }
}
