//! Checks of single values. A refusal names the field as the `.proto` file does, shows the value and says what would
//! be right.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use crate::engine::{EngineError, Result};

/// PATH_MAX of Linux without its terminating zero.
const MAX_PATH_BYTES: usize = 4095;

/// Longest part of a pod's or container's name; Kubernetes allows 253.
const MAX_NAME_BYTES: usize = 253;

/// Longest wait taken literally, a year; adding an endless one to a clock would overflow it.
const MAX_WAIT_S: u64 = 365 * 24 * 60 * 60;

/// `value` of `field` is refused because of `why`.
pub(in crate::cri) fn refused(field: &str, value: impl Debug, why: &str) -> EngineError {
    EngineError::Invalid { what: format!("{field} {value:?}"), why: why.to_owned() }
}

/// `field` asks for something that is not built.
pub(in crate::cri) fn unsupported(field: &str, why: &str) -> EngineError {
    EngineError::Unsupported { what: field.to_owned(), why: why.to_owned() }
}

/// A message that has to be there.
pub(in crate::cri) fn present<T>(field: &str, value: Option<T>) -> Result<T> {
    value.ok_or_else(|| EngineError::Invalid {
        what: format!("a request without {field}"),
        why: "the field is required".to_owned(),
    })
}

/// A number of an enumeration. proto3 lets any number through; one that is not known here cannot be honoured.
pub(in crate::cri) fn known<E: TryFrom<i32>>(field: &str, number: i32) -> Result<E> {
    E::try_from(number).map_err(|_| refused(field, number, "this version of the CRI knows no such value"))
}

/// A text that has to be there.
pub(in crate::cri) fn filled<'a>(field: &str, text: &'a str) -> Result<&'a str> {
    if text.is_empty() { present(field, None) } else { Ok(text) }
}

/// A text of one line: it may be written into a file or a log without becoming two entries of it.
pub(in crate::cri) fn line(field: &str, text: String) -> Result<String> {
    if text.chars().any(char::is_control) {
        return Err(refused(field, text, "control characters are not allowed"));
    }
    Ok(text)
}

/// A text without white space and control characters, not empty.
pub(in crate::cri) fn word(field: &str, text: String) -> Result<String> {
    if text.is_empty() || text.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(refused(field, text, "one word is expected, without blanks and control characters"));
    }
    Ok(text)
}

/// A part of a pod's or container's name.
pub(in crate::cri) fn name(field: &str, text: String) -> Result<String> {
    filled(field, &text)?;
    if text.len() > MAX_NAME_BYTES || text.contains('/') || text.chars().any(char::is_control) {
        return Err(refused(
            field,
            text,
            "at most 253 bytes are expected, no slash and no control character",
        ));
    }
    Ok(text)
}

/// Texts that become a program's arguments: the kernel ends each at its first zero byte. They may hold secrets, so a
/// refusal tells which one it is and not what it says.
pub(in crate::cri) fn arguments(field: &str, texts: Vec<String>) -> Result<Vec<String>> {
    match texts.iter().position(|text| text.contains('\0')) {
        Some(index) => Err(refused(field, index, "a zero byte would end this argument early")),
        None => Ok(texts),
    }
}

/// An absolute path.
pub(in crate::cri) fn absolute_path(field: &str, text: &str) -> Result<PathBuf> {
    if !text.starts_with('/') {
        return Err(refused(field, text, "an absolute path is expected"));
    }
    path(field, text)
}

/// An absolute path, or nothing.
pub(in crate::cri) fn optional_absolute_path(field: &str, text: &str) -> Result<Option<PathBuf>> {
    if text.is_empty() { Ok(None) } else { absolute_path(field, text).map(Some) }
}

/// A path that stays below the folder it is relative to, or nothing.
pub(in crate::cri) fn optional_path_below(field: &str, text: &str) -> Result<Option<PathBuf>> {
    if text.is_empty() {
        return Ok(None);
    }
    let path = path(field, text)?;
    if !path.components().all(|part| matches!(part, Component::Normal(_))) {
        return Err(refused(field, text, "a relative path without `..` is expected"));
    }
    Ok(Some(path))
}

