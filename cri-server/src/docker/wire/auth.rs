//! Credentials as Docker's clients send them: base64 of JSON in the header `X-Registry-Auth`, JSON in the body of `/auth`.

use base64::Engine as _;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use cleat_image::reference::DEFAULT_REGISTRY;
use cleat_image::{Credentials, Secret};
use hyper::HeaderMap;
use serde::Deserialize;

use crate::docker::refusal::Refusal;

const HEADER: &str = "x-registry-auth";

/// URL-safe, with padding or without: SDKs differ.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What a client sends.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(in crate::docker) struct Login {
    username: String,
    password: String,
    identitytoken: String,
    registrytoken: String,
    serveraddress: String,
}

impl Login {
    /// The registry's host.
    pub(in crate::docker) fn registry(&self) -> String {
        let host = self.serveraddress.split_once("://").map_or(self.serveraddress.as_str(), |(_, rest)| rest);
        match host.split('/').next().unwrap_or_default() {
            "" | "index.docker.io" | "registry-1.docker.io" => DEFAULT_REGISTRY.to_owned(),
            host => host.to_owned(),
        }
    }

    /// The credentials, if there are any.
    pub(in crate::docker) fn credentials(&self) -> Option<Credentials> {
        if !self.identitytoken.is_empty() {
            Some(Credentials::IdentityToken(Secret::new(self.identitytoken.as_str())))
        } else if !self.registrytoken.is_empty() {
            Some(Credentials::RegistryToken(Secret::new(self.registrytoken.as_str())))
        } else if !self.username.is_empty() {
            let password = Secret::new(self.password.as_str());
            Some(Credentials::Basic { username: self.username.clone(), password })
        } else {
            None
        }
    }
}

/// The credentials of a request's head, if there are any. Its client chose them for the image's registry.
///
/// # Errors
/// When the header is not what it should be. The refusal does not show it: it is a secret.
pub(in crate::docker) fn credentials(headers: &HeaderMap) -> Result<Option<Credentials>, Refusal> {
    let Some(value) = headers.get(HEADER).filter(|value| !value.is_empty()) else { return Ok(None) };
    Ok(login(value.as_bytes())?.credentials())
}

/// What the header's value says.
///
/// # Errors
/// When it says nothing.
fn login(value: &[u8]) -> Result<Login, Refusal> {
    let wrong = || Refusal::bad("invalid X-Registry-Auth header: it is not base64 of a JSON object");
    // The standard alphabet in place of the URL-safe one is a common mistake of scripts, and unambiguous.
    let value: Vec<u8> = value
        .iter()
        .map(|byte| match byte {
            b'+' => b'-',
            b'/' => b'_',
            other => *other,
        })
        .collect();
    let decoded = BASE64.decode(value).map_err(|_| wrong())?;
    serde_json::from_slice::<Option<Login>>(&decoded).map(Option::unwrap_or_default).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(json: &str) -> Login {
        login(BASE64.encode(json).as_bytes()).unwrap()
    }

    #[test]
    fn each_kind_of_credentials_is_understood() {
        let basic = Credentials::Basic { username: "u".into(), password: Secret::new("p") };
        assert_eq!(said(r#"{"username":"u","password":"p"}"#).credentials(), Some(basic));
        let token = Credentials::IdentityToken(Secret::new("t"));
        assert_eq!(said(r#"{"username":"u","identitytoken":"t"}"#).credentials(), Some(token));
        assert_eq!(login(b"e30=").unwrap().credentials(), None);
        assert_eq!(login(b"e30").unwrap().credentials(), None);
    }

    #[test]
    fn what_is_no_login_is_refused_without_showing_it() {
        for value in ["s3cret", "!", "Nw=="] {
            let refusal = login(value.as_bytes()).err().unwrap();
            assert!(!refusal.message().contains("s3cret"), "{refusal:?}");
        }
    }

    #[test]
    fn the_registrys_host_is_found() {
        for (address, host) in [
            ("https://index.docker.io/v1/", "docker.io"),
            ("", "docker.io"),
            ("127.0.0.1:5001", "127.0.0.1:5001"),
            ("https://quay.io/v2/", "quay.io"),
        ] {
            let login = Login { serveraddress: address.into(), ..Login::default() };
            assert_eq!(login.registry(), host);
        }
    }
}
