//! Versions of the API: what a path asks for and what is answered.

use std::fmt;

use super::refusal::Refusal;

/// A version of the API, such as 1.44.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ApiVersion {
    major: u16,
    minor: u16,
}

impl ApiVersion {
    /// Version 1.`minor`.
    pub(super) const fn v1(minor: u16) -> Self {
        Self { major: 1, minor }
    }

    fn parse(text: &str) -> Option<Self> {
        let (major, minor) = text.strip_prefix('v')?.split_once('.')?;
        let number = |text: &str| {
            let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse().ok().filter(|_| plain)
        };
        Some(Self { major: number(major)?, minor: number(minor)? })
    }
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// The latest version that is spoken, and what a path without one means.
pub(super) const LATEST: ApiVersion = ApiVersion::v1(50);

/// The earliest version that is spoken: when Docker's API left out what nobody sends any more (1.24, Docker 1.12).
pub(super) const EARLIEST: ApiVersion = ApiVersion::v1(24);

/// The version a path asks for, and the path without it.
///
/// # Errors
/// When that version is not spoken, in dockerd's words.
pub(super) fn split(path: &str) -> Result<(ApiVersion, &str), Refusal> {
    let rest = path.strip_prefix('/').unwrap_or(path);
    let (first, tail) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    match ApiVersion::parse(first) {
        None => Ok((LATEST, path)),
        Some(version) if version > LATEST => Err(Refusal::bad(format!(
            "client version {version} is too new. Maximum supported API version is {LATEST}"
        ))),
        Some(version) if version < EARLIEST => Err(Refusal::bad(format!(
            "client version {version} is too old. Minimum supported API version is {EARLIEST}, please upgrade your client to a newer version"
        ))),
        Some(version) => Ok((version, tail)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_with_and_without_a_version() {
        for (path, expected) in [
            ("/v1.24/images/json", (ApiVersion::v1(24), "/images/json")),
            ("/v1.50/_ping", (LATEST, "/_ping")),
            ("/images/json", (LATEST, "/images/json")),
            ("/version", (LATEST, "/version")),
            ("/v1.x/images", (LATEST, "/v1.x/images")),
            ("/v1.+4/images", (LATEST, "/v1.+4/images")),
        ] {
            assert_eq!(split(path).unwrap(), expected, "{path}");
        }
    }

    #[test]
    fn versions_that_are_not_spoken_are_refused_in_dockerds_words() {
        for (path, words) in [
            ("/v1.51/info", "client version 1.51 is too new. Maximum supported API version is 1.50"),
            ("/v2.0/info", "client version 2.0 is too new"),
            ("/v1.23/info", "client version 1.23 is too old. Minimum supported API version is 1.24, please"),
        ] {
            let refusal = split(path).unwrap_err();
            assert_eq!(refusal.status().as_u16(), 400);
            assert!(refusal.message().starts_with(words), "{}", refusal.message());
        }
    }
}
