//! Health checks as Docker writes them: in a request, in an image's configuration, as an instruction of a Dockerfile. Pure.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::containers::or_default;
use super::refusal::Refusal;
use super::version::ApiVersion;
use crate::engine::model::HealthCheck;

/// From this version on clients may say how often a container is probed while it starts.
const KNOWS_START_INTERVAL: ApiVersion = ApiVersion::v1(44);

const NS_PER_MS: i64 = 1_000_000;

/// What Docker takes for what is not said.
const INTERVAL: Duration = Duration::from_secs(30);
const TIMEOUT: Duration = Duration::from_secs(30);
const START_INTERVAL: Duration = Duration::from_secs(5);
const RETRIES: u32 = 3;

/// A health check; what is zero or empty is not said. Times are nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct Healthcheck {
    /// `NONE`; `CMD` and a program with its arguments; `CMD-SHELL` and a line for a shell.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub test: Vec<String>,
    #[serde(deserialize_with = "or_default", skip_serializing_if = "is_zero")]
    pub interval: i64,
    #[serde(deserialize_with = "or_default", skip_serializing_if = "is_zero")]
    pub timeout: i64,
    #[serde(deserialize_with = "or_default", skip_serializing_if = "is_zero")]
    pub start_period: i64,
    #[serde(deserialize_with = "or_default", skip_serializing_if = "is_zero")]
    pub start_interval: i64,
    #[serde(deserialize_with = "or_default", skip_serializing_if = "is_zero")]
    pub retries: i64,
}

/// The shell that an image's `config` names, or the usual one.
fn shell(config: &Value) -> Vec<String> {
    let named = Vec::deserialize(&config["Shell"]).unwrap_or_default();
    if named.is_empty() { vec!["/bin/sh".to_owned(), "-c".to_owned()] } else { named }
}

fn is_zero(number: &i64) -> bool {
    *number == 0
}

impl Healthcheck {
    /// What a request and the image's `config` make together; none where neither says anything. A client that speaks an
    /// older `version` does not know of intervals while a container starts.
    pub(super) fn settled(own: &Option<Self>, config: &Value, version: ApiVersion) -> Option<Self> {
        let of_image = Self::deserialize(&config["Healthcheck"]).ok();
        let Some(mut own) = own.clone() else { return of_image };
        if version < KNOWS_START_INTERVAL {
            own.start_interval = 0;
        }
        Some(own.over(of_image.unwrap_or_default()))
    }

    /// With the image's word for what is not said.
    fn over(self, image: Self) -> Self {
        let or = |own: i64, of_image: i64| if own == 0 { of_image } else { own };
        Self {
            test: if self.test.is_empty() { image.test } else { self.test },
            interval: or(self.interval, image.interval),
            timeout: or(self.timeout, image.timeout),
            start_period: or(self.start_period, image.start_period),
            start_interval: or(self.start_interval, image.start_interval),
            retries: or(self.retries, image.retries),
        }
    }

    /// Refuses figures that make no sense.
    pub(super) fn check(&self) -> Result<(), Refusal> {
        let times = [
            ("Interval", self.interval),
            ("Timeout", self.timeout),
            ("StartPeriod", self.start_period),
            ("StartInterval", self.start_interval),
        ];
        if let Some((name, _)) = times.iter().find(|(_, time)| *time != 0 && *time < NS_PER_MS) {
            return Err(Refusal::bad(format!("{name} in Healthcheck cannot be less than 1ms")));
        }
        if self.retries < 0 {
            return Err(Refusal::bad("Retries in Healthcheck cannot be negative"));
        }
        Ok(())
    }

    /// What the engine is asked for; none where nothing is to be run. The image's `config` may name a shell.
    pub(super) fn wanted(&self, config: &Value) -> Option<HealthCheck> {
        let (kind, words) = self.test.split_first()?;
        let command = match kind.as_str() {
            "CMD" => words.to_vec(),
            "CMD-SHELL" => [&shell(config)[..], words].concat(),
            _ => return None,
        };
        let time = |time: i64, usual: Duration| match u64::try_from(time) {
            Ok(0) | Err(_) => usual,
            Ok(time) => Duration::from_nanos(time),
        };
        let retries = u32::try_from(self.retries).unwrap_or(u32::MAX);
        (!command.is_empty()).then(|| HealthCheck {
            command,
            interval: time(self.interval, INTERVAL),
            timeout: time(self.timeout, TIMEOUT),
            start_period: time(self.start_period, Duration::ZERO),
            start_interval: time(self.start_interval, START_INTERVAL),
            retries: if retries == 0 { RETRIES } else { retries },
        })
    }

    /// From what stands behind `HEALTHCHECK` in a Dockerfile: `NONE`, or options, `CMD` and a command.
    pub(super) fn from_instruction(text: &str) -> Result<Self, Refusal> {
        let mut check = Self::default();
        let mut rest = text.trim();
        while let Some(option) = rest.strip_prefix("--") {
            let (option, behind) = option.split_once(char::is_whitespace).unwrap_or((option, ""));
            check.set(option)?;
            rest = behind.trim_start();
        }
        let (kind, command) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        let command = command.trim();
        check.test = match (kind.to_ascii_uppercase().as_str(), command) {
            ("NONE", "") => vec!["NONE".to_owned()],
            ("NONE", _) => return Err(Refusal::bad("HEALTHCHECK NONE takes no arguments")),
            ("CMD", "") => return Err(Refusal::bad("Missing command after HEALTHCHECK CMD")),
            ("CMD", line) => match serde_json::from_str::<Vec<String>>(line) {
                Ok(words) => [vec!["CMD".to_owned()], words].concat(),
                Err(_) => vec!["CMD-SHELL".to_owned(), line.to_owned()],
            },
            (other, _) => {
                return Err(Refusal::bad(format!("Unknown type {other:?} in HEALTHCHECK (try CMD)")));
            }
        };
        Ok(check)
    }

