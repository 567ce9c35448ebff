//! A node for tests: endpoints and policies in a few words, and packets sent through all hooks.

use std::sync::Arc;

use calico_api::{Kind, ResourceKey};
use calico_calc::change::{Action, HostEndpoint, Policy, Profile, Rule, Side, Tier, TierEnd, Workload};
use calico_net::{IfName, PortRange, Protocol};
use smol_str::SmolStr;

use crate::config::Config;
use crate::eval::{Fate, Header, Journey, Outcome, Packet, Ruleset};
use crate::fragment::Fragment;

pub(crate) fn policy_key(name: &str) -> ResourceKey {
    ResourceKey { kind: Kind::GlobalNetworkPolicy, namespace: SmolStr::default(), name: name.into() }
}

/// A rule for TCP to one port.
pub(crate) fn tcp_rule(action: Action, port: u16) -> Rule {
    Rule {
        protocol: Some(Protocol::TCP),
        destination: Side { ports: vec![PortRange::single(port)], ..Side::default() },
        ..Rule::new(action)
    }
}

/// Tiers with the same policies in both directions.
pub(crate) fn tiers(tiers: &[(&str, TierEnd, &[&str])]) -> Arc<[Tier]> {
    let tier = |(name, end, policies): &(&str, TierEnd, &[&str])| {
        let policies: Vec<ResourceKey> = policies.iter().map(|p| policy_key(p)).collect();
        Tier { name: (*name).into(), end: *end, ingress: policies.clone(), egress: policies }
    };
    tiers.iter().map(tier).collect()
}

/// A workload `cali<n>` with addresses 10.0.0.n and fd00::n.
pub(crate) fn pod(n: u8, tiers: &Arc<[Tier]>, profiles: &[&str]) -> Workload {
    Workload {
        key: policy_key("unused"),
        interface: format!("cali{n}").parse().unwrap(),
        mac: None,
        nets: vec![format!("10.0.0.{n}/32").parse().unwrap(), format!("fd00::{n}/128").parse().unwrap()],
        allowed_sources: Vec::new(),
        tiers: tiers.clone(),
        profiles: profiles.iter().map(SmolStr::new).collect(),
    }
}

/// A host endpoint without any policy.
pub(crate) fn host(interface: &str) -> HostEndpoint {
    let none: Arc<[Tier]> = [].into();
    HostEndpoint {
        interface: interface.into(),
        expected_ips: Vec::new(),
        tiers: none.clone(),
        untracked_tiers: none.clone(),
        pre_dnat_tiers: none.clone(),
        forward_tiers: none,
        profiles: [].into(),
    }
}

/// A node being put together.
pub(crate) struct World {
    pub(crate) config: Config,
    pub(crate) fragment: Fragment,
}

impl World {
    /// The skeleton, with the policies given by (name, rules of both directions) and the profile `open`.
    pub(crate) fn new(config: Config, policies: &[(&str, Vec<Rule>)]) -> World {
        let mut fragment = crate::statics(&config);
        for (name, rules) in policies {
            let policy = Policy { tier: "t".into(), ingress: rules.clone(), egress: rules.clone() };
            fragment.merge(crate::policy(&policy_key(name), &policy, &config));
        }
        let open =
            Profile { ingress: vec![Rule::new(Action::Allow)], egress: vec![Rule::new(Action::Allow)] };
        fragment.merge(crate::profile("open", &open, &config));
        World { config, fragment }
    }

    pub(crate) fn workload(mut self, workload: Workload) -> World {
        self.fragment.merge(crate::workload(&workload, &self.config));
        self
    }

    /// The host endpoints; interfaces with their own, and the one for all others.
    pub(crate) fn hosts(mut self, own: &[HostEndpoint], any: Option<&HostEndpoint>) -> World {
        let own: Vec<(IfName, _)> = own
            .iter()
            .map(|e| (e.interface.parse().unwrap(), crate::host_endpoint(e, &self.config)))
            .collect();
        let any = any.map(|e| crate::host_endpoint(e, &self.config));
        let by_interface = own.iter().map(|(name, chains)| (name, chains));
        self.fragment.merge(crate::host_dispatch(by_interface, any.as_ref(), &self.config));
        self
    }

    pub(crate) fn send(&self, journey: Journey, packet: Packet) -> Outcome {
        assert_eq!(crate::graph::dangling(&self.fragment.inet), Default::default());
        let outcome = Ruleset::new(&self.fragment.inet).run(journey, packet);
        assert_eq!(outcome.broken, None);
        outcome
    }

    /// Whether the packet is still there after its journey.
    pub(crate) fn arrives(&self, journey: Journey, packet: Packet) -> bool {
        !self.send(journey, packet).fate.is_gone()
    }

    /// How a forwarded TCP connection's first packet fares.
    pub(crate) fn fate(&self, journey: Journey, packet: Packet) -> Fate {
        self.send(journey, packet).fate
    }
}

/// A TCP connection's first packet, in by one interface, out by another.
pub(crate) fn tcp(source: &str, destination: &str, port: u16, way: [&str; 2]) -> Packet {
    let header = Header::Ports(40000, port);
    let packet = Packet::new(source.parse().unwrap(), destination.parse().unwrap(), Protocol::TCP, header);
    Packet { in_interface: way[0].into(), out_interface: way[1].into(), ..packet }
}
