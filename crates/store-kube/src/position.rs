//! Where a list or a watch stands: one revision for each API resource of a selection.

use calico_api::Revision;
use smol_str::SmolStr;

/// One API resource's revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    /// A revision of its history.
    At(u64),
    /// The server does not have the API resource (a definition that is not installed): empty, and in sync.
    Missing,
}

/// The text for a missing API resource.
const MISSING: &str = "-";

/// Parses the parts of a revision; `None` if it is none of ours, or of another selection.
pub(crate) fn parse(revision: &Revision, parts: usize) -> Option<Vec<Mark>> {
    if parts == 0 {
        return revision.0.is_empty().then(Vec::new);
    }
    let marks: Vec<Mark> = revision.0.split('/').map(mark).collect::<Option<_>>()?;
    (marks.len() == parts).then_some(marks)
}

fn mark(text: &str) -> Option<Mark> {
    match text {
        MISSING => Some(Mark::Missing),
        // To the server 0 means "any", which is no place in a history.
        _ => text.parse().ok().filter(|n| *n > 0).map(Mark::At),
    }
}

/// The revision that says where each part stands.
pub(crate) fn revision(marks: &[Mark]) -> Revision {
    let texts: Vec<String> = marks
        .iter()
        .map(|mark| match mark {
            Mark::At(n) => n.to_string(),
            Mark::Missing => MISSING.to_owned(),
        })
        .collect();
    Revision(SmolStr::from(texts.join("/")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revision_says_where_each_part_stands() {
        for marks in [vec![], vec![Mark::At(7)], vec![Mark::At(7), Mark::Missing], vec![Mark::Missing]] {
            assert_eq!(parse(&revision(&marks), marks.len()), Some(marks));
        }
        for (text, parts) in
            [("", 1), ("0", 1), ("x", 1), ("1/2", 1), ("1", 2), ("1/", 2), ("1", 0), ("-1", 1)]
        {
            assert_eq!(parse(&Revision(text.into()), parts), None, "{text}");
        }
    }
}
