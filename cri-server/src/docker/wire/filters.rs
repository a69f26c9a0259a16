//! The `filters` of a list: JSON, a map of lists or of maps.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::docker::refusal::Refusal;

/// What is filtered by, with the values any of which fits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::docker) struct Filters(BTreeMap<String, Vec<String>>);

/// A filter's values in one of its two forms; clients of before API 1.22 send lists.
#[derive(Deserialize)]
#[serde(untagged)]
enum Values {
    Map(BTreeMap<String, bool>),
    List(Vec<String>),
}

impl Filters {
    /// Of the value of `filters`, which may be empty.
    ///
    /// # Errors
    /// When it is no such JSON, or filters by something not in `known`.
    pub(in crate::docker) fn parse(text: &str, known: &[&str]) -> Result<Self, Refusal> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let parsed: Option<BTreeMap<String, Values>> =
            serde_json::from_str(text).map_err(|error| Refusal::bad(format!("invalid filter: {error}")))?;
        let mut filters = BTreeMap::new();
        for (key, values) in parsed.unwrap_or_default() {
            if !known.contains(&key.as_str()) {
                return Err(Refusal::bad(format!("invalid filter '{key}'")));
            }
            let values = match values {
                Values::Map(map) => map.into_iter().filter(|(_, on)| *on).map(|(value, _)| value).collect(),
                Values::List(list) => list,
            };
            filters.insert(key, values);
        }
        Ok(Self(filters))
    }

    /// The values for `key`; none when it is not filtered by.
    pub(in crate::docker) fn get(&self, key: &str) -> Option<&[String]> {
        self.0.get(key).map(Vec::as_slice).filter(|values| !values.is_empty())
    }

    /// These without `key`, which means something else to whoever asks.
    pub(in crate::docker) fn without(&self, key: &str) -> Self {
        Self(self.0.iter().filter(|(name, _)| *name != key).map(|(k, v)| (k.clone(), v.clone())).collect())
    }

    /// A yes-or-no filter, if it is set.
    ///
    /// # Errors
    /// When its value is neither, or it has both.
    pub(in crate::docker) fn flag(&self, key: &str) -> Result<Option<bool>, Refusal> {
        let Some(values) = self.get(key) else { return Ok(None) };
        match values {
            [one] if matches!(one.as_str(), "1" | "true" | "True" | "TRUE" | "t") => Ok(Some(true)),
            [one] if matches!(one.as_str(), "0" | "false" | "False" | "FALSE" | "f") => Ok(Some(false)),
            other => Err(Refusal::bad(format!("invalid filter '{key}={other:?}'"))),
        }
    }

    /// Whether labels fit: all of `label` (`key` or `key=value`).
    pub(in crate::docker) fn fits_labels<'a>(&self, find: impl Fn(&str) -> Option<&'a str>) -> bool {
        let fits = |wanted: &String| match wanted.split_once('=') {
            Some((key, value)) => find(key) == Some(value),
            None => find(wanted).is_some(),
        };
        self.get("label").is_none_or(|labels| labels.iter().all(fits))
            && self.get("label!").is_none_or(|labels| !labels.iter().any(fits))
    }
}

/// Whether `text` fits `pattern`, in which `*` stands for anything but a slash and `?` for one such character.
pub(in crate::docker) fn fits(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    // Where the last star was, and how far it reaches.
    let (mut at, mut from, mut star) = (0, 0, None);
    while from < text.len() {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at, from));
                at += 1;
            }
            Some('?') if text[from] != '/' => (at, from) = (at + 1, from + 1),
            Some(same) if *same == text[from] => (at, from) = (at + 1, from + 1),
            _ => match star {
                Some((back, reach)) if text[reach] != '/' => {
                    star = Some((back, reach + 1));
                    (at, from) = (back + 1, reach + 1);
                }
                _ => return false,
            },
        }
    }
    pattern[at..].iter().all(|rest| *rest == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &[&str] = &["dangling", "label", "label!"];

    #[test]
    fn both_forms_and_nothing_are_understood() {
        for text in [r#"{"label":{"a":true,"b":false}}"#, r#"{"label":["a"]}"#] {
            assert_eq!(Filters::parse(text, KNOWN).unwrap().get("label").unwrap(), ["a"], "{text}");
        }
        for text in ["", "{}", "null"] {
            assert_eq!(Filters::parse(text, KNOWN).unwrap(), Filters::default(), "{text}");
        }
    }

    #[test]
    fn what_is_unknown_or_malformed_is_a_bad_request() {
        for text in [r#"{"colour":["red"]}"#, "[", "7", r#"{"label":7}"#] {
            assert_eq!(Filters::parse(text, KNOWN).unwrap_err().status().as_u16(), 400, "{text}");
        }
        let both = Filters::parse(r#"{"dangling":["true","false"]}"#, KNOWN).unwrap();
        assert!(both.flag("dangling").is_err());
    }

    #[test]
    fn labels_fit_by_key_and_by_value() {
        let find = |key: &str| (key == "a").then_some("1");
        for (text, fits) in [
            (r#"{"label":["a"]}"#, true),
            (r#"{"label":["a=1"]}"#, true),
            (r#"{"label":["a=2"]}"#, false),
            (r#"{"label":["a","b"]}"#, false),
            (r#"{"label!":["a"]}"#, false),
            (r#"{"label!":["b"]}"#, true),
        ] {
            assert_eq!(Filters::parse(text, KNOWN).unwrap().fits_labels(find), fits, "{text}");
        }
    }

    #[test]
    fn patterns_stop_at_slashes() {
        for (pattern, text, expected) in [
            ("busy*", "busybox", true),
            ("*", "busybox", true),
            ("*", "a/b", false),
            ("*/b", "a/b", true),
            ("a*b*c", "aXbYbZc", true),
            ("a?c", "abc", true),
            ("a?c", "a/c", false),
            ("busybox", "busybox2", false),
            ("", "", true),
            ("**", "", true),
        ] {
            assert_eq!(fits(pattern, text), expected, "{pattern} {text}");
        }
    }
}
