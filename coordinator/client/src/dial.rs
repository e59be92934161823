//! One connection to one coordinator (HANDS), and why there is none.

use std::{error::Error, io, net::IpAddr, path::PathBuf};

use esta_proto::v1::coordinator_client::CoordinatorClient;
use rustls::{AlertDescription, CertificateError, pki_types::ServerName};
use thiserror::Error;
use tonic::{
    service::interceptor::InterceptedService,
    transport::{Channel, Endpoint, Uri},
};

use crate::{
    Bearer, Credentials,
    connector::{PlainConnector, SpeaksTls, TlsConnector},
};

/// A coordinator that can be called.
pub type Client = CoordinatorClient<InterceptedService<Channel, Bearer>>;

/// Why there is no connection.
#[derive(Debug, Error)]
pub enum DialError {
    /// The address is no URL.
    #[error("{address:?} is no address of a coordinator, such as http://127.0.0.1:7700")]
    Address {
        /// What was given.
        address: String,
        /// Why it is none, where it is no URL at all.
        source: Option<tonic::transport::Error>,
    },
    /// What is to be sent must not be read on the way.
    #[error(
        "{address} is plain text beyond this machine, and a token or certificates are given: write https://, or \
         --plain-text where nobody else can read what is sent"
    )]
    PlainText {
        /// The address.
        address: String,
    },
    /// Nothing says who may be believed to be a coordinator.
    #[error("{address} needs --tls-ca: the certificates of those who may have signed the coordinator's")]
    Trust {
        /// The address.
        address: String,
    },
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is something else.
    #[error("{} holds no {what} in PEM", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What it is to hold.
        what: &'static str,
    },
    /// A file holds no token.
    #[error("{} does not hold one token and nothing else", path.display())]
    Token {
        /// The file.
        path: PathBuf,
    },
    /// Certificates and key cannot be used together.
    #[error("the certificates and the key for {address} cannot be used")]
    Unusable {
        /// The address.
        address: String,
        /// Why.
        source: rustls::Error,
    },
    /// One end does not believe the other's certificate.
    #[error("no trust between this program and the coordinator at {address}: {}", said(flaw))]
    Distrust {
        /// The address.
        address: String,
        /// Which end, and why.
        flaw: rustls::Error,
    },
    /// It was spoken to in plain text.
    #[error("the coordinator at {address} speaks TLS: write https:// instead of http://")]
    SpeaksTls {
        /// The address.
        address: String,
    },
    /// It was spoken to in TLS.
    #[error("what listens at {address} does not speak TLS: a coordinator in plain text is reached by http://")]
    SpeaksPlainText {
        /// The address.
        address: String,
        /// What it said.
        source: rustls::Error,
    },
    /// A thread that reads files is gone.
    #[error("the files of certificates and tokens for {address} were not read")]
    Unread {
        /// The address.
        address: String,
        /// Why.
        source: tokio::task::JoinError,
    },
    /// Nobody answers there.
    #[error("no coordinator answers at {address}")]
    Connect {
        /// The address.
        address: String,
        /// Why.
        source: tonic::transport::Error,
    },
}

impl Credentials {
    /// Connects to an address; `tune` sets how patiently.
    ///
    /// # Errors
    /// [`DialError`] naming the address or the file.
    pub async fn connect(&self, address: &str, tune: impl FnOnce(Endpoint) -> Endpoint) -> Result<Client, DialError> {
        let (endpoint, tls, bearer) = self.read(address).await?;
        let endpoint = tune(endpoint);
        let connected = match tls {
            Some(tls) => endpoint.connect_with_connector(tls).await,
            None => endpoint.connect_with_connector(PlainConnector).await,
        };
        let channel = connected.map_err(|source| unconnected(address, source))?;
        Ok(CoordinatorClient::with_interceptor(channel, bearer))
    }

    /// Everything that lies in files, read where that keeps nobody waiting.
    async fn read(&self, address: &str) -> Result<(Endpoint, Option<TlsConnector>, Bearer), DialError> {
        let (credentials, at) = (self.clone(), address.to_owned());
        let read = tokio::task::spawn_blocking(move || {
            let (endpoint, tls) = credentials.endpoint(&at)?;
            Ok((endpoint, tls, credentials.bearer()?))
        });
        read.await.map_err(|source| DialError::Unread { address: address.to_owned(), source })?
    }

    /// Where to connect, and with what TLS.
    fn endpoint(&self, address: &str) -> Result<(Endpoint, Option<TlsConnector>), DialError> {
        let no_address = |source| DialError::Address { address: address.to_owned(), source };
        let endpoint = Endpoint::from_shared(address.to_owned()).map_err(|source| no_address(Some(source)))?;
        let local = is_loopback(endpoint.uri());
        match endpoint.uri().scheme_str() {
            Some("https") => {
                let host = endpoint.uri().host().unwrap_or_default();
                let name = ServerName::try_from(bare(host).to_owned()).map_err(|_| no_address(None))?;
                let tls = TlsConnector::new(self.tls(address)?, name);
                // The connector speaks TLS below what tonic sees.
                let below = address.replacen("https", "http", 1);
                Ok((Endpoint::from_shared(below).map_err(|source| no_address(Some(source)))?, Some(tls)))
            }
            Some("http") if local || self.plain_text || !self.need_protection() => Ok((endpoint, None)),
            Some("http") => Err(DialError::PlainText { address: address.to_owned() }),
            _ => Err(no_address(None)),
        }
    }
}

