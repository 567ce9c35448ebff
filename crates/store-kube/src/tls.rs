//! TLS towards the API server: whom to trust, what to show.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use calico_store::config::Pem;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    ClientConfig, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme,
};

/// Where distributions keep the authorities that they trust: Debian, Fedora, Alpine and macOS.
const SYSTEM_AUTHORITIES: &[&str] =
    &["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// Why there is no TLS configuration.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {}", .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A text is not what it should be.
    #[error("{place}: no {wanted} in PEM form")]
    Pem {
        /// The file, or `inline`.
        place: String,
        /// What was looked for.
        wanted: &'static str,
    },
    /// The certificate and the key do not fit.
    #[error("{place}: not usable as the client's certificate")]
    Identity {
        /// The certificate's file, or `inline`.
        place: String,
        /// Why.
        source: Error,
    },
}

/// What the connection is to be like. Files are read anew each time, so that renewed certificates count.
pub(crate) fn configure(
    ca: Option<&Pem>,
    insecure: bool,
    identity: Option<&(Pem, Pem)>,
) -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .expect("ring has every cipher of the default versions");
    let builder = if insecure {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(Unverified(provider)))
    } else {
        builder.with_root_certificates(roots(ca)?)
    };
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some((cert, key)) => {
            let chain = certificates(cert)?;
            let key = PrivateKeyDer::from_pem_slice(&read(key)?)
                .map_err(|_| TlsError::Pem { place: key.to_place(), wanted: "private key" })?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|source| TlsError::Identity { place: cert.to_place(), source })?
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

fn roots(ca: Option<&Pem>) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    if let Some(ca) = ca {
        let found = certificates(ca)?;
        let (added, _) = store.add_parsable_certificates(found);
        if added == 0 {
            return Err(TlsError::Pem { place: ca.to_place(), wanted: "certificate authority" });
        }
    } else if let Some(path) = SYSTEM_AUTHORITIES.iter().map(Path::new).find(|p| p.exists()) {
        // Some of a distribution's authorities may be of kinds that nobody uses any more.
        store.add_parsable_certificates(certificates(&Pem::File(path.into()))?);
    }
    Ok(store)
}

fn certificates(pem: &Pem) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(pem)?).collect();
    found
        .ok()
        .filter(|certificates| !certificates.is_empty())
        .ok_or_else(|| TlsError::Pem { place: pem.to_place(), wanted: "certificate" })
}

/// The text, of a file as it is now.
pub(crate) fn read(pem: &Pem) -> Result<Vec<u8>, TlsError> {
    match pem {
        Pem::Inline(text) => Ok(text.clone().into_bytes()),
        Pem::File(path) => {
            std::fs::read(path).map_err(|source| TlsError::File { path: path.clone(), source })
        }
    }
}

trait Place {
    fn to_place(&self) -> String;
}

impl Place for Pem {
    fn to_place(&self) -> String {
        match self {
            Pem::File(path) => path.display().to_string(),
            Pem::Inline(_) => "inline".to_owned(),
        }
    }
}

/// Accepts any certificate, because the user said so.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }

    fn root_hint_subjects(&self) -> Option<&[DistinguishedName]> {
        None
    }
}
