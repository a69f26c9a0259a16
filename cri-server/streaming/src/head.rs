//! The head of a client's request, and which protocol it asks for.

use std::io;

use tokio::io::{AsyncBufRead, AsyncBufReadExt};

/// Most bytes of a head.
const HEAD_BYTES: usize = 16 * 1024;
/// Most header lines.
const LINES: usize = 64;

/// What matters of a request's head.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Head {
    pub method: String,
    pub path: String,
    headers: Vec<(String, String)>,
}

impl Head {
    /// Reads a head, and not a byte of what the client may have sent behind it. `None` for what is no head.
    pub(crate) async fn read(reader: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Option<Self>> {
        let mut bytes = Vec::with_capacity(4096);
        loop {
            let (known, more) = (bytes.len(), reader.fill_buf().await?);
            let fresh = more.len();
            bytes.extend_from_slice(&more[..fresh.min(HEAD_BYTES - known)]);
            match Self::parse(&bytes) {
                Ok(Some((head, length))) => {
                    reader.consume(length - known);
                    return Ok(Some(head));
                }
                Ok(None) if fresh > 0 && bytes.len() < HEAD_BYTES => reader.consume(fresh),
                _ => return Ok(None),
            }
        }
    }

    fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, httparse::Error> {
        let mut lines = [httparse::EMPTY_HEADER; LINES];
        let mut request = httparse::Request::new(&mut lines);
        let httparse::Status::Complete(length) = request.parse(bytes)? else { return Ok(None) };
        let path = request.path.unwrap_or_default().split('?').next().unwrap_or_default().to_owned();
        let pair = |line: &httparse::Header<'_>| {
            (line.name.to_ascii_lowercase(), String::from_utf8_lossy(line.value).trim().to_owned())
        };
        let headers = request.headers.iter().map(pair).collect();
        Ok(Some((Self { method: request.method.unwrap_or_default().to_owned(), path, headers }, length)))
    }

    /// The values of a header that may stand several times and hold lists.
    pub(crate) fn list<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let lines = self.headers.iter().filter(move |(key, _)| key == name);
        lines.flat_map(|(_, value)| value.split(',')).map(str::trim).filter(|value| !value.is_empty())
    }

    /// The value of a header that stands once.
    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Whether the client wants to go on with `protocol`.
    pub(crate) fn upgrades_to(&self, protocol: &str) -> bool {
        self.list("connection").any(|value| value.eq_ignore_ascii_case("upgrade"))
            && self.list("upgrade").any(|value| value.eq_ignore_ascii_case(protocol))
    }
}
