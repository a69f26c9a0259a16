//! `--log-opt`: what a container's log may be told, and what it adds to each line that `docker logs --details` shows. Pure.

use std::collections::BTreeMap;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::describe;
use super::request::{Create, LogConfig};
use crate::docker::refusal::Refusal;
use crate::engine::One;
use crate::engine::model::LogRotation;

/// The options of `json-file`.
const OF_JSON_FILE: &[&str] =
    &["max-file", "max-size", "compress", "labels", "labels-regex", "env", "env-regex", "tag"];

/// The options of `local`.
const OF_LOCAL: &[&str] = &["max-file", "max-size", "compress"];

/// What a `local` log has where nobody says otherwise.
const LOCAL: LogRotation = LogRotation { max_bytes: 20_000_000, files: 5 };

/// The most files of one log: a reader holds each of them open.
const MOST_FILES: u32 = 1_000;

/// What is not written as it is in a query, as in what `--details` shows.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Checks the options of a log, and takes from them when it begins another file.
///
/// # Errors
/// Where one is unknown, makes no sense or is not built.
pub(super) fn rotation(config: &LogConfig) -> Result<Option<LogRotation>, Refusal> {
    let (driver, known) = match config.r#type.as_str() {
        "" | "json-file" => ("json-file", OF_JSON_FILE),
        "local" => ("local", OF_LOCAL),
        "none" => return Ok(None),
        other => {
            let why = format!("error looking up logging plugin {other}: plugin {other:?} not found");
            return Err(Refusal::bad(why));
        }
    };
    check_mode(&config.config)?;
    let of_all = |key: &str| matches!(key, "mode" | "max-buffer-size");
    if let Some(key) = config.config.keys().find(|key| !of_all(key) && !known.contains(&key.as_str())) {
        return Err(Refusal::bad(match driver {
            "local" => format!("unknown log opt '{key}' for log driver local"),
            _ => format!("unknown log opt '{key}' for {driver} log driver"),
        }));
    }
    check_added(&config.config)?;
    sizes(driver, &config.config)
}

/// A line is written at once in either mode: the monitor waits for nobody but the file.
fn check_mode(options: &BTreeMap<String, String>) -> Result<(), Refusal> {
    let mode = options.get("mode").map_or("", String::as_str);
    match (mode, options.get("max-buffer-size")) {
        ("non-blocking", Some(text)) => bytes(text).map(drop).ok_or_else(|| {
            Refusal::bad(format!("error parsing option max-buffer-size: invalid size: '{text}'"))
        }),
        ("" | "blocking", Some(_)) => Err(Refusal::bad(
            "logger: max-buffer-size option is only supported with 'mode=non-blocking'".to_owned(),
        )),
        ("" | "blocking" | "non-blocking", None) => Ok(()),
        (other, _) => Err(Refusal::bad(format!("logger: logging mode not supported: {other}"))),
    }
}

/// Refuses what would be added to each line and is not built.
fn check_added(options: &BTreeMap<String, String>) -> Result<(), Refusal> {
    for key in ["labels-regex", "env-regex"] {
        if options.contains_key(key) {
            return Err(Refusal::not_built(format!("the log option {key}")));
        }
    }
    let tag = options.get("tag").map_or("", String::as_str);
    // What is left of a template when every word that is known is taken out of it.
    let rest = TAG_WORDS.iter().fold(tag.to_owned(), |rest, word| rest.replace(word, ""));
    if rest.contains("{{") {
        return Err(Refusal::not_built(format!("the log tag {tag:?}")));
    }
    Ok(())
}