impl DialError {
    /// Whether trying again can help: somebody may come to listen there, what has expired may be replaced.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Connect { .. } => true,
            Self::Distrust { flaw, .. } => is_expired(flaw),
            _ => false,
        }
    }

    /// Whether it is about certificates or tokens.
    #[must_use]
    pub fn is_about_trust(&self) -> bool {
        !matches!(self, Self::Connect { .. } | Self::Address { .. })
    }
}

fn is_loopback(uri: &Uri) -> bool {
    let host = uri.host().unwrap_or_default();
    host == "localhost" || bare(host).parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// A host without the brackets that a URL puts around IPv6.
pub(crate) fn bare(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

/// What it means that a connection was not made.
fn unconnected(address: &str, source: tonic::transport::Error) -> DialError {
    let address = address.to_owned();
    if cause::<SpeaksTls>(&source).is_some() {
        return DialError::SpeaksTls { address };
    }
    match cause::<rustls::Error>(&source).cloned() {
        Some(source @ rustls::Error::InvalidMessage(_)) => DialError::SpeaksPlainText { address, source },
        Some(flaw) => DialError::Distrust { address, flaw },
        None => DialError::Connect { address, source },
    }
}

/// An error of this type among the causes of another.
fn cause<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(cause) = next {
        if let Some(found) = cause.downcast_ref() {
            return Some(found);
        }
        // What an I/O error wraps is not among its sources: only what lies below that.
        next = match cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(wrapped) => Some(wrapped),
            None => cause.source(),
        };
    }
    None
}

fn is_expired(flaw: &rustls::Error) -> bool {
    matches!(
        flaw,
        rustls::Error::AlertReceived(AlertDescription::CertificateExpired)
            | rustls::Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. })
    )
}

/// Whose certificate is not believed, and why.
fn said(flaw: &rustls::Error) -> String {
    use AlertDescription as Alert;
    let alert = match flaw {
        rustls::Error::AlertReceived(alert) => alert,
        rustls::Error::InvalidCertificate(_) => return format!("its certificate is refused: {flaw}"),
        _ => return format!("the handshake failed: {flaw}"),
    };
    let why = match alert {
        Alert::CertificateRequired => "it asks for a certificate; give --tls-cert and --tls-key",
        Alert::CertificateExpired => "the certificate shown to it has expired",
        Alert::UnknownCA => "it does not know who signed the certificate shown to it",
        Alert::BadCertificate | Alert::UnsupportedCertificate | Alert::CertificateUnknown | Alert::DecryptError => {
            "it does not accept the certificate shown to it"
        }
        Alert::CertificateRevoked => "the certificate shown to it is revoked",
        _ => return format!("it ended the handshake: {flaw}"),
    };
    why.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(credentials: &Credentials, address: &str) -> Option<String> {
        credentials.endpoint(address).err().map(|error| error.to_string())
    }

    #[test]
    fn a_token_does_not_travel_in_plain_text_unless_asked_for() {
        let mut credentials = Credentials { token_file: Some("t".into()), ..Credentials::default() };
        for here in ["http://127.0.0.1:1", "http://localhost:1", "http://[::1]:1"] {
            assert_eq!(refused(&credentials, here), None);
        }
        for elsewhere in ["http://10.0.0.1:1", "http://localhost.example:1", "http://127.0.0.1.example:1"] {
            let flaw = refused(&credentials, elsewhere).expect("it would be read on the way");
            assert!(flaw.starts_with(&format!("{elsewhere} is plain text beyond this machine")), "{flaw}");
        }
        credentials.plain_text = true;
        assert_eq!(refused(&credentials, "http://10.0.0.1:1"), None);
        assert_eq!(refused(&Credentials::default(), "http://10.0.0.1:1"), None, "nothing would be given away");
        let certificates = Credentials { tls_ca: Some("ca".into()), ..Credentials::default() };
        assert!(refused(&certificates, "http://10.0.0.1:1").is_some(), "TLS was asked for");
    }

    #[test]
    fn an_address_of_tls_needs_somebody_to_believe() {
        let flaw = refused(&Credentials::default(), "https://a:1").expect("nobody is believed");
        assert!(flaw.starts_with("https://a:1 needs --tls-ca"), "{flaw}");
        for no_address in ["a:1", "ftp://a", "", "http://"] {
            assert!(refused(&Credentials::default(), no_address).is_some(), "{no_address:?}");
        }
    }

    #[test]
    fn the_word_of_tls_is_found_below_errors_that_wrap_it() {
        let expired = rustls::Error::AlertReceived(AlertDescription::CertificateExpired);
        let wrapped = io::Error::new(io::ErrorKind::InvalidData, expired);
        let outer = tonic::Status::from_error(Box::new(wrapped));
        let flaw = cause::<rustls::Error>(&outer).expect("it is there").clone();
        let error = DialError::Distrust { address: "https://a:1".into(), flaw };
        assert!(error.is_passing() && error.is_about_trust());
        assert_eq!(
            error.to_string(),
            "no trust between this program and the coordinator at https://a:1: the certificate shown to it has expired"
        );
        assert!(cause::<rustls::Error>(&tonic::Status::unavailable("gone")).is_none());
    }
}
