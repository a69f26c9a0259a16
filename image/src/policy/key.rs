//! Public keys as files have them, and what they verify. Pure.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};

const PEM_BEGIN: &str = "-----BEGIN PUBLIC KEY-----";
const PEM_END: &str = "-----END PUBLIC KEY-----";
/// What every SubjectPublicKeyInfo of an uncompressed point on P-256 begins with (RFC 5480): there is one way to write it.
const P256_PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
/// Length of an uncompressed point in bytes.
const POINT_BYTES: usize = 65;

/// An ECDSA key on P-256, as cosign makes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PublicKey([u8; POINT_BYTES]);

/// Why a text is not a key that can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not the text form of a public key.
    #[error("it is not a PEM text with one PUBLIC KEY")]
    Pem,
    /// Another kind of key.
    #[error("it is not an ECDSA key on P-256, the only kind that is supported")]
    Kind,
}

impl PublicKey {
    /// From its PEM text.
    pub(super) fn from_pem(text: &str) -> Result<Self, KeyError> {
        let body = text.trim().strip_prefix(PEM_BEGIN).and_then(|rest| rest.strip_suffix(PEM_END));
        let body: String = body.ok_or(KeyError::Pem)?.split_ascii_whitespace().collect();
        let der = STANDARD.decode(body).map_err(|_| KeyError::Pem)?;
        let point = der.strip_prefix(&P256_PREFIX).ok_or(KeyError::Kind)?;
        <[u8; POINT_BYTES]>::try_from(point).map(Self).map_err(|_| KeyError::Kind)
    }

    /// Whether `signature` (ASN.1) is this key's over `message`.
    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &self.0).verify(message, signature).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_key_is_refused() {
        let pem = |der: &[u8]| format!("{PEM_BEGIN}\n{}\n{PEM_END}\n", STANDARD.encode(der));
        let good = [&P256_PREFIX[..], &[4; POINT_BYTES]].concat();
        assert!(PublicKey::from_pem(&pem(&good)).is_ok());
        for (text, expected) in [
            (String::new(), KeyError::Pem),
            (pem(&good).replace("PUBLIC", "PRIVATE"), KeyError::Pem),
            (pem(&good).replace('M', "!"), KeyError::Pem),
            (pem(&good) + &pem(&good), KeyError::Pem),
            (pem(&good[..90]), KeyError::Kind),
            (pem(&[1, 2, 3]), KeyError::Kind),
        ] {
            assert_eq!(PublicKey::from_pem(&text), Err(expected), "{text}");
        }
    }
}
