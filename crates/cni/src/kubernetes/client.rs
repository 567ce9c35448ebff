//! [`Api`] over the client of the Kubernetes datastore. The datastore itself may be another: pods are in Kubernetes all the
//! same.

use std::sync::Arc;

use calico_store::config::{ConfigError, KubernetesConfig, Settings};
use calico_store::error::chain;
use calico_store_kube::{ConnectError, KubeClient};
use serde_json::Value;

use crate::kubernetes::{Api, ApiError};

/// The Kubernetes API.
#[derive(Clone, Debug)]
pub struct Kubernetes(pub KubeClient);

/// Why there is no way to the Kubernetes API.
#[derive(Debug, thiserror::Error)]
pub enum NoWay {
    /// What the settings say cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Nothing names a server, or what it takes to speak to it cannot be read.
    #[error(transparent)]
    Connect(#[from] ConnectError),
}

impl Kubernetes {
    /// As the settings name it, or as a pod finds it. No request is made yet.
    pub fn open(
        settings: &Settings,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Arc<Kubernetes>, NoWay> {
        let config: KubernetesConfig = settings.kubernetes()?;
        Ok(Arc::new(Kubernetes(KubeClient::open(&config, environment)?)))
    }

    async fn request(
        &self,
        method: &str,
        path: &str,
        content_type: &'static str,
        body: Option<&Value>,
    ) -> Result<Option<Value>, ApiError> {
        let body = body.map(|body| body.to_string().into_bytes());
        let unavailable = |error: &dyn std::error::Error| ApiError::Unavailable(chain(error));
        let answered = self.0.request(method, path, content_type, body).await;
        let (status, text) = answered.map_err(|e| unavailable(&e))?;
        let answer: Value = serde_json::from_slice(&text).unwrap_or_default();
        match status {
            200..=299 if answer.is_object() => Ok(Some(answer)),
            200..=299 => Err(ApiError::Unavailable(format!("{path}: the answer is no object"))),
            404 if method == "GET" => Ok(None),
            _ => {
                let said = answer["message"].as_str().map(str::to_owned);
                let message = said.unwrap_or_else(|| String::from_utf8_lossy(&text).trim().to_owned());
                let again = matches!(status, 408 | 429 | 500..=599);
                Err(if again {
                    ApiError::Unavailable(format!("{path}: {status}: {message}"))
                } else {
                    ApiError::Refused { status, message }
                })
            }
        }
    }
}

#[async_trait::async_trait]
impl Api for Kubernetes {
    async fn get(&self, path: &str) -> Result<Option<Value>, ApiError> {
        self.request("GET", path, JSON, None).await
    }

    async fn create(&self, path: &str, object: Value) -> Result<Value, ApiError> {
        let made = self.request("POST", path, JSON, Some(&object)).await?;
        made.ok_or_else(|| ApiError::Unavailable(format!("{path}: no answer")))
    }

    async fn patch(&self, path: &str, patch: Value) -> Result<(), ApiError> {
        self.request("PATCH", path, STRATEGIC, Some(&patch)).await.map(drop)
    }
}

const JSON: &str = "application/json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";
