//! Calendar arithmetic against known dates.

use super::UnixTime;

#[test]
fn prints_and_reads_back() {
    for (secs, text) in [
        (0, "1970-01-01T00:00:00Z"),
        (951_782_400, "2000-02-29T00:00:00Z"),
        (1_795_394_877, "2026-11-23T00:47:57Z"),
        (4_102_444_799, "2099-12-31T23:59:59Z"),
    ] {
        assert_eq!(UnixTime::from_secs(secs).rfc3339(), text);
        assert_eq!(UnixTime::parse_rfc3339(text), Some(UnixTime::from_secs(secs)), "{text}");
    }
    let noon = UnixTime::parse_rfc3339("2026-11-23T12:00:00.25+02:00");
    assert_eq!(noon, Some(UnixTime(1_795_428_000_250_000_000)));
    for bad in ["", "2026-11-23", "2026-13-01T00:00:00Z", "2026-11-23T25:00:00Z", "1960-01-01T00:00:00Z", "é"]
    {
        assert_eq!(UnixTime::parse_rfc3339(bad), None, "{bad}");
    }
}

#[test]
fn go_text_trims_the_fraction() {
    assert_eq!(UnixTime(1_795_394_877_169_304_200).go_text(), "2026-11-23 00:47:57.1693042 +0000 UTC");
    assert_eq!(UnixTime::from_secs(1_795_394_877).go_text(), "2026-11-23 00:47:57 +0000 UTC");
}

#[test]
fn every_day_of_four_centuries_comes_back() {
    for day in 0..146_097 {
        let time = UnixTime::from_secs(day * 86_400 + 86_399);
        assert_eq!(UnixTime::parse_rfc3339(&time.rfc3339()), Some(time));
    }
}

#[test]
fn a_fraction_of_other_characters_is_no_time() {
    for text in [".aääääZ", ".ééééééZ", ".12345678éZ", ".1234567890xZ", ".-Z", ".1é+01:00"] {
        let text = format!("2026-11-23T00:47:57{text}");
        assert_eq!(UnixTime::parse_rfc3339(&text), None, "{text}");
    }
    let long = UnixTime::parse_rfc3339("2026-11-23T00:47:57.1234567899Z").unwrap();
    assert_eq!(long.0 % super::NANOS, 123_456_789, "finer than we count");
}
