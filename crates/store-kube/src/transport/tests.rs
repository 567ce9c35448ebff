//! Certificates of clients that are renewed while a connection lasts, on a server that looks at them at every request.

use std::convert::Infallible;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use calico_store::config::KubernetesConfig;
use hyper::server::conn::http2::Builder;
use hyper::service::service_fn;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

use super::*;
use crate::access::Server;
use crate::client::{Call, KubeClient};

struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Authority {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Authority { pem, issuer: Issuer::new(params, key) }
    }

    /// A certificate and its key.
    fn issue(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }
}

fn der(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
}

/// The certificate that counts; all others have expired.
type Valid = Arc<StdMutex<CertificateDer<'static>>>;

/// A server that serves each connection for as long as it lasts. Its port.
async fn serve(authority: &Authority, valid: Valid) -> u16 {
    let (certificate, key) = authority.issue("localhost");
    let mut roots = RootCertStore::empty();
    roots.add(der(&authority.pem)).unwrap();
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let clients = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(clients.build().unwrap())
        .with_single_cert(vec![der(&certificate)], PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap())
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, valid) = (acceptor.clone(), valid.clone());
            tokio::spawn(async move {
                let mut stream = acceptor.accept(stream).await.unwrap();
                let shown = stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned();
                let mut request = Vec::new();
                while stream.read_buf(&mut request).await.unwrap_or(0) > 0 {
                    if !request.ends_with(b"\r\n\r\n") {
                        continue;
                    }
                    request.clear();
                    let code = if *valid.lock().unwrap() == shown { "200 OK" } else { "401 Unauthorized" };
                    let answer = format!("HTTP/1.1 {code}\r\ncontent-length: 2\r\n\r\n{{}}");
                    stream.write_all(answer.as_bytes()).await.unwrap();
                }
            });
        }
    });
    port
}

fn client(authority: &Authority, port: u16, identity: Option<(Pem, Pem)>, kubeconfig: &Path) -> KubeClient {
    let config = KubernetesConfig {
        endpoint: Some(format!("https://localhost:{port}")),
        ca: Some(Pem::Inline(authority.pem.clone())),
        identity,
        kubeconfig: kubeconfig.exists().then(|| kubeconfig.to_owned()).into_iter().collect(),
        ..KubernetesConfig::default()
    };
    KubeClient::open(&config, &|_| None).unwrap()
}

async fn ask(client: &KubeClient) -> u16 {
    match client.call(&Call::get("/x")).await {
        Ok(_) => 200,
        Err(crate::error::RequestError::Refused(refusal)) => refusal.code,
        Err(error) => panic!("{error:?}"),
    }
}

#[tokio::test]
async fn a_renewed_file_counts_though_the_connection_lasts() {
    let (authority, dir) = (Authority::new(), tempfile::tempdir().unwrap());
    let (first, second) = (authority.issue("one"), authority.issue("two"));
    let path = |name: &str| dir.path().join(name);
    let write = |(certificate, key): &(String, String)| {
        std::fs::write(path("certificate"), certificate).unwrap();
        std::fs::write(path("key"), key).unwrap();
    };
    let valid = Arc::new(StdMutex::new(der(&first.0)));
    let port = serve(&authority, valid.clone()).await;
    write(&first);
    let identity = Some((Pem::File(path("certificate")), Pem::File(path("key"))));
    let client = client(&authority, port, identity, &path("none"));
    assert_eq!(ask(&client).await, 200);
    *valid.lock().unwrap() = der(&second.0);
    assert_eq!(ask(&client).await, 401, "nothing better to show");
    write(&second);
    assert_eq!(ask(&client).await, 200);
    assert_eq!(ask(&client).await, 200);
}

#[tokio::test]
async fn a_plugins_next_certificate_counts_though_the_connection_lasts() {
    let (authority, dir) = (Authority::new(), tempfile::tempdir().unwrap());
    let (first, second) = (authority.issue("one"), authority.issue("two"));
    // What it gives has expired whenever it is asked for again.
    let give = |(certificate, key): &(String, String)| {
        let status = serde_json::json!({ "status": {
            "clientCertificateData": certificate, "clientKeyData": key,
            "expirationTimestamp": "2020-01-01T00:00:00Z",
        } });
        std::fs::write(dir.path().join("answer"), status.to_string()).unwrap();
    };
    let plugin = dir.path().join("plugin");
    std::fs::write(&plugin, "#!/bin/sh\ncat \"$(dirname \"$0\")/answer\"\n").unwrap();
    std::fs::set_permissions(&plugin, std::fs::Permissions::from_mode(0o755)).unwrap();
    let kubeconfig = dir.path().join("config");
    let text = serde_json::json!({
        "current-context": "c",
        "contexts": [{ "name": "c", "context": { "cluster": "c", "user": "u" } }],
        "clusters": [{ "name": "c", "cluster": { "server": "https://localhost" } }],
        "users": [{ "name": "u", "user": { "exec": {
            "command": plugin, "apiVersion": "client.authentication.k8s.io/v1",
        } } }],
    });
    std::fs::write(&kubeconfig, text.to_string()).unwrap();
    let valid = Arc::new(StdMutex::new(der(&first.0)));
    let port = serve(&authority, valid.clone()).await;
    give(&first);
    let client = client(&authority, port, None, &kubeconfig);
    assert_eq!(ask(&client).await, 200);
    give(&second);
    *valid.lock().unwrap() = der(&second.0);
    assert_eq!(ask(&client).await, 200);
}

/// A server of HTTP/2 that hangs at `/hang` and answers pings all the while. Its port.
async fn serve_and_hang(authority: &Authority, connections: Arc<AtomicUsize>) -> u16 {
    let (certificate, key) = authority.issue("localhost");
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![der(&certificate)], PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap())
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            connections.fetch_add(1, Ordering::SeqCst);
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let answer = service_fn(|request: Request<Incoming>| async move {
                    if request.uri().path() == "/hang" {
                        std::future::pending::<()>().await;
                    }
                    Ok::<_, Infallible>(Response::new(Full::new(Bytes::from("{}"))))
                });
                let stream = TokioIo::new(acceptor.accept(stream).await.unwrap());
                // It ends when the client goes.
                let _ = Builder::new(TokioExecutor::new()).serve_connection(stream, answer).await;
            });
        }
    });
    port
}

#[tokio::test]
async fn a_server_that_hangs_is_left_though_it_answers_pings() {
    let (authority, connections) = (Authority::new(), Arc::new(AtomicUsize::new(0)));
    let port = serve_and_hang(&authority, connections.clone()).await;
    let server = format!("https://localhost:{port}");
    let access = Access {
        ca: Some(Pem::Inline(authority.pem.clone())),
        ..Access::anonymous(Server::parse("here", &server).unwrap())
    };
    let transport = Transport { patience: Duration::from_secs(3), ..Transport::new(access) };
    let ask = async |path: &str| {
        let request = Request::get(format!("{server}{path}")).body(Full::default()).unwrap();
        transport.send(request, &Credential::default()).await.map(|answer| answer.status().as_u16())
    };
    assert_eq!(ask("/x").await.unwrap(), 200);
    assert_eq!(ask("/x").await.unwrap(), 200);
    assert_eq!(connections.load(Ordering::SeqCst), 1);
    assert!(matches!(ask("/hang").await, Err(TransportError::Silent { .. })));
    assert_eq!(ask("/x").await.unwrap(), 200);
    assert_eq!(connections.load(Ordering::SeqCst), 2, "a balancer may lead to a server that works");
}
