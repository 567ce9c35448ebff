//! What ours means is what Calico's means: every configuration in the reference data is read statement by statement,
//! ours too, and both must say the same; then every statement of Calico's is changed, and none of the changes may pass.
//!
//! ```text
//! inputs ─▶ Index ─▶ BgpIntent ─▶ bird.cfg (BIRD 2) ─ours::read─▶ meaning ──expected──┐
//!                                                                                     ├─ equal
//! outputs: bird.cfg, bird_aggr.cfg, bird_ipam.cfg (BIRD 1.6) ─theirs::read──▶ meaning ┘
//! ```
//!
//! The reference data is not part of this repository; without it the tests say so and pass.

#![allow(clippy::print_stdout, reason = "a test says what it skips and how much it has compared")]
#![allow(clippy::unwrap_used, reason = "a test fails where it cannot go on")]

mod cases;
mod expected;
mod meaning;
mod mutations;
mod ours;
mod text;
mod theirs;

use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::{Command, Stdio};

use calico_net::Family;

use crate::cases::{Case, Files};
use crate::expected::{Expected, expected};

/// What each family's part of ours comes to in Calico's words.
fn ours_in_their_words(case: &Case) -> [(Family, Expected); 2] {
    let rendered = case.rendered();
    let both = ours::read(&rendered).unwrap_or_else(|e| panic!("{}: ours: {e}\n{rendered}", case.name));
    let [v4, v6] = &both;
    [(Family::V4, expected(case, Family::V4, v4)), (Family::V6, expected(case, Family::V6, v6))]
}

/// Why a file of Calico's does not say what is expected.
fn difference(part: &str, family: Family, text: &str, expected: &Expected) -> Option<String> {
    let prefix = if family == Family::V4 { "bird" } else { "bird6" };
    match part {
        "" => compare(theirs::read_main(text, prefix), &expected.main),
        "_aggr" => compare(theirs::read_aggr(text), &expected.aggr),
        "_ipam" => compare(theirs::read_ipam(text), &expected.ipam),
        _ => panic!("no such part"),
    }
}

fn compare<T: PartialEq + std::fmt::Debug>(theirs: Result<T, String>, expected: &T) -> Option<String> {
    match theirs {
        Err(error) => Some(error),
        Ok(theirs) => (theirs != *expected).then(|| format!("theirs {theirs:#?}\nours {expected:#?}")),
    }
}

/// BIRD's own judgement.
fn judge(case: &Case) -> bool {
    let mut command = Command::new("/usr/sbin/bird");
    command.args(["-p", "-c", "/dev/stdin"]).stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(e) => {
            println!("skipped: /usr/sbin/bird cannot be run: {e}");
            return false;
        }
    };
    child.stdin.take().unwrap().write_all(case.rendered().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}: {}", case.name, String::from_utf8_lossy(&output.stderr));
    true
}

#[test]
fn every_case_means_the_same_and_bird_takes_ours() {
    let Some(data) = cases::reference() else {
        println!("skipped: no ../shared");
        return;
    };
    let cases = cases::all(&data);
    let mut compared = (0, 0, 0);
    for case in &cases {
        let files: Files = cases::files(&data, &case.name);
        for (family, expected) in ours_in_their_words(case) {
            compared.1 += expected.main.sessions.len();
            for ((_, part), text) in files.iter().filter(|((of, _), _)| *of == family) {
                if let Some(difference) = difference(part, family, text, &expected) {
                    panic!("{}: {family} bird{part}.cfg: {difference}", case.name);
                }
                compared.2 += 1;
            }
        }
        judge(case);
        compared.0 += 1;
    }
    println!("{} cases, {} sessions, {} files", compared.0, compared.1, compared.2);
    assert!(compared.0 >= 14 && compared.1 >= 30 && compared.2 >= 84, "{compared:?}");
}

#[test]
fn no_changed_statement_of_calico_s_passes() {
    let Some(data) = cases::reference() else {
        println!("skipped: no ../shared");
        return;
    };
    let mut seen = BTreeSet::new();
    let mut killed = 0;
    let mut passed = Vec::new();
    for case in cases::all(&data) {
        let files = cases::files(&data, &case.name);
        for (family, expected) in ours_in_their_words(&case) {
            for ((_, part), text) in files.iter().filter(|((of, _), _)| *of == family) {
                // Many cases have the same file, and mean the same by it.
                if !seen.insert((family, *part, text.clone())) {
                    continue;
                }
                assert_eq!(difference(part, family, text, &expected), None, "{} bird{part}", case.name);
                for mutant in mutations::mutants(text) {
                    match difference(part, family, &mutant.text, &expected) {
                        Some(_) => killed += 1,
                        None => passed.push(format!("{} bird{part}: {}", case.name, mutant.change)),
                    }
                }
            }
        }
    }
    println!("{killed} changes in {} files were noticed", seen.len());
    assert!(passed.is_empty(), "{} changes passed:\n{}", passed.len(), passed.join("\n"));
    assert!(killed > 5000, "only {killed} changes");
}

#[test]
fn steps_after_the_first() {
    let Some(data) = cases::reference() else {
        println!("skipped: no ../shared");
        return;
    };
    let selectors = cases::from_input(&data, "explicit_peering/selectors", &["step2"]);
    let sessions = selectors.intent().sessions;
    // The port of the node's own configuration is gone, and with it that of the name.
    assert_eq!(sessions[0].name.to_string(), "Node_10_192_0_3");
    judge(&selectors);
    let routes = cases::from_input(&data, "mesh/static-routes", &["step2"]);
    let [(_, v4), (_, v6)] = ours_in_their_words(&routes);
    for (family, expected) in [(Family::V4, v4), (Family::V6, v6)] {
        let blocks: Vec<String> =
            routes.intent().blocks_of(family).filter(|b| !b.is_host()).map(ToString::to_string).collect();
        assert_eq!(expected.aggr.blackholes.len(), blocks.len(), "no service is announced any more");
        assert!(expected.ipam.rejected.is_empty());
    }
    judge(&routes);
}
