//! A rule's identity: a hash that is written beside the rule in the kernel, by which a later diff knows it again.
//!
//! The hash covers the expressions and the comment. It is the same in every process of one build; another build may
//! compute another (the derived `Hash` is not a wire format), whose only cost is that rules are replaced once.

use std::fmt;
use std::hash::{Hash, Hasher};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use calico_rules::nft::Rule;
use sha2::{Digest, Sha256};
use smol_str::SmolStr;

/// What marks a comment as ours, before the 16 characters of the hash (the form that Calico uses in iptables).
pub const PREFIX: &str = "cali:";

/// 96 bits of SHA-256: nobody who may write policy can craft two rules that pass for each other.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleId(pub [u8; 12]);

/// Collects what `Hash` feeds it, since `Hasher::finish` has room for 64 bits only.
struct Collector(Vec<u8>);

impl Hasher for Collector {
    fn write(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn finish(&self) -> u64 {
        self.0.len() as u64
    }
}

impl RuleId {
    /// The identity of a rule.
    pub fn of(rule: &Rule) -> RuleId {
        let mut collector = Collector(Vec::with_capacity(256));
        rule.hash(&mut collector);
        let digest = Sha256::digest(&collector.0);
        let mut id = [0; 12];
        id.copy_from_slice(&digest[..12]);
        RuleId(id)
    }

    /// The comment to write beside the rule: `cali:<16 characters> <the rule's own comment>`.
    pub fn comment(&self, rule: &Rule) -> String {
        if rule.comment.is_empty() { format!("{self}") } else { format!("{self} {}", rule.comment) }
    }

    /// The identity in a comment read back, if it is one of ours.
    pub fn from_comment(comment: &str) -> Option<RuleId> {
        let text = comment.strip_prefix(PREFIX)?.get(..16)?;
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        Some(RuleId(bytes.try_into().ok()?))
    }
}

impl fmt::Display for RuleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl fmt::Debug for RuleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A rule with its identity computed once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedRule {
    /// Its identity.
    pub id: RuleId,
    /// The rule.
    pub rule: Rule,
}

impl From<Rule> for NamedRule {
    fn from(rule: Rule) -> NamedRule {
        NamedRule { id: RuleId::of(&rule), rule }
    }
}

impl NamedRule {
    /// The human part of the comment.
    pub fn comment(&self) -> &SmolStr {
        &self.rule.comment
    }
}
