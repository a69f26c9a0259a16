//! What a client gave us to prove itself to a registry, and a string type that cannot be printed by accident.

use std::fmt;

use base64::Engine as _;

/// A text that must not be logged: it prints as `***`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Secret(Box<str>);

impl Secret {
    /// Wrap a secret.
    #[must_use]
    pub fn new(text: impl Into<Box<str>>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the one place that sends it.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Proof of identity for one pull. Sent to the registry it was given for and to the token service that registry
/// names, never to a host a redirect leads to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Credentials {
    /// A user name and a password.
    Basic {
        /// The user.
        username: String,
        /// The password.
        password: Secret,
    },
    /// A refresh token, exchanged at the registry's token service (OAuth 2).
    IdentityToken(Secret),
    /// A bearer token to be sent to the registry as it is.
    RegistryToken(Secret),
}

/// Why a text is not a pair of user name and password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialsError {
    /// The `auth` field of an AuthConfig or an auth.json that does not decode.
    #[error("the auth field is not base64 of \"user:password\"")]
    Auth,
}

impl Credentials {
    /// From the `auth` field of a CRI AuthConfig or an `auth.json`: base64 of `user:password`.
    pub fn from_auth(auth: &str) -> Result<Self, CredentialsError> {
        let decoded = base64::engine::general_purpose::STANDARD
            .decode(auth.trim_end_matches(['\0', '\n']))
            .map_err(|_| CredentialsError::Auth)?;
        let text = String::from_utf8(decoded).map_err(|_| CredentialsError::Auth)?;
        let (username, password) = text.split_once(':').ok_or(CredentialsError::Auth)?;
        let password = Secret::new(password.trim_end_matches('\0'));
        Ok(Self::Basic { username: username.to_owned(), password })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_auth_field_is_decoded() {
        let cases = [
            ("dTpw", Some(("u", "p"))),
            ("dTpwOnE=", Some(("u", "p:q"))),
            ("dTo=", Some(("u", ""))),
            ("dXA=", None),
            ("!", None),
            ("/w==", None),
        ];
        for (auth, expected) in cases {
            let expected = expected.map(|(username, password)| Credentials::Basic {
                username: username.into(),
                password: Secret::new(password),
            });
            assert_eq!(Credentials::from_auth(auth).ok(), expected, "{auth}");
        }
    }

    #[test]
    fn a_secret_does_not_print() {
        let credentials = Credentials::Basic { username: "u".into(), password: Secret::new("hidden") };
        assert!(!format!("{credentials:?}").contains("hidden"));
    }
}
