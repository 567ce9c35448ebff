//! The name that a user probably meant: one rule for fields, kinds, options and columns.

/// Longer words are no slips of the pen; comparing takes their length times that of each name.
const LONGEST: usize = 64;

/// The nearest of `names` to `word`, case aside; of equally near ones the first. None where every one of them differs in
/// more than a third of the word's letters.
pub fn nearest<'a>(word: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if word.len() > LONGEST {
        return None;
    }
    let word = word.to_lowercase();
    let most = (word.chars().count() + 1) / 3;
    names
        .into_iter()
        .map(|name| (strsim::osa_distance(&word, &name.to_lowercase()), name))
        .filter(|(distance, _)| *distance <= most)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// What to say after what is wrong with `word`: the question for the nearest of `names`, or `otherwise`.
pub fn remedy<'a>(word: &str, names: impl IntoIterator<Item = &'a str>, otherwise: &str) -> String {
    nearest(word, names).map_or_else(|| otherwise.to_owned(), |name| format!("did you mean {name:?}?"))
}

/// What is wrong with a field that is none of the known ones.
pub fn unknown_field<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let remedy = remedy(name, known, "it is misspelt or in the wrong place");
    format!("this field is not known here; {remedy}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_found_and_strangers_are_not() {
        let names = ["selector", "serviceAccountSelector", "order", "types", "ingress", "egress"];
        let cases = [
            ("ordre", Some("order")),
            ("Selectors", Some("selector")),
            ("serviceAcountSelector", Some("serviceAccountSelector")),
            ("ingres", Some("ingress")),
            ("egres", Some("egress")),
            ("type", Some("types")),
            ("nonsense", None),
            ("o", None),
            ("", None),
        ];
        for (word, expected) in cases {
            assert_eq!(nearest(word, names), expected, "{word}");
        }
        assert_eq!(
            nearest(&"x".repeat(LONGEST + 1), [&*"x".repeat(LONGEST + 2)]),
            None,
            "too long for a slip"
        );
        assert_eq!(nearest("cat", ["car", "bat"]), Some("car"), "the first of equals");
        assert_eq!(unknown_field("ordre", names), "this field is not known here; did you mean \"order\"?");
        let stranger = "this field is not known here; it is misspelt or in the wrong place";
        assert_eq!(unknown_field("nonsense", names), stranger);
    }
}
