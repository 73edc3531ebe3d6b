//! CRAM-MD5 (RFC 2195): proves the password without sending it, to a server that keeps it readable.

use hmac::{Hmac, KeyInit, Mac};
use md5::Md5;
use secrecy::zeroize::Zeroizing;

/// `user digest`.
pub(super) fn response(username: &str, password: &str, challenge: &[u8]) -> Zeroizing<Vec<u8>> {
    let digest = hmac_md5(password.as_bytes(), &[challenge]);
    let mut text = Zeroizing::new(format!("{username} ").into_bytes());
    for octet in digest {
        text.extend(format!("{octet:02x}").bytes());
    }
    text
}

/// HMAC-MD5 of the parts one after the other.
pub(super) fn hmac_md5(key: &[u8], parts: &[&[u8]]) -> [u8; 16] {
    // A key of any length is taken.
    let Ok(mut mac) = Hmac::<Md5>::new_from_slice(key) else { return [0; 16] };
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_rfc() {
        let challenge = b"<1896.697170952@postoffice.reston.mci.net>";
        let response = response("tim", "tanstaaftanstaaf", challenge);
        assert_eq!(response.as_slice(), b"tim b913a602c7eda7a495b4e6e7334d3890");
    }
}
