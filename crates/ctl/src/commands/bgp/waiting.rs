//! Waits until nodes say that their sessions are as they are to be: by CalicoNodeStatus objects of ours, which each
//! node's agent answers.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context as _, bail};
use calico_api::calico_node_status::{NodeBgpPeer, NodePeerState, NodePeerType, NodeStatusClass};
use calico_api::{AnyResource, CalicoNodeStatus, CalicoNodeStatusSpec, Kind};
use smol_str::SmolStr;
use tokio::time::{Instant, sleep};

use crate::resources::{ResourceError, Resources};

/// How often the answers are looked at: nodes write them once a second at most, and the list is read whole each time.
const POLL: Duration = Duration::from_secs(1);
/// Every so many nodes the nodes answer a second less often: an answer is a write.
const ANSWERS_PER_SEC: usize = 50;
/// How many nodes a complaint names.
const EXAMPLES: usize = 5;

/// What a node's sessions are to be like.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Expected {
    /// Sessions of BGPPeers with these must be up.
    pub explicit: BTreeSet<IpAddr>,
    /// There must be none of the mesh.
    pub no_mesh: bool,
}

/// What a node says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Said {
    /// Sessions of BGPPeers that are up.
    explicit: BTreeSet<IpAddr>,
    /// Sessions of the mesh, up or not.
    mesh: usize,
}

impl Said {
    fn of(peers: impl Iterator<Item = NodeBgpPeer>) -> Said {
        let mut said = Said::default();
        for NodeBgpPeer { peer_ip, peer_type, state, since: _ } in peers {
            match peer_type {
                NodePeerType::Mesh => said.mesh += 1,
                _ if state == NodePeerState::Established => said.explicit.extend(peer_ip.parse::<IpAddr>()),
                _ => {}
            }
        }
        said
    }

    /// What is missing, in words.
    fn lacks(&self, expected: &Expected) -> Option<String> {
        let missing: Vec<String> =
            expected.explicit.difference(&self.explicit).map(ToString::to_string).collect();
        if !missing.is_empty() {
            let more = if missing.len() > EXAMPLES { ", …" } else { "" };
            let named: Vec<&str> = missing.iter().take(EXAMPLES).map(String::as_str).collect();
            return Some(format!("{} session(s) not established: {}{more}", missing.len(), named.join(", ")));
        }
        (expected.no_mesh && self.mesh > 0)
            .then(|| format!("{} session(s) of the mesh still there", self.mesh))
    }
}

/// Questions to nodes, until they are removed again.
pub(super) struct Questions<'a> {
    resources: &'a Resources,
    /// The object of each node.
    names: BTreeMap<SmolStr, String>,
}

