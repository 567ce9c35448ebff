//! Before conntrack: marks cleared, workloads' source addresses checked, untracked host policy.

use calico_net::{Cidr, Family};
use smol_str::SmolStr;

use super::{accepted, base, clear_marks, from_workload, jump, reverse_path_drop, vxlan};
use crate::config::Config;
use crate::fragment::Part;
use crate::ir::{Action, Chain, End, Interface, Match, Rule};
use crate::name::chain;
use crate::nft::{ChainType, Hook};

const RAW: i32 = -300;

pub(super) fn add(part: &mut Part, config: &Config) {
    // A tunnel's packets would fill the connection table, one entry per pair of nodes and source port.
    let untracked_vxlan = || config.vxlan.then(|| Rule::new([vxlan(config)], [Action::NoTrack]));

    let mut rules = vec![clear_marks(config, 0)];
    rules.extend(untracked_vxlan());
    rules.extend(from_workload(config).map(|from| jump([from], chain::RPF)));
    let not_from_workload = config
        .interface_prefixes
        .iter()
        .map(|prefix| Match::InInterface { interface: Interface::StartsWith(prefix.clone()), invert: true });
    rules.push(jump(not_from_workload, chain::RAW_FROM_HOST));
    rules.push(Rule::new([accepted(config)], [Action::Accept]).comment("Untracked policy allowed it"));
    part.add_chain(base("raw-PREROUTING", Hook::Prerouting, RAW, ChainType::Filter, rules));

    let mut rules = vec![clear_marks(config, 0), jump([], chain::RAW_TO_HOST)];
    rules.extend(untracked_vxlan());
    rules.push(Rule::new([accepted(config)], [Action::Accept]).comment("Untracked policy allowed it"));
    part.add_chain(base("raw-OUTPUT", Hook::Output, RAW, ChainType::Filter, rules));

    part.add_chain(Chain::regular(chain::RPF, source_check()));
}

/// IPv6 neighbours talk by link-local addresses, and before they have one by none (RFC 4861, RFC 4862): those belong to
/// every interface, are never routed onward, and need not be found in a routing table.
fn source_check() -> Vec<Rule> {
    let icmpv6 = || Match::Protocol { protocol: calico_net::Protocol::ICMPV6, invert: false };
    let source = |net: Cidr| Match::Net { end: End::Source, net, invert: false };
    let any_v6 = Cidr::everything(Family::V6).addr();
    let mut rules = Vec::new();
    if let Ok(link_local) = Cidr::new(std::net::Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0).into(), 10) {
        rules.push(Rule::new([source(link_local), icmpv6()], [Action::Return]));
    }
    rules.push(Rule::new([source(Cidr::host(any_v6)), icmpv6()], [Action::Return]));
    rules.push(Rule::new([], [Action::GotoByInInterface { map: SmolStr::new_static(chain::RPF_SKIP) }]));
    rules.push(reverse_path_drop());
    rules
}
