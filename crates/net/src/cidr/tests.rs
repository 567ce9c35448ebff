//! Prefixes: parsing, masking, arithmetic at the edges of both families.

use proptest::prelude::*;

use super::*;

fn cidr(text: &str) -> Cidr {
    text.parse().expect("test prefix")
}

#[test]
fn parses_both_spellings_and_masks() {
    for (text, expected) in [
        ("10.0.0.1/24", "10.0.0.0/24"),
        ("10.0.0.1", "10.0.0.1/32"),
        ("fd00::1/64", "fd00::/64"),
        ("fd00::1", "fd00::1/128"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("255.255.255.255/0", "0.0.0.0/0"),
        ("::/0", "::/0"),
    ] {
        assert_eq!(cidr(text).to_string(), expected, "{text}");
    }
}

#[test]
fn refuses_what_is_not_a_prefix() {
    for text in [
        "",
        "10.0.0/8",
        "10.0.0.0/",
        "10.0.0.0/33",
        "10.0.0.0/+8",
        "fd00::/129",
        "10.0.0.0/1000",
        "x/8",
        "10.0.0.0/8/8",
    ] {
        assert!(text.parse::<Cidr>().is_err(), "{text}");
    }
    assert_eq!(
        Cidr::parse_strict("10.0.0.1/24").unwrap_err().to_string(),
        "\"10.0.0.1/24\" has host bits set; the network is 10.0.0.0/24"
    );
}

#[test]
fn arithmetic_holds_at_the_edges() {
    assert_eq!(cidr("0.0.0.0/0").size(), 1 << 32);
    assert_eq!(cidr("::/0").size(), u128::MAX);
    assert_eq!(cidr("0.0.0.0/0").last().to_string(), "255.255.255.255");
    assert_eq!(cidr("::/0").last().to_string(), "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
    assert_eq!(
        cidr("10.0.0.0/16").subnet(26, 1023).map(|c| c.to_string()).as_deref(),
        Some("10.0.255.192/26")
    );
    assert_eq!(cidr("10.0.0.0/16").subnet(26, 1024), None);
    assert_eq!(cidr("10.0.0.0/26").nth(64), None);
    assert_eq!(cidr("10.0.0.0/26").offset_of("10.0.0.63".parse().expect("address")), Some(63));
}

fn any_cidr() -> impl Strategy<Value = Cidr> {
    prop_oneof![
        (any::<u32>(), 0u8..=32)
            .prop_map(|(a, l)| Cidr::new(IpAddr::V4(a.into()), l).expect("length in range")),
        (any::<u128>(), 0u8..=128)
            .prop_map(|(a, l)| Cidr::new(IpAddr::V6(a.into()), l).expect("length in range")),
    ]
}

proptest! {
    #[test]
    fn text_round_trips(c in any_cidr()) {
        prop_assert_eq!(cidr(&c.to_string()), c);
        prop_assert_eq!(Cidr::parse_strict(&c.to_string()), Ok(c));
    }

    #[test]
    fn contains_exactly_first_to_last(c in any_cidr(), other in any_cidr()) {
        prop_assert!(c.contains(c.addr()) && c.contains(c.last()));
        if c.family() == other.family() {
            let inside = other.addr() >= c.addr() && other.addr() <= c.last();
            prop_assert_eq!(c.contains(other.addr()), inside);
        }
        prop_assert_eq!(c.overlaps(&other), other.overlaps(&c));
    }

    #[test]
    fn never_panics_on_text(text in ".*") {
        let _ = text.parse::<Cidr>();
    }
}
