//! Flags that say who may connect to a coordinator and who may call what (HANDS).

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use clap::{Args, builder::FalseyValueParser};

use crate::{
    failure::Failure,
    rpc::{Door, Entrance, MAX_CONNECTIONS},
    security::{Authorities, Guard, Role, ServerTls, ServiceAccounts, TlsFiles, Tokens},
};

/// Who may connect, and who may call what. Files are read again when they change; who is connected stays so.
#[derive(Debug, Args)]
#[command(next_help_heading = "Security")]
pub struct ProtectionArgs {
    /// Certificate to show, in PEM, with those between it and its root: TLS is spoken.
    #[arg(long, value_name = "FILE", env = "ESTA_TLS_CERT", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The key of that certificate, in PEM.
    #[arg(long, value_name = "FILE", env = "ESTA_TLS_KEY", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Whoever connects has to show a certificate signed by one of these (mutual TLS).
    #[arg(long, value_name = "FILE", env = "ESTA_TLS_CLIENT_CA", requires = "tls_cert")]
    tls_client_ca: Option<PathBuf>,
    /// Speak plain text beyond this machine too, where anybody on the way can read and change what is said.
    #[arg(long, env = "ESTA_PLAIN_TEXT", value_parser = FalseyValueParser::new())]
    plain_text: bool,
    /// Calls need a token; this file has a line for each: a name or the beginning of names with `*`, a role (worker, viewer
    /// or admin), and the token's SHA-256 in hex.
    #[arg(long, value_name = "FILE", env = "ESTA_TOKENS")]
    tokens: Option<PathBuf>,
    /// Tokens of service accounts are taken too, signed by a key of this JSON Web Key Set.
    #[arg(long, value_name = "FILE", env = "ESTA_TOKEN_JWKS", requires_all = ["token_issuer", "token_audience", "token_role"])]
    token_jwks: Option<PathBuf>,
    /// Who gives out these tokens.
    #[arg(long, value_name = "URL", env = "ESTA_TOKEN_ISSUER", requires = "token_jwks")]
    token_issuer: Option<String>,
    /// Whom these tokens are for.
    #[arg(long, value_name = "TEXT", env = "ESTA_TOKEN_AUDIENCE", requires = "token_jwks")]
    token_audience: Option<String>,
    /// What a service account is here, such as `system:serviceaccount:esta:worker=worker`; a worker is called as its pod.
    #[arg(long, value_name = "ACCOUNT=ROLE", env = "ESTA_TOKEN_ROLE", value_delimiter = ',', requires = "token_jwks")]
    #[arg(value_parser = account)]
    token_role: Vec<(String, Role)>,
    /// Workers that a pod's token is good for: one, called as the pod, or so many, called `<pod>/0` and so on, as
    /// `esta-worker train --processes` calls them.
    #[arg(long, value_name = "N", env = "ESTA_WORKERS_PER_POD", default_value_t = 1, requires = "token_jwks")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=256))]
    workers_per_pod: u32,
    /// Connections that may stand at once; more are closed.
    #[arg(long, value_name = "N", env = "ESTA_MAX_CONNECTIONS", default_value_t = MAX_CONNECTIONS as u32)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    max_connections: u32,
}

impl ProtectionArgs {
    /// What has to be shown at an address.
    pub(super) fn entrance(self, listen: SocketAddr) -> Result<Entrance, Failure> {
        let tls = match (self.tls_cert, self.tls_key) {
            (Some(cert), Some(key)) => {
                Some(Arc::new(ServerTls::watch(TlsFiles { cert, key, client_ca: self.tls_client_ca })?))
            }
            _ => None,
        };
        if tls.is_none() && !self.plain_text && !listen.ip().is_loopback() {
            return Err(Failure::PlainText { listen });
        }
        let tokens = self.tokens.map(Tokens::watch).transpose()?;
        let accounts = match (self.token_jwks, self.token_issuer, self.token_audience) {
            (Some(jwks), Some(issuer), Some(audience)) => {
                let roles = self.token_role.into_iter().collect();
                Some(ServiceAccounts::watch(jwks, issuer, audience, (roles, self.workers_per_pod))?)
            }
            _ => None,
        };
        let door = Door { tls, max_connections: self.max_connections as usize, ..Door::open() };
        let entrance = Entrance { listen, door, guard: Guard::new(Authorities { tokens, accounts }) };
        if !entrance.is_guarded() {
            tracing::warn!(%listen, "whoever reaches this address may join and ask: neither certificates nor tokens are asked for");
        }
        Ok(entrance)
    }
}

/// `ACCOUNT=ROLE`.
fn account(text: &str) -> Result<(String, Role), String> {
    let (account, role) = text.rsplit_once('=').ok_or_else(|| format!("{text:?} is not of the form ACCOUNT=ROLE"))?;
    Ok((account.to_owned(), role.parse()?))
}
