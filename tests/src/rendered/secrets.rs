//! What a cluster's Secrets hold, and who signs it: certificates as cert-manager makes them, tokens of service accounts.

use std::{
    collections::BTreeMap,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::Context;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use serde_json::json;

use super::workload::Projected;

/// Who the cluster says it is, as the chart's values expect.
const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
const KEY_ID: &str = "cluster";
/// Seconds that a token is good for.
const LIFETIME: u64 = 3600;

/// Every Secret by name, and whoever fills them.
pub(super) struct Secrets {
    contents: BTreeMap<String, BTreeMap<String, String>>,
    authority: CertifiedIssuer<'static, KeyPair>,
    accounts: EcdsaKeyPair,
    /// Names of the cluster, and the addresses they lead to.
    hosts: Vec<(String, String)>,
}

impl Secrets {
    pub fn new(hosts: Vec<(String, String)>) -> anyhow::Result<Self> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let (algorithm, random) = (&ECDSA_P256_SHA256_FIXED_SIGNING, SystemRandom::new());
        let made = EcdsaKeyPair::generate_pkcs8(algorithm, &random).ok().context("making a key")?;
        let accounts = EcdsaKeyPair::from_pkcs8(algorithm, made.as_ref(), &random).ok().context("reading a key")?;
        Ok(Self { contents: BTreeMap::new(), authority, accounts, hosts })
    }

    /// Puts something into a Secret.
    pub fn put(&mut self, secret: &str, key: &str, content: &str) {
        self.contents.entry(secret.to_owned()).or_default().insert(key.to_owned(), content.to_owned());
    }

    /// What a Secret holds.
    pub fn get(&self, secret: &str) -> anyhow::Result<&BTreeMap<String, String>> {
        self.contents.get(secret).with_context(|| format!("there is no Secret {secret}"))
    }

    /// Makes a certificate for these names, unless its Secret is there: it holds for an address if one of them, or a wildcard
    /// among them, is a name that leads there.
    pub fn certify(&mut self, secret: &str, names: &[String]) -> anyhow::Result<()> {
        if self.contents.contains_key(secret) {
            return Ok(());
        }
        let led = self.hosts.iter().filter(|(host, _)| names.iter().any(|name| stands_for(name, host)));
        let names: Vec<String> = names.iter().cloned().chain(led.map(|(_, address)| address.clone())).collect();
        let key = KeyPair::generate()?;
        let certificate = CertificateParams::new(names)?.signed_by(&key, &self.authority)?;
        self.put(secret, "tls.crt", &certificate.pem());
        self.put(secret, "tls.key", &key.serialize_pem());
        let authority = self.authority.as_ref().pem();
        self.put(secret, "ca.crt", &authority);
        Ok(())
    }

    /// The public key of the cluster's tokens, as a JSON Web Key Set.
    pub fn jwks(&self) -> String {
        let point = self.accounts.public_key().as_ref();
        let part = |range: std::ops::Range<usize>| URL_SAFE_NO_PAD.encode(&point[range]);
        let key = json!({
            "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": KEY_ID, "x": part(1..33), "y": part(33..65),
        });
        json!({"keys": [key]}).to_string()
    }

    /// The token that is projected into a pod.
    pub fn token(&self, projected: &Projected, namespace: &str, pod: &str) -> anyhow::Result<String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let claims = json!({
            "iss": ISSUER,
            "sub": format!("system:serviceaccount:{namespace}:{}", projected.account),
            "aud": [projected.audience],
            "iat": now, "nbf": now, "exp": now + LIFETIME,
            "kubernetes.io": {"namespace": namespace, "pod": {"name": pod}, "serviceaccount": {"name": projected.account}},
        });
        let part = |value: &serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&json!({"alg": "ES256", "kid": KEY_ID})), part(&claims));
        let signature = self.accounts.sign(&SystemRandom::new(), signed.as_bytes()).ok().context("signing a token")?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

/// Whether a name in a certificate, or the wildcard that it is, stands for a host.
fn stands_for(name: &str, host: &str) -> bool {
    let parent = |host: &str| host.split_once('.').is_some_and(|(_, parent)| name.strip_prefix("*.") == Some(parent));
    name == host || parent(host)
}
