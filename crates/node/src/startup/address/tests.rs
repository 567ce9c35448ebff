//! Every source with and without something stored.

use super::*;
use crate::autodetect::Method;

fn host(addrs: &[&str]) -> Host {
    let addrs = addrs.iter().map(|a| Cidr::parse_interface(a).unwrap()).collect();
    Host { interfaces: vec![Interface { name: "eth0".into(), addrs }], ..Host::default() }
}

fn settings(source: AddressSource) -> AddressSettings {
    AddressSettings { source, method: Method::FirstFound }
}

/// `Ok((value, whether there is a warning))`.
fn resolve(
    family: Family,
    source: AddressSource,
    stored: &str,
    addrs: &[&str],
) -> Result<(String, bool), NotFound> {
    resolve_address(family, &settings(source), stored, &host(addrs))
        .map(|r| (r.value.to_string(), r.warning.is_some()))
}

#[test]
fn autodetect_always_detects() {
    let source = AddressSource::Autodetect;
    let seen = resolve(Family::V4, source, "10.0.0.9/24", &["10.0.0.1/24"]);
    assert_eq!(seen, Ok(("10.0.0.1/24".into(), false)));
    // Nothing found: what is stored is kept, or the start fails.
    assert_eq!(resolve(Family::V4, source, "10.0.0.9/24", &[]), Ok(("10.0.0.9/24".into(), true)));
    let error = resolve(Family::V4, source, "", &[]).unwrap_err();
    assert_eq!(error.to_string(), "no IPv4 address of this node was found by first-found");
}

#[test]
fn unset_detects_ipv4_only_if_nothing_is_stored() {
    let source = AddressSource::Unset;
    let host = ["10.0.0.1/24", "fd00::1/64"];
    assert_eq!(resolve(Family::V4, source, "", &host), Ok(("10.0.0.1/24".into(), false)));
    assert_eq!(resolve(Family::V4, source, "10.0.0.9/24", &host), Ok(("10.0.0.9/24".into(), true)));
    assert!(resolve(Family::V4, source, "", &[]).is_err());
    assert_eq!(resolve(Family::V6, source, "", &host), Ok((String::new(), false)));
    assert_eq!(resolve(Family::V6, source, "fd00::1/64", &host), Ok(("fd00::1/64".into(), false)));
}

#[test]
fn none_keeps() {
    let source = AddressSource::Keep;
    assert_eq!(resolve(Family::V4, source, "", &["10.0.0.1/24"]), Ok((String::new(), false)));
    let seen = resolve(Family::V4, source, "10.0.0.1/24", &["10.0.0.1/24"]);
    assert_eq!(seen, Ok(("10.0.0.1/24".into(), false)));
    assert_eq!(resolve(Family::V4, source, "junk", &[]), Ok(("junk".into(), true)));
}

#[test]
fn given_takes_the_length_from_the_interface() {
    let v4 = |len| AddressSource::Given("10.0.0.1".parse().unwrap(), len);
    let host = ["10.0.0.1/24", "fd00::1/64"];
    assert_eq!(resolve(Family::V4, v4(None), "", &host), Ok(("10.0.0.1/24".into(), false)));
    assert_eq!(resolve(Family::V4, v4(Some(16)), "", &host), Ok(("10.0.0.1/16".into(), false)));
    assert_eq!(resolve(Family::V4, v4(None), "", &[]), Ok(("10.0.0.1/32".into(), true)));
    let v6 = AddressSource::Given("fd00::1".parse().unwrap(), None);
    assert_eq!(resolve(Family::V6, v6, "", &host), Ok(("fd00::1/128".into(), false)));
}
