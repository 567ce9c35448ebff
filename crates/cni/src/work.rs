//! From a request to its answer: which verb, of which plugin, does what. The agent and direct mode share it.

use std::os::fd::OwnedFd;

use serde_json::Value;

use crate::arguments::Verb;
use crate::context::Context;
use crate::error::{CniError, Code};
use crate::netconf::NetConf;
use crate::request::{Plugin, Request};
use crate::server::Work;
use crate::{address, attach, collect, detach, sandbox, verify};

/// Carries out one request.
pub async fn perform(
    context: &Context,
    request: Request,
    netns: Option<OwnedFd>,
) -> Result<Option<Value>, CniError> {
    let Request { protocol: _, plugin, arguments, netconf } = request;
    let (conf, version) = NetConf::from_value(netconf)?;
    if conf.policy.source == "k8s" {
        let details = "policy.type is \"k8s\"; this build reads no pods: leave it out";
        return Err(CniError::new(Code::UnsupportedField, "unsupported field", details));
    }
    match (plugin, arguments.verb) {
        (Plugin::Network, Verb::Add) => {
            let netns = sandbox::required(netns, &arguments)?;
            let result = attach::add(context, &conf, &arguments, netns).await?;
            Ok(Some(result.to_json(version)))
        }
        (Plugin::Network, Verb::Del) => {
            let netns = sandbox::if_usable(netns);
            detach::del(context, &conf, &arguments, netns).await.map(|()| None)
        }
        (Plugin::Network, Verb::Check) => {
            let netns = sandbox::required(netns, &arguments)?;
            verify::check(context, &conf, &arguments, netns).await.map(|()| None)
        }
        (Plugin::Ipam, Verb::Add) => {
            Ok(Some(address::add(context, &conf, &arguments).await?.to_json(version)))
        }
        (Plugin::Ipam, Verb::Del) => address::del(context, &conf, &arguments).await.map(|()| None),
        (Plugin::Ipam, Verb::Check) => address::check(context, &conf, &arguments).await.map(|()| None),
        (Plugin::Network, Verb::Gc) => collect::gc(context, &conf, &arguments).await.map(|()| None),
        (Plugin::Ipam, Verb::Gc) => collect::gc_addresses(context, &conf).await.map(|()| None),
        (Plugin::Network, Verb::Status) => verify::status(context, &conf, &arguments).await.map(|()| None),
        (Plugin::Ipam, Verb::Status) => context.check_ready().await.map(|()| None),
        (_, Verb::Version) => Ok(None),
    }
}

#[async_trait::async_trait]
impl Work for Context {
    async fn perform(&self, request: Request, netns: Option<OwnedFd>) -> Result<Option<Value>, CniError> {
        let began = std::time::Instant::now();
        let (verb, container) = (request.arguments.verb, request.arguments.container_id.clone());
        let outcome = perform(self, request, netns).await;
        let took = began.elapsed();
        match &outcome {
            Ok(_) => tracing::info!(?verb, %container, ?took, "CNI"),
            Err(error) => tracing::warn!(?verb, %container, ?took, %error, "CNI request failed"),
        }
        outcome
    }
}
