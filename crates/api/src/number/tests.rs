//! Number forms: what is read, what is refused, what is written.

use super::*;

fn json<T: Serialize + for<'de> Deserialize<'de>>(text: &str) -> String {
    let value: T = serde_json::from_str(text).unwrap_or_else(|e| panic!("{text}: {e}"));
    serde_json::to_string(&value).unwrap()
}

#[test]
fn forms_stay_as_written() {
    for (given, written) in
        [("80", "80"), ("\"80\"", "80"), ("\"80:90\"", "\"80:90\""), ("\"http\"", "\"http\"")]
    {
        assert_eq!(json::<Port>(given), written);
    }
    for (given, written) in [("6", "6"), ("\"6\"", "6"), ("\"tcp\"", "\"TCP\""), ("\"icmpV6\"", "\"ICMPv6\"")]
    {
        assert_eq!(json::<ProtocolForm>(given), written);
    }
    for (given, written) in [("100000", "100000"), ("10.5", "10.5"), ("100.0", "100"), ("-1", "-1")] {
        assert_eq!(json::<Order>(given), written);
    }
}

#[test]
fn bad_ports_are_refused() {
    for bad in ["0", "65536", "-1", "\"90:80\"", "\"0:5\"", "\"80-90 \"", "\"a b\"", "\"\"", "true"] {
        assert!(serde_json::from_str::<Port>(bad).is_err(), "{bad}");
    }
}

#[test]
fn durations_read_and_print_as_gos() {
    let cases = [
        ("90s", "1m30s"),
        ("2m0s", "2m0s"),
        ("0", "0s"),
        ("0s", "0s"),
        ("1.5s", "1.5s"),
        ("500ms", "500ms"),
        ("1500ms", "1.5s"),
        ("2h45m10s", "2h45m10s"),
        ("1h", "1h0m0s"),
        ("-5s", "-5s"),
        ("15us", "15µs"),
        ("3ns", "3ns"),
        (".5m", "30s"),
    ];
    for (given, printed) in cases {
        assert_eq!(given.parse::<GoDuration>().unwrap().to_string(), printed, "{given}");
    }
    let endless = "999999999999999999999999h".repeat(60);
    for bad in ["", "5", "s", "5x", "1..5s", "1 s", "-", "99999999999999999999h", "1.2.3s", &endless] {
        assert!(bad.parse::<GoDuration>().is_err(), "{bad}");
    }
}

proptest::proptest! {
    #[test]
    fn any_text_is_a_value_or_an_error_and_values_round_trip(text in "\\PC{0,12}|[-+0-9.:hmsun]{0,16}") {
        if let Ok(duration) = text.parse::<GoDuration>() {
            proptest::prop_assert_eq!(duration.to_string().parse(), Ok(duration));
        }
        if let Ok(port) = text.parse::<Port>() {
            proptest::prop_assert_eq!(port.to_string().parse(), Ok(port));
        }
        let form = ProtocolForm::from(text.as_str());
        proptest::prop_assert_eq!(ProtocolForm::from(form.to_string().as_str()), form);
    }

    #[test]
    fn every_duration_round_trips(nanos: i64) {
        let duration = GoDuration { nanos };
        proptest::prop_assert_eq!(duration.to_string().parse(), Ok(duration));
    }
}
