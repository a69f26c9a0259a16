//! The grammar of references (distribution specification, "Pulling manifests"; names as the Docker command line reads
//! them). Pure and without allocation, so that any text may be fed to it.

use super::{DigestError, shorten};

/// Longest name (registry and repository together) in characters.
pub(super) const MAX_NAME_CHARS: usize = 255;
/// Longest tag in characters.
const MAX_TAG_CHARS: usize = 128;

/// Why a text is not an image reference.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// No name at all.
    #[error("image reference {0:?} has no name")]
    Empty(String),
    /// A name of more than 255 characters.
    #[error("image name {0:?} is longer than {MAX_NAME_CHARS} characters")]
    TooLong(String),
    /// A registry that is no host name or address, with or without a port.
    #[error("registry {0:?} is not a host name or address with an optional port")]
    Registry(String),
    /// A repository outside `[a-z0-9]` parts joined by `.`, `_`, `__`, `-`, `/`.
    #[error("repository {0:?} may hold lower-case letters and digits, joined by single separators, only")]
    Repository(String),
    /// A tag outside `[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}`.
    #[error(
        "tag {0:?} may hold at most {MAX_TAG_CHARS} letters, digits, '_', '.' and '-', not starting with '.' or '-'"
    )]
    Tag(String),
    /// 64 hexadecimal digits: an image id, which no registry can be asked for.
    #[error("{0:?} is an image id, not a name that can be pulled")]
    ImageId(String),
    /// The part after `@`.
    #[error("image reference has a bad digest")]
    Digest(#[from] DigestError),
}

/// A reference cut into checked parts, not yet normalised; the digest is not checked.
pub(super) struct Parts<'a> {
    pub(super) registry: Option<&'a str>,
    pub(super) repository: &'a str,
    pub(super) tag: Option<&'a str>,
    pub(super) digest: Option<&'a str>,
}

/// Cut `text` into its parts.
pub(super) fn split(text: &str) -> Result<Parts<'_>, ReferenceError> {
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (text, None),
    };
    let after_last_slash = rest.rfind('/').map_or(0, |slash| slash + 1);
    let (name, tag) = match rest[after_last_slash..].find(':') {
        Some(colon) => (&rest[..after_last_slash + colon], Some(&rest[after_last_slash + colon + 1..])),
        None => (rest, None),
    };
    if name.is_empty() {
        return Err(ReferenceError::Empty(shorten(text)));
    }
    if name.len() > MAX_NAME_CHARS {
        return Err(ReferenceError::TooLong(shorten(name)));
    }
    if is_image_id(name) {
        return Err(ReferenceError::ImageId(name.to_owned()));
    }
    if let Some(bad) = tag.filter(|tag| !is_tag(tag)) {
        return Err(ReferenceError::Tag(shorten(bad)));
    }
    let (registry, repository) = split_registry(name);
    if let Some(bad) = registry.filter(|host| !is_registry(host)) {
        return Err(ReferenceError::Registry(shorten(bad)));
    }
    if !repository.split('/').all(is_component) {
        return Err(ReferenceError::Repository(shorten(repository)));
    }
    Ok(Parts { registry, repository, tag, digest })
}

/// The first part is a registry if nothing else could be meant: it has a dot, a colon or capitals, or is `localhost`.
fn split_registry(name: &str) -> (Option<&str>, &str) {
    match name.split_once('/') {
        Some((first, rest))
            if first == "localhost"
                || first.contains(['.', ':'])
                || first.bytes().any(|byte| byte.is_ascii_uppercase()) =>
        {
            (Some(first), rest)
        }
        _ => (None, name),
    }
}

fn is_image_id(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

fn is_tag(tag: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let bytes = tag.as_bytes();
    bytes.len() <= MAX_TAG_CHARS
        && bytes.first().is_some_and(|byte| word(*byte))
        && bytes.iter().all(|byte| word(*byte) || matches!(byte, b'.' | b'-'))
}

/// `host`, `host:port`, `[address]` or `[address]:port`.
pub(crate) fn is_registry(text: &str) -> bool {
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let Some((address, after)) = rest.split_once(']') else { return false };
        if address.parse::<std::net::Ipv6Addr>().is_err() {
            return false;
        }
        match after.strip_prefix(':') {
            Some(port) => (None, Some(port)),
            None if after.is_empty() => (None, None),
            None => return false,
        }
    } else {
        match text.split_once(':') {
            Some((host, port)) => (Some(host), Some(port)),
            None => (Some(text), None),
        }
    };
    host.is_none_or(|host| host.split('.').all(is_label)) && port.is_none_or(is_port)
}

fn is_label(label: &str) -> bool {
    let alphanumeric = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = label.as_bytes();
    alphanumeric(bytes.first())
        && alphanumeric(bytes.last())
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
}

fn is_port(port: &str) -> bool {
    port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok()
}

/// `[a-z0-9]+` joined by one of `.`, `_`, `__` or any number of `-`.
fn is_component(component: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = component.as_bytes();
    let ends = bytes.first().zip(bytes.last());
    ends.is_some_and(|(first, last)| plain(*first) && plain(*last))
        && bytes.split(|byte| plain(*byte)).all(|separator| {
            matches!(separator, b"" | b"." | b"_" | b"__") || separator.iter().all(|byte| *byte == b'-')
        })
}