    fn set(&mut self, option: &str) -> Result<(), Refusal> {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        let time = match name {
            "interval" => &mut self.interval,
            "timeout" => &mut self.timeout,
            "start-period" => &mut self.start_period,
            "start-interval" => &mut self.start_interval,
            "retries" => {
                let retries =
                    value.parse().ok().filter(|retries| (0..=i64::from(i32::MAX)).contains(retries));
                self.retries = retries
                    .ok_or_else(|| Refusal::bad(format!("--retries takes a number, not {value:?}")))?;
                return Ok(());
            }
            _ => return Err(Refusal::bad(format!("Unknown flag: {name}"))),
        };
        let wrong = || Refusal::bad(format!("--{name} takes a duration, not {value:?}"));
        *time = super::wire::duration(value).ok_or_else(wrong)?;
        if *time != 0 && *time < NS_PER_MS {
            return Err(Refusal::bad(format!("Interval {name:?} cannot be less than 1ms")));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(value: Value) -> Healthcheck {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn what_is_not_said_comes_from_the_image_then_from_docker() {
        let image = json!({"Healthcheck": {"Test": ["CMD", "a"], "Interval": 5, "Retries": 9}});
        let settled = |own: Value, version| Healthcheck::settled(&Some(check(own)), &image, version).unwrap();
        let (old, new) = (ApiVersion::v1(43), ApiVersion::v1(44));
        let both = settled(json!({"Test": null, "Interval": 7}), new);
        assert_eq!(
            serde_json::to_value(&both).unwrap(),
            json!({"Test": ["CMD", "a"], "Interval": 7, "Retries": 9})
        );
        let wanted = both.wanted(&image).unwrap();
        assert_eq!((wanted.command, wanted.interval), (vec!["a".to_owned()], Duration::from_nanos(7)));
        assert_eq!((wanted.timeout, wanted.start_period, wanted.retries), (TIMEOUT, Duration::ZERO, 9));
        assert_eq!(settled(json!({"Test": ["NONE"]}), new).wanted(&image), None);
        for (version, expected) in [(old, 0), (new, 3)] {
            assert_eq!(settled(json!({"StartInterval": 3}), version).start_interval, expected);
        }
        assert_eq!(Healthcheck::settled(&None, &image, new).map(|check| check.retries), Some(9));
        assert_eq!(Healthcheck::settled(&None, &json!({}), new), None);
    }

    #[test]
    fn tests_become_commands() {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        for (test, shell, command) in [
            (&["CMD", "a", "b"][..], &[][..], Some(&["a", "b"][..])),
            (&["CMD-SHELL", "a b"], &[], Some(&["/bin/sh", "-c", "a b"])),
            (&["CMD-SHELL", "a b"], &["/bin/ash", "-e", "-c"], Some(&["/bin/ash", "-e", "-c", "a b"])),
            (&["CMD"], &[], None),
            (&["NONE"], &[], None),
            (&["nosuch", "a"], &[], None),
            (&[], &[], None),
        ] {
            let wanted =
                Healthcheck { test: words(test), ..Healthcheck::default() }.wanted(&json!({"Shell": shell}));
            assert_eq!(wanted.map(|wanted| wanted.command), command.map(words), "{test:?}");
        }
    }

    #[test]
    fn figures_without_sense_are_refused() {
        for (value, message) in [
            (json!({"Interval": 5}), "Interval in Healthcheck cannot be less than 1ms"),
            (json!({"Timeout": -1}), "Timeout in Healthcheck cannot be less than 1ms"),
            (json!({"Retries": -1}), "Retries in Healthcheck cannot be negative"),
        ] {
            assert_eq!(check(value).check().unwrap_err().message(), message);
        }
        check(json!({"Interval": NS_PER_MS})).check().unwrap();
    }

    #[test]
    fn instructions_become_checks() {
        for (text, expected) in [
            ("NONE", json!({"Test": ["NONE"]})),
            ("CMD curl -f x", json!({"Test": ["CMD-SHELL", "curl -f x"]})),
            ("cmd [\"a\", \"b\"]", json!({"Test": ["CMD", "a", "b"]})),
            (
                "--interval=1m --retries=2 --start-interval=500ms CMD a",
                json!({"Test": ["CMD-SHELL", "a"], "Interval": 60_000_000_000_i64, "Retries": 2, "StartInterval": 500_000_000}),
            ),
        ] {
            let check = Healthcheck::from_instruction(text).unwrap();
            assert_eq!(serde_json::to_value(&check).unwrap(), expected, "{text}");
        }
        for text in
            ["NONE x", "CMD", "RUN x", "--nosuch=1 CMD a", "--interval=x CMD a", "--interval=1ns CMD a"]
        {
            assert!(Healthcheck::from_instruction(text).is_err(), "{text}");
        }
    }
}
