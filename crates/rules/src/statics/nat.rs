//! Source NAT: workloads that leave the pools, and the host's own traffic through tunnels.

use calico_net::{Cidr, Family, PortRange, Protocol};

use super::{base, jump};
use crate::config::{Config, Tunnel};
use crate::fragment::Part;
use crate::ir::{Action, Chain, End, Interface, Match, Rule};
use crate::name::chain;
use crate::nft::{ChainType, Hook};
use crate::sets;

/// Behind everybody else's source NAT: kube-proxy's decisions stand.
const AFTER_SOURCE_NAT: i32 = 110;

pub(super) fn add(part: &mut Part, config: &Config) {
    let mut rules = vec![jump([], chain::NAT_OUTGOING)];
    rules.extend(config.tunnels.iter().map(tunnel));
    part.add_chain(base("nat-POSTROUTING", Hook::Postrouting, AFTER_SOURCE_NAT, ChainType::Nat, rules));
    part.add_chain(Chain::regular(
        chain::NAT_OUTGOING,
        Family::ALL.into_iter().flat_map(|family| outgoing(config, family)).collect(),
    ));
}

/// The other node routes answers to the tunnel's address, not to another of this host's.
fn tunnel(tunnel: &Tunnel) -> Rule {
    let Tunnel { interface, addr } = tunnel;
    Rule::new(
        [
            Match::OutInterface { interface: Interface::Is(interface.clone()), invert: false },
            Match::Net { end: End::Source, net: Cidr::host(*addr), invert: true },
            Match::SourceLocal,
        ],
        [Action::Masquerade { ports: None }],
    )
    .comment("The host through a tunnel, by the tunnel's address")
}

fn outgoing(config: &Config, family: Family) -> Vec<Rule> {
    let in_set = |end, set, invert| Match::InSet { end, family, set, invert };
    let mut leaving = vec![
        in_set(End::Source, sets::nets_name(family, sets::id::MASQUERADED_POOLS), false),
        in_set(End::Destination, sets::nets_name(family, sets::id::POOLS), true),
    ];
    if config.nat_spares_hosts {
        leaving.push(in_set(End::Destination, sets::exact_name(family, sets::id::HOSTS), true));
    }
    if let Some(filter) = &config.nat_interface {
        let interface = match filter.strip_suffix(['+', '*']) {
            Some(prefix) => Interface::StartsWith(prefix.into()),
            None => Interface::Is(filter.clone()),
        };
        leaving.push(Match::OutInterface { interface, invert: false });
    }
    let translate = |ports: Option<PortRange>| match (config.nat_address, family) {
        (Some(addr), Family::V4) => Action::Snat { addr: addr.into(), ports },
        _ => Action::Masquerade { ports },
    };
    let mut rules = Vec::new();
    if let Some(ports) = config.nat_ports {
        for transport in [Protocol::TCP, Protocol::UDP] {
            let protocol = Match::Protocol { protocol: transport, invert: false };
            let matches = leaving.iter().cloned().chain([protocol]);
            rules.push(Rule::new(matches, [translate(Some(ports))]));
        }
    }
    rules.push(Rule::new(leaving, [translate(None)]).counted().comment("Leaves the pools"));
    rules
}
