//! The directory of a lab: whether one may be made there, and where there are others.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::advice;
use crate::state::Lab;

/// Where a node lays a layer over the machine's directory, in which the lab's own files would be hidden.
const COVERED: [&str; 3] = ["/etc", "/var/lib", "/var/log"];

/// Refuses a directory in which a lab cannot be made, or whose other files `down` would remove with it.
pub fn check_free(dir: &Path) -> Result<()> {
    if Lab::is_in(dir) {
        let down = advice::command(dir, "down");
        match Lab::load(dir) {
            Ok(lab) if !lab.is_running() => bail!(
                "{} holds a lab whose processes have ended: {down} removes what is left of it",
                dir.display()
            ),
            _ => bail!(
                "a lab is already up in {}: {} shows it, {down} removes it; --dir with another directory \
                 makes another beside it",
                dir.display(),
                advice::command(dir, "status")
            ),
        }
    }
    if let Some(parent) = COVERED.iter().find(|parent| dir.starts_with(parent)) {
        bail!("--dir {}: a node lays a layer over {parent}, so the lab must be elsewhere", dir.display());
    }
    let first = match std::fs::read_dir(dir) {
        Ok(mut entries) => entries.next(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(error).with_context(|| format!("--dir {}", dir.display())),
    };
    if first.is_some() {
        bail!(
            "--dir {}: it has files that are no lab's, and the lab's end would remove them: name a directory that is \
             empty or not there",
            dir.display()
        );
    }
    Ok(())
}

/// What to say where there is no lab: how to start one, and where there are others.
pub fn no_lab(dir: &Path) -> String {
    let others = beside(dir);
    let others = match others.as_slice() {
        [] => String::new(),
        found => {
            let found: Vec<String> = found.iter().map(|path| path.display().to_string()).collect();
            format!("; --dir names another: there is a lab in {}", found.join(", "))
        }
    };
    format!("no lab in {}: {} starts one{others}", dir.display(), advice::command(dir, "up"))
}

/// The labs in directories beside `dir`.
fn beside(dir: &Path) -> Vec<PathBuf> {
    // What cannot be listed names no labs.
    let entries = dir.parent().and_then(|parent| std::fs::read_dir(parent).ok());
    let paths = entries.into_iter().flatten().flatten().map(|entry| entry.path());
    let mut found: Vec<PathBuf> = paths.filter(|path| path != dir && Lab::is_in(path)).collect();
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Datastore;

    #[test]
    fn a_lab_is_made_only_where_there_is_nothing() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("lab");
        let refusal = |dir: &Path| format!("{:#}", check_free(dir).unwrap_err());
        check_free(&dir).unwrap();
        std::fs::create_dir(&dir).unwrap();
        check_free(&dir).unwrap();
        std::fs::write(dir.join("thesis.tex"), "").unwrap();
        assert!(refusal(&dir).contains("it has files that are no lab's"), "{}", refusal(&dir));
        assert!(refusal(&dir.join("thesis.tex")).starts_with("--dir "), "a file is no directory");
        let covered = refusal(Path::new("/var/lib/lab"));
        assert!(covered.contains("over /var/lib, so the lab must be elsewhere"), "{covered}");
    }

    #[test]
    fn a_lab_that_is_up_and_one_that_was_killed_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let mut lab = Lab::new(dir.path(), Datastore::Embedded).unwrap();
        lab.save().unwrap();
        let down = format!("`calico lab --dir {} down`", dir.path().display());
        let said = check_free(dir.path()).unwrap_err().to_string();
        assert!(said.contains(&format!("have ended: {down} removes what is left")), "{said}");
        let mut holder =
            std::process::Command::new("sleep").arg("60").env(crate::state::MARK, &lab.mark).spawn().unwrap();
        lab.fabric_pid = i32::try_from(holder.id()).unwrap();
        lab.save().unwrap();
        // Its environment is there a moment after it.
        let second = std::time::Duration::from_secs(1);
        assert!(crate::until(10 * second, second / 100, || lab.is_running()));
        let said = check_free(dir.path()).unwrap_err().to_string();
        holder.kill().and_then(|()| holder.wait()).unwrap();
        assert!(said.starts_with("a lab is already up in "), "{said}");
        assert!(said.contains(&format!("{down} removes it")), "{said}");
    }

    #[test]
    fn where_no_lab_is_those_beside_it_are_named() {
        let parent = tempfile::tempdir().unwrap();
        let (here, other) = (parent.path().join("here"), parent.path().join("other"));
        let start = format!("no lab in {0}: `calico lab --dir {0} up` starts one", here.display());
        assert_eq!(no_lab(&here), start);
        // Neighbours without a lab are passed over, whether the one that is asked for is there or not.
        for name in ["here", "empty", "vacant"] {
            std::fs::create_dir(parent.path().join(name)).unwrap();
        }
        assert_eq!(no_lab(&here), start);
        std::fs::create_dir(&other).unwrap();
        Lab::new(&other, Datastore::Embedded).unwrap().save().unwrap();
        let expected = format!("{start}; --dir names another: there is a lab in {}", other.display());
        assert_eq!(no_lab(&here), expected);
        // The sentence is all that a command says: no number of the system's beside it.
        assert_eq!(format!("{:#}", Lab::load(&here).unwrap_err()), expected);
    }
}
