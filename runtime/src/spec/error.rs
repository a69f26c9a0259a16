//! Why a specification cannot be carried out.

use std::fmt::Display;

/// A specification that is refused before anything has been touched.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SpecError {
    #[error("container id {0:?} is not 1 to 255 characters of [A-Za-z0-9_+.-]")]
    Id(String),
    #[error("{0} is missing")]
    Missing(&'static str),
    #[error("{field} has the invalid value {value:?}")]
    Value { field: String, value: String },
    #[error("{0} is not supported yet")]
    Unsupported(String),
    #[error("{0} needs a {1} namespace of the container's own")]
    NeedsNamespace(&'static str, &'static str),
    #[error("sysctl {name} would reach beyond the container{hint}")]
    Sysctl { name: String, hint: &'static str },
}

impl SpecError {
    pub(crate) fn value(field: impl Into<String>, value: impl Display) -> Self {
        Self::Value { field: field.into(), value: value.to_string() }
    }
}
