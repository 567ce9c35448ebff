//! What an error tells beside what is wrong: which names there are, the nearest of them, and the command that helps.

use std::path::Path;

use calico_api::suggest::nearest;

use crate::args::DEFAULT_DIR;

/// A command of the lab in `dir`, as it is typed.
pub fn command(dir: &Path, rest: &str) -> String {
    if dir == Path::new(DEFAULT_DIR) {
        format!("`calico lab {rest}`")
    } else {
        format!("`calico lab --dir {} {rest}`", dir.display())
    }
}

/// `; did you mean "web"?`, or nothing.
pub fn meant<'a>(wrong: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    nearest(wrong, names).map(|name| format!("; did you mean {name:?}?")).unwrap_or_default()
}

/// `no node "node9"; there are node1, node2; did you mean "node1"?`
pub fn unknown(kind: &str, wrong: &str, names: &[&str]) -> String {
    let there = match names {
        [] => "there are none".to_owned(),
        [only] => format!("there is {only}"),
        many => format!("there are {}", many.join(", ")),
    };
    format!("no {kind} {wrong:?}; {there}{}", meant(wrong, names.iter().copied()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_name_is_told_with_those_that_there_are() {
        assert_eq!(unknown("router", "r1", &[]), "no router \"r1\"; there are none");
        assert_eq!(unknown("node", "database", &["node1"]), "no node \"database\"; there is node1");
        assert_eq!(
            unknown("node", "node9", &["node1", "node2"]),
            "no node \"node9\"; there are node1, node2; did you mean \"node1\"?"
        );
    }

    #[test]
    fn a_command_names_the_directory_where_it_must() {
        assert_eq!(command(Path::new("/run/calico-lab"), "down"), "`calico lab down`");
        assert_eq!(command(Path::new("/run/other"), "down"), "`calico lab --dir /run/other down`");
    }
}
