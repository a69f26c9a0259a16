//! Tokens (distribution token authentication specification; OAuth 2 for identity tokens).

use base64::Engine as _;
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use reqwest::{Client, StatusCode, Url};
use serde::Deserialize;

use super::answer::{error_message, read_all, retry_after, shown, unreachable_error};
use super::error::RegistryError;
use super::{Credentials, Secret};

/// Most bytes of a token service's answer.
const MAX_ANSWER_BYTES: u64 = 256 << 10;
/// Who we are to a token service.
const CLIENT_ID: &str = "cleat";

/// What a token is asked for with.
pub(super) struct Request<'a> {
    pub(super) realm: Url,
    pub(super) service: Option<String>,
    pub(super) scope: String,
    pub(super) credentials: Option<&'a Credentials>,
}

#[derive(Deserialize)]
struct Answer {
    token: Option<String>,
    access_token: Option<String>,
}

/// Ask for a token; the result is the header to send to the registry. Without credentials the token is an anonymous one.
/// A token that expires is asked for again when the registry refuses it.
pub(super) async fn fetch(client: &Client, request: Request<'_>) -> Result<HeaderValue, RegistryError> {
    let realm = request.realm.clone();
    let builder = match request.credentials {
        Some(Credentials::IdentityToken(token)) => {
            let body = form(&request, token.expose());
            client.post(realm.clone()).header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(body)
        }
        credentials => {
            let builder = client.get(with_query(&request));
            match credentials {
                Some(Credentials::Basic { username, password }) => {
                    builder.basic_auth(username, Some(password.expose()))
                }
                _ => builder,
            }
        }
    };
    let response = builder.send().await.map_err(|error| unreachable_error(&realm, error))?;
    let status = response.status();
    if !status.is_success() {
        let retry_after = retry_after(&response);
        let message = error_message(response).await;
        return Err(match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::BAD_REQUEST => {
                let host = realm.host_str().unwrap_or_default();
                let reason = format!("the token service {host} answered {status} {message}");
                RegistryError::Unauthorized { reason: reason.trim_end().to_owned() }
            }
            status => {
                RegistryError::Status { url: shown(&realm), status: status.as_u16(), message, retry_after }
            }
        });
    }
    let bytes = read_all(response, MAX_ANSWER_BYTES).await?;
    let answer: Option<Answer> = serde_json::from_slice(&bytes).ok();
    let token =
        answer.and_then(|answer| answer.token.or(answer.access_token)).filter(|token| !token.is_empty());
    let malformed = || RegistryError::Malformed { url: shown(&realm), what: "a token" };
    token.and_then(|token| bearer(&token)).ok_or_else(malformed)
}

fn with_query(request: &Request<'_>) -> Url {
    let mut url = request.realm.clone();
    let mut query = url.query_pairs_mut();
    if let Some(service) = &request.service {
        query.append_pair("service", service);
    }
    // Scopes are parts between blanks here, and parameters of their own in the older form of the request.
    for scope in request.scope.split(' ').filter(|scope| !scope.is_empty()) {
        query.append_pair("scope", scope);
    }
    drop(query);
    url
}

fn form(request: &Request<'_>, refresh_token: &str) -> String {
    let mut url = request.realm.clone();
    url.set_query(None);
    let mut pairs = url.query_pairs_mut();
    pairs.append_pair("grant_type", "refresh_token").append_pair("refresh_token", refresh_token);
    pairs.append_pair("client_id", CLIENT_ID).append_pair("scope", &request.scope);
    if let Some(service) = &request.service {
        pairs.append_pair("service", service);
    }
    drop(pairs);
    url.query().unwrap_or_default().to_owned()
}

/// `Bearer …`, marked so that no log shows it; none if it cannot be a header.
pub(super) fn bearer(token: &str) -> Option<HeaderValue> {
    sensitive(format!("Bearer {token}"))
}

/// `Basic …`, marked likewise.
pub(super) fn basic(username: &str, password: &Secret) -> Option<HeaderValue> {
    let pair = format!("{username}:{}", password.expose());
    sensitive(format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair)))
}

fn sensitive(text: String) -> Option<HeaderValue> {
    let mut value = HeaderValue::try_from(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}
