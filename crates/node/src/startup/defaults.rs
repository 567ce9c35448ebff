//! What every cluster has: ClusterInformation, tiers, and configurations with nothing but defaults (spec 6 §4.2, step 9).

use calico_api::{
    BGPConfigurationSpec, ClusterInformation, ClusterInformationSpec, DecodeError, Entry,
    FelixConfigurationSpec, IPAMConfigurationSpec, Key, Kind, Spec, TierSpec, Write, decode, encode, merge,
};
use serde_json::json;
use smol_str::{SmolStr, format_smolstr};

use super::births::Births;

/// Plans the creation of what is missing; one write each. What is there already, in whatever form, stays. `ipam` are the
/// settings that hold for IPAM, as far as they can be read: its resource must not say others.
pub fn plan_defaults(
    node: &str,
    ipam: Option<IPAMConfigurationSpec>,
    is_there: impl Fn(&Key) -> bool,
    births: &mut Births<'_>,
) -> Vec<Write> {
    let mut plan = Defaults { is_there, births, writes: Vec::new() };
    plan.add("default", felix([("logSeverityScreen", "Info"), ("reportingInterval", "0s")]));
    plan.add(&format!("node.{node}"), felix([("defaultEndpointToHostAction", "Return")]));
    for (name, order, action) in TierSpec::BUILT_IN {
        plan.add(name, TierSpec { order: Some(order), default_action: Some(action) });
    }
    plan.add("default", BGPConfigurationSpec::default());
    if let Some(ipam) = ipam {
        plan.add("default", ipam);
    }
    plan.writes
}

struct Defaults<'a, 'b, F> {
    is_there: F,
    births: &'a mut Births<'b>,
    writes: Vec<Write>,
}

impl<F: Fn(&Key) -> bool> Defaults<'_, '_, F> {
    fn add<S: Spec>(&mut self, name: &str, spec: S) {
        let key = Key::resource(S::KIND, "", name);
        if !(self.is_there)(&key) {
            let resource = self.births.resource(name, spec);
            self.writes.push(Write::create(key, encode(&resource)));
        }
    }
}

fn felix<const N: usize>(options: [(&str, &str); N]) -> FelixConfigurationSpec {
    let options = options.into_iter().map(|(name, value)| (name.to_owned(), json!(value))).collect();
    FelixConfigurationSpec { node_selector: SmolStr::default(), options }
}

/// Plans the cluster's facts: a GUID and readiness once, this version, and `cluster_type` added to what is there.
pub fn plan_cluster_information(
    stored: Option<&Entry>,
    cluster_type: &str,
    version: &str,
    births: &mut Births<'_>,
) -> Result<Option<Write>, DecodeError> {
    let before: Option<ClusterInformation> = stored.map(decode).transpose()?;
    let mut information = match &before {
        Some(information) => information.clone(),
        None => births.resource("default", ClusterInformationSpec::default()),
    };
    let spec = &mut information.spec;
    if spec.cluster_guid.is_empty() {
        spec.cluster_guid = format_smolstr!("{}", (births.uuid)().simple());
    }
    spec.datastore_ready.get_or_insert(true);
    spec.calico_version = SmolStr::new(version);
    for word in cluster_type.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        if spec.cluster_type.is_empty() {
            spec.cluster_type = SmolStr::new(word);
        } else if !spec.cluster_type.split(',').any(|known| known == word) {
            spec.cluster_type = format_smolstr!("{},{word}", spec.cluster_type);
        }
    }
    Ok(match stored {
        Some(_) if before.as_ref() == Some(&information) => None,
        Some(stored) => {
            let value = merge(stored, &information)?;
            Some(Write::update(stored.key.clone(), value, stored.revision.clone()))
        }
        None => {
            let key = Key::resource(Kind::ClusterInformation, "", "default");
            Some(Write::create(key, encode(&information)))
        }
    })
}

#[cfg(test)]
mod tests;
