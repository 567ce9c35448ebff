//! FelixConfiguration: the agent's options as a resource: `default`, `node.<name>`, or selected (spec 1 §1.6).

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use smol_str::SmolStr;

use crate::key::Kind;
use crate::meta::{NoStatus, Resource, Spec};

/// Options of the agent.
pub type FelixConfiguration = Resource<FelixConfigurationSpec>;

/// What a FelixConfiguration says. The options are not fields here: the one table of Felix options names
/// them and gives their types.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct FelixConfigurationSpec {
    /// Nodes that it applies to; only for names other than `default` and `node.<name>`.
    #[serde(skip_serializing_if = "SmolStr::is_empty")]
    pub node_selector: SmolStr,
    /// Options by their resource spelling.
    #[serde(flatten)]
    pub options: IndexMap<String, Value>,
}

impl Spec for FelixConfigurationSpec {
    const KIND: Kind = Kind::FelixConfiguration;
    type Status = NoStatus;
}
