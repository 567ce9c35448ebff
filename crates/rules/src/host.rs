//! Host endpoints: chains for each class of policy, and their dispatch by interface (spec 2 §5.3).

use calico_calc::change::{Direction, HostEndpoint};
use calico_net::IfName;
use smol_str::SmolStr;

use crate::config::Config;
use crate::endpoint::{
    accept, clear_decision, conntrack_rules, deny, dispatch, profile_rules, shared, tier_rules,
};
use crate::fragment::Fragment;
use crate::ir::{Action, Chain, Interface, Match, Rule};
use crate::name::chain;
use crate::nft::{Element, Verdict};
use crate::sets;

/// The chains of a host endpoint, named by their contents; `None` where nothing of its class applies, so that nothing
/// is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostChains {
    /// Traffic that the host ends.
    pub from: Chain,
    /// Traffic that the host starts.
    pub to: Chain,
    /// Forwarded traffic that comes in.
    pub from_forward: Option<Chain>,
    /// Forwarded traffic that goes out.
    pub to_forward: Option<Chain>,
    /// Before conntrack, in.
    pub raw_from: Option<Chain>,
    /// Before conntrack, out.
    pub raw_to: Option<Chain>,
    /// Before destination NAT, in.
    pub mangle_from: Option<Chain>,
}

/// The chains of a host endpoint.
pub fn host_endpoint(endpoint: &HostEndpoint, config: &Config) -> HostChains {
    let HostEndpoint {
        interface: _,
        expected_ips: _,
        tiers,
        untracked_tiers,
        pre_dnat_tiers,
        forward_tiers,
        profiles,
    } = endpoint;
    // Traffic of this host is policed in POSTROUTING too, where the kernel can not refuse; before conntrack and before
    // destination NAT there is no connection to refuse yet.
    let normal = |prefix, direction, failsafe, deny: &Action| {
        let mut rules = conntrack_rules(config);
        rules.push(jump(failsafe));
        rules.push(clear_decision(config));
        rules.extend(tier_rules(tiers, direction, &[Action::Return], deny, config));
        rules.extend(profile_rules(profiles, direction, deny, config));
        shared(prefix, rules)
    };
    // Without a policy for forwarded traffic it is allowed; past all tiers it is left to what comes after us.
    let forward = |prefix, direction| {
        applies(forward_tiers, direction).then(|| {
            let mut rules = conntrack_rules(config);
            rules.push(clear_decision(config));
            rules.extend(tier_rules(forward_tiers, direction, &[Action::Return], &deny(config), config));
            shared(prefix, rules)
        })
    };
    let raw = |prefix, direction, failsafe| {
        applies(untracked_tiers, direction).then(|| {
            let mut rules = vec![jump(failsafe)];
            rules.extend(tier_rules(
                untracked_tiers,
                direction,
                &[Action::NoTrack, Action::Return],
                &Action::Drop,
                config,
            ));
            shared(prefix, rules)
        })
    };
    let mangle_from = applies(pre_dnat_tiers, Direction::Ingress).then(|| {
        let mut rules = conntrack_rules(config);
        rules.push(jump(chain::FAILSAFE_IN));
        // Untracked policy may have left a Pass here.
        rules.push(clear_decision(config));
        rules.extend(tier_rules(
            pre_dnat_tiers,
            Direction::Ingress,
            &[Action::Return],
            &Action::Drop,
            config,
        ));
        shared("mangle-cali-fh-", rules)
    });
    HostChains {
        from: normal("cali-fh-", Direction::Ingress, chain::FAILSAFE_IN, &deny(config)),
        to: normal("cali-th-", Direction::Egress, chain::FAILSAFE_OUT, &Action::Drop),
        from_forward: forward("cali-fhfw-", Direction::Ingress),
        to_forward: forward("cali-thfw-", Direction::Egress),
        raw_from: raw("raw-cali-fh-", Direction::Ingress, chain::RAW_FAILSAFE_IN),
        raw_to: raw("raw-cali-th-", Direction::Egress, chain::RAW_FAILSAFE_OUT),
        mangle_from,
    }
}

