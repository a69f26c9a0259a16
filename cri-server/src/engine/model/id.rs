//! The id of a pod or container: 64 lower-case hexadecimal digits, as every client of this field expects.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Number of hexadecimal digits in an id.
const DIGITS: usize = 64;

/// A pod's or container's id. It names folders and cgroups, so nothing but hexadecimal digits gets in.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Id(String);

/// A text that is no id.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an id: 64 lower-case hexadecimal digits are expected")]
pub struct IdError(String);

impl Id {
    /// A new random id.
    ///
    /// # Errors
    /// When the kernel's random source cannot be read.
    pub fn random() -> std::io::Result<Self> {
        let mut bytes = [0_u8; DIGITS / 2];
        std::io::Read::read_exact(&mut std::fs::File::open("/dev/urandom")?, &mut bytes)?;
        Ok(Self(bytes.iter().map(|byte| format!("{byte:02x}")).collect()))
    }

    /// The whole id.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first twelve digits, as people see them in lists and messages.
    #[must_use]
    pub fn short(&self) -> &str {
        &self.0[..12]
    }
}

impl TryFrom<String> for Id {
    type Error = IdError;

    fn try_from(text: String) -> Result<Self, IdError> {
        let hexadecimal = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if text.len() == DIGITS && text.bytes().all(hexadecimal) {
            Ok(Self(text))
        } else {
            Err(IdError(text))
        }
    }
}

impl From<Id> for String {
    fn from(id: Id) -> Self {
        id.0
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.short())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_ids_are_ids_and_differ() {
        let (one, two) = (Id::random().unwrap(), Id::random().unwrap());
        assert_ne!(one, two);
        assert_eq!(Id::try_from(one.as_str().to_owned()), Ok(one));
    }

    #[test]
    fn what_could_be_a_path_is_no_id() {
        for text in ["", "../../etc", &"A".repeat(64), &"a".repeat(63), &format!("{}/", "a".repeat(63))] {
            assert!(Id::try_from(text.to_owned()).is_err(), "{text}");
        }
    }
}