fn sizes(driver: &str, options: &BTreeMap<String, String>) -> Result<Option<LogRotation>, Refusal> {
    let is_local = driver == "local";
    let fallback = is_local.then_some(LOCAL);
    let max_bytes = match options.get("max-size") {
        None => fallback.map(|rotation| rotation.max_bytes),
        Some(text) => match bytes(text) {
            None if is_local => {
                return Err(failed(&format!("invalid value for max-size: {text}: invalid size: '{text}'")));
            }
            None => return Err(failed(&format!("invalid size: '{text}'"))),
            Some(0) => return Err(failed("max-size must be a positive number")),
            some => some,
        },
    };
    let files = match options.get("max-file") {
        None => fallback.map_or(1, |rotation| i64::from(rotation.files)),
        Some(text) => {
            let wrong = |_| failed(&format!("strconv.Atoi: parsing \"{text}\": invalid syntax"));
            text.parse().map_err(wrong)?
        }
    };
    if !is_local && files < 1 {
        return Err(failed("max-file cannot be less than 1"));
    }
    check_compression(is_local, options, max_bytes.is_some() && files > 1)?;
    let files = u32::try_from(files).ok().filter(|files| (1..=MOST_FILES).contains(files));
    let files = files
        .ok_or_else(|| Refusal::not_built(format!("a log of none or of more than {MOST_FILES} files")))?;
    Ok(max_bytes.map(|max_bytes| LogRotation { max_bytes, files }))
}

/// What dockerd finds out only when it starts the container.
fn failed(why: &str) -> Refusal {
    Refusal::bad(format!("failed to initialize logging driver: {why}"))
}

/// Older files are kept as they are. A `local` log compresses them unless it is told not to, which is seen nowhere; who
/// asks `json-file` for it is told.
fn check_compression(
    is_local: bool,
    options: &BTreeMap<String, String>,
    has_older: bool,
) -> Result<(), Refusal> {
    let asked = match options.get("compress").map_or(if is_local { "1" } else { "0" }, String::as_str) {
        "0" | "f" | "F" | "false" | "FALSE" | "False" => false,
        "1" | "t" | "T" | "true" | "TRUE" | "True" => true,
        other => return Err(failed(&format!("strconv.ParseBool: parsing \"{other}\": invalid syntax"))),
    };
    match (asked, has_older, is_local) {
        (false, ..) | (true, true, true) => Ok(()),
        (true, true, false) => Err(Refusal::not_built("a log whose older files are compressed")),
        (true, false, true) => Err(failed("compression cannot be enabled when max file count is 1")),
        (true, false, false) => {
            Err(failed("compress cannot be true when max-file is less than 2 or max-size is not set"))
        }
    }
}

/// A size as people write it, `10m` or `1.5 kB`, in bytes: a unit is a thousand times the one before it.
fn bytes(text: &str) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit = unit.strip_prefix(' ').unwrap_or(unit).to_ascii_lowercase();
    let (prefix, suffix) = match unit.chars().next() {
        Some(first) if "kmgtp".contains(first) => (Some(first), &unit[1..]),
        _ => (None, unit.as_str()),
    };
    if !matches!(suffix, "" | "b" | "ib" | "i") {
        return None;
    }
    let power = prefix.and_then(|prefix| "kmgtp".find(prefix)).map_or(0, |at| at + 1);
    let number: f64 = number.parse().ok()?;
    // Far below 2^64, or saturated: nobody has such a disk.
    (number.is_finite() && number >= 0.0)
        .then(|| (number * 1000_f64.powi(i32::try_from(power).unwrap_or_default())) as u64)
}

/// What a tag may be made of.
const TAG_WORDS: [&str; 7] = [
    "{{.ID}}",
    "{{.FullID}}",
    "{{.Name}}",
    "{{.ImageName}}",
    "{{.ImageID}}",
    "{{.ImageFullID}}",
    "{{.DaemonName}}",
];

/// What the options of a container's log add to each of its lines: `name=value,name=value`.
pub(super) fn details(one: &One) -> String {
    let request = describe::request(one);
    let create: Create = serde_json::from_value(request.clone()).unwrap_or_default();
    let options = &create.host_config.log_config.config;
    let named = |key: &str| options.get(key).map(String::as_str).unwrap_or_default().split(',');
    let mut added: BTreeMap<String, String> = BTreeMap::new();
    for name in named("labels") {
        let value = one.container.config.labels.get(name);
        added.extend(value.map(|value| (name.to_owned(), value.clone())));
    }
    for name in named("env") {
        let variables = create.env.iter().filter_map(|variable| variable.split_once('='));
        let value = variables.filter(|(known, _)| *known == name).map(|(_, value)| value).next_back();
        added.extend(value.map(|value| (name.to_owned(), value.to_owned())));
    }
    if let Some(tag) = options.get("tag").filter(|tag| !tag.is_empty()) {
        added.insert("tag".to_owned(), tag_of(tag, one, &request["Image"]));
    }
    let escaped = |text: &str| utf8_percent_encode(text, ESCAPED).to_string().replace("%20", "+");
    let pairs = added.iter().map(|(name, value)| format!("{}={}", escaped(name), escaped(value)));
    pairs.collect::<Vec<_>>().join(",")
}

