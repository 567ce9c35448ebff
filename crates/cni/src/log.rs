//! The plugin's log: standard error and, where the configuration names one, a file that is set aside when it is large
//! (spec 5 §1.13). Many processes write it, each for milliseconds, so whoever finds it too large sets it aside.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustix::fs::{FlockOperation, flock};
use time::OffsetDateTime;
use time::macros::format_description;
use tracing_subscriber::filter::LevelFilter;

use crate::netconf::NetConf;

const MEGABYTE: u64 = 1024 * 1024;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A log file and when it is set aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFile {
    /// Where.
    pub path: PathBuf,
    /// Bytes after which it is set aside.
    pub max_size: u64,
    /// How long an old one is kept.
    pub max_age: Duration,
    /// How many old ones are kept.
    pub max_count: usize,
}

impl LogFile {
    /// What a configuration asks for; zero counts as unset.
    pub fn of(conf: &NetConf) -> Option<LogFile> {
        let or = |value: Option<u64>, default| value.filter(|v| *v != 0).unwrap_or(default);
        let days = u32::try_from(or(conf.log_file_max_age, 30)).unwrap_or(u32::MAX);
        (!conf.log_file_path.is_empty()).then(|| LogFile {
            path: PathBuf::from(&conf.log_file_path),
            max_size: or(conf.log_file_max_size, 100).saturating_mul(MEGABYTE),
            max_age: DAY.saturating_mul(days),
            max_count: conf.log_file_max_count.filter(|v| *v != 0).unwrap_or(10),
        })
    }

    /// Opens it to append, a fresh one if it has grown too large.
    pub fn open(&self, now: SystemTime) -> io::Result<File> {
        let file = self.open_as_it_is()?;
        if file.metadata()?.len() < self.max_size {
            return Ok(file);
        }
        // Another process does it just now, or has done it.
        let is_ours = flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok()
            && fs::metadata(&self.path).is_ok_and(|m| file.metadata().is_ok_and(|f| f.ino() == m.ino()));
        if is_ours {
            fs::rename(&self.path, self.aside(now))?;
            self.remove_old(now)?;
        }
        self.open_as_it_is()
    }

    fn open_as_it_is(&self) -> io::Result<File> {
        if let Some(dir) = self.path.parent() {
            fs::create_dir_all(dir)?;
        }
        OpenOptions::new().append(true).create(true).mode(0o644).open(&self.path)
    }

    /// The name of one that is set aside: `cni-2026-01-02T03-04-05.006.log`.
    fn aside(&self, now: SystemTime) -> PathBuf {
        let format =
            format_description!("[year]-[month]-[day]T[hour]-[minute]-[second].[subsecond digits:3]");
        let time = OffsetDateTime::from(now).format(&format).unwrap_or_default();
        self.path.with_file_name(format!("{}{time}{}", self.stem(), self.ending()))
    }

    fn stem(&self) -> String {
        format!("{}-", self.path.file_stem().unwrap_or_default().to_string_lossy())
    }

    fn ending(&self) -> String {
        self.path.extension().map(|e| format!(".{}", e.to_string_lossy())).unwrap_or_default()
    }

    fn remove_old(&self, now: SystemTime) -> io::Result<()> {
        let dir = self.path.parent().unwrap_or(Path::new("."));
        let mut old = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with(&self.stem()) && name.ends_with(&self.ending()) {
                old.push((name, entry.path(), entry.metadata()?.modified()?));
            }
        }
        // The names are in the order of time.
        old.sort();
        let too_many = old.len().saturating_sub(self.max_count);
        for (place, (_, path, modified)) in old.into_iter().enumerate() {
            if place < too_many || now.duration_since(modified).is_ok_and(|age| age > self.max_age) {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }
}

/// Starts the log of a plugin's process. A file that cannot be written is said on standard error: no pod waits for it.
pub fn start(conf: &NetConf) {
    let level = match conf.log_level.to_ascii_lowercase().as_str() {
        "debug" => LevelFilter::DEBUG,
        "warning" | "warn" => LevelFilter::WARN,
        "error" => LevelFilter::ERROR,
        _ => LevelFilter::INFO,
    };
    let opened = LogFile::of(conf).map(|log| log.open(SystemTime::now()).map_err(|e| (log.path, e)));
    let (file, error) = match opened {
        None => (None, None),
        Some(Ok(file)) => (Some(Arc::new(file)), None),
        Some(Err(error)) => (None, Some(error)),
    };
    let writer = move || Both { file: file.clone() };
    let builder = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(writer)
        .with_ansi(false)
        // A verb is done whether or not its log can be written: this would be said by `eprintln!`, which panics then.
        .log_internal_errors(false);
    // One is there already where a test or another role has started it.
    let _ = builder.with_target(false).try_init();
    if let Some((path, error)) = error {
        tracing::warn!(path = %path.display(), %error, "no log file");
    }
    for field in conf.without_effect() {
        tracing::warn!("the network configuration: {field}");
    }
}

/// Standard error and a file.
struct Both {
    file: Option<Arc<File>>,
}

impl Write for Both {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if let Some(file) = &self.file {
            // A full disk must not keep the line from standard error.
            let _ = (&**file).write_all(line);
        }
        io::stderr().write_all(line)?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(dir)
            .expect("there")
            .map(|e| e.expect("entry").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_large_file_is_set_aside_and_old_ones_go() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let log =
            LogFile { path: dir.path().join("cni/cni.log"), max_size: 10, max_age: 2 * DAY, max_count: 2 };
        let at = |secs: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_323_045 + secs);
        for secs in 0..4 {
            log.open(at(secs)).expect("opened").write_all(b"0123456789").expect("written");
        }
        let dir = dir.path().join("cni");
        assert_eq!(
            names(&dir),
            ["cni-2026-01-02T03-04-07.000.log", "cni-2026-01-02T03-04-08.000.log", "cni.log"]
        );
        let mode = fs::metadata(dir.join("cni.log")).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o644);
        // One that was set aside three days ago is too old; one that is not ours stays.
        File::options()
            .write(true)
            .open(dir.join("cni-2026-01-02T03-04-07.000.log"))
            .and_then(|f| f.set_modified(at(0) - 3 * DAY))
            .expect("dated");
        fs::write(dir.join("other.log"), "x").expect("written");
        log.open(at(9)).expect("opened");
        assert!(!names(&dir).contains(&"cni-2026-01-02T03-04-07.000.log".to_owned()));
        assert!(names(&dir).contains(&"other.log".to_owned()));
    }

    #[test]
    fn what_a_configuration_asks_for() {
        let of = |members: &str| {
            let text = format!("{{\"name\":\"n\"{members}}}");
            LogFile::of(&NetConf::parse(text.as_bytes()).expect("valid").0)
        };
        assert_eq!(of(""), None);
        let usual = LogFile { path: "/l".into(), max_size: 100 * MEGABYTE, max_age: 30 * DAY, max_count: 10 };
        assert_eq!(of(r#","log_file_path":"/l""#), Some(usual.clone()));
        assert_eq!(of(r#","log_file_path":"/l","log_file_max_size":0"#), Some(usual.clone()));
        let other = LogFile { max_size: MEGABYTE, max_age: DAY, max_count: 3, ..usual };
        let members =
            r#","log_file_path":"/l","log_file_max_size":1,"log_file_max_age":1,"log_file_max_count":3"#;
        assert_eq!(of(members), Some(other));
    }
}
