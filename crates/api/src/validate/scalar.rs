//! Checks of single values: selectors, prefixes, names (spec 1 §1.2).

use std::collections::BTreeSet;

use calico_net::{Cidr, Family};

use super::Report;

/// The longest selector.
const MAX_SELECTOR: usize = 1024;

/// A selector; empty is fine. `global()` is refused: it belongs into rules' namespaceSelector only.
pub(super) fn selector(report: &mut Report, field: &str, text: &str) {
    if text.contains("global(") {
        report.add(
            field,
            text,
            "global() is allowed only in the namespaceSelector of a rule's source or destination",
        );
        return;
    }
    selector_or_global(report, field, text);
}

/// A namespaceSelector of a rule; it may be `global()`, and then nothing else.
pub(super) fn rule_namespace_selector(report: &mut Report, field: &str, text: &str) {
    if text.contains("global(") && text.trim() != "global()" {
        report.add(field, text, "global() cannot be combined with anything else");
        return;
    }
    selector_or_global(report, field, text);
}

fn selector_or_global(report: &mut Report, field: &str, text: &str) {
    report.require(
        text.len() <= MAX_SELECTOR,
        field,
        "",
        format!("is longer than {MAX_SELECTOR} characters"),
    );
    if let Err(error) = calico_selector::parse(text) {
        report.add(field, text, error);
    }
}

/// A CIDR or address without host bits.
pub(super) fn strict_net(report: &mut Report, field: &str, text: &str) -> Option<Cidr> {
    Cidr::parse_strict(text).map_err(|error| report.add(field, text, or_needed(text, error))).ok()
}

/// An empty text is one that was left out.
fn or_needed(text: &str, error: calico_net::CidrError) -> String {
    if text.is_empty() {
        "is needed; use a CIDR such as 10.0.0.0/24 or fd00::/64".to_owned()
    } else {
        error.to_string()
    }
}

/// A CIDR or address, host bits allowed.
pub(super) fn loose_net(report: &mut Report, field: &str, text: &str) -> Option<Cidr> {
    text.parse::<Cidr>().map_err(|error| report.add(field, text, or_needed(text, error))).ok()
}

/// An address with optional length, of a family; empty is fine.
pub(super) fn interface_address(report: &mut Report, field: &str, text: &str, family: Family) {
    if text.is_empty() {
        return;
    }
    if let Some(cidr) = loose_net(report, field, text) {
        report.require(cidr.family() == family, field, text, format!("must be an {family} address"));
    }
}

/// A plain address, of a family if one is given; empty is fine.
pub(super) fn address(report: &mut Report, field: &str, text: &str, family: Option<Family>) {
    if text.is_empty() {
        return;
    }
    match text.parse() {
        Ok(addr) => {
            if let Some(family) = family {
                report.require(
                    Family::of(addr) == family,
                    field,
                    text,
                    format!("must be an {family} address"),
                );
            }
        }
        Err(_) => report.add(field, text, "must be an IP address"),
    }
}

/// The two lists of one match may not name an element twice. Network sets have 100,000 elements, so not each by each.
pub(super) fn unique<T: Ord + std::fmt::Display>(report: &mut Report, field: &str, items: &[T]) {
    let mut seen = BTreeSet::new();
    for (index, item) in items.iter().enumerate() {
        if !seen.insert(item) {
            report.add(format!("{field}[{index}]"), item, "is named twice");
        }
    }
}

/// At most so many elements.
pub(super) fn at_most(report: &mut Report, field: &str, count: usize, most: usize) {
    report.require(count <= most, field, "", format!("has {count} elements; at most {most} are allowed"));
}

/// A Linux interface name, 1–15 characters.
pub(super) fn is_interface(text: &str) -> bool {
    (1..=15).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

/// A label of a DNS name (RFC 1123): lower-case letters, digits, inner dashes.
pub(super) fn is_dns_label(text: &str) -> bool {
    let edge = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    edge(text.as_bytes().first())
        && edge(text.as_bytes().last())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// Such labels with dots between.
pub(super) fn is_dns_subdomain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_dns_label)
}

/// The name part of a Kubernetes label key, or a label's value: at most 63 letters, digits, `-`, `_`, `.`.
pub(super) fn is_label_name(text: &str) -> bool {
    let edge = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    text.len() <= 63
        && edge(text.as_bytes().first())
        && edge(text.as_bytes().last())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

/// A Kubernetes label key: `name` or `dns.subdomain/name`.
pub(super) fn is_qualified_name(text: &str) -> bool {
    match text.split_once('/') {
        None => is_label_name(text),
        Some((prefix, name)) => is_dns_subdomain(prefix) && is_label_name(name),
    }
}
