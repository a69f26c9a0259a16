//! What criu says when it fails, out of its log: the lines marked as errors, without the place in its source.

use std::collections::VecDeque;

/// How many errors are told, the last ones: criu begins with errors that it gets over (what the kernel lacks), and ends
/// with the cause and what that prevented.
const TOLD_ERRORS: usize = 3;
/// The longest part of a line that is told, in characters.
const TOLD_CHARACTERS: usize = 300;

/// The errors of a log, or of what `criu check` printed, in one sentence; none when there is none.
pub(super) fn errors(lines: impl Iterator<Item = impl AsRef<str>>) -> Option<String> {
    let mut told = VecDeque::new();
    for error in lines.filter_map(|line| error(line.as_ref())) {
        if told.len() == TOLD_ERRORS {
            told.pop_front();
        }
        told.push_back(error);
    }
    if told.is_empty() { None } else { Some(Vec::from(told).join("; ")) }
}

/// `(00.012345) Error (criu/vdso.c:613): vdso: Failed`: what follows the place.
fn error(line: &str) -> Option<String> {
    let (_, after) = line.split_once("Error (")?;
    let (_, message) = after.split_once("): ")?;
    Some(message.trim().chars().take(TOLD_CHARACTERS).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_told_without_times_and_places() {
        let log = "(00.000001) Version: 3.17.1\n\
                   (00.022222) Error (criu/files-reg.c:1775): Can't lookup mount=5 for fd=1 path=/tmp/x\n\
                   (00.022223) Warn  (criu/net.c:1): nothing\n\
                   (00.022224) Error (criu/cr-dump.c:1815): Dumping FAILED.\n";
        let told = errors(log.lines()).unwrap();
        assert_eq!(told, "Can't lookup mount=5 for fd=1 path=/tmp/x; Dumping FAILED.");
    }

    #[test]
    fn a_log_without_errors_tells_nothing() {
        for text in ["", "Looks good.\n", "Warn  (criu/kerndat.c:1290): Can't keep kdat cache\n"] {
            assert_eq!(errors(text.lines()), None, "{text}");
        }
    }

    #[test]
    fn no_more_is_told_than_a_reader_wants() {
        let line = format!("Error (a.c:1): {}\n", "x".repeat(10_000));
        assert_eq!(errors(line.repeat(50).lines()).unwrap().len(), TOLD_ERRORS * (TOLD_CHARACTERS + 2) - 2);
    }
}
