//! The filter hooks: to, through and from this host; dispatch; failsafe ports.

use calico_net::{Cidr, Family};
use smol_str::SmolStr;

use super::{accepted, allow, base, clear_marks, from_workload, ipip, jump, nets_match, to_workload, vxlan};
use crate::config::{Config, EndpointToHost, Failsafe};
use crate::fragment::Part;
use crate::ir::{Action, Chain, End, IcmpType, Match, Rule, Transport};
use crate::name::chain;
use crate::nft::{ChainType, Hook};
use crate::sets;

pub(super) fn add(part: &mut Part, config: &Config) {
    part.add_chain(base("filter-INPUT", Hook::Input, 0, ChainType::Filter, input(config)));
    part.add_chain(base("filter-FORWARD", Hook::Forward, 0, ChainType::Filter, forward(config)));
    part.add_chain(base("filter-OUTPUT", Hook::Output, 0, ChainType::Filter, output(config)));
    part.add_chain(Chain::regular(chain::WORKLOAD_TO_HOST, workload_to_host(config)));
    for (name, action) in [
        (chain::FROM_WORKLOAD, Action::GotoByInInterface { map: SmolStr::new_static(chain::FROM_WORKLOAD) }),
        (chain::TO_WORKLOAD, Action::GotoByOutInterface { map: SmolStr::new_static(chain::TO_WORKLOAD) }),
    ] {
        let unknown = Rule::new([], [Action::Drop]).counted().comment("Unknown interface");
        part.add_chain(Chain::regular(name, vec![Rule::new([], [action]), unknown]));
    }
    let rules = service_loop(part, config);
    part.add_chain(Chain::regular(chain::CIDR_BLOCK, rules));
    let Config { failsafe_in, failsafe_out, .. } = config;
    let towards = (End::Destination, End::Source);
    let back = (End::Source, End::Destination);
    for (name, lists) in [
        (chain::FAILSAFE_IN, vec![(failsafe_in, towards)]),
        (chain::FAILSAFE_OUT, vec![(failsafe_out, (End::Destination, End::Destination))]),
        (chain::RAW_FAILSAFE_IN, vec![(failsafe_in, towards), (failsafe_out, (End::Source, End::Source))]),
        (
            chain::RAW_FAILSAFE_OUT,
            vec![(failsafe_out, (End::Destination, End::Destination)), (failsafe_in, back)],
        ),
    ] {
        let mut rules = neighbour_discovery(&[133, 134, 135, 136]);
        for (list, (port, net)) in lists {
            rules.extend(failsafe(part, list, port, net));
        }
        part.add_chain(Chain::regular(name, rules));
    }
}

/// `INPUT`: to this host.
fn input(config: &Config) -> Vec<Rule> {
    let mut rules = Vec::new();
    let local = || Match::DestinationLocal;
    if config.ipip {
        let hosts = Match::InSet {
            end: End::Source,
            family: Family::V4,
            set: sets::exact_name(Family::V4, sets::id::HOSTS),
            invert: false,
        };
        let known = ipip().into_iter().chain([hosts, local()]);
        rules.push(Rule::new(known, [Action::Accept]).comment("IP in IP from a node"));
        // The device takes IPv4 only: IPv4 in IPv6 is somebody else's.
        let outer = [Match::Family(Family::V4)].into_iter().chain(ipip());
        let rule = Rule::new(outer, [Action::Drop]).counted();
        rules.push(rule.comment("IP in IP from elsewhere"));
    }
    if config.vxlan {
        for family in Family::ALL {
            let set = sets::exact_name(family, sets::id::VXLAN_HOSTS);
            let hosts = Match::InSet { end: End::Source, family, set, invert: false };
            rules.push(
                Rule::new([vxlan(config), hosts, local()], [Action::Accept]).comment("VXLAN from a node"),
            );
        }
        let rule = Rule::new([vxlan(config), local()], [Action::Drop]).counted();
        rules.push(rule.comment("VXLAN from elsewhere"));
    }
    let to_host = || Action::Goto(SmolStr::new_static(chain::WORKLOAD_TO_HOST));
    rules.extend(from_workload(config).map(|from| Rule::new([from], [to_host()])));
    rules.push(Rule::new([accepted(config)], [allow(config.filter_allow)]));
    rules.push(clear_marks(config, 0));
    rules.push(jump([], chain::FROM_HOST));
    rules.push(
        Rule::new([accepted(config)], [allow(config.filter_allow)])
            .comment("Host endpoint policy allowed it"),
    );
    rules
}

