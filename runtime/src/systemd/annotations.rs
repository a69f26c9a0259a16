//! Annotations `org.systemd.property.NAME`, which runc's users know: properties of the scope, in GVariant's text format
//! (GLib, "GVariant Text Format").

use super::{Property, Value};
use crate::spec::SpecError;

const PREFIX: &str = "org.systemd.property.";
/// How deep arrays may be nested.
const MAX_DEPTH: usize = 4;
/// The shortest name of a property.
const MIN_NAME_BYTES: usize = 3;

/// The properties that annotations ask for.
pub(crate) fn properties<'a>(
    annotations: impl IntoIterator<Item = (&'a String, &'a String)>,
) -> Result<Vec<Property>, SpecError> {
    let asked = annotations.into_iter().filter_map(|(key, text)| Some((key.strip_prefix(PREFIX)?, text)));
    asked.map(|(name, text)| property(name, text)).collect()
}

fn property(name: &str, text: &str) -> Result<Property, SpecError> {
    let refused = || SpecError::value(format!("annotation {PREFIX}{name}"), text);
    if name.len() < MIN_NAME_BYTES || !name.bytes().all(|byte| byte.is_ascii_alphabetic()) {
        return Err(refused());
    }
    let mut parser = Parser { text };
    let value =
        parser.value(None, MAX_DEPTH).filter(|_| parser.text.trim().is_empty()).ok_or_else(refused)?;
    // systemd has times in microseconds only; unit files, and so people, write them in seconds.
    match name.strip_suffix("Sec").filter(|stem| !stem.ends_with('U')) {
        Some(stem) => Ok((format!("{stem}USec"), microseconds(&value).ok_or_else(refused)?)),
        None => Ok((name.to_owned(), value)),
    }
}

fn microseconds(seconds: &Value) -> Option<Value> {
    let whole = match seconds {
        Value::I16(value) => u64::try_from(*value).ok()?,
        Value::U16(value) => u64::from(*value),
        Value::I32(value) => u64::try_from(*value).ok()?,
        Value::U32(value) => u64::from(*value),
        Value::I64(value) => u64::try_from(*value).ok()?,
        Value::U64(value) => *value,
        Value::Double(value) => {
            let time = std::time::Duration::try_from_secs_f64(*value).ok()?;
            return u64::try_from(time.as_micros()).ok().map(Value::U64);
        }
        _ => return None,
    };
    whole.checked_mul(1_000_000).map(Value::U64)
}

/// What is left of a text.
struct Parser<'a> {
    text: &'a str,
}

impl Parser<'_> {
    /// A value, of the type with this signature if one is expected.
    fn value(&mut self, expected: Option<&str>, depth: usize) -> Option<Value> {
        self.text = self.text.trim_start();
        match self.text.chars().next()? {
            '\'' | '"' => typed_text(expected, self.quoted()?),
            '[' => self.array(expected, depth.checked_sub(1)?),
            '@' => {
                let (signature, rest) = self.text[1..].split_once(' ')?;
                self.text = rest;
                let signature = signature.to_owned();
                self.value(Some(&signature), depth)
            }
            _ => {
                let word = self.word();
                match (type_of(&word), expected) {
                    (Some(signature), None) => self.value(Some(signature), depth),
                    (Some(_), Some(_)) => None,
                    (None, expected) => plain(expected, &word),
                }
            }
        }
    }

    /// Elements of one type: the first one's, unless it is known.
    fn array(&mut self, expected: Option<&str>, depth: usize) -> Option<Value> {
        let mut element =
            expected.map(|signature| signature.strip_prefix('a').unwrap_or(signature).to_owned());
        self.text = self.text[1..].trim_start();
        let mut values = Vec::new();
        while !self.skip(']') {
            if !values.is_empty() && !self.skip(',') {
                return None;
            }
            let value = self.value(element.as_deref(), depth)?;
            let signature = value.signature();
            if *element.get_or_insert_with(|| signature.clone()) != signature {
                return None;
            }
            values.push(value);
        }
        // Without a type, an array of nothing is an array of anything.
        Some(Value::Array(element?, values))
    }

    fn skip(&mut self, wanted: char) -> bool {
        self.text = self.text.trim_start();
        match self.text.strip_prefix(wanted) {
            Some(rest) => {
                self.text = rest;
                true
            }
            None => false,
        }
    }

    fn word(&mut self) -> String {
        let end = self.text.find([' ', ',', ']', '\'', '"', '[']).unwrap_or(self.text.len());
        let (word, rest) = self.text.split_at(end);
        self.text = rest;
        word.to_owned()
    }

    fn quoted(&mut self) -> Option<String> {
        let quote = self.text.chars().next()?;
        let mut value = String::new();
        let mut rest = self.text[1..].chars();
        loop {
            match rest.next()? {
                '\\' => value.push(match rest.next()? {
                    'n' => '\n',
                    't' => '\t',
                    other => other,
                }),
                end if end == quote => break,
                other => value.push(other),
            }
        }
        self.text = rest.as_str();
        Some(value).filter(|value| !value.contains('\0'))
    }
}

