//! The store on the Kubernetes API: Calico's custom resources and Kubernetes' own objects, seen as Calico's entries.
//!
//! ```text
//!  config ─▶ access (kubeconfig, pod's account) ─▶ transport (TLS, HTTP/2) ─▶ client (login, retries, rate)
//!                                                                                │
//!  Key, Selection ─▶ calico_api::kubernetes (places, conversions) ◀── list, watch, commit
//! ```
//! HTTP is spoken with `hyper`, which the etcd client brings anyway: a Kubernetes library would add its own types of
//! every object and an abstraction for each, where this store needs JSON bytes of five verbs.
//!
//! Kubernetes differs from etcd in ways that callers see: commits are sequential ([`calico_store::Atomicity`]),
//! revisions belong to one API resource each, a delete does not say its revision, reports of Felix have no place, and
//! profiles are read-only.

#![forbid(unsafe_code)]
#![allow(
    clippy::disallowed_methods,
    reason = "this crate is IO: it reads credentials' files, connects, waits, and asks the clock whether a token is old"
)]

mod access;
mod affinity;
mod client;
mod commit;
mod credential;
mod error;
mod kubeconfig;
mod list;
mod part;
mod position;
mod rate;
mod served;
mod store;
mod tls;
mod transport;
mod watch;

pub use access::AccessError;
pub use client::KubeClient;
pub use credential::CredentialError;
pub use error::{ConnectError, TransportError};
pub use kubeconfig::KubeconfigError;
pub use store::KubeStore;
pub use tls::TlsError;
