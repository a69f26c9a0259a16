//! Names of devices of the Container Device Interface: `vendor/class=device`.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Longest part of a name; the specification allows a vendor 253 characters.
const MAX_PART_BYTES: usize = 253;

/// A whole name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct CdiName {
    kind: String,
    device: String,
}

/// A text that is no such name.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not of the form vendor/class=device")]
pub(crate) struct CdiNameError(String);

impl CdiName {
    /// `vendor/class`.
    #[must_use]
    pub(crate) fn kind(&self) -> &str {
        &self.kind
    }

    /// The device's name within its kind.
    #[must_use]
    pub(crate) fn device(&self) -> &str {
        &self.device
    }

    /// Whether `text` is `vendor/class`.
    #[must_use]
    pub(crate) fn is_kind(text: &str) -> bool {
        let part = |text: &str| is_part(text, "_-.") && text.starts_with(|c: char| c.is_ascii_alphabetic());
        text.split_once('/').is_some_and(|(vendor, class)| part(vendor) && part(class))
    }

    /// Whether `text` can be a device's name.
    #[must_use]
    pub(crate) fn is_device(text: &str) -> bool {
        is_part(text, "_-.:")
    }
}

/// Letters and digits with some of `marks` between them.
fn is_part(text: &str, marks: &str) -> bool {
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    text.len() <= MAX_PART_BYTES
        && edge(text.chars().next())
        && edge(text.chars().next_back())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || marks.contains(c))
}

impl TryFrom<String> for CdiName {
    type Error = CdiNameError;

    fn try_from(text: String) -> Result<Self, CdiNameError> {
        match text.split_once('=') {
            Some((kind, device)) if Self::is_kind(kind) && Self::is_device(device) => {
                Ok(Self { kind: kind.to_owned(), device: device.to_owned() })
            }
            _ => Err(CdiNameError(text)),
        }
    }
}

impl From<CdiName> for String {
    fn from(name: CdiName) -> Self {
        name.to_string()
    }
}

impl fmt::Display for CdiName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.kind, self.device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_three_parts() {
        for good in ["vendor.com/gpu=0", "v/c=d", "Vendor-1_a.com/g.p-u=all", "v.com/c=mig0:1.2"] {
            let name = CdiName::try_from(good.to_owned()).unwrap();
            assert_eq!(String::from(name), good);
        }
        for bad in [
            "",
            "gpu",
            "vendor.com/gpu",
            "vendor.com=0",
            "vendor.com/gpu=",
            "/gpu=0",
            "vendor.com/=0",
            "vendor.com/gpu/x=0",
            "1vendor/gpu=0",
            "vendor/1gpu=0",
            "vendor-/gpu=0",
            "vendor/gpu=-",
            "vendor/gpu=0=1",
            "vendor/gpu=a b",
            "vendor/gpu=é",
            "/dev/null",
        ] {
            assert!(CdiName::try_from(bad.to_owned()).is_err(), "{bad:?}");
        }
    }
}
