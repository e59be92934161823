//! Tokens of service accounts as a cluster signs them (HANDS, but pure): JSON Web Tokens, RFC 7519, by keys of RFC 7517.
//!
//! Two algorithms are known, RS256 and ES256, and a key knows which one is its own: what a token says of itself chooses
//! among keys, never what is checked.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::signature::{ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey};
use serde::{Deserialize, de::DeserializeOwned};

use super::Denied;

/// Public keys of whoever signs tokens.
#[derive(Debug)]
pub(super) struct Keys(Vec<Key>);

#[derive(Debug)]
struct Key {
    id: Option<String>,
    public: Public,
}

#[derive(Debug)]
enum Public {
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    /// The point as 0x04, x, y.
    P256(Vec<u8>),
}

/// What a token has to say besides being signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Expected {
    /// Who gave it out.
    pub issuer: String,
    /// Whom it is for.
    pub audience: String,
}

/// Whose token it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Subject {
    /// Such as `system:serviceaccount:<namespace>:<name>`.
    pub name: String,
    /// The pod it was projected into.
    pub pod: Option<String>,
}

#[derive(Deserialize)]
struct KeySet {
    keys: Vec<Jwk>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    /// Extensions that whoever does not know them must refuse.
    crit: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    aud: Audience,
    exp: u64,
    nbf: Option<u64>,
    #[serde(rename = "kubernetes.io")]
    kubernetes: Option<Kubernetes>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

#[derive(Deserialize)]
struct Kubernetes {
    pod: Option<Pod>,
}

#[derive(Deserialize)]
struct Pod {
    name: String,
}

impl Keys {
    /// The keys of a JSON Web Key Set that can be used here.
    ///
    /// # Errors
    /// In words, when there is none.
    pub fn parse(json: &[u8]) -> Result<Self, String> {
        let set: KeySet = serde_json::from_slice(json).map_err(|flaw| format!("is no JSON Web Key Set: {flaw}"))?;
        let keys: Vec<Key> = set.keys.into_iter().filter_map(Jwk::key).collect();
        if keys.is_empty() {
            return Err("holds no key for RS256 or ES256".to_owned());
        }
        Ok(Self(keys))
    }

    /// Whose token this is, if one of these keys signed it and it holds at the time `now`, in seconds since 1970.
    ///
    /// # Errors
    /// [`Denied`] saying what does not hold.
    pub fn verify(&self, token: &str, expected: &Expected, now: u64) -> Result<Subject, Denied> {
        let invalid = |why: &str| Denied::Invalid(why.to_owned());
        let no_token = || invalid("it is no JSON Web Token");
        let (signed, signature) = token.rsplit_once('.').ok_or_else(no_token)?;
        let (header, claims) = signed.split_once('.').ok_or_else(no_token)?;
        let header: Header = json(header).ok_or_else(no_token)?;
        let signature = bytes(signature).ok_or_else(no_token)?;
        if header.crit.is_some() {
            return Err(invalid("it has extensions that nobody here knows"));
        }
        let mut candidates = self.0.iter().filter(|key| key.is_meant_by(&header));
        if !candidates.any(|key| key.public.signed(signed.as_bytes(), &signature)) {
            return Err(invalid("no key of the issuer has signed it"));
        }
        let claims: Claims = json(claims).ok_or_else(|| invalid("it lacks iss, sub, aud or exp"))?;
        if claims.iss != expected.issuer {
            return Err(Denied::Invalid(format!("it is of the issuer {:?}", claims.iss)));
        }
        if !claims.aud.includes(&expected.audience) {
            return Err(Denied::Invalid(format!("it is not for the audience {:?}", expected.audience)));
        }
        if claims.exp <= now {
            return Err(Denied::Expired { seconds: now - claims.exp });
        }
        if claims.nbf.is_some_and(|start| start > now) {
            return Err(invalid("it does not hold yet"));
        }
        let pod = claims.kubernetes.and_then(|kubernetes| kubernetes.pod).map(|pod| pod.name);
        Ok(Subject { name: claims.sub, pod })
    }
}

impl Jwk {
    fn key(self) -> Option<Key> {
        if self.usage.is_some_and(|usage| usage != "sig") {
            return None;
        }
        let part = |text: Option<String>| bytes(&text?);
        let public = match (self.kty.as_str(), self.crv.as_deref()) {
            ("RSA", _) => Public::Rsa { n: part(self.n)?, e: part(self.e)? },
            ("EC", Some("P-256")) => Public::P256([vec![4], part(self.x)?, part(self.y)?].concat()),
            _ => return None,
        };
        Some(Key { id: self.kid, public })
    }
}

impl Key {
    fn is_meant_by(&self, header: &Header) -> bool {
        let named = match (&self.id, &header.kid) {
            (Some(own), Some(meant)) => own == meant,
            _ => true,
        };
        named && header.alg == self.public.algorithm()
    }
}

impl Public {
    fn algorithm(&self) -> &'static str {
        match self {
            Self::Rsa { .. } => "RS256",
            Self::P256(_) => "ES256",
        }
    }