/// Whether a path contains `..`, so that where it leads depends on what is there.
pub(in crate::cri) fn climbs(path: &Path) -> bool {
    path.components().any(|part| part == Component::ParentDir)
}

fn path(field: &str, text: &str) -> Result<PathBuf> {
    if text.len() > MAX_PATH_BYTES {
        return Err(refused(field, &text[..text.floor_char_boundary(64)], "a path has at most 4095 bytes"));
    }
    line(field, text.to_owned()).map(PathBuf::from)
}

/// A user or group id. The greatest number is not one: to the kernel it means "leave it as it is".
pub(in crate::cri) fn user_or_group_id(field: &str, number: i64) -> Result<u32> {
    let id = u32::try_from(number).ok().filter(|id| *id != u32::MAX);
    id.ok_or_else(|| refused(field, number, "an id from 0 to 4294967294 is expected"))
}

/// A count of seconds.
pub(in crate::cri) fn seconds(field: &str, number: i64) -> Result<Duration> {
    let seconds = u64::try_from(number).map_err(|_| refused(field, number, "seconds are counted from 0"))?;
    Ok(Duration::from_secs(seconds.min(MAX_WAIT_S)))
}

/// Labels and annotations in a fixed order, so that what is recorded and printed does not depend on a hash.
pub(in crate::cri) fn ordered(map: HashMap<String, String>) -> BTreeMap<String, String> {
    map.into_iter().collect()
}

/// Labels and annotations as a message has them.
pub(in crate::cri) fn map(map: &BTreeMap<String, String>) -> HashMap<String, String> {
    map.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_absolute_or_stay_below() {
        for (text, absolute, below) in [
            ("/a/b", true, false),
            ("a/b", false, true),
            ("a/../b", false, false),
            ("../a", false, false),
            ("./a", false, false),
            ("a\nb", false, false),
            ("/a\0b", false, false),
        ] {
            assert_eq!(absolute_path("f", text).is_ok(), absolute, "{text:?}");
            assert_eq!(optional_path_below("f", text).is_ok(), below, "{text:?}");
        }
        assert!(absolute_path("f", "").is_err());
        assert!(absolute_path("f", &format!("/{}", "a".repeat(MAX_PATH_BYTES))).is_err());
        assert_eq!(optional_absolute_path("f", "").unwrap(), None);
        assert_eq!(optional_path_below("f", "").unwrap(), None);
    }

    #[test]
    fn ids_are_what_the_kernel_takes_for_one() {
        for (number, expected) in [
            (0, Some(0)),
            (4_294_967_294, Some(4_294_967_294)),
            (-1, None),
            (4_294_967_295, None),
            (4_294_967_296, None),
            (i64::MIN, None),
        ] {
            assert_eq!(user_or_group_id("f", number).ok(), expected, "{number}");
        }
    }

    #[test]
    fn texts_that_would_become_two_entries_are_refused() {
        for (text, is_line, is_word, is_name) in [
            ("a", true, true, true),
            ("a b", true, false, true),
            ("a/b", true, true, false),
            ("a\nb", false, false, false),
            ("", true, false, false),
        ] {
            assert_eq!(line("f", text.into()).is_ok(), is_line, "{text:?}");
            assert_eq!(word("f", text.into()).is_ok(), is_word, "{text:?}");
            assert_eq!(name("f", text.into()).is_ok(), is_name, "{text:?}");
        }
        assert!(name("f", "a".repeat(254)).is_err());
        assert!(arguments("f", vec!["ok\n".into()]).is_ok());
        assert!(arguments("f", vec!["ok".into(), "a\0".into()]).is_err());
    }

    #[test]
    fn waits_are_not_negative_and_end() {
        assert_eq!(seconds("f", 30).unwrap(), Duration::from_secs(30));
        assert!(seconds("f", -1).is_err());
        assert_eq!(seconds("f", i64::MAX).unwrap(), Duration::from_secs(MAX_WAIT_S));
    }

    #[test]
    fn a_refusal_names_field_value_and_remedy() {
        let error = user_or_group_id("security_context.run_as_user", -1).unwrap_err().to_string();
        assert_eq!(
            error,
            "security_context.run_as_user -1 is refused: an id from 0 to 4294967294 is expected"
        );
    }
}
