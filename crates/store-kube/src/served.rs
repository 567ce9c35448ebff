//! Whether the API server has an API resource. A 404 alone does not say so: whatever stands before the server (a
//! balancer, a proxy) gives it as well while the server is away, and to take that for "nothing is there" would take
//! every policy and every address away.

use calico_store::Fault;
use serde::Deserialize;

use crate::client::{Call, KubeClient};
use crate::error::RequestError;

#[derive(Deserialize)]
struct Groups {
    groups: Vec<Named>,
}

#[derive(Deserialize)]
struct Resources {
    resources: Vec<Named>,
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

/// The names of the API groups that the server has.
///
/// # Errors
/// When what answers is no API server.
pub(crate) async fn groups(client: &KubeClient) -> Result<Vec<String>, Fault> {
    let path = "/apis";
    let body = client.call(&Call::get(path)).await.map_err(|error| no_server(path, error))?;
    // Not what an API server says, but it may be there again later.
    let Groups { groups } =
        serde_json::from_slice(&body).map_err(|error| Fault::Unavailable(Box::new(error)))?;
    Ok(groups.into_iter().map(|group| group.name).collect())
}

/// Whether the server has the API resource of a collection, by its own word.
///
/// # Errors
/// When what answers is no API server.
pub(crate) async fn is_served(client: &KubeClient, collection: &str) -> Result<bool, Fault> {
    let (api, plural) = collection.rsplit_once('/').unwrap_or((collection, ""));
    // The core group is there as long as the server is.
    let Some(version) = api.strip_prefix("/apis/") else { return Ok(true) };
    let group = version.split('/').next().unwrap_or_default();
    if !groups(client).await?.iter().any(|name| name == group) {
        return Ok(false);
    }
    let body = match client.call(&Call::get(api)).await {
        Ok(body) => body,
        // The group is there in other versions.
        Err(error) if error.is(404) => return Ok(false),
        Err(error) => return Err(error.into_fault()),
    };
    let Resources { resources } =
        serde_json::from_slice(&body).map_err(|error| Fault::Unavailable(Box::new(error)))?;
    Ok(resources.iter().any(|resource| resource.name == plural))
}

fn no_server(path: &str, error: RequestError) -> Fault {
    if error.is(404) {
        return Fault::Unavailable(format!("GET {path}: 404: what answers is no API server").into());
    }
    error.into_fault()
}