/// `FORWARD`: through this host. What policy allowed is accepted at the end; what it had nothing to say about is left
/// to others, marked so that POSTROUTING knows that it was forwarded.
fn forward(config: &Config) -> Vec<Rule> {
    let accept = config.marks.accept;
    let mut rules = vec![
        clear_marks(config, accept),
        jump([Match::Mark { mask: accept, value: 0, invert: false }], chain::FROM_HOST_FORWARD),
    ];
    rules.extend(from_workload(config).map(|from| jump([from], chain::FROM_WORKLOAD)));
    rules.extend(to_workload(config).map(|to| jump([to], chain::TO_WORKLOAD)));
    rules.push(jump([], chain::TO_HOST_FORWARD));
    rules.push(jump([], chain::CIDR_BLOCK));
    rules.push(Rule::new([accepted(config)], [allow(config.filter_allow)]).comment("Policy allowed it"));
    rules.push(Rule::new([], [crate::endpoint::accept(config)]));
    rules
}

/// `OUTPUT`: from this host. Traffic to local workloads is not policed: the host must reach what it runs.
fn output(config: &Config) -> Vec<Rule> {
    let mut rules = vec![Rule::new([accepted(config)], [allow(config.filter_allow)])];
    rules.extend(to_workload(config).map(|to| Rule::new([to], [Action::Return])));
    if config.ipip {
        let hosts = Match::InSet {
            end: End::Destination,
            family: Family::V4,
            set: sets::exact_name(Family::V4, sets::id::HOSTS),
            invert: false,
        };
        let known = ipip().into_iter().chain([hosts, Match::SourceLocal]);
        rules.push(Rule::new(known, [Action::Accept]).comment("IP in IP to a node"));
    }
    if config.vxlan {
        for family in Family::ALL {
            let set = sets::exact_name(family, sets::id::VXLAN_HOSTS);
            let hosts = Match::InSet { end: End::Destination, family, set, invert: false };
            let known = [vxlan(config), hosts, Match::SourceLocal];
            rules.push(Rule::new(known, [Action::Accept]).comment("VXLAN to a node"));
        }
    }
    rules.push(clear_marks(config, 0));
    let later = Rule::new([Match::Dnatted], [Action::Return]);
    rules.push(later.comment("POSTROUTING knows its output interface"));
    rules.push(jump([], chain::TO_HOST));
    rules.push(
        Rule::new([accepted(config)], [allow(config.filter_allow)])
            .comment("Host endpoint policy allowed it"),
    );
    rules
}

/// Workload to this host: its egress policy decides, then the operator's default action.
fn workload_to_host(config: &Config) -> Vec<Rule> {
    // MLD, router and neighbour discovery: without them there is no IPv6 at all (RFC 4890 §4.4.1).
    let mut rules = neighbour_discovery(&[130, 131, 132, 133, 135, 136]);
    rules.push(jump([], chain::FROM_WORKLOAD));
    let comment = "What workloads may do to this host";
    match config.endpoint_to_host {
        EndpointToHost::Drop => rules.push(Rule::new([], [Action::Drop]).counted().comment(comment)),
        EndpointToHost::Accept => rules.push(Rule::new([], [Action::Accept]).counted().comment(comment)),
        EndpointToHost::Return => {}
    }
    rules
}

fn neighbour_discovery(types: &[u8]) -> Vec<Rule> {
    let accept = |&icmp_type: &u8| {
        let icmp = IcmpType { icmp_type, code: None };
        Rule::new([Match::Icmp { family: Family::V6, icmp, invert: false }], [Action::Accept])
    };
    types.iter().map(accept).collect()
}

/// Service addresses that nobody translated have no endpoints; forwarding them would send them back and forth between
/// this host and its router.
fn service_loop(part: &mut Part, config: &Config) -> Vec<Rule> {
    let action = if config.service_loop_reject { Action::Reject } else { Action::Drop };
    let nets: &[Cidr] = &config.service_nets;
    let matches: Vec<Match> = Family::ALL
        .into_iter()
        .filter_map(|family| nets_match(part, End::Destination, nets, family))
        .collect();
    let rule = |m| Rule::new([m], [action.clone()]).counted().comment("A service without endpoints");
    matches.into_iter().map(rule).collect()
}

/// Accepts failsafe ports: those of any address by one lookup, the others one by one. `port` and `net` say which end
/// of the packet the port and the prefix are about.
fn failsafe(part: &mut Part, list: &[Failsafe], port: End, net: End) -> Vec<Rule> {
    let mut rules = Vec::new();
    let open = list.iter().filter(|f| f.net.is_none()).map(|f| (f.protocol, f.port));
    if let Some(set) = sets::protocol_ports(open) {
        let matched = Match::ProtocolPortInSet { end: port, set: set.name.clone() };
        rules.push(Rule::new([matched], [Action::Accept]));
        part.add_set(set);
    }
    for Failsafe { protocol, net: from, port: number } in list {
        let (Some(from), Some(transport)) = (from, Transport::of(*protocol)) else { continue };
        let matches = [
            Match::Port {
                end: port,
                transport,
                range: calico_net::PortRange::single(*number),
                invert: false,
            },
            Match::Net { end: net, net: *from, invert: false },
        ];
        rules.push(Rule::new(matches, [Action::Accept]));
    }
    rules
}
