//! Selectors from arbitrary bytes: they parse or are an error, canonical text is a fixed point, and the label index
//! agrees with plain evaluation.
//!
//! Input: the selector's text, then lines `name=value` of labels; a line break ends the text.

#![no_main]

use std::collections::BTreeMap;

use calico_selector::index::Index;
use calico_selector::parse;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let input = String::from_utf8_lossy(data);
    let mut lines = input.split('\n');
    let text = lines.next().unwrap_or_default();
    // Line breaks may stand in values: the whole input is a selector to try as well.
    let _ = parse(&input).map(|selector| assert_eq!(parse(&selector.to_string()), Ok(selector)));
    let Ok(selector) = parse(text) else {
        return;
    };
    let canonical = selector.to_string();
    assert_eq!(parse(&canonical).as_ref(), Ok(&selector), "{canonical}");
    let labels: BTreeMap<&str, &str> = lines.filter_map(|line| line.split_once('=')).collect();
    let expected = selector.matches(&labels);
    for (label, restriction) in selector.restrictions() {
        let value = labels.get(label.as_str()).copied();
        assert!(!expected || restriction.permits(value), "{canonical}: {label} {restriction:?}");
    }
    // Half of the labels are inherited; the selector comes before the item once, and after it once.
    let own = || labels.iter().map(|(name, value)| (*name, *value)).step_by(2);
    let inherited = || labels.iter().map(|(name, value)| (*name, *value)).skip(1).step_by(2);
    let mut index = Index::new();
    let mut events = Vec::new();
    index.add_selector(0, &selector, &mut events);
    index.set_item(0, own(), &[0], &mut events);
    index.set_parent(0, inherited(), &mut events);
    index.add_selector(1, &selector, &mut events);
    for id in [0, 1] {
        assert_eq!(index.match_count(id), usize::from(expected), "{canonical}: selector {id}");
    }
    index.remove_parent(0, &mut events);
    let own_labels: BTreeMap<&str, &str> = own().collect();
    assert_eq!(
        index.match_count(0),
        usize::from(selector.matches(&own_labels)),
        "{canonical}: without parent"
    );
    index.remove_selector(0, &mut events);
    index.remove_selector(1, &mut events);
    index.remove_item(0, &mut events);
    assert!(index.interner().is_empty());
});
