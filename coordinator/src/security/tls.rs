//! The coordinator's certificate, and whose certificates it believes (HANDS).

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{NoServerSessionStorage, WebPkiClientVerifier},
};

use super::{FileError, Watched};

/// Files in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The coordinator's certificate, with those between it and its root.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Whoever connects shows a certificate signed by one of these, where given.
    pub client_ca: Option<PathBuf>,
}

/// What TLS is spoken with: handshakes after a change of the files use what they hold then.
#[derive(Debug)]
pub struct ServerTls {
    config: Watched<ServerConfig>,
    mutual: bool,
}

impl ServerTls {
    /// Reads the files for the first time.
    ///
    /// # Errors
    /// [`FileError`] naming the file.
    pub fn watch(files: TlsFiles) -> Result<Self, FileError> {
        let mutual = files.client_ca.is_some();
        let paths = [Some(&files.cert), Some(&files.key), files.client_ca.as_ref()].into_iter().flatten().cloned();
        let config = Watched::open(paths.collect(), move |contents| config(&files, contents))?;
        Ok(Self { config, mutual })
    }

    /// For the next handshake.
    pub async fn current(&self) -> Arc<ServerConfig> {
        self.config.current().await
    }

    /// Whether whoever connects has to show a certificate.
    #[must_use]
    pub fn is_mutual(&self) -> bool {
        self.mutual
    }
}

fn config(files: &TlsFiles, contents: &[Vec<u8>]) -> Result<ServerConfig, FileError> {
    let pair = |source| FileError::Pair { cert: files.cert.clone(), key: files.key.clone(), source };
    let chain = certificates(&files.cert, &contents[0])?;
    let key = PrivateKeyDer::from_pem_slice(&contents[1])
        .map_err(|flaw| FileError::content(&files.key, format!("holds no private key in PEM: {flaw}")))?;
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
    let builder = builder.map_err(pair)?;
    let builder = match (&files.client_ca, contents.get(2)) {
        (Some(path), Some(content)) => {
            let unusable = |flaw: &dyn std::fmt::Display| FileError::content(path, format!("cannot be used: {flaw}"));
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path, content)? {
                roots.add(certificate).map_err(|flaw| unusable(&flaw))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.map_err(|flaw| unusable(&flaw))?)
        }
        _ => builder.with_no_client_auth(),
    };
    let mut config = builder.with_single_cert(chain, key).map_err(pair)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    // A resumed session would not look at the client's certificate again. Handshakes are rare.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

fn certificates(path: &Path, content: &[u8]) -> Result<Vec<CertificateDer<'static>>, FileError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(content).collect();
    let found = found.map_err(|flaw| FileError::content(path, format!("is not PEM throughout: {flaw}")))?;
    if found.is_empty() {
        return Err(FileError::content(path, "holds no certificate in PEM"));
    }
    Ok(found)
}
