//! Every word from bad text: no panic, and what is read is printed and read as the same.

#![allow(clippy::unwrap_used, reason = "a test: what cannot be ends it")]

use std::fmt::{Debug, Display};
use std::str::FromStr;

use calico_net::{Asn, Cidr, IfName, Mac, PortRange, Protocol};
use calico_testkit::mutation::text_mutations;

const SEEDS: &[&[u8]] = &[
    b"10.0.0.0/8",
    b"fd00::1/64",
    b"::ffff:1.2.3.4/128",
    b"80:90",
    b"ee:ee:ee:ee:ee:ee",
    b"64512",
    b"1.10",
    b"TCP",
    b"icmpv6",
    b"132",
    b"cali0123456789a",
];

fn round_trip<T: FromStr + Display + Debug + PartialEq>(text: &str) -> usize {
    let Ok(value) = text.parse::<T>() else { return 0 };
    assert_eq!(value.to_string().parse().ok(), Some(value), "{text:?}");
    1
}

#[test]
fn words_survive_bad_text() {
    let mut read = 0;
    for text in text_mutations(SEEDS, 20_000, 1) {
        read += round_trip::<Cidr>(&text) + round_trip::<PortRange>(&text) + round_trip::<Mac>(&text);
        read += round_trip::<Asn>(&text) + round_trip::<Protocol>(&text) + round_trip::<IfName>(&text);
        if let Ok(cidr) = Cidr::parse_strict(&text) {
            assert!(cidr.contains(cidr.addr()) && cidr.contains(cidr.last()), "{text:?}");
        }
        let _ = Cidr::parse_interface(&text);
    }
    assert!(read > 2_000, "only {read} were words: the mutations are too wild");
}
