//! Reading answers: bodies with a limit, redirects, and a registry's own words.

use std::error::Error;
use std::time::Duration;

use reqwest::header::{LOCATION, RETRY_AFTER};
use reqwest::{Response, Url};

use super::error::RegistryError;
use crate::reference::shorten;

/// Most bytes read of an answer that reports an error.
const MAX_ERROR_BYTES: u64 = 16 << 10;

/// How long the answer asks to be left alone (RFC 9110 section 10.2.3). Only the form in seconds is read: the other one
/// depends on two clocks that agree.
pub(super) fn retry_after(response: &Response) -> Option<Duration> {
    let value = response.headers().get(RETRY_AFTER)?.to_str().ok()?;
    value.trim().parse().ok().map(Duration::from_secs)
}

/// Where the answer sends us, if it does.
pub(super) fn redirect_target(response: &Response) -> Result<Option<Url>, RegistryError> {
    if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
    let target = location.and_then(|location| response.url().join(location).ok());
    let malformed = || RegistryError::Malformed { url: shown(response.url()), what: "a redirect" };
    target.map(Some).ok_or_else(malformed)
}

/// The whole body, if it is not longer than `limit` bytes.
pub(super) async fn read_all(mut response: Response, limit: u64) -> Result<Vec<u8>, RegistryError> {
    let url = response.url().clone();
    let mut bytes = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(|error| unreachable_error(&url, error))? {
        if bytes.len() as u64 + piece.len() as u64 > limit {
            return Err(RegistryError::TooLarge { url: shown(&url), limit });
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}

/// The registry's own words (distribution specification, "Error Codes"), shortened, without control characters.
pub(super) async fn error_message(response: Response) -> String {
    #[derive(serde::Deserialize)]
    struct Body {
        errors: Vec<Item>,
    }
    #[derive(serde::Deserialize)]
    struct Item {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    // A body that cannot be read only means that there is nothing more to tell than the status.
    let bytes = read_all(response, MAX_ERROR_BYTES).await.unwrap_or_default();
    let first = serde_json::from_slice::<Body>(&bytes).ok().and_then(|body| body.errors.into_iter().next());
    first.map_or_else(String::new, |Item { code, message }| {
        shorten(format!("{code} {message}").trim())
            .chars()
            .filter(|character| !character.is_control())
            .collect()
    })
}

pub(super) fn unreachable_error(url: &Url, error: reqwest::Error) -> RegistryError {
    let source = error.without_url();
    match certificate_fault(&source) {
        Some(CertificateFault::Theirs(reason)) => {
            RegistryError::Untrusted { url: shown(url), host: host_and_port(url), reason }
        }
        Some(CertificateFault::Ours(reason)) => {
            RegistryError::Unknown { url: shown(url), host: host_and_port(url), reason }
        }
        None => RegistryError::Unreachable { url: shown(url), source },
    }
}

/// Whose certificate a connection failed by.
enum CertificateFault {
    Theirs(Box<rustls::Error>),
    Ours(Box<rustls::Error>),
}

/// What is not accepted stays so: neither another try nor plain HTTP is an answer to it. Everything else about TLS may be
/// another protocol's bytes.
fn certificate_fault(error: &(dyn Error + 'static)) -> Option<CertificateFault> {
    use rustls::AlertDescription as Alert;
    match tls_error(error)? {
        error @ rustls::Error::InvalidCertificate(_) => Some(CertificateFault::Theirs(error.clone().into())),
        error @ rustls::Error::AlertReceived(
            Alert::CertificateRequired
            | Alert::BadCertificate
            | Alert::UnknownCA
            | Alert::CertificateExpired
            | Alert::CertificateRevoked
            | Alert::CertificateUnknown
            | Alert::UnsupportedCertificate,
        ) => Some(CertificateFault::Ours(error.clone().into())),
        _ => None,
    }
}

/// The TLS error among an error's causes: the I/O error that holds it does not name it as its source.
fn tls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        let held = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        cause = match held {
            Some(held) => Some(held),
            None => error.source(),
        };
    }
    None
}

/// As a folder of the host in `certs.d` is named.
fn host_and_port(url: &Url) -> String {
    let port = url.port().map_or_else(String::new, |port| format!(":{port}"));
    format!("{}{port}", url.host_str().unwrap_or_default())
}

/// A URL for people: scheme, host and port. What was asked for there is said by whoever asked.
pub(super) fn shown(url: &Url) -> String {
    format!("{}://{}", url.scheme(), host_and_port(url))
}
