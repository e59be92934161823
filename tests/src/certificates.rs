//! Certificates for mutual TLS on this machine, made for one run.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

/// Files in PEM.
#[derive(Debug, Clone)]
pub struct Certificates {
    /// Of whoever signed.
    pub ca: PathBuf,
    /// One certificate for both ends, at 127.0.0.1.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

impl Certificates {
    /// Makes them and writes them to a folder.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn write(folder: &Path) -> anyhow::Result<Self> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let key = KeyPair::generate()?;
        let certificate = CertificateParams::new(vec!["127.0.0.1".to_owned()])?.signed_by(&key, &ca)?;
        let path = |file: &str| folder.join(file);
        let files = Self { ca: path("ca.pem"), cert: path("both.pem"), key: path("both.key") };
        fs::write(&files.ca, ca.as_ref().pem())?;
        fs::write(&files.cert, certificate.pem())?;
        fs::write(&files.key, key.serialize_pem())?;
        Ok(files)
    }

    /// What a coordinator is started with so that whoever connects has to show a certificate too.
    #[must_use]
    pub fn server_args(&self) -> [String; 6] {
        let path = |file: &Path| file.to_string_lossy().into_owned();
        let [cert, key, ca] = [&self.cert, &self.key, &self.ca].map(|file| path(file));
        ["--tls-cert".to_owned(), cert, "--tls-key".to_owned(), key, "--tls-client-ca".to_owned(), ca]
    }
}
