//! Requests whose answer is the URL of a stream.

use cleat_streaming::TooMany;

use super::field::refused;
use crate::engine::{EngineError, ExecOutput, Result, Streams};

/// The streams of an Exec or Attach request, by the rules that clients are told by every runtime.
///
/// # Errors
/// When none is asked for, or standard error beside a terminal, which has one output alone.
pub(in crate::cri) fn streams(streams: Streams, tty: bool) -> Result<Streams> {
    if tty && streams.stderr {
        return Err(refused("stderr", true, "tty and stderr cannot both be true"));
    }
    if streams == Streams::default() {
        return Err(refused("stdin, stdout, stderr", false, "at least one of them has to be true"));
    }
    Ok(streams)
}

/// The ports of a PortForward request. None at all are allowed: SPDY clients name theirs with each connection.
///
/// # Errors
/// When one is no TCP port.
pub(in crate::cri) fn ports(ports: &[i32]) -> Result<Vec<u16>> {
    let port = |&number: &i32| {
        let port = u16::try_from(number).ok().filter(|&port| port != 0);
        port.ok_or_else(|| refused("port", number, "a port is a number from 1 to 65535"))
    };
    ports.iter().map(port).collect()
}

/// Too many clients were promised a stream and have not come.
pub(in crate::cri) fn no_url(id: &str, error: &TooMany) -> EngineError {
    EngineError::step("hand out a URL for a stream", id, error)
}

/// Standard error of an ExecSync answer. The CRI has no field for "this is not all", so the last line says it.
pub(in crate::cri) fn stderr_of(output: &mut ExecOutput) -> Vec<u8> {
    let mut stderr = std::mem::take(&mut output.stderr);
    if output.dropped_bytes > 0 {
        if stderr.last().is_some_and(|&last| last != b'\n') {
            stderr.push(b'\n');
        }
        let note = format!("cleatd: the first {} bytes of output were dropped\n", output.dropped_bytes);
        stderr.extend_from_slice(note.as_bytes());
    }
    stderr
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_follow_the_rules() {
        let table = [
            ([false, false, false], false, "at least one"),
            ([false, false, false], true, "at least one"),
            ([true, false, false], false, ""),
            ([true, true, true], false, ""),
            ([true, true, false], true, ""),
            ([true, true, true], true, "cannot both"),
        ];
        for ([stdin, stdout, stderr], tty, wrong) in table {
            match streams(Streams { stdin, stdout, stderr }, tty) {
                Ok(_) => assert_eq!(wrong, "", "{stdin} {stdout} {stderr} {tty}"),
                Err(error) => assert!(!wrong.is_empty() && error.to_string().contains(wrong), "{error}"),
            }
        }
    }

    #[test]
    fn ports_are_tcp_ports() {
        assert_eq!(ports(&[]).unwrap(), Vec::<u16>::new());
        assert_eq!(ports(&[1, 65_535]).unwrap(), [1, 65_535]);
        for bad in [0, -1, 65_536, i32::MAX] {
            assert!(ports(&[80, bad]).unwrap_err().to_string().contains("1 to 65535"), "{bad}");
        }
    }

    #[test]
    fn an_answer_that_is_not_all_says_so() {
        let told = |text: &str, dropped_bytes| {
            let stderr = text.as_bytes().to_vec();
            let mut output = ExecOutput { stdout: Vec::new(), stderr, code: 0, dropped_bytes };
            String::from_utf8(stderr_of(&mut output)).unwrap()
        };
        let note = "cleatd: the first 5 bytes of output were dropped\n";
        assert_eq!(told("", 0), "");
        assert_eq!(told("half", 0), "half");
        assert_eq!(told("", 5), note);
        assert_eq!(told("line\n", 5), format!("line\n{note}"));
        assert_eq!(told("half", 5), format!("half\n{note}"));
    }
}
