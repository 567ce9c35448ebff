//! Logging of long-running roles: one line per event on standard error.

use anyhow::{Context as _, Result, bail};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// What logs before anybody says otherwise.
const DEFAULT: &str = "info";

/// The log of this process.
pub struct Log {
    /// `CALICO_LOG` decides, and options do not.
    fixed: bool,
    set: Box<dyn Fn(EnvFilter) + Send + Sync>,
}

/// Starts logging. `filter` is `CALICO_LOG` (`info`, `debug`, `info,calico_felix=debug`); with `json` each line is a
/// JSON object.
pub fn start(filter: Option<&str>, json: bool) -> Result<Log> {
    let wanted = filter.filter(|text| !text.trim().is_empty());
    let text = wanted.unwrap_or(DEFAULT);
    let filter = parse(text).with_context(|| format!("CALICO_LOG={text:?}"))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        // It would be said by `eprintln!`, which panics where standard error is what cannot be written.
        .log_internal_errors(false);
    // Reloading fails only when the log is gone, and nobody reads it then.
    let set: Box<dyn Fn(EnvFilter) + Send + Sync> = if json {
        let builder = builder.json().with_filter_reloading();
        let handle = builder.reload_handle();
        builder.init();
        Box::new(move |filter| drop(handle.reload(filter)))
    } else {
        let builder = builder.with_filter_reloading();
        let handle = builder.reload_handle();
        builder.init();
        Box::new(move |filter| drop(handle.reload(filter)))
    };
    Ok(Log { fixed: wanted.is_some(), set })
}

impl Log {
    /// Logs as `LogSeverityScreen` says, unless `CALICO_LOG` says how.
    pub fn follow(&self, severity: &str) {
        if !self.fixed {
            (self.set)(EnvFilter::default().add_directive(level(severity).into()));
        }
    }
}

fn level(severity: &str) -> LevelFilter {
    match severity.to_ascii_uppercase().as_str() {
        "TRACE" => LevelFilter::TRACE,
        "DEBUG" => LevelFilter::DEBUG,
        "WARNING" => LevelFilter::WARN,
        "ERROR" | "FATAL" | "PANIC" => LevelFilter::ERROR,
        "NONE" => LevelFilter::OFF,
        _ => LevelFilter::INFO,
    }
}

/// Reads a filter. A word alone must be a level or a crate of ours: the syntax would take a mistyped level for the name
/// of something to log, and log nothing else.
fn parse(text: &str) -> Result<EnvFilter> {
    let is_known = |word: &str| word.parse::<LevelFilter>().is_ok() || word.starts_with("calico");
    let alone =
        text.split(',').map(str::trim).filter(|w| !w.is_empty() && !w.contains(['=', '[', '{', '}', ']']));
    for word in alone {
        if !is_known(word) {
            bail!("{word:?} is neither a level (trace, debug, info, warn, error, off) nor NAME=LEVEL");
        }
    }
    Ok(EnvFilter::try_new(text)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_level_is_named() {
        for good in ["info", "DEBUG", "info,calico_felix=debug", "calico_felix", "off", "warn,h2=error"] {
            assert!(parse(good).is_ok(), "{good}");
        }
        for bad in ["inof", "info,debgu", "calico_felix=debgu"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_log_that_nobody_reads_ends_nothing() {
        // The log is the process's, and so is standard error: a process of this test's own logs.
        const FORMAT: &str = "CALICO_TEST_LOG_FORMAT";
        if let Ok(format) = std::env::var(FORMAT) {
            start(None, format == "json").expect("started");
            tracing::info!("nobody reads this");
            return;
        }
        for format in ["text", "json"] {
            let (reader, writer) = std::io::pipe().expect("pipe");
            drop(reader);
            let output = std::process::Command::new(std::env::current_exe().expect("this program"))
                .args(["--exact", "log::tests::a_log_that_nobody_reads_ends_nothing", "--nocapture"])
                .env(FORMAT, format)
                .stderr(writer)
                .output()
                .expect("run");
            let said = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success() && said.contains("1 passed"), "{format}: {said}");
        }
    }

    #[test]
    fn severities_are_levels() {
        let pairs =
            [("Warning", LevelFilter::WARN), ("FATAL", LevelFilter::ERROR), ("debug", LevelFilter::DEBUG)];
        for (severity, expected) in pairs {
            assert_eq!(level(severity), expected, "{severity}");
        }
    }
}
