//! What a program shows a coordinator, and what it believes (HANDS): flags, and the files they name.

use std::{
    fs,
    path::{Path, PathBuf},
};

use clap::{Args, builder::FalseyValueParser};
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::Interceptor,
    transport::{Certificate, ClientTlsConfig, Identity},
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
    pub(crate) fn tls(&self, address: &str) -> Result<ClientTlsConfig, DialError> {
        let ca = self.tls_ca.as_ref().ok_or_else(|| DialError::Trust { address: address.to_owned() })?;
        let config = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem(ca)?));
        Ok(match (&self.tls_cert, &self.tls_key) {
            (Some(cert), Some(key)) => config.identity(Identity::from_pem(pem(cert)?, pem(key)?)),
            _ => config,
        })
    }
}

/// A file that has to be PEM: an empty or foreign one would otherwise be taken for no certificate at all.
fn pem(path: &Path) -> Result<Vec<u8>, DialError> {
    let content = read(path)?;
    let marked = content.windows(10).any(|window| window == b"-----BEGIN");
    if marked { Ok(content) } else { Err(DialError::Pem { path: path.to_owned() }) }
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
        assert!(flaw.ends_with("ca.pem is not in PEM"), "{flaw}");
    }
}
