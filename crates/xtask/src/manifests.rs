//! The generated manifests: `deploy/calico.yaml` and its two sisters, from one model, so that they cannot drift apart.
//!
//! Names of objects, containers, volumes and variables are Calico's: what users patch with overlays stays where it is.

mod controllers;
mod network;
mod node;
mod rbac;
#[cfg(test)]
mod tests;

use std::path::Path;

use anyhow::Result;
use serde_json::{Value, json};

use crate::crds::{self, Group};
use crate::generated::{self, Page};

/// Everything is in this namespace.
pub const NAMESPACE: &str = "kube-system";

/// The image that every container runs: what `make image` makes. `make install IMAGE=…` puts another in its place.
pub const IMAGE: &str = concat!("localhost/calico:", env!("CARGO_PKG_VERSION"));

/// How pods of different nodes reach one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// BIRD tells the routes; IPIP everywhere.
    Bird,
    /// The agent knows the routes; VXLAN everywhere.
    Vxlan,
    /// Somebody else does; pods have addresses of their node's podCIDR.
    PolicyOnly,
}

impl Flavour {
    const ALL: [Flavour; 3] = [Flavour::Bird, Flavour::Vxlan, Flavour::PolicyOnly];

    fn file(self) -> &'static str {
        match self {
            Flavour::Bird => "deploy/calico.yaml",
            Flavour::Vxlan => "deploy/calico-vxlan.yaml",
            Flavour::PolicyOnly => "deploy/calico-policy-only.yaml",
        }
    }
}

/// The objects of a flavour, in the order in which they are applied.
pub fn documents(flavour: Flavour) -> Vec<Value> {
    let mut all = vec![controllers::disruption_budget()];
    all.extend(rbac::accounts());
    all.push(network::config_map(flavour));
    all.extend(crds::definitions(Group::V1).into_iter().map(|(_, definition)| definition));
    all.extend(rbac::roles());
    all.push(node::daemon_set(flavour));
    all.push(controllers::deployment());
    all
}

/// An object's beginning.
fn object(api: &str, kind: &str, name: &str, namespaced: bool) -> Value {
    let mut metadata = json!({ "name": name });
    if namespaced {
        metadata["namespace"] = json!(NAMESPACE);
    }
    json!({ "apiVersion": api, "kind": kind, "metadata": metadata })
}

/// An object with further members.
fn with(mut object: Value, members: Value) -> Value {
    if let (Value::Object(object), Value::Object(members)) = (&mut object, members) {
        object.extend(members);
    }
    object
}

/// The files.
pub fn pages() -> Vec<Page> {
    let page = |flavour: Flavour| Page {
        path: flavour.file().to_owned(),
        text: generated::yaml("manifests", &documents(flavour)),
    };
    Flavour::ALL.into_iter().map(page).collect()
}

/// Writes the files.
pub fn write(root: &Path) -> Result<()> {
    generated::write(root, &[], &pages())
}
