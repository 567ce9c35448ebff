//! Rules at rest: what a policy or profile says, read once, checked, and small enough to keep for every policy of the
//! cluster. Most of them never select an endpoint of this node; only those that do are translated.

mod translation;

use calico_api::number::{Port, ProtocolForm};
use calico_api::rule;
use calico_net::{Cidr, Family, PortRange, Protocol};
use calico_selector::translation::RuleEntity;
use calico_selector::{ParseError, Selector};
use smol_str::SmolStr;

use crate::change::{Action, Icmp};

pub(crate) use translation::{SERVICE_LABEL, Translation, deny_all, translate};

/// The rules of one policy or profile. Equal ones are kept once, whoever says them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct RuleLists {
    /// Whether the rules stand in a namespaced policy, which confines their selectors to its namespace.
    pub(crate) namespaced: bool,
    /// To the endpoint.
    pub(crate) ingress: Box<[SourceRule]>,
    /// From the endpoint.
    pub(crate) egress: Box<[SourceRule]>,
}

/// One rule, its selectors still text.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SourceRule {
    action: Action,
    family: Option<Family>,
    protocol: Option<Protocol>,
    not_protocol: Option<Protocol>,
    icmp: Option<Icmp>,
    not_icmp: Option<Icmp>,
    source: Option<Box<SourceSide>>,
    destination: Option<Box<SourceSide>>,
}

/// One side of a rule.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct SourceSide {
    nets: Box<[Cidr]>,
    not_nets: Box<[Cidr]>,
    ports: Box<[PortRange]>,
    not_ports: Box<[PortRange]>,
    named_ports: Box<[SmolStr]>,
    not_named_ports: Box<[SmolStr]>,
    selectors: Option<Box<SourceSelectors>>,
    service: Option<Box<(SmolStr, SmolStr)>>,
}

/// Whom one side selects.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct SourceSelectors {
    selector: SmolStr,
    not_selector: SmolStr,
    namespace_selector: SmolStr,
    service_account_selector: SmolStr,
    service_account_names: Box<[SmolStr]>,
}

/// Why a rule cannot be understood. The policy or profile that has such a rule counts as absent (spec 3 §6.2).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RuleError {
    /// A selector does not parse.
    #[error("selector {text:?}: {source}")]
    Selector {
        /// The text.
        text: SmolStr,
        /// Why not.
        source: ParseError,
    },
    /// A word or number has no meaning in its field.
    #[error("{field} {text:?} is not understood")]
    Value {
        /// The field.
        field: &'static str,
        /// The text.
        text: String,
    },
}

fn value(field: &'static str, text: impl ToString) -> RuleError {
    RuleError::Value { field, text: text.to_string() }
}

impl RuleLists {
    /// Reads the rules. Selectors are checked by [`RuleLists::check_selectors`].
    pub(crate) fn read(
        namespaced: bool,
        ingress: &[rule::Rule],
        egress: &[rule::Rule],
    ) -> Result<RuleLists, RuleError> {
        let read = |rules: &[rule::Rule]| rules.iter().map(SourceRule::read).collect::<Result<_, _>>();
        Ok(RuleLists { namespaced, ingress: read(ingress)?, egress: read(egress)? })
    }

    /// Everything allowed both ways.
    pub(crate) fn allow_all() -> RuleLists {
        let allow = || {
            let rule = SourceRule {
                action: Action::Allow,
                family: None,
                protocol: None,
                not_protocol: None,
                icmp: None,
                not_icmp: None,
                source: None,
                destination: None,
            };
            Box::new([rule])
        };
        RuleLists { namespaced: false, ingress: allow(), egress: allow() }
    }

    /// Whether every selector parses, so that translation cannot fail.
    pub(crate) fn check_selectors(&self) -> Result<(), RuleError> {
        let namespace = self.namespaced.then_some("namespace");
        for rule in self.ingress.iter().chain(&self.egress) {
            for side in [&rule.source, &rule.destination].into_iter().flatten() {
                side.resolve_selectors(namespace)?;
            }
        }
        Ok(())
    }

    /// Services that the rules name.
    pub(crate) fn services(&self) -> impl Iterator<Item = &(SmolStr, SmolStr)> {
        let rules = self.ingress.iter().chain(&self.egress);
        let sides = rules.flat_map(|rule| [&rule.source, &rule.destination]).flatten();
        sides.filter_map(|side| side.service.as_deref())
    }
}

impl SourceRule {
    fn read(rule: &rule::Rule) -> Result<SourceRule, RuleError> {
        // HTTP criteria belong to the application layer: the packet level renders the rest (spec 2 §5.6).
        let rule::Rule {
            action,
            ip_version,
            protocol,
            icmp,
            not_protocol,
            not_icmp,
            source,
            destination,
            http: _,
            metadata: _,
        } = rule;
        Ok(SourceRule {
            action: match action {
                rule::Action::Allow => Action::Allow,
                rule::Action::Deny => Action::Deny,
                rule::Action::Pass => Action::Pass,
                rule::Action::Log => Action::Log,
                rule::Action::Other(word) => return Err(value("action", word)),
            },
            family: match ip_version {
                None => None,
                Some(4) => Some(Family::V4),
                Some(6) => Some(Family::V6),
                Some(other) => return Err(value("ipVersion", other)),
            },
            protocol: protocol.as_ref().map(read_protocol).transpose()?,
            not_protocol: not_protocol.as_ref().map(read_protocol).transpose()?,
            icmp: read_icmp(icmp.as_ref())?,
            not_icmp: read_icmp(not_icmp.as_ref())?,
            source: SourceSide::read(source)?,
            destination: SourceSide::read(destination)?,
        })
    }
}

