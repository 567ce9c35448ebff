//! What `deploy/image/check` lets into the image and what it does not: tested here, because a check that finds nothing
//! must be one that could.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

/// Makes a layer with a directory, a file of this mode and a link, and has it checked.
fn check(mode: u32, link: &str, directory: u32) -> (bool, String) {
    let root = tempfile::tempdir().expect("a directory");
    let set = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("the mode is set");
    };
    set(root.path(), 0o755);
    let bin = root.path().join("bin");
    std::fs::create_dir(&bin).expect("the directory is made");
    let file = bin.join("program");
    std::fs::write(&file, "x").expect("the file is written");
    symlink(link, bin.join("link")).expect("the link is made");
    set(&file, mode);
    set(&bin, directory);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/image/check");
    let output = Command::new(script).arg(root.path()).output().expect("the script runs");
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_layer_without_faults_passes() {
    for link in ["program", "/bin/program", "../bin/program"] {
        assert_eq!(check(0o755, link, 0o755), (true, String::new()));
    }
}

#[test]
fn faults_are_named() {
    let cases = [
        (0o4755, "program", 0o755, "/bin/program"),
        (0o2755, "program", 0o755, "/bin/program"),
        (0o777, "program", 0o755, "/bin/program"),
        (0o664, "program", 0o755, "/bin/program"),
        (0o755, "program", 0o1777, "/bin"),
        (0o755, "gone", 0o755, "/bin/link leads to /bin/gone"),
        (0o755, "/gone", 0o755, "/bin/link leads to /gone"),
    ];
    for (mode, link, directory, words) in cases {
        let (passed, said) = check(mode, link, directory);
        assert!(!passed && said.contains(words), "{mode:o} {link} {directory:o}: {said:?}");
    }
}