/// The signature of a type that is named before a value.
fn type_of(word: &str) -> Option<&'static str> {
    let names = [
        ("boolean", "b"),
        ("byte", "y"),
        ("int16", "n"),
        ("uint16", "q"),
        ("int32", "i"),
        ("uint32", "u"),
        ("int64", "x"),
        ("uint64", "t"),
        ("double", "d"),
        ("string", "s"),
        ("objectpath", "o"),
        ("signature", "g"),
    ];
    names.iter().find(|(name, _)| *name == word).map(|(_, signature)| *signature)
}

fn typed_text(expected: Option<&str>, text: String) -> Option<Value> {
    match expected {
        None | Some("s") => Some(Value::Text(text)),
        Some("o") => Some(Value::Path(text)),
        Some("g") => Some(Value::Signature(text)),
        Some(_) => None,
    }
}

/// A number or a truth value. Without a type, a whole number has 32 bits.
fn plain(expected: Option<&str>, word: &str) -> Option<Value> {
    let is_whole = || word.bytes().all(|byte| byte.is_ascii_digit() || b"+-".contains(&byte));
    match (expected, word) {
        (None | Some("b"), "true" | "false") => Some(Value::Bool(word == "true")),
        (None | Some("i"), _) if is_whole() => word.parse().ok().map(Value::I32),
        (None | Some("d"), _) => word.parse().ok().map(Value::Double),
        (Some("y"), _) => word.parse().ok().map(Value::Byte),
        (Some("n"), _) => word.parse().ok().map(Value::I16),
        (Some("q"), _) => word.parse().ok().map(Value::U16),
        (Some("u"), _) => word.parse().ok().map(Value::U32),
        (Some("x"), _) => word.parse().ok().map(Value::I64),
        (Some("t"), _) => word.parse().ok().map(Value::U64),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_the_types_they_say() {
        let text = |text: &str| Value::Text(text.into());
        for (name, written, expected) in [
            ("TimeoutStopUSec", "uint64 123456789", ("TimeoutStopUSec", Value::U64(123_456_789))),
            ("TimeoutStopSec", "'x'", ("", Value::Bool(false))),
            ("TimeoutStopSec", "12", ("TimeoutStopUSec", Value::U64(12_000_000))),
            ("RuntimeMaxSec", "1.5", ("RuntimeMaxUSec", Value::U64(1_500_000))),
            ("CollectMode", "'inactive-or-failed'", ("CollectMode", text("inactive-or-failed"))),
            ("SendSIGHUP", "true", ("SendSIGHUP", Value::Bool(true))),
            ("KillSignal", "-5", ("KillSignal", Value::I32(-5))),
            (
                "After",
                "['a.service', \"b\\'c\"]",
                ("After", Value::Array("s".into(), vec![text("a.service"), text("b'c")])),
            ),
            ("PIDs", "[uint32 1, 2]", ("PIDs", Value::Array("u".into(), vec![Value::U32(1), Value::U32(2)]))),
            ("Wants", "@as []", ("Wants", Value::Array("s".into(), Vec::new()))),
        ] {
            match property(name, written) {
                Ok((name, value)) => assert_eq!((name.as_str(), value), expected, "{written}"),
                Err(_) => assert_eq!(expected.0, "", "{written}"),
            }
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for bad in [
            "",
            "'open",
            "[1, 'a']",
            "[",
            "1 2",
            "[]",
            "uint64 -1",
            "uint32 uint32 1",
            "[[[[[1]]]]]",
            "word",
            "byte 256",
        ] {
            assert!(property("Name", bad).is_err(), "{bad:?}");
        }
        assert!(property("X", "1").is_err() && property("A.B=", "1").is_err());
        assert_eq!(properties([(&"a".to_owned(), &"b".to_owned())]), Ok(Vec::new()), "not for systemd");
    }
}
