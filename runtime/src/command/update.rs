//! `update`: new limits, from a file or from options.

use std::io::Read;

use serde_json::{Map, Value};

use super::CommandError;
use super::arguments::{Arguments, Global, one_id};
use super::store::Folder;

/// What an option's value is.
enum Unit {
    Number,
    /// With an optional suffix b, k, m, g, t or p, of powers of 1024.
    Bytes,
    Text,
}

/// Options, and the fields of `linux.resources` they set.
const OPTIONS: [(&str, [&str; 2], Unit); 14] = [
    ("blkio-weight", ["blockIO", "weight"], Unit::Number),
    ("cpu-idle", ["cpu", "idle"], Unit::Number),
    ("cpu-period", ["cpu", "period"], Unit::Number),
    ("cpu-quota", ["cpu", "quota"], Unit::Number),
    ("cpu-burst", ["cpu", "burst"], Unit::Number),
    ("cpu-share", ["cpu", "shares"], Unit::Number),
    ("cpu-rt-period", ["cpu", "realtimePeriod"], Unit::Number),
    ("cpu-rt-runtime", ["cpu", "realtimeRuntime"], Unit::Number),
    ("cpuset-cpus", ["cpu", "cpus"], Unit::Text),
    ("cpuset-mems", ["cpu", "mems"], Unit::Text),
    ("memory", ["memory", "limit"], Unit::Bytes),
    ("memory-reservation", ["memory", "reservation"], Unit::Bytes),
    ("memory-swap", ["memory", "swap"], Unit::Bytes),
    ("pids-limit", ["pids", "limit"], Unit::Number),
];

/// `update`.
pub(super) fn command(arguments: &mut Arguments, global: &Global) -> Result<(), CommandError> {
    let (mut file, mut resources) = (None, Map::new());
    let positional = arguments.each(None, |mut option| {
        if matches!(option.name, "resources" | "r") {
            file = Some(option.value()?);
            return Ok(true);
        }
        let Some((name, [group, field], unit)) = OPTIONS.iter().find(|(name, ..)| *name == option.name)
        else {
            return Ok(false);
        };
        let value = parse(name, &option.value()?, unit)?;
        let group = resources.entry(*group).or_insert_with(|| Map::new().into());
        group[field] = value;
        Ok(true)
    })?;
    let id = one_id(positional)?;
    let record = Folder::open(&global.root, &id)?.read()?;
    if record.init().is_none() {
        return Err(CommandError::Status { id, status: "stopped", wanted: "created, running or paused" });
    }
    let text = match file {
        Some(path) => read(&path)?,
        None => Value::from(resources).to_string(),
    };
    Ok(cleat_runtime::update(&record.open_cgroup()?, &text)?)
}

fn read(path: &str) -> Result<String, CommandError> {
    if path == "-" {
        let mut text = String::new();
        let read = std::io::stdin().read_to_string(&mut text);
        return read.map(|_| text).map_err(|error| CommandError::System("read the resources", error));
    }
    std::fs::read_to_string(path).map_err(CommandError::file("read", path.as_ref()))
}

fn parse(option: &str, text: &str, unit: &Unit) -> Result<Value, CommandError> {
    let number = match unit {
        Unit::Text => return Ok(text.into()),
        Unit::Number => text.parse().ok(),
        Unit::Bytes => bytes(text),
    };
    number
        .map(|number: i64| number.into())
        .ok_or_else(|| CommandError::Usage(format!("--{option}: {text:?} is not a number")))
}

/// `64m` is 64 MiB.
fn bytes(text: &str) -> Option<i64> {
    let lower = text.to_ascii_lowercase();
    let lower = lower.strip_suffix("ib").or(lower.strip_suffix('b')).unwrap_or(&lower);
    let power = lower.chars().last().and_then(|suffix| "kmgtp".find(suffix));
    let (digits, power) = power.map_or((lower, 0), |power| (&lower[..lower.len() - 1], power + 1));
    digits.parse::<i64>().ok()?.checked_mul(1 << (10 * power))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_suffixes() {
        for (text, expected) in [
            ("-1", Some(-1)),
            ("4096", Some(4096)),
            ("64m", Some(64 << 20)),
            ("2GiB", Some(2 << 30)),
            ("1kb", Some(1024)),
            ("", None),
            ("m", None),
            ("1x", None),
            ("9999999p", None),
        ] {
            assert_eq!(bytes(text), expected, "{text:?}");
        }
    }

    #[test]
    fn options_set_fields_that_the_specification_has() {
        for (name, [group, field], unit) in &OPTIONS {
            let value = parse(name, "10", unit).unwrap();
            let text = serde_json::json!({ *group: { *field: value } });
            let parsed: oci_spec::runtime::LinuxResources = serde_json::from_value(text.clone()).unwrap();
            assert_eq!(serde_json::to_value(parsed).unwrap()[group][field], text[group][field], "{name}");
        }
    }
}
