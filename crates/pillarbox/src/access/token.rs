//! ID tokens: signed JSON (RFC 7515, RFC 7519), checked with the provider's published keys (RFC 7517) by aws-lc-rs.
//!
//! Signatures by key pairs only: a token without a signature, or with one by a shared secret, is refused whatever it says.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384,
    RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::Value;

/// Largest token.
const LONGEST: usize = 64 * 1024;
/// Most keys that are looked at.
const MOST_KEYS: usize = 64;
/// Clocks differ by so much, seconds.
const DRIFT_S: i64 = 120;
/// Oldest token that is taken, seconds: it was made just now.
const OLDEST_S: i64 = 900;

/// Keys of a provider.
#[derive(Debug, Clone, Default)]
pub struct Jwks(Vec<Key>);

#[derive(Debug, Clone)]
struct Key {
    id: Option<String>,
    algorithm: Option<String>,
    public: Public,
}

#[derive(Debug, Clone)]
enum Public {
    Rsa { modulus: Vec<u8>, exponent: Vec<u8> },
    P256(Vec<u8>),
    P384(Vec<u8>),
    Ed25519(Vec<u8>),
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
}

/// What a token has to say.
#[derive(Debug)]
pub struct Expected<'a> {
    /// Who made it.
    pub issuer: &'a str,
    /// For whom: us.
    pub audience: &'a str,
    /// What we sent along.
    pub nonce: &'a str,
    /// Unix seconds.
    pub now_s: i64,
}

impl Jwks {
    /// Keys that sign, of kinds that are known; others are passed over.
    pub fn read(value: &Value) -> Self {
        let keys = value.get("keys").and_then(Value::as_array);
        Self(keys.into_iter().flatten().take(MOST_KEYS).filter_map(Key::read).collect())
    }

    /// Whether a key of this name is there; without a name any will do.
    pub fn has(&self, id: Option<&str>) -> bool {
        self.0.iter().any(|key| id.is_none() || key.id.as_deref() == id)
    }
}

impl Key {
    fn read(value: &Value) -> Option<Self> {
        let text = |name: &str| value.get(name).and_then(Value::as_str);
        let octets = |name: &str| URL_SAFE_NO_PAD.decode(text(name)?.trim_end_matches('=')).ok();
        if text("use").is_some_and(|purpose| purpose != "sig") {
            return None;
        }
        let point = |size: usize| {
            let (x, y) = (octets("x")?, octets("y")?);
            // Uncompressed, as SEC 1 §2.3.3 writes it.
            (x.len() == size && y.len() == size).then(|| [&[4][..], &x, &y].concat())
        };
        let public = match (text("kty")?, text("crv")) {
            ("RSA", _) => Public::Rsa { modulus: octets("n")?, exponent: octets("e")? },
            ("EC", Some("P-256")) => Public::P256(point(32)?),
            ("EC", Some("P-384")) => Public::P384(point(48)?),
            ("OKP", Some("Ed25519")) => Public::Ed25519(octets("x").filter(|x| x.len() == 32)?),
            _ => return None,
        };
        Some(Self { id: text("kid").map(str::to_owned), algorithm: text("alg").map(str::to_owned), public })
    }

    fn verifies(&self, algorithm: &str, signed: &[u8], signature: &[u8]) -> bool {
        // A key that is for one algorithm is for no other.
        if self.algorithm.as_deref().is_some_and(|own| own != algorithm) {
            return false;
        }
        let rsa = |parameters: &'static RsaParameters, n: &[u8], e: &[u8]| {
            RsaPublicKeyComponents { n, e }.verify(parameters, signed, signature).is_ok()
        };
        match (&self.public, algorithm) {
            (Public::Rsa { modulus, exponent }, "RS256") => rsa(&RSA_PKCS1_2048_8192_SHA256, modulus, exponent),
            (Public::Rsa { modulus, exponent }, "RS384") => rsa(&RSA_PKCS1_2048_8192_SHA384, modulus, exponent),
            (Public::Rsa { modulus, exponent }, "RS512") => rsa(&RSA_PKCS1_2048_8192_SHA512, modulus, exponent),
            (Public::Rsa { modulus, exponent }, "PS256") => rsa(&RSA_PSS_2048_8192_SHA256, modulus, exponent),
            (Public::P256(point), "ES256") => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(signed, signature).is_ok()
            }
            (Public::P384(point), "ES384") => {
                UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, point).verify(signed, signature).is_ok()
            }
            (Public::Ed25519(key), "EdDSA" | "Ed25519") => {
                UnparsedPublicKey::new(&ED25519, key).verify(signed, signature).is_ok()
            }
            _ => false,
        }
    }
}

