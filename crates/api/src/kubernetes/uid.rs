//! UIDs of resources that are derived from UIDs of Kubernetes objects (spec 1 §3.3).
//!
//! A resource and the object that it is stored in or made from must not have the same UID. Each byte's bits are
//! reversed, but for the two that carry a UUID's version and variant; the same again gives back the first.

use smol_str::{SmolStr, SmolStrBuilder};

/// The bytes of a UUID that stay.
const VERSION_AND_VARIANT: [usize; 2] = [6, 8];

/// The other UID of a pair; `None` if the text is no UUID of the form `8-4-4-4-12`.
pub fn reversed(uid: &str) -> Option<SmolStr> {
    let bytes = parse(uid)?;
    let mut text = SmolStrBuilder::new();
    for (place, byte) in bytes.into_iter().enumerate() {
        if matches!(place, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        let byte = if VERSION_AND_VARIANT.contains(&place) { byte } else { byte.reverse_bits() };
        for digit in [byte >> 4, byte & 15] {
            text.push(char::from(b"0123456789abcdef"[usize::from(digit)]));
        }
    }
    Some(text.finish())
}

fn parse(uid: &str) -> Option<[u8; 16]> {
    let mut bytes = [0; 16];
    let mut digits = 0;
    for (place, letter) in uid.bytes().enumerate() {
        if matches!(place, 8 | 13 | 18 | 23) {
            if letter != b'-' {
                return None;
            }
            continue;
        }
        let digit = char::from(letter).to_digit(16)? as u8;
        let byte: &mut u8 = bytes.get_mut(digits / 2)?;
        *byte = *byte << 4 | digit;
        digits += 1;
    }
    (digits == 32).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bits_are_reversed_but_for_version_and_variant() {
        let check = |uid: &str, other: Option<&str>| assert_eq!(reversed(uid).as_deref(), other, "{uid:?}");
        check("30316465-6365-4463-ad63-3564622d3638", Some("0c8c26a6-c6a6-44c6-adc6-ac2646b46c1c"));
        check("0c8c26a6-c6a6-44c6-adc6-ac2646b46c1c", Some("30316465-6365-4463-ad63-3564622d3638"));
        check("30316465-6365-4463-AD63-3564622d3638", Some("0c8c26a6-c6a6-44c6-adc6-ac2646b46c1c"));
        check("", None);
        check("30316465-6365-4463-ad63-3564622d363", None);
        check("30316465-6365-4463-ad63-3564622d36388", None);
        check("3031646506365-4463-ad63-3564622d3638", None);
        check("3031646g-6365-4463-ad63-3564622d3638", None);
    }

    proptest! {
        #[test]
        fn twice_is_nothing(uid in "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}") {
            let other = reversed(&uid).unwrap();
            prop_assert_eq!(reversed(&other).unwrap(), uid);
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,40}") {
            let _ = reversed(&text);
        }
    }
}
