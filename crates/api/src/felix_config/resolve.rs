//! Settings of several sources → the value in force of every option.

use std::collections::BTreeMap;

use super::config::FelixConfig;
use super::parse::{OptionValue, parse};
use super::{TABLE, row};

/// Where a setting comes from; later ones win.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// The table.
    Default,
    /// FelixConfiguration `default`.
    DatastoreGlobal,
    /// A FelixConfiguration that selects the node.
    DatastoreSelected,
    /// FelixConfiguration `node.<name>`.
    DatastoreNode,
    /// The configuration file.
    File,
    /// The environment.
    Environment,
    /// The agent itself.
    Override,
}

impl Source {
    /// Whether it is on the node, so that it may set local options.
    pub fn is_local(self) -> bool {
        matches!(self, Source::File | Source::Environment | Source::Override)
    }
}

/// One option's text from one source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Where it comes from.
    pub source: Source,
    /// The option's name, in any case.
    pub name: String,
    /// Its text; or why there is none (a resource's field of the wrong shape).
    pub value: Result<String, String>,
}

/// A setting that is not in force because it is bad.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name} ({origin:?}): {reason}")]
pub struct OptionProblem {
    /// The option.
    pub name: &'static str,
    /// Where the bad setting comes from.
    pub origin: Source,
    /// The value, and what would be right.
    pub reason: String,
    /// Whether the agent must not run with it.
    pub fatal: bool,
}

/// One option as it is in force.
#[derive(Clone, Debug, PartialEq)]
pub struct Effective {
    /// The value.
    pub value: OptionValue,
    /// Its text, as it was set.
    pub text: String,
    /// Who set it.
    pub source: Source,
}

/// Everything that is in force.
#[derive(Clone, Debug, PartialEq)]
pub struct Resolution {
    /// The options that the agent reads, typed.
    pub config: FelixConfig,
    /// Every option of the table.
    pub values: BTreeMap<&'static str, Effective>,
    /// Settings under names that the table does not have, as they are.
    pub unknown: BTreeMap<String, String>,
    /// Bad settings.
    pub problems: Vec<OptionProblem>,
}

/// What is in force: for each option the setting of the highest source; a bad one counts as the option's default and
/// leaves a problem (spec 3 §6.11).
pub fn resolve(settings: impl IntoIterator<Item = Setting>) -> Resolution {
    let mut settings: Vec<Setting> = settings.into_iter().collect();
    settings.sort_by_key(|s| s.source);
    let mut chosen: BTreeMap<&'static str, Setting> = BTreeMap::new();
    let mut unknown = BTreeMap::new();
    for setting in settings {
        match row(&setting.name) {
            Some(row) if row.local && !setting.source.is_local() => {}
            Some(row) => {
                chosen.insert(row.name, setting);
            }
            None => {
                if let Ok(value) = setting.value {
                    unknown.insert(setting.name, value);
                }
            }
        }
    }
    let mut values = BTreeMap::new();
    let mut problems = Vec::new();
    for row in TABLE {
        let parsed = chosen.remove(row.name).and_then(|Setting { source, value, .. }| {
            let result = value.and_then(|text| match parse(row, &text) {
                Ok(value) => Ok((value, text)),
                Err(error) => Err(format!("{text:?} {error}")),
            });
            match result {
                // Empty text sets nothing.
                Ok((_, text)) if text.trim().is_empty() => None,
                Ok((value, text)) => Some(Effective { value, text, source }),
                Err(reason) => {
                    problems.push(OptionProblem { name: row.name, origin: source, reason, fatal: row.fatal });
                    None
                }
            }
        });
        let effective = parsed.unwrap_or_else(|| Effective {
            value: parse(row, row.default).unwrap_or(OptionValue::Unset),
            text: row.default.to_owned(),
            source: Source::Default,
        });
        values.insert(row.name, effective);
    }
    let config = FelixConfig::from_values(&values);
    Resolution { config, values, unknown, problems }
}

impl Resolution {
    /// The options that differ between two resolutions and take effect only after a restart.
    pub fn restart_reasons(&self, next: &Resolution) -> Vec<&'static str> {
        TABLE
            .iter()
            .filter(|row| !row.live)
            .filter(|row| {
                self.values.get(row.name).map(|e| &e.value) != next.values.get(row.name).map(|e| &e.value)
            })
            .map(|row| row.name)
            .collect()
    }
}

/// The settings of environment variables: `FELIX_<name>`, in any case.
pub fn environment_settings(variables: impl IntoIterator<Item = (String, String)>) -> Vec<Setting> {
    let mut settings = Vec::new();
    for (variable, value) in variables {
        let prefixed = variable.get(..6).is_some_and(|p| p.eq_ignore_ascii_case("FELIX_"));
        if prefixed && variable.len() > 6 {
            let name = variable[6..].to_owned();
            settings.push(Setting { source: Source::Environment, name, value: Ok(value) });
        }
    }
    settings
}

/// The settings of a configuration file: `name = value` lines; sections in brackets and lines that begin with `#` or
/// `;` are passed over. Lines that are none of these come back as errors, with their number from 1.
pub fn file_settings(text: &str) -> (Vec<Setting>, Vec<(usize, String)>) {
    let mut settings = Vec::new();
    let mut bad = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';', '[']) {
            continue;
        }
        match line.split_once('=') {
            Some((name, value)) => settings.push(Setting {
                source: Source::File,
                name: name.trim().to_owned(),
                value: Ok(value.trim().trim_matches('"').to_owned()),
            }),
            None => bad.push((index + 1, line.to_owned())),
        }
    }
    (settings, bad)
}
