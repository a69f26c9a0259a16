//! Descriptors that a container's process inherits from the command: `--preserve-fds`, from 3 on.

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
    fn counts_are_small_numbers() {
        assert_eq!(count("0").unwrap(), 0);
        assert_eq!(count("1024").unwrap(), 1024);
        for bad in ["", "-1", "1025", "x"] {
            assert!(count(bad).is_err(), "{bad:?}");
        }
    }
}
