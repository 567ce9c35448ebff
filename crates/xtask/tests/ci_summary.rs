//! The last lines of `make test`, from logs as cargo writes them.

#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test of a script that reads files")]

use std::path::Path;
use std::process::Command;

fn summary(logs: &[&str]) -> String {
    let dir = tempfile::tempdir().unwrap();
    for (number, log) in logs.iter().enumerate() {
        std::fs::write(dir.path().join(format!("{number}.log")), log).unwrap();
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.ci/summary");
    let output = Command::new(script).arg(dir.path()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

const UNIT: &str = "\
     Running unittests src/lib.rs (target/debug/deps/a-1)
test reads ... ok
test compares ... ok
successes:
---- compares stdout ----
skipped: no ../shared
skipped: no ../shared
---- reads stdout ----
a line of its own
test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.10s
     Running unittests src/lib.rs (target/debug/deps/b-2)
---- compares stdout ----
skipped: no ../shared
---- serves stdout ----
skipped: no etcd on this machine
test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.10s
";

#[test]
fn what_was_skipped_is_counted_and_told() {
    assert_eq!(
        summary(&[UNIT, "demo: every answer as expected\n"]),
        "test: all passed: 2 passed, 3 skipped\n\
         test: 1 skipped: no etcd on this machine\n\
         test: 2 skipped: no ../shared (what Calico itself wrote, to compare with: CALICO_SHARED=DIRECTORY names it)\n"
    );
    assert_eq!(
        summary(&["test result: ok. 7 passed; 0 failed\n"]),
        "test: all passed: 7 passed, 0 skipped\n"
    );
}
