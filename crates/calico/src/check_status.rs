//! `check-status -r` and `-l`: what the probes of the controllers' pod run. The controllers write a file again and
//! again; it says what is not ready (spec 7 §6.1).

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use serde::Deserialize;

/// Where the file is unless `CALICO_STATUS_FILE` says otherwise.
const FILE: &str = "/status/status.json";

/// A file that is older was written by controllers that hang: they write it every ten seconds.
const MAX_AGE: Duration = Duration::from_secs(180);

/// What the file says.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Status {
    /// One entry for each thing that can be not ready.
    #[serde(rename = "Readiness")]
    readiness: BTreeMap<String, Condition>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Condition {
    ready: bool,
    reason: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Question {
    Ready,
    Live,
}

/// Answers.
pub fn main(arguments: &[OsString]) -> ExitCode {
    let flags: Vec<_> = arguments.iter().map(|a| a.to_string_lossy().into_owned()).collect();
    let Some(question) = parse(&flags) else {
        eprintln!("usage: check-status -r | -l");
        return ExitCode::from(2);
    };
    let path = std::env::var("CALICO_STATUS_FILE").unwrap_or_else(|_| FILE.to_owned());
    let read = || -> std::io::Result<(String, Duration)> {
        let modified = std::fs::metadata(&path)?.modified()?;
        // A clock that was set back makes a file of the future: as good as new.
        let age = SystemTime::now().duration_since(modified).unwrap_or_default();
        Ok((std::fs::read_to_string(&path)?, age))
    };
    let answer = match read() {
        Ok((text, age)) => judge(question, &text, age),
        Err(error) => Err(format!("{path}: {error}; do the controllers run?")),
    };
    match answer {
        Ok(()) => {
            println!("{}", if question == Question::Ready { "Ready" } else { "Live" });
            ExitCode::SUCCESS
        }
        Err(reason) => {
            println!("{reason}");
            ExitCode::FAILURE
        }
    }
}

fn parse(flags: &[String]) -> Option<Question> {
    let [flag] = flags else { return None };
    match flag.trim_start_matches('-') {
        "r" | "readiness" => Some(Question::Ready),
        "l" | "liveness" => Some(Question::Live),
        _ => None,
    }
}

fn judge(question: Question, text: &str, age: Duration) -> Result<(), String> {
    let status: Status = serde_json::from_str(text).map_err(|e| format!("the status cannot be read: {e}"))?;
    if age > MAX_AGE {
        return Err(format!("the status is {} s old", age.as_secs()));
    }
    if question == Question::Live {
        return Ok(());
    }
    if status.readiness.is_empty() {
        return Err("nothing has reported yet".to_owned());
    }
    let missing = status.readiness.iter().filter(|(_, condition)| !condition.ready);
    let lines: Vec<_> = missing.map(|(name, condition)| format!("{name}: {}", condition.reason)).collect();
    if lines.is_empty() { Ok(()) } else { Err(lines.join("; ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_ready_is_named() {
        let check = |text: &str, secs: u64, ready: Result<(), &str>, live: bool| {
            let age = Duration::from_secs(secs);
            assert_eq!(judge(Question::Ready, text, age), ready.map_err(str::to_owned), "{text}");
            assert_eq!(judge(Question::Live, text, age).is_ok(), live, "{text}");
        };
        let good =
            r#"{"Readiness":{"KubeAPIServer":{"Ready":true,"Reason":""},"CalicoDatastore":{"Ready":true}}}"#;
        check(good, 0, Ok(()), true);
        check(good, 181, Err("the status is 181 s old"), false);
        let bad = r#"{"Readiness":{"A":{"Ready":false,"Reason":"no answer"},"B":{"Ready":true},"C":{"Ready":false,"Reason":"x"}}}"#;
        check(bad, 5, Err("A: no answer; C: x"), true);
        check("{}", 5, Err("nothing has reported yet"), true);
        check(
            "{",
            5,
            Err("the status cannot be read: EOF while parsing an object at line 1 column 1"),
            false,
        );
    }

    #[test]
    fn one_question_at_a_time() {
        let parsed = |flags: &[&str]| parse(&flags.iter().map(|f| (*f).to_owned()).collect::<Vec<_>>());
        assert_eq!(parsed(&["-r"]), Some(Question::Ready));
        assert_eq!(parsed(&["--liveness"]), Some(Question::Live));
        assert_eq!(parsed(&[]), None);
        assert_eq!(parsed(&["-x"]), None);
        assert_eq!(parsed(&["-r", "-l"]), None);
    }
}
