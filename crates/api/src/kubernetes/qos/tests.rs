//! Limits from annotations.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::codec::labels;

#[test]
fn quantities() {
    let check = |text: &str, value: Option<i128>| assert_eq!(quantity::parse(text), value, "{text:?}");
    check("10", Some(10));
    check("1.5M", Some(1_500_000));
    check("64Ki", Some(65_536));
    check("0.5Ki", Some(512));
    check("100m", Some(1));
    check("1001m", Some(2));
    check("3e6", Some(3_000_000));
    check("1E", Some(1_000_000_000_000_000_000));
    check("1E3", Some(1_000));
    check("-5k", Some(-5_000));
    check("+5", Some(5));
    check(".5", Some(1));
    for bad in ["", "-", ".", "1.2.3", "10 M", "M", "1e99", "0x10", "1Zi", "1234567890123456789"] {
        check(bad, None);
    }
}

fn check<const N: usize>(annotations: [(&str, &str); N], expected: Value, complaints: &[&str]) {
    let mut problems = Vec::new();
    let found = controls(&labels(annotations), &mut problems);
    assert_eq!(found.unwrap_or(Value::Null), expected);
    assert_eq!(problems, complaints);
}

#[test]
fn limits_stand_with_their_defaults() {
    check([], Value::Null, &[]);
    check(
        [("kubernetes.io/ingress-bandwidth", "10M"), ("qos.projectcalico.org/egressPacketRate", "100")],
        json!({"ingressBandwidth": 10_000_000, "ingressBurst": 4_294_967_296_i64,
            "egressPacketRate": 100, "egressPacketBurst": 5}),
        &[],
    );
    check(
        [
            ("kubernetes.io/egress-bandwidth", "10M"),
            ("qos.projectcalico.org/egressBandwidth", "20M"),
            ("qos.projectcalico.org/egressBurst", "1Gi"),
            ("qos.projectcalico.org/egressPeakrate", "40M"),
            ("qos.projectcalico.org/egressMinburst", "2000"),
            ("qos.projectcalico.org/ingressMaxConnections", "5"),
            ("qos.projectcalico.org/dscp", "ef"),
        ],
        json!({"ingressMaxConnections": 5, "egressBandwidth": 20_000_000, "egressBurst": 1_073_741_824,
            "egressPeakrate": 40_000_000, "egressMinburst": 2_000, "dscp": "EF"}),
        &[],
    );
    check([("qos.projectcalico.org/dscp", "20")], json!({"dscp": 20}), &[]);
}

#[test]
fn what_is_out_of_range_is_put_into_it() {
    check(
        [
            ("qos.projectcalico.org/ingressPacketRate", "1M"),
            ("qos.projectcalico.org/egressMaxConnections", "0"),
        ],
        json!({"ingressPacketRate": 10_000, "ingressPacketBurst": 5, "egressMaxConnections": 1}),
        &[
            "qos.projectcalico.org/ingressPacketRate: \"1M\" is not from 1 to 10000; 10000 is used",
            "qos.projectcalico.org/egressMaxConnections: \"0\" is not from 1 to 4294967295; 1 is used",
        ],
    );
}

#[test]
fn what_lacks_its_base_or_cannot_be_read_is_left_out() {
    check(
        [
            ("qos.projectcalico.org/ingressBurst", "1M"),
            ("qos.projectcalico.org/egressBandwidth", "fast"),
            ("qos.projectcalico.org/egressPeakrate", "10M"),
            ("qos.projectcalico.org/dscp", "64"),
        ],
        Value::Null,
        &[
            "qos.projectcalico.org/ingressBurst: means nothing without ingressBandwidth",
            "qos.projectcalico.org/egressBandwidth: \"fast\" is no quantity such as 10M or 1Gi",
            "qos.projectcalico.org/egressPeakrate: means nothing without egressBandwidth",
            "qos.projectcalico.org/dscp: \"64\" is neither 0 to 63 nor a name such as EF or AF11",
        ],
    );
    check(
        [("kubernetes.io/ingress-bandwidth", "10M"), ("qos.projectcalico.org/ingressPeakrate", "10M")],
        json!({"ingressBandwidth": 10_000_000, "ingressBurst": 4_294_967_296_i64}),
        &["qos.projectcalico.org/ingressPeakrate: \"10M\" is not above ingressBandwidth"],
    );
}

proptest! {
    #[test]
    fn no_quantity_panics(text in "\\PC{0,20}|[-+]?[0-9.]{0,20}[eE]?[-+]?[0-9]{0,4}[KMGTPEi]{0,3}") {
        let _ = quantity::parse(&text);
    }
}