/// Header, what was signed, claims, signature.
type Parts<'a> = (Header, &'a str, Vec<u8>, Vec<u8>);

fn split(token: &str) -> Result<Parts<'_>, &'static str> {
    if token.len() > LONGEST {
        return Err("it is too long");
    }
    let malformed = "it is no signed token";
    let (signed, signature) = token.rsplit_once('.').ok_or(malformed)?;
    let (header, claims) = signed.split_once('.').ok_or(malformed)?;
    let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| malformed);
    let header = serde_json::from_slice(&decode(header)?).map_err(|_| malformed)?;
    Ok((header, signed, decode(claims)?, decode(signature)?))
}

/// The key that a token names.
pub fn key_id(token: &str) -> Result<Option<String>, &'static str> {
    Ok(split(token)?.0.kid)
}

/// The claims of a token that is signed, for us, and from now (OpenID Connect Core 1.0 §3.1.3.7).
pub fn verify(token: &str, keys: &Jwks, expected: &Expected<'_>) -> Result<Value, &'static str> {
    let (header, signed, claims, signature) = split(token)?;
    let candidates = keys.0.iter().filter(|key| header.kid.is_none() || key.id == header.kid);
    if !candidates.into_iter().any(|key| key.verifies(&header.alg, signed.as_bytes(), &signature)) {
        return Err("no key of the provider has signed it");
    }
    let claims: Value = serde_json::from_slice(&claims).map_err(|_| "its claims cannot be read")?;
    let text = |name: &str| claims.get(name).and_then(Value::as_str);
    let number = |name: &str| claims.get(name).and_then(Value::as_f64).map(|seconds| seconds as i64);
    if text("iss").map(|issuer| issuer.trim_end_matches('/')) != Some(expected.issuer.trim_end_matches('/')) {
        return Err("another issuer made it");
    }
    let audience: Vec<&str> = match claims.get("aud") {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    if !audience.contains(&expected.audience) {
        return Err("it is for somebody else");
    }
    if (audience.len() > 1 || claims.get("azp").is_some()) && text("azp") != Some(expected.audience) {
        return Err("somebody else asked for it");
    }
    if text("nonce") != Some(expected.nonce) {
        return Err("it does not belong to this sign-in");
    }
    let now_s = expected.now_s;
    match (number("exp"), number("iat")) {
        (Some(ends), _) if ends + DRIFT_S <= now_s => Err("it has ended: do the clocks agree?"),
        (Some(_), Some(made)) if made - DRIFT_S > now_s => Err("it is from the future: do the clocks agree?"),
        (Some(_), Some(made)) if made + OLDEST_S + DRIFT_S < now_s => Err("it is too old: do the clocks agree?"),
        (Some(_), Some(_)) if number("nbf").is_some_and(|from| from - DRIFT_S > now_s) => Err("it does not hold yet"),
        (Some(_), Some(_)) => Ok(claims),
        _ => Err("it does not say when it was made and when it ends"),
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
    use serde_json::json;

    use super::*;

    fn part(value: &Value) -> String {
        URL_SAFE_NO_PAD.encode(value.to_string())
    }

    fn claims() -> Value {
        json!({"iss": "https://id.example", "aud": "relay", "sub": "1", "nonce": "n", "iat": 1_000, "exp": 1_300})
    }

    fn expected() -> Expected<'static> {
        Expected { issuer: "https://id.example/", audience: "relay", nonce: "n", now_s: 1_010 }
    }

    fn elliptic() -> (EcdsaKeyPair, Jwks) {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let point = pair.public_key().as_ref();
        let (x, y) = (URL_SAFE_NO_PAD.encode(&point[1..33]), URL_SAFE_NO_PAD.encode(&point[33..]));
        let keys = json!({"keys": [
            {"kty": "oct", "k": "c2VjcmV0", "kid": "shared"},
            {"kty": "EC", "crv": "P-256", "x": x, "y": y, "kid": "k1", "use": "sig", "alg": "ES256"},
        ]});
        (pair, Jwks::read(&keys))
    }

    fn signed(pair: &EcdsaKeyPair, header: &Value, claims: &Value) -> String {
        let text = format!("{}.{}", part(header), part(claims));
        let signature = pair.sign(&SystemRandom::new(), text.as_bytes()).unwrap();
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
    }

    #[test]
    fn a_token_is_good_only_if_signed_for_us_and_from_now() {
        let (pair, keys) = elliptic();
        let header = json!({"alg": "ES256", "kid": "k1"});
        assert_eq!(verify(&signed(&pair, &header, &claims()), &keys, &expected()).unwrap()["sub"], "1");
        for (name, value, why) in [
            ("iss", json!("https://evil.example"), "another issuer"),
            ("aud", json!("other"), "somebody else"),
            ("aud", json!(["relay", "other"]), "somebody else asked"),
            ("azp", json!("other"), "somebody else asked"),
            ("nonce", json!("m"), "this sign-in"),
            ("exp", json!(800), "ended"),
            ("iat", json!(2_000), "future"),
            ("iat", json!(-10_000), "too old"),
            ("nbf", json!(5_000), "not hold yet"),
            ("exp", json!(null), "when it ends"),
        ] {
            let mut other = claims();
            other[name] = value;
            let error = verify(&signed(&pair, &header, &other), &keys, &expected()).unwrap_err();
            assert!(error.contains(why), "{name}: {error}");
        }
    }

    #[test]
    fn what_no_key_of_the_provider_signed_is_refused() {
        let (pair, keys) = elliptic();
        let (stranger, _) = elliptic();
        let header = |alg: &str| json!({"alg": alg, "kid": "k1"});
        let good = signed(&pair, &header("ES256"), &claims());
        let (text, signature) = good.rsplit_once('.').unwrap();
        let other = format!("{}.{}", part(&header("ES256")), part(&json!({"sub": "2"})));
        for token in [
            signed(&stranger, &header("ES256"), &claims()),
            signed(&pair, &header("none"), &claims()),
            signed(&pair, &header("HS256"), &claims()),
            signed(&pair, &json!({"alg": "ES256", "kid": "shared"}), &claims()),
            format!("{other}.{signature}"),
            format!("{text}."),
            format!("{}.{}.", part(&json!({"alg": "none"})), part(&claims())),
        ] {
            assert!(verify(&token, &keys, &expected()).is_err(), "{token}");
        }
        for token in ["", "a.b", "a.b.c", &"x".repeat(LONGEST + 1)] {
            assert!(verify(token, &keys, &expected()).is_err());
        }
        assert!(keys.has(Some("k1")) && !keys.has(Some("k2")) && !keys.has(Some("shared")));
    }

    #[test]
    fn edwards_curves_and_rsa_verify_too() {
        let pair = Ed25519KeyPair::generate().unwrap();
        let x = URL_SAFE_NO_PAD.encode(pair.public_key().as_ref());
        let keys = Jwks::read(&json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "x": x}]}));
        let text = format!("{}.{}", part(&json!({"alg": "EdDSA"})), part(&claims()));
        let token = format!("{text}.{}", URL_SAFE_NO_PAD.encode(pair.sign(text.as_bytes()).as_ref()));
        assert!(verify(&token, &keys, &expected()).is_ok());

        let pem = crate::oauth::jwt::tests::rsa_pem();
        let key = crate::oauth::jwt::Key::read(&pem).unwrap();
        let (modulus, exponent) = key.public();
        let (n, e) = (URL_SAFE_NO_PAD.encode(modulus), URL_SAFE_NO_PAD.encode(exponent));
        let keys = Jwks::read(&json!({"keys": [{"kty": "RSA", "n": n, "e": e, "kid": "r"}]}));
        for (algorithm, word) in
            [(crate::oauth::jwt::Algorithm::Rs256, "RS256"), (crate::oauth::jwt::Algorithm::Ps256, "PS256")]
        {
            let token = key.sign(algorithm, &json!({"alg": word, "kid": "r"}), &claims()).unwrap();
            assert!(verify(&token, &keys, &expected()).is_ok(), "{word}");
        }
    }
}
