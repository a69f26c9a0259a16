//! Stop signals: the CRI counts its own way, the engine counts as Linux does.

use cleat_cri_api::v1::Signal;

use super::field;
use crate::engine::Result;

/// Linux's numbers on every architecture this project builds for. Where a number has two names the first is reported.
const NUMBERS: [(Signal, i32); 34] = [
    (Signal::Sighup, 1),
    (Signal::Sigint, 2),
    (Signal::Sigquit, 3),
    (Signal::Sigill, 4),
    (Signal::Sigtrap, 5),
    (Signal::Sigabrt, 6),
    (Signal::Sigiot, 6),
    (Signal::Sigbus, 7),
    (Signal::Sigfpe, 8),
    (Signal::Sigkill, 9),
    (Signal::Sigusr1, 10),
    (Signal::Sigsegv, 11),
    (Signal::Sigusr2, 12),
    (Signal::Sigpipe, 13),
    (Signal::Sigalrm, 14),
    (Signal::Sigterm, 15),
    (Signal::Sigstkflt, 16),
    (Signal::Sigchld, 17),
    (Signal::Sigcld, 17),
    (Signal::Sigcont, 18),
    (Signal::Sigstop, 19),
    (Signal::Sigtstp, 20),
    (Signal::Sigttin, 21),
    (Signal::Sigttou, 22),
    (Signal::Sigurg, 23),
    (Signal::Sigxcpu, 24),
    (Signal::Sigxfsz, 25),
    (Signal::Sigvtalrm, 26),
    (Signal::Sigprof, 27),
    (Signal::Sigwinch, 28),
    (Signal::Sigio, 29),
    (Signal::Sigpoll, 29),
    (Signal::Sigpwr, 30),
    (Signal::Sigsys, 31),
];

/// SIGRTMIN as C libraries number it: the kernel's real-time signals start at 32, and libraries keep two of them. The
/// CRI's names from SIGRTMIN to SIGRTMAX follow one another without a gap, and so do Linux's numbers, 34 to 64.
const SIGRTMIN: i32 = 34;

/// SIGRTMAX.
const SIGRTMAX: i32 = 64;

/// What the CRI's real-time signals are ahead of Linux's.
const REAL_TIME_OFFSET: i32 = Signal::Sigrtmin as i32 - SIGRTMIN;

/// The Linux number of a CRI signal; `None` means the image's choice.
pub(super) fn number(field: &str, signal: i32) -> Result<Option<i32>> {
    let signal: Signal = field::known(field, signal)?;
    if signal == Signal::RuntimeDefault {
        return Ok(None);
    }
    let named = NUMBERS.iter().find(|(name, _)| *name == signal).map(|(_, number)| *number);
    Ok(Some(named.unwrap_or(signal as i32 - REAL_TIME_OFFSET)))
}

/// The CRI signal of a Linux number. The two numbers C libraries keep for themselves have no name.
pub(super) fn name(number: i32) -> Signal {
    if (SIGRTMIN..=SIGRTMAX).contains(&number) {
        return Signal::try_from(number + REAL_TIME_OFFSET).unwrap_or(Signal::RuntimeDefault);
    }
    NUMBERS.iter().find(|(_, known)| *known == number).map_or(Signal::RuntimeDefault, |(name, _)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_get_linux_numbers() {
        for (signal, expected) in [
            (Signal::RuntimeDefault, None),
            (Signal::Sigabrt, Some(6)),
            (Signal::Sigkill, Some(9)),
            (Signal::Sigterm, Some(15)),
            (Signal::Sigquit, Some(3)),
            (Signal::Sigxfsz, Some(25)),
            (Signal::Sigrtmin, Some(34)),
            (Signal::Sigrtminplus3, Some(37)),
            (Signal::Sigrtminplus15, Some(49)),
            (Signal::Sigrtmaxminus14, Some(50)),
            (Signal::Sigrtmax, Some(64)),
        ] {
            assert_eq!(number("stop_signal", signal as i32).unwrap(), expected, "{signal:?}");
        }
        assert!(number("stop_signal", 66).is_err());
        assert!(number("stop_signal", -1).is_err());
    }

    #[test]
    fn every_signal_survives_the_way_there_and_back() {
        let aliases = [Signal::Sigiot, Signal::Sigcld, Signal::Sigpoll];
        for value in 1..=65 {
            let signal = Signal::try_from(value).unwrap();
            let there = number("stop_signal", value).unwrap().unwrap();
            assert!(name(there) == signal || aliases.contains(&signal), "{signal:?} became {there}");
        }
        assert_eq!(name(32), Signal::RuntimeDefault);
        assert_eq!(name(0), Signal::RuntimeDefault);
    }
}
