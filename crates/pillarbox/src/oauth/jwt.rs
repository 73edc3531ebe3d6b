//! Signed assertions (RFC 7519, RFC 7523): how an application or a service account proves who it is without a shared secret.
//!
//! RSA with SHA-256 only: what Microsoft and Google take.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

/// Seconds an assertion holds: ten minutes are enough to hand it in, and forgive a clock.
const LIFE_S: i64 = 600;

/// How it is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// RSASSA-PKCS1-v1_5.
    Rs256,
    /// RSASSA-PSS.
    Ps256,
}

/// Why a key cannot be used. Never quotes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// No PEM section with a key.
    #[error("is no private key in PEM form (an encrypted one cannot be used)")]
    NotPem,
    /// Another kind, or too short.
    #[error("is no RSA key of 2048 bits or more")]
    NotRsa,
    /// The library would not sign.
    #[error("the key cannot sign")]
    Signing,
}

/// A key that signs.
pub struct Key(RsaKeyPair);

impl Key {
    /// From PEM: PKCS#8 or PKCS#1.
    pub fn read(pem: &SecretString) -> Result<Self, KeyError> {
        let der = PrivateKeyDer::from_pem_slice(pem.expose_secret().as_bytes()).map_err(|_| KeyError::NotPem)?;
        let pair = match &der {
            PrivateKeyDer::Pkcs8(der) => RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()),
            PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der()),
            _ => return Err(KeyError::NotRsa),
        };
        pair.map(Self).map_err(|_| KeyError::NotRsa)
    }

    /// Modulus and exponent.
    #[cfg(test)]
    pub fn public(&self) -> (Vec<u8>, Vec<u8>) {
        use aws_lc_rs::signature::KeyPair as _;
        let public = self.0.public_key();
        (
            public.modulus().big_endian_without_leading_zero().to_vec(),
            public.exponent().big_endian_without_leading_zero().to_vec(),
        )
    }

    /// A signed token of these claims.
    pub fn sign(&self, algorithm: Algorithm, header: &Value, claims: &Value) -> Result<String, KeyError> {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let text = format!("{}.{}", part(header), part(claims));
        let mut signature = vec![0; self.0.public_modulus_len()];
        let how: &'static dyn aws_lc_rs::signature::RsaEncoding = match algorithm {
            Algorithm::Rs256 => &RSA_PKCS1_SHA256,
            Algorithm::Ps256 => &RSA_PSS_SHA256,
        };
        let signed = self.0.sign(how, &SystemRandom::new(), text.as_bytes(), &mut signature);
        signed.map_err(|_| KeyError::Signing)?;
        Ok(format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

/// What an assertion says.
pub struct Assertion<'a> {
    /// Who asks; also whom it is about, unless there is a subject.
    pub issuer: &'a str,
    /// The user that is stood for.
    pub subject: Option<&'a str>,
    /// The token endpoint.
    pub audience: &'a str,
    /// Scope, where it is part of the assertion.
    pub scope: Option<&'a str>,
    /// Name of the key.
    pub key_id: Option<&'a str>,
    /// SHA-256 of the certificate, base64url.
    pub certificate: Option<&'a str>,
    /// How it is signed.
    pub algorithm: Algorithm,
}

impl Assertion<'_> {
    /// The signed token; `now_s` are Unix seconds.
    pub fn sign(&self, key: &Key, now_s: i64) -> Result<String, KeyError> {
        let word = match self.algorithm {
            Algorithm::Rs256 => "RS256",
            Algorithm::Ps256 => "PS256",
        };
        let mut header = json!({ "alg": word, "typ": "JWT" });
        if let Some(id) = self.key_id {
            header["kid"] = id.into();
        }
        if let Some(print) = self.certificate {
            header["x5t#S256"] = print.into();
        }
        let id: [u8; 16] = rand::random();
        let mut claims = json!({
            "iss": self.issuer, "aud": self.audience, "iat": now_s, "nbf": now_s - 60, "exp": now_s + LIFE_S,
            "jti": URL_SAFE_NO_PAD.encode(id),
        });
        match (self.subject, self.scope) {
            (Some(subject), _) => claims["sub"] = subject.into(),
            // A service account that stands for nobody needs no subject; an application names itself.
            (None, None) => claims["sub"] = self.issuer.into(),
            (None, Some(_)) => {}
        }
        if let Some(scope) = self.scope {
            claims["scope"] = scope.into();
        }
        key.sign(self.algorithm, &header, &claims)
    }
}

#[cfg(test)]
pub mod tests {
    use aws_lc_rs::encoding::AsDer;
    use aws_lc_rs::rsa::KeySize;
    use aws_lc_rs::signature::{KeyPair, RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256, UnparsedPublicKey};
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    /// A new RSA key in PEM form.
    pub fn rsa_pem() -> SecretString {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let der = pair.as_der().unwrap();
        let text = STANDARD.encode(der.as_ref());
        let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
        format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", lines.join("\n")).into()
    }

    fn parts(token: &str) -> (Value, Value, Vec<u8>, String) {
        let parts: Vec<&str> = token.split('.').collect();
        let read = |part: &str| serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap();
        let signed = format!("{}.{}", parts[0], parts[1]);
        (read(parts[0]), read(parts[1]), URL_SAFE_NO_PAD.decode(parts[2]).unwrap(), signed)
    }

    #[test]
    fn an_assertion_is_signed_and_names_certificate_audience_and_times() {
        let key = Key::read(&rsa_pem()).unwrap();
        let mut assertion = Assertion {
            issuer: "client",
            subject: None,
            audience: "https://sso.example/token",
            scope: None,
            key_id: None,
            certificate: Some("print"),
            algorithm: Algorithm::Ps256,
        };
        let (header, claims, signature, signed) = parts(&assertion.sign(&key, 1_000).unwrap());
        assert_eq!(header, json!({"alg": "PS256", "typ": "JWT", "x5t#S256": "print"}));
        assert_eq!(
            (&claims["iss"], &claims["sub"], &claims["exp"]),
            (&"client".into(), &"client".into(), &1_600.into())
        );
        let public = key.0.public_key().as_ref();
        UnparsedPublicKey::new(&RSA_PSS_2048_8192_SHA256, public).verify(signed.as_bytes(), &signature).unwrap();

        assertion = Assertion {
            subject: Some("user@d.example"),
            scope: Some("mail"),
            algorithm: Algorithm::Rs256,
            ..assertion
        };
        let (header, claims, signature, signed) = parts(&assertion.sign(&key, 1_000).unwrap());
        assert_eq!(
            (&header["alg"], &claims["sub"], &claims["scope"]),
            (&"RS256".into(), &"user@d.example".into(), &"mail".into())
        );
        UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, public).verify(signed.as_bytes(), &signature).unwrap();
    }

    #[test]
    fn what_is_no_rsa_key_is_refused_without_being_shown() {
        for text in ["s3cret", "-----BEGIN PRIVATE KEY-----\ns3cret\n-----END PRIVATE KEY-----\n"] {
            let error = Key::read(&text.into()).err().unwrap().to_string();
            assert!(!error.contains("s3cret"), "{error}");
        }
        let elliptic = "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEIA==\n-----END EC PRIVATE KEY-----\n";
        assert_eq!(Key::read(&elliptic.into()).err(), Some(KeyError::NotRsa));
    }
}