fn read_protocol(form: &ProtocolForm) -> Result<Protocol, RuleError> {
    form.resolve().map_err(|_| value("protocol", form))
}

/// A match without a type matches any ICMP packet, which the protocol says already.
fn read_icmp(icmp: Option<&rule::IcmpMatch>) -> Result<Option<Icmp>, RuleError> {
    let Some(rule::IcmpMatch { icmp_type, code }) = icmp else { return Ok(None) };
    let byte = |field, number: &i64| u8::try_from(*number).map_err(|_| value(field, number));
    match (icmp_type, code) {
        (None, None) => Ok(None),
        (None, Some(code)) => Err(value("icmp.code without icmp.type", code)),
        (Some(255), _) => Err(value("icmp.type", 255)),
        (Some(icmp_type), code) => Ok(Some(Icmp {
            icmp_type: byte("icmp.type", icmp_type)?,
            code: code.as_ref().map(|code| byte("icmp.code", code)).transpose()?,
        })),
    }
}

fn read_nets(nets: &[SmolStr]) -> Result<Box<[Cidr]>, RuleError> {
    nets.iter().map(|net| net.parse().map_err(|_| value("net", net))).collect()
}

fn split_ports(ports: &[Port]) -> (Box<[PortRange]>, Box<[SmolStr]>) {
    let numbers = ports.iter().filter_map(|port| match port {
        Port::Range(range) => Some(*range),
        Port::Named(_) => None,
    });
    let names = ports.iter().filter_map(|port| match port {
        Port::Named(name) => Some(name.clone()),
        Port::Range(_) => None,
    });
    (numbers.collect(), names.collect())
}

impl SourceSide {
    fn read(entity: &rule::EntityRule) -> Result<Option<Box<SourceSide>>, RuleError> {
        if entity.is_empty() {
            return Ok(None);
        }
        let rule::EntityRule {
            nets,
            selector,
            namespace_selector,
            services,
            ports,
            not_nets,
            not_selector,
            not_ports,
            service_accounts,
        } = entity;
        let (accounts_selector, account_names) = match service_accounts {
            None => Default::default(),
            Some(rule::ServiceAccountMatch { names, selector }) => {
                (selector.clone(), names.clone().into_boxed_slice())
            }
        };
        let selectors = SourceSelectors {
            selector: trimmed(selector),
            not_selector: trimmed(not_selector),
            namespace_selector: trimmed(namespace_selector),
            service_account_selector: trimmed(&accounts_selector),
            service_account_names: account_names,
        };
        let (ports, named_ports) = split_ports(ports);
        let (not_ports, not_named_ports) = split_ports(not_ports);
        Ok(Some(Box::new(SourceSide {
            nets: read_nets(nets)?,
            not_nets: read_nets(not_nets)?,
            ports,
            not_ports,
            named_ports,
            not_named_ports,
            selectors: (selectors != SourceSelectors::default()).then(|| Box::new(selectors)),
            service: services
                .as_ref()
                .map(|service| Box::new((service.namespace.clone(), service.name.clone()))),
        })))
    }

    /// The selectors of this side in force: whom it matches, and whom it does not.
    fn resolve_selectors(
        &self,
        namespace: Option<&str>,
    ) -> Result<(Option<Selector>, Option<Selector>), RuleError> {
        let Some(selectors) = &self.selectors else { return Ok((None, None)) };
        let SourceSelectors {
            selector,
            not_selector,
            namespace_selector,
            service_account_selector,
            service_account_names,
        } = &**selectors;
        // Each text must be a selector by itself, or it could close parentheses that translation opens.
        for text in [selector, namespace_selector, service_account_selector] {
            parse(text)?;
        }
        let entity = RuleEntity {
            selector,
            not_selector,
            namespace_selector,
            service_account_selector,
            service_account_names,
        };
        let positive = entity
            .resolve_selector(namespace)
            .map_err(|source| RuleError::Selector { text: selector.clone(), source })?;
        let parsed = |text: &str| if text.is_empty() { Ok(None) } else { parse(text).map(Some) };
        Ok((parsed(&positive)?, parsed(not_selector)?))
    }
}

/// A blank selector is an absent one.
fn trimmed(text: &SmolStr) -> SmolStr {
    if text.trim_matches([' ', '\t']).is_empty() { SmolStr::default() } else { text.clone() }
}

fn parse(text: &str) -> Result<Selector, RuleError> {
    calico_selector::parse(text).map_err(|source| RuleError::Selector { text: SmolStr::new(text), source })
}

#[cfg(test)]
mod tests;
