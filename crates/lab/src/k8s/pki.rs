//! Keys, certificates and kubeconfigs: who is who in the cluster.
//!
//! Everything is issued before anything starts, so no program ever asks for a certificate.

use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use base64::Engine as _;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};
use serde_json::json;

use super::cluster::{Cluster, Kind, Place};
use super::network;

/// A client of the API server: its name and the group that gives it its rights.
struct Client {
    file: &'static str,
    user: &'static str,
    group: Option<&'static str>,
}

/// The clients that are not nodes.
const CLIENTS: [Client; 5] = [
    Client { file: "admin", user: "admin", group: Some("system:masters") },
    Client { file: "controllers", user: "system:kube-controller-manager", group: None },
    Client { file: "scheduler", user: "system:kube-scheduler", group: None },
    Client { file: "proxy", user: "system:kube-proxy", group: None },
    Client { file: "kubelet-client", user: "kube-apiserver-kubelet-client", group: Some("system:masters") },
];

/// Who signs.
struct Authority {
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

/// What a certificate is good for.
enum Use<'a> {
    /// To be known by the API server.
    Client,
    /// To serve under these names and addresses.
    Server(&'a [String]),
}

impl Authority {
    fn new(name: &str) -> Result<Authority> {
        let mut params = CertificateParams::default();
        params.distinguished_name = subject(name, None);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?.pem();
        Ok(Authority { certificate, issuer: Issuer::new(params, key) })
    }

    /// A certificate and its key.
    fn issue(&self, name: &str, group: Option<&str>, purpose: &Use<'_>) -> Result<(String, String)> {
        let mut params = match purpose {
            Use::Client => CertificateParams::default(),
            Use::Server(names) => CertificateParams::new(*names)?,
        };
        params.distinguished_name = subject(name, group);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        params.extended_key_usages = vec![match purpose {
            Use::Client => ExtendedKeyUsagePurpose::ClientAuth,
            Use::Server(_) => ExtendedKeyUsagePurpose::ServerAuth,
        }];
        let key = KeyPair::generate()?;
        Ok((params.signed_by(&key, &self.issuer)?.pem(), key.serialize_pem()))
    }
}

fn subject(name: &str, group: Option<&str>) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    if let Some(group) = group {
        subject.push(DnType::OrganizationName, group);
    }
    subject.push(DnType::CommonName, name);
    subject
}

/// Writes everything that the control plane and the nodes need.
pub fn write_all(cluster: &Cluster) -> Result<()> {
    let dir = directory(cluster);
    std::fs::create_dir_all(&dir)?;
    let authority = Authority::new("calico-lab")?;
    write(&dir, "ca.crt", &authority.certificate)?;

    let mut names: Vec<String> = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost"]
        .map(str::to_owned)
        .to_vec();
    names.extend(["127.0.0.1", crate::fabric::ADDRESS_V4, crate::fabric::ADDRESS_V6].map(str::to_owned));
    names.extend(network::FIRST_SERVICES.map(str::to_owned));
    write_pair(&dir, "apiserver", &authority.issue("kube-apiserver", None, &Use::Server(&names))?)?;

    for Client { file, user, group } in CLIENTS {
        let pair = authority.issue(user, group, &Use::Client)?;
        write_pair(&dir, file, &pair)?;
        write(&dir, &format!("{file}.conf"), &kubeconfig(&authority.certificate, &pair))?;
    }
    // API servers behind the first one know by this authority that a request was already judged.
    let front = Authority::new("calico-lab-front-proxy")?;
    write(&dir, "front.crt", &front.certificate)?;
    write_pair(&dir, "front-client", &front.issue("front-proxy-client", None, &Use::Client)?)?;

    let tokens = KeyPair::generate()?;
    write(&dir, "tokens.key", &tokens.serialize_pem())?;
    write(&dir, "tokens.pub", &tokens.public_key_pem())?;

    cluster.places.iter().filter(|p| p.kind == Kind::Node).try_for_each(|node| {
        let Place { name, kind: _, ipv4, ipv6 } = node;
        let pair = authority.issue(&format!("system:node:{name}"), Some("system:nodes"), &Use::Client)?;
        write(&dir, &format!("{name}.conf"), &kubeconfig(&authority.certificate, &pair))?;
        let names = [name.clone(), ipv4.clone(), ipv6.clone()];
        write_pair(&dir, name, &authority.issue(name, None, &Use::Server(&names))?)
    })
}

/// Where the files are.
pub fn directory(cluster: &Cluster) -> PathBuf {
    cluster.dir.join("pki")
}

/// JSON, which every reader of kubeconfigs takes.
fn kubeconfig(authority: &str, (certificate, key): &(String, String)) -> String {
    let data = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    let document = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "lab",
        "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "lab"}}],
        "clusters": [{"name": "lab", "cluster": {
            "server": format!("https://{}:{}", crate::fabric::ADDRESS_V4, network::API_PORT),
            "certificate-authority-data": data(authority),
        }}],
        "users": [{"name": "lab", "user": {
            "client-certificate-data": data(certificate),
            "client-key-data": data(key),
        }}],
    });
    document.to_string()
}

fn write_pair(dir: &Path, name: &str, (certificate, key): &(String, String)) -> Result<()> {
    write(dir, &format!("{name}.crt"), certificate)?;
    write(dir, &format!("{name}.key"), key)
}

/// For root's eyes: most of them hold a key.
fn write(dir: &Path, name: &str, text: &str) -> Result<()> {
    use std::io::Write;
    let path = dir.join(name);
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    options
        .open(&path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .with_context(|| format!("{}", path.display()))
}
