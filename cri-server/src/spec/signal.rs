//! Signal names as images, clients and people write them.

use super::SpecError;
use crate::engine::model::ContainerConfig;
use oci_spec::image::Config;

/// The signal that asks a program to end when nobody says otherwise: SIGTERM.
const SIGTERM: i32 = 15;

/// The first and last real-time signals as C libraries number them: the kernel's start at 32, of which two are kept.
const SIGRTMIN: i32 = 34;
const SIGRTMAX: i32 = 64;

/// Linux's signals on every architecture this project builds for, by number from 1.
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
    "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
    "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

/// Second names.
const ALIASES: [(&str, i32); 4] = [("IOT", 6), ("CLD", 17), ("POLL", 29), ("UNUSED", 31)];

/// A text that is no signal.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a signal: a name such as SIGTERM or SIGRTMIN+3, or a number from 1 to 64, is expected")]
pub(crate) struct SignalError(String);

/// The number of a signal written as a name (with or without `SIG`, in any case), as `RTMIN+n`, as `RTMAX-n` or as a
/// number.
///
/// # Errors
/// When it is none.
pub(crate) fn parse_signal(text: &str) -> Result<i32, SignalError> {
    let upper = text.trim().to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let number = if name.bytes().all(|byte| byte.is_ascii_digit()) {
        name.parse().ok().filter(|_| name == upper)
    } else {
        by_name(name).or_else(|| real_time(name))
    };
    number.filter(|number| (1..=SIGRTMAX).contains(number)).ok_or_else(|| SignalError(text.to_owned()))
}

/// The signal that asks a container's program to end: the client's choice, else the image's, else SIGTERM.
///
/// # Errors
/// When the client's number or the image's text is no signal.
pub(crate) fn stop_signal(config: &ContainerConfig, image: &Config) -> Result<i32, SpecError> {
    match (config.stop_signal, image.stop_signal().as_deref()) {
        (Some(number), _) => parse_signal(&number.to_string()).map_err(SpecError::Signal),
        (None, Some(text)) if !text.is_empty() => parse_signal(text).map_err(SpecError::Signal),
        (None, _) => Ok(SIGTERM),
    }
}

fn by_name(name: &str) -> Option<i32> {
    let position =
        NAMES.iter().position(|known| *known == name).and_then(|index| i32::try_from(index + 1).ok());
    position.or_else(|| ALIASES.iter().find(|(alias, _)| *alias == name).map(|(_, number)| *number))
}

fn real_time(name: &str) -> Option<i32> {
    let offset = |text: &str, sign: char| -> Option<i32> {
        if text.is_empty() {
            return Some(0);
        }
        let digits = text.strip_prefix(sign)?;
        let plain =
            !digits.is_empty() && digits.len() <= 2 && digits.bytes().all(|byte| byte.is_ascii_digit());
        plain.then(|| digits.parse().ok()).flatten()
    };
    let number = if let Some(rest) = name.strip_prefix("RTMIN") {
        SIGRTMIN + offset(rest, '+')?
    } else {
        SIGRTMAX - offset(name.strip_prefix("RTMAX")?, '-')?
    };
    (SIGRTMIN..=SIGRTMAX).contains(&number).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_read_in_every_usual_form() {
        for (text, expected) in [
            ("SIGTERM", 15),
            ("term", 15),
            ("Kill", 9),
            ("9", 9),
            ("64", 64),
            ("SIGRTMIN", 34),
            ("RTMIN+3", 37),
            ("SIGRTMAX-14", 50),
            ("RTMAX", 64),
            ("SIGRTMIN+30", 64),
            ("SIGIOT", 6),
            ("POLL", 29),
            ("SIGSYS", 31),
            (" SIGQUIT ", 3),
        ] {
            assert_eq!(parse_signal(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn other_texts_are_no_signals() {
        for text in [
            "",
            "SIG",
            "0",
            "65",
            "-9",
            "+9",
            "SIG9",
            "FOO",
            "RTMIN+31",
            "RTMIN-1",
            "RTMAX+1",
            "RTMIN+",
            "RTMIN+-1",
            "99999999999",
        ] {
            assert_eq!(parse_signal(text), Err(SignalError(text.into())), "{text}");
        }
    }

    #[test]
    fn the_client_wins_over_the_image_and_the_image_over_the_default() {
        let image = |signal: Option<&str>| {
            let mut config = Config::default();
            config.set_stop_signal(signal.map(str::to_owned));
            config
        };
        let config = |stop_signal| ContainerConfig { stop_signal, ..ContainerConfig::default() };
        for (asked, of_image, expected) in [
            (None, None, Some(15)),
            (None, Some(""), Some(15)),
            (None, Some("SIGQUIT"), Some(3)),
            (Some(10), Some("SIGQUIT"), Some(10)),
            (Some(10), Some("nonsense"), Some(10)),
            (None, Some("nonsense"), None),
            (Some(0), None, None),
            (Some(-1), None, None),
        ] {
            assert_eq!(
                stop_signal(&config(asked), &image(of_image)).ok(),
                expected,
                "{asked:?} {of_image:?}"
            );
        }
    }
}
