//! Which pools serve a request (spec 5 §2.5, step 2).

use calico_api::{AllowedUse, AssignmentMode, IPPool, Labels};
use calico_net::{Cidr, Family};
use smol_str::SmolStr;

use crate::known::Known;

/// A pool as assignment sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Its name.
    pub name: SmolStr,
    /// Its range.
    pub cidr: Cidr,
    /// The prefix length of its blocks.
    pub block_len: u8,
}

/// Why no pool serves a request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// A pool was asked for that is not there or not enabled.
    #[error("the given pool ({0}) does not exist, or is not enabled")]
    Given(Cidr),
    /// There is no enabled pool of the family at all.
    #[error("cannot find a qualified ippool: no enabled {0} pool")]
    NoneEnabled(Family),
    /// Pools exist, but none selects the node and namespace.
    #[error("no configured Calico pools for node {0}")]
    NoneSelects(SmolStr),
    /// Pools select the node, but none is for this use.
    #[error("cannot find a qualified ippool, no pools match the required use ({0})")]
    NoneForUse(AllowedUse),
}

/// What pools are chosen by.
#[derive(Clone, Copy, Debug)]
pub struct Criteria<'a> {
    /// The family.
    pub family: Family,
    /// Pools asked for by CIDR; they bypass selectors and mode.
    pub requested: &'a [Cidr],
    /// What the addresses are for.
    pub intended_use: &'a AllowedUse,
    /// For the message: whose request it is.
    pub node: &'a str,
    /// The node's labels; `None` where no node is concerned (load balancers), and node selectors do not count.
    pub node_labels: Option<&'a Labels>,
    /// The namespace's labels; empty if there is no namespace.
    pub namespace_labels: &'a Labels,
    /// Pools of longer blocks are passed over.
    pub max_block_len: Option<u8>,
}

/// What of a pool concerns assignment; `None` if its CIDR or block size cannot be used.
pub fn pool(resource: &IPPool) -> Option<Pool> {
    let cidr: Cidr = resource.spec.cidr.parse().ok()?;
    let block_len = resource.spec.effective_block_size(&cidr);
    let fits = block_len >= cidr.prefix_len()
        && block_len <= cidr.family().bits()
        && cidr.family().bits() - block_len <= crate::block::MAX_BLOCK_BITS;
    fits.then(|| Pool { name: resource.metadata.name.clone(), cidr, block_len })
}

/// Whether a selector holds; an empty one does, one that does not parse does not.
fn selects(selector: &str, labels: &Labels) -> bool {
    let text = selector.trim();
    text.is_empty() || text == "all()" || calico_selector::parse(text).is_ok_and(|s| s.matches(labels))
}

/// Whether a pool's node selector holds for a node.
pub fn selects_node(resource: &IPPool, node_labels: Option<&Labels>) -> bool {
    node_labels.is_none_or(|labels| selects(&resource.spec.node_selector, labels))
}

/// The pools to take addresses from, by name.
pub fn select(known: &Known, criteria: &Criteria<'_>) -> Result<Vec<Pool>, PoolError> {
    let Criteria { family, requested, intended_use, node, node_labels, namespace_labels, max_block_len } =
        *criteria;
    let enabled: Vec<(&IPPool, Pool)> = known
        .pools()
        .filter(|p| !p.spec.disabled)
        .filter_map(|p| Some((p, pool(p)?)))
        .filter(|(_, p)| p.cidr.family() == family && max_block_len.is_none_or(|max| p.block_len <= max))
        .collect();
    if let Some(missing) = requested.iter().find(|cidr| !enabled.iter().any(|(_, p)| p.cidr == **cidr)) {
        return Err(PoolError::Given(*missing));
    }
    if enabled.is_empty() {
        return Err(PoolError::NoneEnabled(family));
    }
    let chosen: Vec<&(&IPPool, Pool)> = enabled
        .iter()
        .filter(|(resource, pool)| {
            if requested.is_empty() {
                !matches!(resource.spec.assignment_mode, Some(AssignmentMode::Manual))
                    && selects_node(resource, node_labels)
                    && selects(&resource.spec.namespace_selector, namespace_labels)
            } else {
                requested.contains(&pool.cidr)
            }
        })
        .collect();
    if chosen.is_empty() {
        return Err(PoolError::NoneSelects(SmolStr::new(node)));
    }
    let usable: Vec<Pool> =
        chosen.into_iter().filter(|(r, _)| r.spec.allows(intended_use)).map(|(_, p)| p.clone()).collect();
    if usable.is_empty() { Err(PoolError::NoneForUse(intended_use.clone())) } else { Ok(usable) }
}

/// The range that a pool is named by in a network configuration: its CIDR or its name (spec 5 §2.1).
pub fn resolve(known: &Known, text: &str) -> Option<Cidr> {
    if let Ok(cidr) = text.parse() {
        return Some(cidr);
    }
    known.pools().find(|p| p.metadata.name == text).and_then(|p| p.spec.cidr.parse().ok())
}
