//! Who calls, from what a connection and a call have shown (HANDS): files and the clock for what `policy` and `jwt` decide.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use esta_proto::Digest;

use super::{
    Call, Caller, Denied, FileError, Identity, NamePattern, Role, Tokens, Watched,
    jwt::{Expected, Keys},
};

/// Decides about calls; clones share what they know.
#[derive(Debug, Clone, Default)]
pub struct Guard(Option<Arc<Authorities>>);

/// Whose tokens are believed.
#[derive(Debug)]
pub struct Authorities {
    /// Tokens that somebody has given out.
    pub tokens: Option<Watched<Tokens>>,
    /// Tokens that a cluster gives to its pods.
    pub accounts: Option<ServiceAccounts>,
}

/// Tokens of service accounts, and what those may do here.
#[derive(Debug)]
pub struct ServiceAccounts {
    keys: Watched<Keys>,
    expected: Expected,
    roles: BTreeMap<String, Role>,
    workers_per_pod: u32,
}

impl ServiceAccounts {
    /// Tokens signed by a key of a JSON Web Key Set, read again when it changes.
    ///
    /// # Errors
    /// [`FileError`] naming the file.
    pub fn watch(
        jwks: PathBuf,
        issuer: String,
        audience: String,
        (roles, workers_per_pod): (BTreeMap<String, Role>, u32),
    ) -> Result<Self, FileError> {
        let keys = Watched::open(vec![jwks.clone()], move |contents| {
            Keys::parse(&contents[0]).map_err(|flaw| FileError::content(&jwks, flaw))
        })?;
        Ok(Self { keys, expected: Expected { issuer, audience }, roles, workers_per_pod })
    }

    async fn identity(&self, token: &str, now: u64) -> Result<Identity, Denied> {
        let subject = self.keys.current().await.verify(token, &self.expected, now)?;
        let Some(&role) = self.roles.get(&subject.name) else { return Err(Denied::Nobody { subject: subject.name }) };
        let workers = self.workers_per_pod;
        let name = subject.pod.filter(|pod| !pod.is_empty()).map(|pod| NamePattern::Pod { pod, workers });
        Ok(Identity { subject: subject.name, name, role })
    }
}

impl Guard {
    /// Asks for tokens, if anybody's are believed.
    #[must_use]
    pub fn new(authorities: Authorities) -> Self {
        let anybody = authorities.tokens.is_some() || authorities.accounts.is_some();
        Self(anybody.then(|| Arc::new(authorities)))
    }

    /// Whether calls need a token.
    #[must_use]
    pub fn asks_for_tokens(&self) -> bool {
        self.0.is_some()
    }

    /// Who calls, if it may call that. `authorization` is the header of that name.
    ///
    /// # Errors
    /// [`Denied`] saying why not.
    pub async fn admit(
        &self,
        certificate: Option<Digest>,
        authorization: Option<&[u8]>,
        call: Call,
    ) -> Result<Caller, Denied> {
        let identity = match &self.0 {
            Some(authorities) => Some(authorities.identity(authorization).await?),
            None => None,
        };
        let caller = Caller { certificate, identity };
        caller.may(call)?;
        Ok(caller)
    }
}

impl Authorities {
    async fn identity(&self, authorization: Option<&[u8]>) -> Result<Identity, Denied> {
        let token = authorization.and_then(bearer).ok_or(Denied::NoToken)?;
        if let Some(tokens) = &self.tokens
            && let Some(identity) = tokens.current().await.find(token)
        {
            return Ok(identity.clone());
        }
        // Tokens of a cluster have three parts; what has not is a wrong token of the other kind.
        match &self.accounts {
            Some(accounts) if token.split('.').count() == 3 => accounts.identity(token, now()).await,
            _ => Err(Denied::Unknown),
        }
    }
}

fn bearer(header: &[u8]) -> Option<&str> {
    let (scheme, token) = std::str::from_utf8(header).ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use esta_sim::mutate::{Mutator, over_seeds};

    use super::*;

    /// `printf %s secret | sha256sum`.
    const SECRET: &str = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";

    #[test]
    fn a_spoilt_header_lets_nobody_in_but_who_has_the_token() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("tokens");
        std::fs::write(&path, format!("w worker {SECRET}\n")).expect("writes");
        let guard = Guard::new(Authorities { tokens: Some(Tokens::watch(path).expect("tokens")), accounts: None });
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let admitted = |header: Option<&[u8]>| runtime.block_on(guard.admit(None, header, Call::Join));
        admitted(Some(b"Bearer secret")).expect("that is the token");
        assert_eq!(admitted(None), Err(Denied::NoToken));
        over_seeds(500, |seed| {
            let mut mutator = Mutator::new(seed);
            let header = if mutator.flips(0.8) { mutator.bytes(b"Bearer secret") } else { mutator.noise(60) };
            if admitted(Some(&header)).is_ok() {
                let text = String::from_utf8(header).expect("a token is text");
                let (scheme, token) = text.split_once(' ').expect("two words");
                assert_eq!((scheme.to_ascii_lowercase().as_str(), token.trim()), ("bearer", "secret"));
            }
        });
    }
}
