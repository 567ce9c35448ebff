//! From a request to its answer: which verb, of which plugin, does what. The agent and direct mode share it.

use std::os::fd::OwnedFd;

use serde_json::Value;

use crate::arguments::{Arguments, Verb};
use crate::context::Context;
use crate::endpoint::Identity;
use crate::error::CniError;
use crate::netconf::NetConf;
use crate::request::{Plugin, Request};
use crate::server::Work;
use crate::{address, attach, collect, delegate, detach, sandbox, verify};

/// Carries out one request.
pub async fn perform(
    context: &Context,
    request: Request,
    netns: Option<OwnedFd>,
) -> Result<Option<Value>, CniError> {
    let Request { protocol: _, plugin, arguments, netconf } = request;
    let (conf, version) = NetConf::from_value(netconf)?;
    let _permit = match (plugin, arguments.verb) {
        // It takes its own, and gives it back before it waits for policy.
        (Plugin::Network, Verb::Add) => None,
        _ => Some(context.permit().await),
    };
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

/// Refuses a DEL that no agent can ever do. What waits in the spool must be possible.
pub fn check_del(plugin: Plugin, conf: &NetConf, arguments: &Arguments) -> Result<(), CniError> {
    if plugin == Plugin::Ipam {
        return Ok(());
    }
    // The node's name is the agent's affair; any does for the rest.
    Identity::new("node", arguments).check()?;
    delegate::check_name(&conf.ipam.plugin)
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
