//! What a program shows a coordinator, and what it believes (HANDS): flags, and the files they name.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::{Args, builder::FalseyValueParser};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::Interceptor,
};

use crate::DialError;

/// Variables of the environment that [`Credentials`] are taken from.
pub const ENVIRONMENT: [&str; 5] =
    ["ESTA_TLS_CA", "ESTA_TLS_CERT", "ESTA_TLS_KEY", "ESTA_TOKEN_FILE", "ESTA_PLAIN_TEXT"];

/// What to show a coordinator, and whom to believe.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Security")]
pub struct Credentials {
    /// Certificates in PEM of those whose word that a coordinator is one is believed; https addresses need it.
    #[arg(long, value_name = "FILE", env = "ESTA_TLS_CA")]
    pub tls_ca: Option<PathBuf>,
    /// Certificate in PEM to show a coordinator that asks for one.
    #[arg(long, value_name = "FILE", env = "ESTA_TLS_CERT", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// The key of that certificate, in PEM.
    #[arg(long, value_name = "FILE", env = "ESTA_TLS_KEY", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// File with the token to send.
    #[arg(long, value_name = "FILE", env = "ESTA_TOKEN_FILE")]
    pub token_file: Option<PathBuf>,
    /// Send the token to http addresses on other machines too, where anybody on the way can read it.
    #[arg(long, env = "ESTA_PLAIN_TEXT", value_parser = FalseyValueParser::new())]
    pub plain_text: bool,
}

/// Adds the token to every call.
#[derive(Clone, Default)]
pub struct Bearer(Option<MetadataValue<Ascii>>);

impl std::fmt::Debug for Bearer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "Bearer(..)" } else { "Bearer" })
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.0 {
            request.metadata_mut().insert("authorization", value.clone());
        }
        Ok(request)
    }
}

impl Credentials {
    /// Whether anything is given that asks for protection on the way.
    pub(crate) fn need_protection(&self) -> bool {
        self.token_file.is_some() || self.tls_ca.is_some() || self.tls_cert.is_some()
    }

    /// The token as it is in its file at the moment.
    pub(crate) fn bearer(&self) -> Result<Bearer, DialError> {
        let Some(path) = &self.token_file else { return Ok(Bearer::default()) };
        let flaw = || DialError::Token { path: path.clone() };
        let text = String::from_utf8(read(path)?).map_err(|_| flaw())?;
        let token = text.trim();
        if token.is_empty() || token.contains(char::is_whitespace) {
            return Err(flaw());
        }
        let mut value: MetadataValue<Ascii> = format!("Bearer {token}").parse().map_err(|_| flaw())?;
        value.set_sensitive(true);
        Ok(Bearer(Some(value)))
    }

    /// Certificates and key as they are in their files at the moment.
    pub(crate) fn tls(&self, address: &str) -> Result<ClientConfig, DialError> {
        let unusable = |source| DialError::Unusable { address: address.to_owned(), source };
        let ca = self.tls_ca.as_ref().ok_or_else(|| DialError::Trust { address: address.to_owned() })?;
        let mut roots = RootCertStore::empty();
        for certificate in certificates(ca)? {
            roots.add(certificate).map_err(unusable)?;
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().map_err(unusable)?.with_root_certificates(roots);
        let mut config = match (&self.tls_cert, &self.tls_key) {
            (Some(cert), Some(key)) => {
                let private = PrivateKeyDer::from_pem_slice(&read(key)?);
                let private = private.map_err(|_| DialError::Pem { path: key.clone(), what: "private key" })?;
                builder.with_client_auth_cert(certificates(cert)?, private).map_err(unusable)?
            }
            _ => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(config)
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, DialError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(path)?).collect();
    let none = || DialError::Pem { path: path.to_owned(), what: "certificate" };
    found.ok().filter(|found| !found.is_empty()).ok_or_else(none)
}

fn read(path: &Path) -> Result<Vec<u8>, DialError> {
    fs::read(path).map_err(|source| DialError::File { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_one_word_in_a_file_and_is_shown_to_nobody_else() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("token");
        let credentials = Credentials { token_file: Some(path.clone()), ..Credentials::default() };
        assert!(matches!(credentials.bearer(), Err(DialError::File { .. })));
        for no_token in ["", "\n", "two words", "a\nb\n"] {
            fs::write(&path, no_token).expect("writes");
            assert!(matches!(credentials.bearer(), Err(DialError::Token { .. })), "{no_token:?}");
        }
        fs::write(&path, "secret\n").expect("writes");
        let mut bearer = credentials.bearer().expect("a token");
        assert!(!format!("{bearer:?}").contains("secret"));
        let request = bearer.call(Request::new(())).expect("it is added");
        let value = request.metadata().get("authorization").expect("it is there");
        assert_eq!(value.to_str().expect("text"), "Bearer secret");
        assert!(!format!("{value:?}").contains("secret"));
    }

    #[test]
    fn what_is_not_pem_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let ca = folder.path().join("ca.pem");
        fs::write(&ca, "nothing").expect("writes");
        let credentials = Credentials { tls_ca: Some(ca), ..Credentials::default() };
        let flaw = credentials.tls("https://a:1").expect_err("it is none").to_string();
        assert!(flaw.ends_with("ca.pem holds no certificate in PEM"), "{flaw}");
    }
}
