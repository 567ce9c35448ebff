//! The words of addresses: prefixes, ports, hardware addresses, AS numbers, protocols, interface names.

use std::fmt::{Debug, Display};
use std::str::FromStr;

use calico_net::{Asn, Cidr, IfName, Mac, PortRange, Protocol};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::text;

/// What is printed is read as the same again.
fn round_trip<T: FromStr + Display + Debug + PartialEq>(text: &str) {
    if let Ok(value) = text.parse::<T>() {
        assert_eq!(value.to_string().parse::<T>().ok(), Some(value));
    }
}

/// Any text as each of the words, and as JSON.
pub fn words(data: &[u8]) {
    let Some(text) = text(data) else { return };
    round_trip::<Cidr>(text);
    round_trip::<PortRange>(text);
    round_trip::<Mac>(text);
    round_trip::<Asn>(text);
    round_trip::<Protocol>(text);
    round_trip::<IfName>(text);
    round_trip::<calico_api::Port>(text);
    round_trip::<calico_api::GoDuration>(text);
    if let Ok(cidr) = Cidr::parse_strict(text) {
        assert_eq!(text.parse(), Ok(cidr));
        assert!(cidr.contains(cidr.addr()) && cidr.contains(cidr.last()) && cidr.covers(&cidr));
        // The size of ::/0 does not fit and saturates.
        let last = if cidr.size() == u128::MAX { u128::MAX } else { cidr.size() - 1 };
        assert_eq!(cidr.offset_of(cidr.last()), Some(last));
    }
    let _ = Cidr::parse_interface(text);
    let Ok(value) = serde_json::from_str::<Value>(text) else { return };
    json::<Cidr>(&value);
    json::<Mac>(&value);
    json::<Asn>(&value);
    json::<Protocol>(&value);
    json::<IfName>(&value);
    json::<calico_api::Port>(&value);
    json::<calico_api::ProtocolForm>(&value);
    json::<calico_api::GoDuration>(&value);
    json::<calico_api::Order>(&value);
}

/// The same of its JSON form.
fn json<T: Serialize + DeserializeOwned + Debug + PartialEq>(value: &Value) {
    if let Ok(read) = serde_json::from_value::<T>(value.clone()) {
        let written = serde_json::to_value(&read).expect("words serialise");
        assert_eq!(serde_json::from_value::<T>(written).ok(), Some(read));
    }
}

/// Words of each kind.
pub fn seeds() -> Vec<(&'static str, Vec<Vec<u8>>)> {
    let words = [
        "10.0.0.0/8",
        "fd00::1/64",
        "80:90",
        "http",
        "ee:ee:ee:ee:ee:ee",
        "64512",
        "1.10",
        "TCP",
        "icmpv6",
        "132",
        "cali0123456789a",
        "1m30.5s",
        "-2h45m",
        "\"10.0.0.0/8\"",
        "80",
        "\"80:90\"",
        "6",
        "\"udp\"",
        "10.5",
        "\"90s\"",
    ];
    vec![("net", words.iter().map(|w| w.as_bytes().to_vec()).collect())]
}
