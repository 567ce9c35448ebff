//! Kubernetes' label selectors in Calico's language (spec 1 §3.7).

use std::fmt::Write as _;

use serde::Deserialize;
use smol_str::SmolStr;

use crate::meta::Labels;

/// What every pod's endpoint matches, and no host endpoint and no network set.
pub(super) const POD: &str = "projectcalico.org/orchestrator == 'k8s'";

/// A label selector: all of it must match; an empty one matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LabelSelector {
    /// Labels with their values.
    pub match_labels: Labels,
    /// Requirements.
    pub match_expressions: Vec<Requirement>,
}

/// One requirement of a label selector.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Requirement {
    /// The label.
    pub key: SmolStr,
    /// `In`, `NotIn`, `Exists` or `DoesNotExist`.
    pub operator: SmolStr,
    /// Values, for `In` and `NotIn`.
    pub values: Vec<SmolStr>,
}

/// A selector for pods. None selects all of them.
pub(super) fn pods(selector: Option<&LabelSelector>) -> Result<SmolStr, String> {
    terms(Some(POD), selector)
}

/// A selector for namespaces. None is no selector; an empty one selects all namespaces.
pub(super) fn namespaces(selector: Option<&LabelSelector>) -> Result<SmolStr, String> {
    match selector {
        None => Ok(SmolStr::default()),
        Some(_) => {
            let text = terms(None, selector)?;
            Ok(if text.is_empty() { SmolStr::new_static("all()") } else { text })
        }
    }
}

fn terms(first: Option<&str>, selector: Option<&LabelSelector>) -> Result<SmolStr, String> {
    let mut terms: Vec<String> = first.map(str::to_owned).into_iter().collect();
    if let Some(LabelSelector { match_labels, match_expressions }) = selector {
        for (key, value) in match_labels {
            terms.push(format!("{} == {}", label(key)?, quoted(value)?));
        }
        for requirement in match_expressions {
            terms.push(term(requirement)?);
        }
    }
    Ok(SmolStr::from(terms.join(" && ")))
}

fn term(requirement: &Requirement) -> Result<String, String> {
    let Requirement { key, operator, values } = requirement;
    let key = label(key)?;
    let set = || -> Result<String, String> {
        let mut text = String::from("{ ");
        for (place, value) in values.iter().enumerate() {
            let comma = if place == 0 { "" } else { ", " };
            let _ = write!(text, "{comma}{}", quoted(value)?);
        }
        Ok(text + " }")
    };
    match operator.as_str() {
        "In" => Ok(format!("{key} in {}", set()?)),
        "NotIn" => Ok(format!("{key} not in {}", set()?)),
        "Exists" => Ok(format!("has({key})")),
        "DoesNotExist" => Ok(format!("! has({key})")),
        other => Err(format!("operator: {other:?} is none of In, NotIn, Exists, DoesNotExist")),
    }
}

/// A label's key as the language takes it. The API server checks keys; what it would refuse could change the meaning
/// of the whole text.
fn label(key: &str) -> Result<&str, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
    if !key.is_empty() && key.chars().all(plain) {
        Ok(key)
    } else {
        Err(format!("key: {key:?} is not the key of a label"))
    }
}

fn quoted(value: &str) -> Result<String, String> {
    if value.contains('\'') {
        return Err(format!("{value:?} is not the value of a label"));
    }
    Ok(format!("'{value}'"))
}
