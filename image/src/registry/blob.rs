//! A blob's bytes as they arrive, from an offset on.

use bytes::Bytes;
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE};
use reqwest::{Response, StatusCode};

use super::answer::{shown, unreachable_error};
use super::error::RegistryError;
use super::manifest::Descriptor;

/// A blob being received. Its total length is checked as far as the header tells it; its digest is the reader's part.
pub(crate) struct BlobStream {
    response: Response,
    /// Bytes to be thrown away because the server began at the beginning.
    skip: u64,
}

/// What an answer's head says about its body, when bytes from `offset` on were asked for.
#[derive(Debug, PartialEq, Eq)]
enum Plan {
    /// It is what was asked for.
    Use,
    /// It is the whole blob: so many bytes are known already.
    Skip(u64),
    /// It is another range.
    WrongRange,
    /// It will have another length; this is the whole blob's length by it.
    WrongSize(u64),
}

impl BlobStream {
    pub(super) fn new(response: Response, blob: &Descriptor, offset: u64) -> Result<Self, RegistryError> {
        let text = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
        let partial = response.status() == StatusCode::PARTIAL_CONTENT;
        let length = text(CONTENT_LENGTH).and_then(|value| value.parse().ok());
        let range = text(CONTENT_RANGE).and_then(parse_range);
        match plan(partial, range, length, (offset, blob.size)) {
            Plan::Use => Ok(Self { response, skip: 0 }),
            Plan::Skip(skip) => Ok(Self { response, skip }),
            Plan::WrongRange => Err(RegistryError::Range { url: shown(response.url()), offset }),
            Plan::WrongSize(actual) => Err(RegistryError::Size { expected: blob.size, actual }),
        }
    }

    /// The next bytes; none at the end of what the server sends.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, RegistryError> {
        loop {
            let url = self.response.url().clone();
            let piece = self.response.chunk().await.map_err(|error| unreachable_error(&url, error))?;
            let Some(mut piece) = piece else { return Ok(None) };
            let known = usize::try_from(self.skip).map_or(piece.len(), |skip| skip.min(piece.len()));
            self.skip -= known as u64;
            let fresh = piece.split_off(known);
            if !fresh.is_empty() {
                return Ok(Some(fresh));
            }
        }
    }

    /// Where it comes from, for messages.
    pub(crate) fn url(&self) -> String {
        shown(self.response.url())
    }
}

fn plan(partial: bool, range: Option<Range>, length: Option<u64>, (offset, size): (u64, u64)) -> Plan {
    if partial {
        return match range {
            Some(range) if range.first != offset => Plan::WrongRange,
            Some(Range { total: Some(total), .. }) if total != size => Plan::WrongSize(total),
            Some(range) if range.last.checked_add(1) != Some(size) => Plan::WrongRange,
            Some(_) => Plan::Use,
            None => Plan::WrongRange,
        };
    }
    match length {
        Some(length) if length != size => Plan::WrongSize(length),
        _ if offset > 0 => Plan::Skip(offset),
        _ => Plan::Use,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    first: u64,
    last: u64,
    total: Option<u64>,
}

/// `bytes first-last/total` (RFC 9110 section 14.4).
fn parse_range(text: &str) -> Option<Range> {
    let (span, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = span.split_once('-')?;
    let total = if total == "*" { None } else { Some(total.parse().ok()?) };
    Some(Range { first: first.parse().ok()?, last: last.parse().ok()?, total })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_asked_range_of_the_right_blob_is_used() {
        let range = |text: &str| parse_range(text);
        let cases = [
            (false, None, Some(100), (0, 100), Plan::Use),
            (false, None, None, (0, 100), Plan::Use),
            (false, None, Some(99), (0, 100), Plan::WrongSize(99)),
            (false, None, Some(100), (40, 100), Plan::Skip(40)),
            (true, range("bytes 40-99/100"), Some(60), (40, 100), Plan::Use),
            (true, range("bytes 40-99/*"), Some(60), (40, 100), Plan::Use),
            (true, range("bytes 0-99/100"), Some(100), (40, 100), Plan::WrongRange),
            (true, range("bytes 40-98/100"), None, (40, 100), Plan::WrongRange),
            (true, range("bytes 40-199/200"), None, (40, 100), Plan::WrongSize(200)),
            (true, range("bytes 40-18446744073709551615/*"), None, (40, 100), Plan::WrongRange),
            (true, range("bytes x-99/100"), None, (40, 100), Plan::WrongRange),
            (true, None, None, (40, 100), Plan::WrongRange),
        ];
        for (partial, range, length, wanted, expected) in cases {
            assert_eq!(
                plan(partial, range, length, wanted),
                expected,
                "{partial} {range:?} {length:?} {wanted:?}"
            );
        }
    }
}
