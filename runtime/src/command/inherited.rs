//! Descriptors that a container's process inherits from the command, from 3 on: the sockets of a socket activation, then
//! those of `--preserve-fds`.

use super::CommandError;

/// More than that a process cannot have by default.
const MAX_COUNT: u32 = 1024;

/// Reads a number of descriptors.
pub(super) fn count(text: &str) -> Result<u32, CommandError> {
    let count = text.parse().ok().filter(|count| *count <= MAX_COUNT);
    count.ok_or_else(|| {
        CommandError::Usage(format!("--preserve-fds: {text:?} is no number up to {MAX_COUNT}"))
    })
}

/// How many sockets somebody who starts programs on demand has passed to this process (sd_listen_fds(3)).
pub(super) fn listening() -> Result<u32, CommandError> {
    let variable = |name| std::env::var(name).ok();
    listening_of(variable("LISTEN_FDS").as_deref(), variable("LISTEN_PID").as_deref(), std::process::id())
}

fn listening_of(sockets: Option<&str>, process: Option<&str>, own: u32) -> Result<u32, CommandError> {
    // Without its number they are somebody else's, from whom the environment was inherited.
    if process.and_then(|process| process.parse().ok()) != Some(own) {
        return Ok(0);
    }
    let Some(sockets) = sockets else { return Ok(0) };
    let count = sockets.parse().ok().filter(|count| *count <= MAX_COUNT);
    count.ok_or_else(|| CommandError::Usage(format!("LISTEN_FDS={sockets:?} is no number up to {MAX_COUNT}")))
}

/// Fails unless all of `total` descriptors from 3 on are open, so that none of this command's own is taken for one.
pub(super) fn check(total: u32) -> Result<(), CommandError> {
    let missing =
        (3..3 + total).find(|number| !std::path::Path::new(&format!("/proc/self/fd/{number}")).exists());
    match missing {
        Some(number) => {
            Err(CommandError::Usage(format!("descriptor {number} is to be inherited, and is not open")))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_ours_by_our_number_alone() {
        assert_eq!(listening_of(Some("2"), Some("7"), 7).unwrap(), 2);
        for (sockets, process) in [(Some("2"), Some("8")), (Some("2"), None), (None, Some("7")), (None, None)]
        {
            assert_eq!(listening_of(sockets, process, 7).unwrap(), 0);
        }
        for bad in ["", "-1", "1025", "x"] {
            assert!(listening_of(Some(bad), Some("7"), 7).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn counts_are_small_numbers() {
        assert_eq!(count("0").unwrap(), 0);
        assert_eq!(count("1024").unwrap(), 1024);
        for bad in ["", "-1", "1025", "x"] {
            assert!(count(bad).is_err(), "{bad:?}");
        }
    }
}