    fn signed(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Rsa { n, e } => {
                RsaPublicKeyComponents { n, e }.verify(&RSA_PKCS1_2048_8192_SHA256, message, signature).is_ok()
            }
            Self::P256(point) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, signature).is_ok()
            }
        }
    }
}

impl Audience {
    fn includes(&self, audience: &str) -> bool {
        match self {
            Self::One(one) => one == audience,
            Self::Many(many) => many.iter().any(|one| one == audience),
        }
    }
}

fn bytes(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

fn json<T: DeserializeOwned>(text: &str) -> Option<T> {
    serde_json::from_slice(&bytes(text)?).ok()
}

#[cfg(test)]
mod tests {
    use esta_sim::mutate::{Mutator, over_seeds};

    use super::*;

    /// The example of RFC 7515, A.2: RS256.
    const RSA_TOKEN: &str = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLm\
        NvbS9pc19yb290Ijp0cnVlfQ.cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W\
        2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB\
        _eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWy\
        wlVmtVrBp0igcN_IoypGlUPQGe77Rw";
    const RSA_MODULUS: &str = "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0B\
        m4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS\
        -UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91k\
        zk2PAcDTW9gb54h4FRWyuXpoQ";
    /// The example of RFC 7515, A.3: ES256.
    const EC_TOKEN: &str = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNv\
        bS9pc19yb290Ijp0cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
    const EC_X: &str = "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU";
    const EC_Y: &str = "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0";

    fn keys(more: &str) -> Keys {
        let json = format!(
            r#"{{"keys": [
                {{"kty": "OKP", "crv": "Ed25519", "x": "AA"}},
                {{"kty": "RSA", "n": "{RSA_MODULUS}", "e": "AQAB"{more}}},
                {{"kty": "EC", "crv": "P-256", "x": "{EC_X}", "y": "{EC_Y}"{more}}}
            ]}}"#
        );
        Keys::parse(json.as_bytes()).expect("a key set")
    }

    fn why(keys: &Keys, token: &str) -> String {
        let expected = Expected { issuer: "joe".into(), audience: "a".into() };
        let Err(Denied::Invalid(why)) = keys.verify(token, &expected, 1) else { panic!("it has no audience") };
        why
    }

    const SIGNED: &str = "it lacks iss, sub, aud or exp";
    const UNSIGNED: &str = "no key of the issuer has signed it";

    #[test]
    fn the_signatures_of_rfc_7515_hold() {
        let keys = keys("");
        assert_eq!((why(&keys, RSA_TOKEN).as_str(), why(&keys, EC_TOKEN).as_str()), (SIGNED, SIGNED));
        let other = keys_named();
        assert_eq!(why(&other, RSA_TOKEN), SIGNED, "a token that names no key is tried with all");
    }

    fn keys_named() -> Keys {
        keys(r#", "kid": "k1""#)
    }

    #[test]
    fn what_is_changed_or_signed_by_another_algorithm_is_refused() {
        let keys = keys("");
        for token in [RSA_TOKEN, EC_TOKEN] {
            let parts: Vec<&str> = token.split('.').collect();
            let with = |header: &str, claims: &str, signature: &str| why(&keys, &[header, claims, signature].join("."));
            let header = |json: &str| URL_SAFE_NO_PAD.encode(json);
            let claims = URL_SAFE_NO_PAD.encode(r#"{"iss":"joe","sub":"me","aud":"a","exp":9}"#);
            assert_eq!(with(parts[0], &claims, parts[2]), UNSIGNED);
            for alg in ["none", "HS256", "RS384", "rs256"] {
                assert_eq!(with(&header(&format!(r#"{{"alg":"{alg}"}}"#)), parts[1], parts[2]), UNSIGNED, "{alg}");
                assert_eq!(with(&header(&format!(r#"{{"alg":"{alg}"}}"#)), &claims, ""), UNSIGNED, "{alg}");
            }
            let critical = header(r#"{"alg":"RS256","crit":["b64"]}"#);
            assert_eq!(with(&critical, parts[1], parts[2]), "it has extensions that nobody here knows");
        }
        for none in ["", "..", "a.b.c", "a.b"] {
            assert_eq!(why(&keys, none), "it is no JSON Web Token", "{none:?}");
        }
    }

    #[test]
    fn a_set_without_a_key_that_can_be_used_is_named() {
        let flaw = |json: &str| Keys::parse(json.as_bytes()).expect_err("no key");
        assert!(flaw("{}").starts_with("is no JSON Web Key Set: "));
        assert_eq!(flaw(r#"{"keys": [{"kty": "oct"}]}"#), "holds no key for RS256 or ES256");
        assert_eq!(
            flaw(r#"{"keys": [{"kty": "RSA", "use": "enc", "n": "AA", "e": "AQAB"}]}"#),
            "holds no key for RS256 or ES256"
        );
    }

    /// A key, the set it is published in, and a token of it that holds.
    fn issued() -> (String, String) {
        use ring::{
            rand::SystemRandom,
            signature::{ECDSA_P256_SHA256_FIXED_SIGNING as ES256, EcdsaKeyPair, KeyPair},
        };
        let random = SystemRandom::new();
        let document = EcdsaKeyPair::generate_pkcs8(&ES256, &random).expect("a key");
        let key = EcdsaKeyPair::from_pkcs8(&ES256, document.as_ref(), &random).expect("it was just made");
        let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let point = key.public_key().as_ref();
        let (x, y) = (part(&point[1..33]), part(&point[33..65]));
        let keys = format!(
            "{{\"keys\": [\n{{\"kty\": \"RSA\", \"n\": \"{RSA_MODULUS}\", \"e\": \"AQAB\"}},\n\
             {{\"kty\": \"EC\", \"crv\": \"P-256\", \"kid\": \"k\", \"x\": \"{x}\", \"y\": \"{y}\"}}\n]}}"
        );
        let claims =
            br#"{"iss":"joe","sub":"me","aud":["b","a"],"exp":99,"nbf":1,"kubernetes.io":{"pod":{"name":"p"}}}"#;
        let signed = format!("{}.{}", part(br#"{"alg":"ES256","kid":"k"}"#), part(claims));
        let signature = key.sign(&random, signed.as_bytes()).expect("signs");
        (keys, format!("{signed}.{}", part(signature.as_ref())))
    }

    #[test]
    fn a_spoilt_token_is_refused_and_a_spoilt_set_of_keys_believes_no_other() {
        let (set, token) = issued();
        let expected = Expected { issuer: "joe".into(), audience: "a".into() };
        let keys = Keys::parse(set.as_bytes()).expect("a key set");
        let me = Subject { name: "me".into(), pod: Some("p".into()) };
        assert_eq!(keys.verify(&token, &expected, 50), Ok(me.clone()));
        let others = [RSA_TOKEN.to_owned(), EC_TOKEN.to_owned(), token.clone()];
        over_seeds(2000, |seed| {
            let mut mutator = Mutator::new(seed);
            let spoilt = mutator.one_of(&others).clone();
            let spoilt = String::from_utf8_lossy(&mutator.bytes(spoilt.as_bytes())).into_owned();
            if keys.verify(&spoilt, &expected, 50).is_ok() {
                assert_eq!(spoilt, token, "another token is believed");
            }
            let parts =
                [mutator.noise(40), mutator.noise(80), mutator.noise(64)].map(|part| URL_SAFE_NO_PAD.encode(part));
            keys.verify(&parts.join("."), &expected, 50).expect_err("noise is no token");

            let bytes =
                if mutator.flips(0.5) { mutator.bytes(set.as_bytes()) } else { mutator.text(&set).into_bytes() };
            match Keys::parse(&bytes) {
                Ok(keys) => drop(keys.verify(&spoilt, &expected, 50).map(|subject| assert_eq!(subject, me))),
                Err(flaw) => assert_eq!(flaw.lines().count(), 1, "{flaw:?}"),
            }
        });
    }
}
