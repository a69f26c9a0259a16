//! Credentials in a `Debug` print would end up in logs: the generated `Debug` of [`AuthConfig`] is replaced.

use std::fmt;

use crate::v1::AuthConfig;

/// How a secret prints: whether it is there, never what it is.
fn presence(secret: &str) -> &'static str {
    if secret.is_empty() { "unset" } else { "set" }
}

impl fmt::Debug for AuthConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthConfig")
            .field("server_address", &self.server_address)
            .field("username", &presence(&self.username))
            .field("password", &presence(&self.password))
            .field("auth", &presence(&self.auth))
            .field("identity_token", &presence(&self.identity_token))
            .field("registry_token", &presence(&self.registry_token))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use crate::v1::{AuthConfig, PullImageRequest};

    #[test]
    fn no_credential_is_printed() {
        let auth = AuthConfig {
            username: "s3cret-user".to_owned(),
            password: "s3cret-password".to_owned(),
            auth: "s3cret-auth".to_owned(),
            server_address: "registry.example".to_owned(),
            identity_token: "s3cret-identity".to_owned(),
            registry_token: "s3cret-registry".to_owned(),
        };
        let printed = format!("{:?}", PullImageRequest { auth: Some(auth), ..Default::default() });
        assert!(!printed.contains("s3cret"), "{printed}");
        assert!(printed.contains("registry.example"), "{printed}");
    }
}