fn applies(tiers: &[calico_calc::change::Tier], direction: Direction) -> bool {
    tiers.iter().any(|tier| match direction {
        Direction::Ingress => !tier.ingress.is_empty(),
        Direction::Egress => !tier.egress.is_empty(),
    })
}

fn jump(to: &'static str) -> Rule {
    Rule::new([], [Action::Jump(SmolStr::new_static(to))])
}

/// Which way a dispatch chain looks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    In,
    Out,
}

type Pick = fn(&HostChains) -> Option<&Chain>;

/// Each dispatch: its chain and map, which interface it asks, which chain of an endpoint it leads to, and whether a
/// forwarded packet is accepted where the endpoint has no such chain.
const DISPATCHES: [(&str, Way, Pick, bool); 7] = [
    (chain::FROM_HOST, Way::In, |c| Some(&c.from), false),
    (chain::TO_HOST, Way::Out, |c| Some(&c.to), false),
    (chain::FROM_HOST_FORWARD, Way::In, |c| c.from_forward.as_ref(), true),
    (chain::TO_HOST_FORWARD, Way::Out, |c| c.to_forward.as_ref(), true),
    (chain::RAW_FROM_HOST, Way::In, |c| c.raw_from.as_ref(), false),
    (chain::RAW_TO_HOST, Way::Out, |c| c.raw_to.as_ref(), false),
    (chain::MANGLE_FROM_HOST, Way::In, |c| c.mangle_from.as_ref(), false),
];

/// The host endpoints' dispatch, always needed by [`crate::statics()`] even where there are none.
///
/// `by_interface` is what governs each interface: the caller has matched endpoints to interfaces by name and by
/// expected addresses, the lowest name winning. `any` is the endpoint named `*` that governs all other interfaces but
/// the loopback and the workloads'; it has no untracked policy.
pub fn host_dispatch<'a>(
    by_interface: impl IntoIterator<Item = (&'a IfName, &'a HostChains)>,
    any: Option<&HostChains>,
    config: &Config,
) -> Fragment {
    let mut fragment = Fragment::default();
    let by_interface: Vec<_> = by_interface.into_iter().collect();
    // Forwarded traffic through an endpoint without policy for it is allowed: one rule, shared by all.
    let open = shared("cali-fwd-", vec![Rule::new([], [accept(config), Action::Return])]);
    for (name, way, pick, forward) in DISPATCHES {
        let chain_of = |chains| pick(chains).or(forward.then_some(&open));
        let raw = matches!(name, chain::RAW_FROM_HOST | chain::RAW_TO_HOST);
        let fallback = any.filter(|_| !raw).and_then(chain_of);
        for (interface, chains) in &by_interface {
            if let Some(body) = chain_of(chains) {
                fragment.inet.elements.push(dispatch(name, interface, &body.name));
                fragment.inet.add_chain(body.clone());
            } else if fallback.is_some() {
                // Its own endpoint has nothing to say here, and the one for all others must not say it instead.
                let key = sets::interface_key(interface.as_str());
                let element = Element::Verdict { key, verdict: Verdict::Return };
                fragment.inet.elements.push((SmolStr::new_static(name), element));
            }
        }
        let map = SmolStr::new_static(name);
        let mut rules = vec![Rule::new(
            [],
            [match way {
                Way::In => Action::GotoByInInterface { map },
                Way::Out => Action::GotoByOutInterface { map },
            }],
        )];
        if let Some(body) = fallback {
            let spared = config.interface_prefixes.iter().cloned().map(Interface::StartsWith);
            for interface in spared.chain([Interface::Is(SmolStr::new_static("lo"))]) {
                let matched = match way {
                    Way::In => Match::InInterface { interface, invert: false },
                    Way::Out => Match::OutInterface { interface, invert: false },
                };
                rules.push(Rule::new([matched], [Action::Return]));
            }
            rules.push(Rule::new([], [Action::Goto(body.name.clone())]));
            fragment.inet.add_chain(body.clone());
        }
        fragment.inet.add_chain(Chain::regular(name, rules));
    }
    fragment
}

#[cfg(test)]
mod tests;
