//! The annotations that hold one value each, and where in Calico's node that value is.

use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use calico_net::{Asn, Cidr, Family, Mac};
use serde_json::{Map, Value};
use smol_str::{SmolStr, format_smolstr};

use crate::meta::Labels;
use crate::node::{Node, NodeBgp, NodeStatus, NodeWireguard};

/// How all of them begin.
const PREFIX: &str = "projectcalico.org/";
/// The annotation with the node's AS, the only one that is no text in Calico's node.
const AS_NUMBER: &str = "ASNumber";

/// One annotation that is a text in Calico's node.
struct Field {
    name: &'static str,
    form: Form,
    /// Where it is; makes room for it.
    place: fn(&mut Node) -> &mut SmolStr,
}

/// What a value must look like.
#[derive(Clone, Copy)]
enum Form {
    /// An address with the length of its subnet, or without.
    Interface(Family),
    /// An address.
    Address(Family),
    Mac,
    /// A WireGuard public key: 32 bytes in base 64.
    Key,
}

fn bgp(node: &mut Node) -> &mut NodeBgp {
    node.spec.bgp.get_or_insert_with(NodeBgp::default)
}

fn wireguard(node: &mut Node) -> &mut NodeWireguard {
    node.spec.wireguard.get_or_insert_with(NodeWireguard::default)
}

fn status(node: &mut Node) -> &mut NodeStatus {
    node.status.get_or_insert_with(NodeStatus::default)
}

const FIELDS: [Field; 12] = {
    use Family::{V4, V6};
    use Form::{Address, Interface, Key};
    [
        Field { name: "IPv4Address", form: Interface(V4), place: |n| &mut bgp(n).ipv4_address },
        Field { name: "IPv6Address", form: Interface(V6), place: |n| &mut bgp(n).ipv6_address },
        Field {
            name: "RouteReflectorClusterID",
            form: Address(V4),
            place: |n| &mut bgp(n).route_reflector_cluster_id,
        },
        Field { name: "IPv4IPIPTunnelAddr", form: Address(V4), place: |n| &mut bgp(n).ipv4_ipip_tunnel_addr },
        Field {
            name: "IPv4VXLANTunnelAddr",
            form: Address(V4),
            place: |n| &mut n.spec.ipv4_vxlan_tunnel_addr,
        },
        Field { name: "VXLANTunnelMACAddr", form: Form::Mac, place: |n| &mut n.spec.vxlan_tunnel_mac_addr },
        Field {
            name: "IPv6VXLANTunnelAddr",
            form: Address(V6),
            place: |n| &mut n.spec.ipv6_vxlan_tunnel_addr,
        },
        Field {
            name: "VXLANTunnelMACAddrV6",
            form: Form::Mac,
            place: |n| &mut n.spec.vxlan_tunnel_mac_addr_v6,
        },
        Field {
            name: "IPv4WireguardInterfaceAddr",
            form: Address(V4),
            place: |n| &mut wireguard(n).interface_ipv4_address,
        },
        Field {
            name: "IPv6WireguardInterfaceAddr",
            form: Address(V6),
            place: |n| &mut wireguard(n).interface_ipv6_address,
        },
        Field { name: "WireguardPublicKey", form: Key, place: |n| &mut status(n).wireguard_public_key },
        Field { name: "WireguardPublicKeyV6", form: Key, place: |n| &mut status(n).wireguard_public_key_v6 },
    ]
};

/// Reads what annotations say into a node; what is not of its form counts as absent.
pub(super) fn read(annotations: &Labels, node: &mut Node, problems: &mut Vec<String>) {
    let mut found = |name: &str, check: &dyn Fn(&str) -> Result<(), String>| -> Option<SmolStr> {
        let key = format_smolstr!("{PREFIX}{name}");
        let text = annotations.get(&key).filter(|text| !text.is_empty())?;
        match check(text) {
            Ok(()) => Some(text.clone()),
            Err(reason) => {
                problems.push(format!("metadata.annotations[{key}]: {reason}; it is ignored"));
                None
            }
        }
    };
    for Field { name, form, place } in &FIELDS {
        if let Some(text) = found(name, &|text| check(*form, text)) {
            *place(node) = text;
        }
    }
    if let Some(text) = found(AS_NUMBER, &|text| text.parse::<Asn>().map(|_| ())) {
        bgp(node).as_number = text.parse().ok();
    }
}

/// The annotations of a node: those that it has no value for are null, so that they are removed.
pub(super) fn write(node: &Node) -> Result<Map<String, Value>, String> {
    let mut annotations = Map::new();
    // A copy, since asking for a place makes room for it.
    let mut node = node.clone();
    for Field { name, form, place } in &FIELDS {
        let text: &SmolStr = place(&mut node);
        let value = if text.is_empty() {
            Value::Null
        } else {
            check(*form, text).map_err(|reason| format!("{name}: {reason}"))?;
            text.as_str().into()
        };
        annotations.insert(format!("{PREFIX}{name}"), value);
    }
    let asn = bgp(&mut node).as_number.map_or(Value::Null, |asn| asn.to_string().into());
    annotations.insert(format!("{PREFIX}{AS_NUMBER}"), asn);
    Ok(annotations)
}

fn check(form: Form, text: &str) -> Result<(), String> {
    let ok = match form {
        Form::Interface(family) => text.parse::<Cidr>().is_ok_and(|cidr| cidr.family() == family),
        Form::Address(family) => text.parse::<IpAddr>().is_ok_and(|addr| Family::of(addr) == family),
        Form::Mac => text.parse::<Mac>().is_ok(),
        Form::Key => STANDARD.decode(text).is_ok_and(|key| key.len() == 32),
    };
    let wanted = match form {
        Form::Interface(family) => format!("an {family} address with the length of its subnet"),
        Form::Address(family) => format!("an {family} address"),
        Form::Mac => "a MAC address".to_owned(),
        Form::Key => "a WireGuard public key".to_owned(),
    };
    if ok { Ok(()) } else { Err(format!("{text:?} is not {wanted}")) }
}
