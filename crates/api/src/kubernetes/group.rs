//! The API group that Calico's custom resources are in (spec 1 §3.1).

use std::fmt;
use std::str::FromStr;

/// One of the two groups that a cluster may have Calico's custom resources in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ApiGroup {
    /// `crd.projectcalico.org/v1`: metadata is packed into an annotation, UIDs are translated.
    #[default]
    CrdV1,
    /// `projectcalico.org/v3`: resources as they are.
    ProjectCalicoV3,
}

/// The text is neither of the two groups.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no API group of Calico: use crd.projectcalico.org/v1 or projectcalico.org/v3")]
pub struct ApiGroupError(pub String);

impl ApiGroup {
    /// The group's name.
    pub fn group(self) -> &'static str {
        match self {
            ApiGroup::CrdV1 => "crd.projectcalico.org",
            ApiGroup::ProjectCalicoV3 => "projectcalico.org",
        }
    }

    /// The version in it.
    pub fn version(self) -> &'static str {
        match self {
            ApiGroup::CrdV1 => "v1",
            ApiGroup::ProjectCalicoV3 => "v3",
        }
    }

    /// `<group>/<version>`, as objects and paths spell it.
    pub fn api_version(self) -> &'static str {
        match self {
            ApiGroup::CrdV1 => "crd.projectcalico.org/v1",
            ApiGroup::ProjectCalicoV3 => "projectcalico.org/v3",
        }
    }

    /// The group to use where nobody named one, from the names of the groups that the API server serves: v3 only
    /// where it is installed and v1 is not (beside v1, an API server of Calico's own serves v3).
    pub fn discover<'a>(served: impl IntoIterator<Item = &'a str>) -> ApiGroup {
        let (mut v1, mut v3) = (false, false);
        for group in served {
            v1 |= group == ApiGroup::CrdV1.group();
            v3 |= group == ApiGroup::ProjectCalicoV3.group();
        }
        if v3 && !v1 { ApiGroup::ProjectCalicoV3 } else { ApiGroup::CrdV1 }
    }
}

impl fmt::Display for ApiGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.api_version())
    }
}

impl FromStr for ApiGroup {
    type Err = ApiGroupError;

    /// As `CALICO_API_GROUP` and the CNI configuration name it.
    fn from_str(text: &str) -> Result<ApiGroup, ApiGroupError> {
        [ApiGroup::CrdV1, ApiGroup::ProjectCalicoV3]
            .into_iter()
            .find(|group| group.api_version() == text)
            .ok_or_else(|| ApiGroupError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn v3_is_used_only_where_v1_is_not_installed() {
        for (served, group) in [
            (vec![], ApiGroup::CrdV1),
            (vec!["apps", "crd.projectcalico.org"], ApiGroup::CrdV1),
            (vec!["projectcalico.org", "apps"], ApiGroup::ProjectCalicoV3),
            (vec!["projectcalico.org", "crd.projectcalico.org"], ApiGroup::CrdV1),
        ] {
            assert_eq!(ApiGroup::discover(served.iter().copied()), group, "{served:?}");
        }
    }

    #[test]
    fn groups_are_named_whole() {
        for group in [ApiGroup::CrdV1, ApiGroup::ProjectCalicoV3] {
            assert_eq!(group.to_string().parse(), Ok(group));
            assert_eq!(format!("{}/{}", group.group(), group.version()), group.api_version());
        }
        assert_eq!("projectcalico.org".parse::<ApiGroup>(), Err(ApiGroupError("projectcalico.org".into())));
    }
}