impl<'a> Questions<'a> {
    /// Asks nodes. Objects that an interrupted run has left are asked anew: their answers are old.
    pub(super) async fn ask(
        resources: &'a Resources,
        nodes: impl Iterator<Item = SmolStr>,
    ) -> anyhow::Result<Questions<'a>> {
        let names: BTreeMap<SmolStr, String> =
            nodes.map(|node| (node.clone(), format!("make-reflectors-{node}"))).collect();
        let questions = Questions { resources, names };
        let period = u32::try_from(questions.names.len().div_ceil(ANSWERS_PER_SEC)).unwrap_or(u32::MAX);
        questions.remove().await?;
        for (node, name) in &questions.names {
            let spec = CalicoNodeStatusSpec {
                node: node.clone(),
                classes: vec![NodeStatusClass::Bgp],
                update_period_seconds: Some(period.clamp(1, CalicoNodeStatusSpec::MAX_PERIOD_SECS)),
            };
            let object = AnyResource::from(&CalicoNodeStatus::new("", name, spec));
            resources.create(object).await.with_context(|| format!("{node} cannot be asked"))?;
        }
        Ok(questions)
    }

    /// Removes the objects.
    pub(super) async fn remove(&self) -> anyhow::Result<()> {
        for name in self.names.values() {
            match self.resources.delete(Kind::CalicoNodeStatus, "", name).await {
                // Its answer came between: what is there now is to go as well.
                Err(ResourceError::Conflict(..)) => {
                    self.resources.delete(Kind::CalicoNodeStatus, "", name).await?;
                }
                Ok(()) | Err(ResourceError::DoesNotExist(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Waits until every node is as expected, and still is after `settle`.
    pub(super) async fn wait(
        &self,
        expected: &BTreeMap<SmolStr, Expected>,
        timeout: Duration,
        settle: Duration,
    ) -> anyhow::Result<()> {
        let deadline = Instant::now() + timeout;
        let mut good_since: Option<Instant> = None;
        loop {
            let lacking = self.lacking(expected).await?;
            let now = Instant::now();
            match (lacking.is_empty(), good_since) {
                (true, Some(since)) if now.saturating_duration_since(since) >= settle => return Ok(()),
                (true, since) => good_since = Some(since.unwrap_or(now)),
                (false, _) => good_since = None,
            }
            if now >= deadline {
                let some: Vec<String> =
                    lacking.iter().take(EXAMPLES).map(|(node, text)| format!("{node}: {text}")).collect();
                bail!(
                    "{} node(s) are not there after {} s: {}",
                    lacking.len(),
                    timeout.as_secs(),
                    some.join("; ")
                );
            }
            sleep(POLL).await;
        }
    }

    /// What nodes lack, by node.
    async fn lacking(
        &self,
        expected: &BTreeMap<SmolStr, Expected>,
    ) -> anyhow::Result<Vec<(SmolStr, String)>> {
        let mut said: BTreeMap<SmolStr, Said> = BTreeMap::new();
        for object in self.resources.list(Kind::CalicoNodeStatus, None).await?.resources {
            let is_ours = self.names.values().any(|name| object.metadata.name == *name);
            if let Ok(object) = object.typed::<CalicoNodeStatusSpec>()
                && is_ours
                && let Some(bgp) = object.status.and_then(|status| status.bgp)
            {
                said.insert(object.spec.node, Said::of(bgp.peers_v4.into_iter().chain(bgp.peers_v6)));
            }
        }
        let lacks = |(node, expected): (&SmolStr, &Expected)| {
            let text = match said.get(node) {
                None => Some("its agent does not answer".to_owned()),
                Some(said) => said.lacks(expected),
            };
            text.map(|text| (node.clone(), text))
        };
        Ok(expected.iter().filter(|(node, _)| self.names.contains_key(*node)).filter_map(lacks).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nodes_lack() {
        let peer = |ip: &str, peer_type, state| NodeBgpPeer {
            peer_ip: ip.into(),
            peer_type,
            state,
            since: SmolStr::default(),
        };
        let said = Said::of(
            [
                peer("10.0.0.1", NodePeerType::Mesh, NodePeerState::Established),
                peer("10.0.0.2", NodePeerType::Node, NodePeerState::Established),
                peer("10.0.0.3", NodePeerType::Global, NodePeerState::Active),
            ]
            .into_iter(),
        );
        let check = |explicit: &[&str], no_mesh, expected: Option<&str>| {
            let explicit = explicit.iter().map(|addr| addr.parse().unwrap()).collect();
            let lacks = said.lacks(&Expected { explicit, no_mesh });
            match expected {
                None => assert_eq!(lacks, None),
                Some(text) => assert!(lacks.as_ref().is_some_and(|l| l.contains(text)), "{lacks:?}"),
            }
        };
        check(&[], false, None);
        check(&["10.0.0.2"], false, None);
        check(
            &["10.0.0.1", "10.0.0.2", "10.0.0.3"],
            false,
            Some("2 session(s) not established: 10.0.0.1, 10.0.0.3"),
        );
        check(&["10.0.0.2"], true, Some("1 session(s) of the mesh"));
    }
}
