//! The skeleton of our tables: base chains, dispatch chains, their maps, and what depends on configuration only.
//!
//! ```text
//! raw      PREROUTING −300  marks cleared · source check of workloads · untracked host policy
//! mangle   PREROUTING −150  pre-DNAT host policy
//! filter   INPUT, FORWARD, OUTPUT 0
//! mangle   POSTROUTING −150  host policy for connections whose destination was translated
//! nat      POSTROUTING 110  after everybody else's source NAT
//! arp      OUTPUT
//! ```
//!
//! Priorities and the order of decisions are spec 3 §6.4 and §6.5. A packet that policy allowed carries the accept mark
//! from one hook to the next. No more than
//! [`crate::graph::DEPTH_MAX`] chains nest; the kernel refuses sixteen.

use calico_net::{Cidr, Family, PortRange, Protocol};
use smol_str::SmolStr;

use crate::config::{AllowAction, Config};
use crate::fragment::{Fragment, Set};
use crate::ir::{Action, Chain, End, Interface, Match, Rule, Transport};
use crate::name::chain;
use crate::nft::{ChainKind, ChainType, Hook, SetSpec};
use crate::sets;

mod filter;
mod nat;
mod raw;

/// The chains, maps and sets that depend on configuration only. With [`crate::host_dispatch`] (always) and the
/// fragments of policies, profiles and endpoints this is the whole of both tables.
pub fn statics(config: &Config) -> Fragment {
    let mut fragment = Fragment::default();
    fragment.inet.add_set(sets::port_protocols());
    for map in [
        chain::FROM_WORKLOAD,
        chain::TO_WORKLOAD,
        chain::RPF_SKIP,
        chain::FROM_HOST,
        chain::TO_HOST,
        chain::FROM_HOST_FORWARD,
        chain::TO_HOST_FORWARD,
        chain::RAW_FROM_HOST,
        chain::RAW_TO_HOST,
        chain::MANGLE_FROM_HOST,
    ] {
        fragment.inet.add_set(sets::dispatch_map(map));
    }
    for family in Family::ALL {
        for (name, interval) in [
            (sets::nets_name(family, sets::id::MASQUERADED_POOLS), true),
            (sets::nets_name(family, sets::id::POOLS), true),
            (sets::exact_name(family, sets::id::HOSTS), false),
            (sets::exact_name(family, sets::id::VXLAN_HOSTS), false),
        ] {
            let key = [sets::address_field(family)].into_iter().collect();
            let spec = SetSpec { key, interval, verdict_map: false };
            fragment.inet.add_set(Set { name, spec, elements: Vec::new() });
        }
    }
    raw::add(&mut fragment.inet, config);
    filter::add(&mut fragment.inet, config);
    nat::add(&mut fragment.inet, config);
    add_mangle(&mut fragment, config);
    add_arp(&mut fragment);
    fragment
}

fn base(name: &'static str, hook: Hook, priority: i32, chain_type: ChainType, rules: Vec<Rule>) -> Chain {
    Chain { name: SmolStr::new_static(name), kind: ChainKind::Base { hook, priority, chain_type }, rules }
}

fn accepted(config: &Config) -> Match {
    crate::endpoint::accepted(config)
}

fn jump(matches: impl IntoIterator<Item = Match>, to: &'static str) -> Rule {
    Rule::new(matches, [Action::Jump(SmolStr::new_static(to))])
}

/// Sets all of our bits to zero, but those in `keep`.
fn clear_marks(config: &Config, keep: u32) -> Rule {
    Rule::new([], [Action::SetMark { mask: config.marks.mask & !keep, value: 0 }])
}

fn allow(action: AllowAction) -> Action {
    match action {
        AllowAction::Accept => Action::Accept,
        AllowAction::Return => Action::Return,
    }
}

/// One condition per workload prefix: rules are written once for each.
fn from_workload(config: &Config) -> impl Iterator<Item = Match> + '_ {
    config
        .interface_prefixes
        .iter()
        .map(|prefix| Match::InInterface { interface: Interface::StartsWith(prefix.clone()), invert: false })
}

/// As [`from_workload`], for what goes out.
fn to_workload(config: &Config) -> impl Iterator<Item = Match> + '_ {
    config
        .interface_prefixes
        .iter()
        .map(|prefix| Match::OutInterface { interface: Interface::StartsWith(prefix.clone()), invert: false })
}

/// IP in IP: protocol 4.
pub(crate) fn ipip() -> Option<Match> {
    Protocol::new(4).map(|protocol| Match::Protocol { protocol, invert: false })
}

fn vxlan(config: &Config) -> Match {
    Match::Port {
        end: End::Destination,
        transport: Transport::Udp,
        range: PortRange::single(config.vxlan_port),
        invert: false,
    }
}

/// Drops a packet whose source is not routed back to where it came from.
pub(crate) fn reverse_path_drop() -> Rule {
    Rule::new([Match::ReversePathFails], [Action::Drop])
        .counted()
        .comment("The source does not belong to this interface")
}

fn add_mangle(fragment: &mut Fragment, config: &Config) {
    use crate::ir::ct;
    let allow = || allow(config.mangle_allow);
    let established = Match::CtState(ct::ESTABLISHED | ct::RELATED);
    fragment.inet.add_chain(base(
        "mangle-PREROUTING",
        Hook::Prerouting,
        -150,
        ChainType::Filter,
        vec![
            Rule::new([established], [allow()]),
            Rule::new([accepted(config)], [allow()]),
            jump([], chain::MANGLE_FROM_HOST),
            Rule::new([accepted(config)], [allow()]).comment("Pre-DNAT policy allowed it"),
        ],
    ));
    // The output interface of a connection that the host starts is final only after destination NAT.
    fragment.inet.add_chain(base(
        "mangle-POSTROUTING",
        Hook::Postrouting,
        -150,
        ChainType::Filter,
        vec![
            Rule::new([accepted(config)], [Action::Return]),
            clear_marks(config, 0),
            jump([Match::Dnatted], chain::TO_HOST),
            Rule::new([accepted(config)], [Action::Return]),
        ],
    ));
}

/// The host answers ARP for every address (proxy ARP), and would for the workload's own too.
fn add_arp(fragment: &mut Fragment) {
    fragment.arp.add_set(sets::arp_own());
    let set = SmolStr::new_static(chain::ARP_OWN);
    let rule = Rule::new([Match::ArpSenderInSet { set }], [Action::Drop]).counted();
    fragment.arp.add_chain(base(
        "arp-OUTPUT",
        Hook::ArpOutput,
        0,
        ChainType::Filter,
        vec![rule.comment("The workload's own address is its own")],
    ));
}

/// A condition on prefixes that are known now, with the set that it needs.
fn nets_match(
    fragment: &mut crate::fragment::Part,
    end: End,
    nets: &[Cidr],
    family: Family,
) -> Option<Match> {
    let (matched, set) = sets::match_nets(end, nets, family, false)?;
    set.into_iter().for_each(|s| fragment.add_set(s));
    Some(matched)
}

#[cfg(test)]
mod tests;
