//! Dumps of our own tables: chains, rules' handles and identities, sets.

use calico_dataplane::tables::nft::{ActualRule, RuleHandle, RuleId};
use calico_rules::nft::{ChainKind, ChainType, Hook, SetSpec, Table};
use smol_str::SmolStr;

#[allow(clippy::wildcard_imports, reason = "a module of constants by the kernel's names")]
use super::constant::*;
use super::encode::{chain_type, hook_number};
use super::set::decode_spec;
use crate::attr::{Attrs, read_be32, read_be64, read_text};

fn attrs(payload: &[u8]) -> Attrs<'_> {
    Attrs::after(payload, 4)
}

fn name(attrs: &Attrs<'_>, kind: u16) -> Option<SmolStr> {
    attrs.find(kind).and_then(read_text).map(SmolStr::new)
}

/// A table's name and flags.
pub fn decode_table(payload: &[u8]) -> Option<(SmolStr, u32)> {
    let attrs = attrs(payload);
    Some((name(&attrs, NFTA_TABLE_NAME)?, attrs.find(NFTA_TABLE_FLAGS).and_then(read_be32).unwrap_or(0)))
}

/// A chain of ours: its name, and its kind where it is one that we make.
pub fn decode_chain(table: Table, payload: &[u8]) -> Option<(SmolStr, Option<ChainKind>)> {
    let attrs = attrs(payload);
    if attrs.find(NFTA_CHAIN_TABLE).and_then(read_text) != Some(Table::NAME) {
        return None;
    }
    let kind = match attrs.find(NFTA_CHAIN_HOOK) {
        None => Some(ChainKind::Regular),
        Some(hook) => decode_base(table, &attrs, &Attrs(hook)),
    };
    Some((name(&attrs, NFTA_CHAIN_NAME)?, kind))
}

fn decode_base(table: Table, chain: &Attrs<'_>, hook: &Attrs<'_>) -> Option<ChainKind> {
    let hooks: &[Hook] = match table {
        Table::Inet => &[Hook::Prerouting, Hook::Input, Hook::Forward, Hook::Output, Hook::Postrouting],
        Table::Arp => &[Hook::ArpInput, Hook::ArpOutput],
    };
    let number = hook.find(NFTA_HOOK_HOOKNUM).and_then(read_be32)?;
    let kind = chain.find(NFTA_CHAIN_TYPE).and_then(read_text)?;
    if chain.find(NFTA_CHAIN_POLICY).and_then(read_be32) != Some(NF_ACCEPT) {
        return None;
    }
    Some(ChainKind::Base {
        hook: *hooks.iter().find(|h| hook_number(**h) == number)?,
        priority: hook.find(NFTA_HOOK_PRIORITY).and_then(read_be32)? as i32,
        chain_type: [ChainType::Filter, ChainType::Nat, ChainType::Route]
            .into_iter()
            .find(|t| chain_type(*t) == kind)?,
    })
}

/// A rule of ours: its chain, handle and identity.
pub fn decode_rule(payload: &[u8]) -> Option<(SmolStr, ActualRule)> {
    let attrs = attrs(payload);
    if attrs.find(NFTA_RULE_TABLE).and_then(read_text) != Some(Table::NAME) {
        return None;
    }
    Some((
        name(&attrs, NFTA_RULE_CHAIN)?,
        ActualRule {
            handle: RuleHandle(attrs.find(NFTA_RULE_HANDLE).and_then(read_be64)?),
            id: attrs.find(NFTA_RULE_USERDATA).and_then(comment).and_then(RuleId::from_comment),
        },
    ))
}

/// The comment among user data's TLVs: type and length of one byte each.
fn comment(mut userdata: &[u8]) -> Option<&str> {
    while let [kind, len, rest @ ..] = userdata {
        let value = rest.get(..usize::from(*len))?;
        if *kind == UDATA_RULE_COMMENT {
            return read_text(value);
        }
        userdata = &rest[usize::from(*len)..];
    }
    None
}

/// A set of ours: its name, and its shape where it is one that we make.
pub fn decode_set(payload: &[u8]) -> Option<(SmolStr, Option<SetSpec>)> {
    let attrs = attrs(payload);
    if attrs.find(NFTA_SET_TABLE).and_then(read_text) != Some(Table::NAME) {
        return None;
    }
    Some((name(&attrs, NFTA_SET_NAME)?, decode_spec(&attrs)))
}

/// The ruleset generation: changes with every transaction of anybody in this network namespace.
pub fn decode_generation(payload: &[u8]) -> Option<u32> {
    attrs(payload).find(NFTA_GEN_ID).and_then(read_be32)
}
