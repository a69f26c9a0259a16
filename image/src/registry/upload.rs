//! The way up: blobs in one request or in pieces, blobs the registry has elsewhere, manifests (distribution
//! specification 1.1, "Push").

use bytes::Bytes;
use reqwest::header::{
    CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION,
};
use reqwest::{Method, Response, StatusCode, Url};

use super::answer::shown;
use super::error::RegistryError;
use super::session::{Ask, Session};
use crate::reference::Digest;

/// Largest piece a registry may insist on; a piece is held in memory.
const MAX_PIECE_BYTES: usize = 64 << 20;
const MIN_PIECE: HeaderName = HeaderName::from_static("oci-chunk-min-length");

/// What came of beginning an upload.
pub(crate) enum Begun {
    /// There is nothing to upload: the registry took the blob from another of its repositories.
    Mounted,
    /// The registry waits for it.
    Upload(Upload),
}

/// An upload under way.
pub(crate) struct Upload {
    session: Session,
    location: Url,
    done: u64,
    least_piece: usize,
}

impl Session {
    /// Whether the repository has the blob.
    pub(crate) async fn has_blob(&self, digest: &Digest) -> Result<bool, RegistryError> {
        let ask = Ask { method: Method::HEAD, ..Ask::default() };
        match self.in_time(self.send(&format!("blobs/{digest}"), &ask)).await {
            Ok(_) => Ok(true),
            Err(RegistryError::NotFound) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Begin an upload; with `mount`, a blob and a repository, of a blob that the registry may have there.
    pub(crate) async fn begin_upload(&self, mount: Option<(&Digest, &str)>) -> Result<Begun, RegistryError> {
        let path = match mount {
            None => "blobs/uploads/".to_owned(),
            Some((digest, from)) => format!("blobs/uploads/?mount={digest}&from={from}"),
        };
        let ask = Ask { method: Method::POST, ..Ask::default() };
        let response = self.in_time(self.send(&path, &ask)).await?;
        if response.status() == StatusCode::CREATED {
            return Ok(Begun::Mounted);
        }
        let least = response.headers().get(MIN_PIECE).and_then(|value| value.to_str().ok()?.parse().ok());
        let least_piece = least.unwrap_or(0).min(MAX_PIECE_BYTES);
        let location = location(&response)?;
        Ok(Begun::Upload(Upload { session: self.clone(), location, done: 0, least_piece }))
    }

    /// Put a manifest under `name`, a tag or its digest.
    pub(crate) async fn put_manifest(
        &self,
        name: &str,
        media_type: &str,
        manifest: Vec<u8>,
    ) -> Result<(), RegistryError> {
        let kind = HeaderValue::try_from(media_type)
            .map_err(|_| RegistryError::Malformed { url: self.host().to_owned(), what: "a media type" })?;
        let headers = [(CONTENT_TYPE, kind)].into_iter().collect();
        let ask = Ask { method: Method::PUT, headers, body: manifest.into() };
        self.in_time(self.send(&format!("manifests/{name}"), &ask)).await.map(drop)
    }
}

impl Upload {
    /// The least length of a piece that is not the last.
    pub(crate) fn least_piece(&self) -> usize {
        self.least_piece
    }

    /// Send the next piece.
    pub(crate) async fn piece(&mut self, bytes: Bytes) -> Result<(), RegistryError> {
        let length = bytes.len() as u64;
        let span = format!("{}-{}", self.done, (self.done + length).saturating_sub(1));
        let mut headers = octets(length);
        headers.insert(CONTENT_RANGE, value(&span));
        let ask = Ask { method: Method::PATCH, headers, body: bytes };
        let response = self.session.send_to(self.location.clone(), &ask).await?;
        self.location = location(&response)?;
        self.done += length;
        Ok(())
    }

    /// Send the last piece, which may be empty; the registry compares the whole with `digest`.
    pub(crate) async fn finish(self, digest: &Digest, bytes: Bytes) -> Result<(), RegistryError> {
        let mut url = self.location;
        url.query_pairs_mut().append_pair("digest", &digest.to_string());
        let length = bytes.len() as u64;
        let mut headers = octets(length);
        if length > 0 && self.done > 0 {
            headers.insert(CONTENT_RANGE, value(&format!("{}-{}", self.done, self.done + length - 1)));
        }
        let ask = Ask { method: Method::PUT, headers, body: bytes };
        self.session.send_to(url, &ask).await.map(drop)
    }
}

fn octets(length: u64) -> HeaderMap {
    let kind = HeaderValue::from_static("application/octet-stream");
    [(CONTENT_TYPE, kind), (CONTENT_LENGTH, HeaderValue::from(length))].into_iter().collect()
}

fn value(text: &str) -> HeaderValue {
    HeaderValue::try_from(text).expect("digits and a dash are a header's value")
}

/// Where the upload goes on.
fn location(response: &Response) -> Result<Url, RegistryError> {
    let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
    let url = location.and_then(|location| response.url().join(location).ok());
    url.ok_or_else(|| RegistryError::Malformed { url: shown(response.url()), what: "a place to upload to" })
}
