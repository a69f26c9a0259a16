//! Credentials of a pull.

use cleat_cri_api::v1::AuthConfig;
use cleat_image::{Credentials, Reference, Secret};

use crate::engine::{EngineError, Result};

/// Names of Docker Hub's servers in credentials that were written by `docker login`; images' names say `docker.io`.
const DOCKER_HUB: [&str; 2] = ["index.docker.io", "registry-1.docker.io"];

/// The credentials for pulling `image`, if there are any. Those of another registry than the image's are left out:
/// they must not be shown to it, and the image may be public.
pub(in crate::cri) fn credentials(auth: Option<AuthConfig>, image: &str) -> Result<Option<Credentials>> {
    let Some(auth) = auth.filter(|auth| is_for(&auth.server_address, image)) else { return Ok(None) };
    let found = if !auth.username.is_empty() {
        Credentials::Basic { username: auth.username, password: Secret::new(auth.password) }
    } else if !auth.identity_token.is_empty() {
        Credentials::IdentityToken(Secret::new(auth.identity_token))
    } else if !auth.registry_token.is_empty() {
        Credentials::RegistryToken(Secret::new(auth.registry_token))
    } else if !auth.auth.is_empty() {
        // The value is a secret: the refusal names the field only.
        Credentials::from_auth(&auth.auth).map_err(|error| EngineError::invalid("auth.auth", &error))?
    } else {
        return Ok(None);
    };
    Ok(Some(found))
}

fn is_for(server: &str, image: &str) -> bool {
    if server.is_empty() {
        return true;
    }
    let host = server.split_once("://").map_or(server, |(_, rest)| rest);
    let host = host.split('/').next().unwrap_or_default();
    let host = if DOCKER_HUB.contains(&host) { cleat_image::reference::DEFAULT_REGISTRY } else { host };
    Reference::parse(image).is_ok_and(|reference| reference.registry() == host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn basic(username: &str, password: &str) -> Option<Credentials> {
        Some(Credentials::Basic { username: username.into(), password: Secret::new(password) })
    }

    #[test]
    fn each_kind_of_credentials_is_understood() {
        let none = AuthConfig::default;
        for (auth, expected) in [
            (none(), None),
            (AuthConfig { username: "u".into(), password: "p".into(), ..none() }, basic("u", "p")),
            (AuthConfig { auth: "dTpw".into(), ..none() }, basic("u", "p")),
            (AuthConfig { username: "u".into(), auth: "eDp5".into(), ..none() }, basic("u", "")),
            (
                AuthConfig { identity_token: "t".into(), ..none() },
                Some(Credentials::IdentityToken(Secret::new("t"))),
            ),
            (
                AuthConfig { registry_token: "t".into(), ..none() },
                Some(Credentials::RegistryToken(Secret::new("t"))),
            ),
        ] {
            assert_eq!(credentials(Some(auth), "busybox").unwrap(), expected);
        }
        assert_eq!(credentials(None, "busybox").unwrap(), None);
    }

    #[test]
    fn a_refusal_does_not_show_the_secret() {
        let auth = AuthConfig { auth: "s3cret".into(), ..AuthConfig::default() };
        let error = credentials(Some(auth), "busybox").unwrap_err();
        assert!(matches!(error, EngineError::Invalid { .. }));
        assert!(!error.to_string().contains("s3cret"), "{error}");
    }

    #[test]
    fn no_registry_sees_anothers_credentials() {
        for (server, image, expected) in [
            ("", "quay.io/a", true),
            ("quay.io", "quay.io/a", true),
            ("https://quay.io/v2/", "quay.io/a", true),
            ("https://index.docker.io/v1/", "busybox", true),
            ("docker.io", "busybox", true),
            ("quay.io", "busybox", false),
            ("quay.io", "quay.io.evil.example/a", false),
            ("localhost:5000", "localhost:5000/a:1", true),
            ("localhost", "localhost:5000/a:1", false),
        ] {
            let auth =
                AuthConfig { username: "u".into(), server_address: server.into(), ..AuthConfig::default() };
            assert_eq!(credentials(Some(auth), image).unwrap().is_some(), expected, "{server} {image}");
        }
    }
}
