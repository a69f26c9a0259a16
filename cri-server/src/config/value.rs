//! A setting's value before it has a type of its own.

use std::fmt;

/// One of the four shapes a setting can have in TOML.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    /// A string.
    Text(String),
    /// An integer.
    Integer(i64),
    /// `true` or `false`.
    Switch(bool),
    /// An array of strings.
    List(Vec<String>),
}

impl From<&Value> for toml::Value {
    fn from(value: &Value) -> Self {
        match value {
            Value::Text(text) => Self::String(text.clone()),
            Value::Integer(number) => Self::Integer(*number),
            Value::Switch(on) => Self::Boolean(*on),
            Value::List(items) => Self::Array(items.iter().cloned().map(Self::String).collect()),
        }
    }
}

/// As TOML.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        toml::Value::from(self).fmt(f)
    }
}