/// A tag with what its words stand for.
fn tag_of(template: &str, one: &One, image: &Value) -> String {
    let (id, image_id) = (one.container.id.as_str(), one.container.image.id.as_str());
    let bare = image_id.strip_prefix("sha256:").unwrap_or(image_id);
    let short = |id: &str| id.get(..12).unwrap_or(id).to_owned();
    let values = [
        short(id),
        id.to_owned(),
        one.name().to_owned(),
        image.as_str().unwrap_or_default().to_owned(),
        short(bare),
        image_id.to_owned(),
        "docker".to_owned(),
    ];
    TAG_WORDS.iter().zip(values).fold(template.to_owned(), |text, (word, value)| text.replace(word, &value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(driver: &str, options: &[(&str, &str)]) -> Result<Option<LogRotation>, Refusal> {
        let config = options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        rotation(&LogConfig { r#type: driver.to_owned(), config: config.collect() })
    }

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, expected) in [
            ("10", Some(10)),
            ("10k", Some(10_000)),
            ("10KiB", Some(10_000)),
            ("1.5m", Some(1_500_000)),
            ("2 gb", Some(2_000_000_000)),
            ("0", Some(0)),
            ("", None),
            ("-1", None),
            ("k", None),
            ("10x", None),
            ("10kk", None),
        ] {
            assert_eq!(bytes(text), expected, "{text:?}");
        }
    }

    #[test]
    fn a_log_is_rotated_as_its_driver_does() {
        let at = |max_bytes, files| Some(LogRotation { max_bytes, files });
        for (driver, options, expected) in [
            ("", &[][..], None),
            ("json-file", &[("max-file", "3")], None),
            ("json-file", &[("max-size", "1k")], at(1_000, 1)),
            ("json-file", &[("max-size", "1k"), ("max-file", "3"), ("mode", "non-blocking")], at(1_000, 3)),
            ("json-file", &[("labels", "a,b"), ("env", "c"), ("tag", "x-{{.Name}}")], None),
            ("local", &[], at(20_000_000, 5)),
            ("local", &[("max-size", "1k"), ("compress", "false")], at(1_000, 5)),
            ("none", &[("nosuch", "1")], None),
        ] {
            assert_eq!(asked(driver, options).unwrap(), expected, "{driver} {options:?}");
        }
    }

    #[test]
    fn what_is_unknown_senseless_or_not_built_is_refused() {
        for (driver, options, status) in [
            ("syslog", &[][..], 400),
            ("local", &[("max-file", "1")], 400),
            ("json-file", &[("nosuch", "1")], 400),
            ("local", &[("labels", "a")], 400),
            ("json-file", &[("max-size", "0")], 400),
            ("json-file", &[("max-size", "x")], 400),
            ("json-file", &[("max-size", "1k"), ("max-file", "0")], 400),
            ("json-file", &[("max-size", "1k"), ("max-file", "1001")], 501),
            ("json-file", &[("compress", "true")], 400),
            ("json-file", &[("max-size", "1k"), ("max-file", "2"), ("compress", "true")], 501),
            ("json-file", &[("env-regex", "a")], 501),
            ("json-file", &[("tag", "{{.Command}}")], 501),
            ("json-file", &[("mode", "nosuch")], 400),
            ("json-file", &[("max-buffer-size", "1m")], 400),
        ] {
            let refusal = asked(driver, options).unwrap_err();
            assert_eq!(refusal.status().as_u16(), status, "{driver} {options:?}: {}", refusal.message());
        }
    }
}
