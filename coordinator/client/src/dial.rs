//! One connection to one coordinator (HANDS), and why there is none.

use std::{error::Error, io, net::IpAddr, path::PathBuf};

use esta_proto::v1::coordinator_client::CoordinatorClient;
use rustls::{AlertDescription, CertificateError};
use thiserror::Error;
use tonic::{
    Status,
    service::interceptor::InterceptedService,
    transport::{Channel, Endpoint, Uri},
};

use crate::{Bearer, Credentials};

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
    #[error("{} is not in PEM", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
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
        source: tonic::transport::Error,
    },
    /// One end does not believe the other's certificate.
    #[error("no trust between this program and the coordinator at {address}: {}", said(flaw))]
    Distrust {
        /// The address.
        address: String,
        /// Which end, and why.
        flaw: rustls::Error,
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
        let endpoint = tune(self.endpoint(address)?);
        let bearer = self.bearer()?;
        let channel = endpoint.connect().await.map_err(|source| match distrust(&source) {
            Some(flaw) => DialError::Distrust { address: address.to_owned(), flaw },
            None => DialError::Connect { address: address.to_owned(), source },
        })?;
        Ok(CoordinatorClient::with_interceptor(channel, bearer))
    }

    fn endpoint(&self, address: &str) -> Result<Endpoint, DialError> {
        let no_address = || DialError::Address { address: address.to_owned() };
        let endpoint = Endpoint::from_shared(address.to_owned()).map_err(|_| no_address())?;
        let local = is_loopback(endpoint.uri());
        match endpoint.uri().scheme_str() {
            Some("https") => {
                let unusable = |source| DialError::Unusable { address: address.to_owned(), source };
                endpoint.tls_config(self.tls(address)?).map_err(unusable)
            }
            Some("http") if local || self.plain_text || !self.need_protection() => Ok(endpoint),
            Some("http") => Err(DialError::PlainText { address: address.to_owned() }),
            _ => Err(no_address()),
        }
    }
}

impl DialError {
    /// What broke a connection behind a call's status: a coordinator that does not believe a certificate says so only after
    /// the connection seems to stand.
    #[must_use]
    pub fn behind(address: &str, status: &Status) -> Option<Self> {
        Some(Self::Distrust { address: address.to_owned(), flaw: distrust(status)? })
    }

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
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// The word of TLS among the causes of an error.
fn distrust(error: &(dyn Error + 'static)) -> Option<rustls::Error> {
    let mut next = Some(error);
    while let Some(cause) = next {
        if let Some(flaw) = cause.downcast_ref::<rustls::Error>() {
            return Some(flaw.clone());
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
        rustls::Error::InvalidMessage(_) => return format!("it does not speak TLS: {flaw}"),
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
        let outer = Status::from_error(Box::new(wrapped));
        let error = DialError::behind("https://a:1", &outer).expect("it is there");
        assert!(error.is_passing() && error.is_about_trust());
        assert_eq!(
            error.to_string(),
            "no trust between this program and the coordinator at https://a:1: the certificate shown to it has expired"
        );
        assert!(DialError::behind("a", &Status::unavailable("gone")).is_none());
    }
}
