//! Reading a container's log: `<RFC 3339 time with nanoseconds> <stdout|stderr> <F|P> <text>`.

use anyhow::{Context, Result, bail, ensure};

/// Which stream a line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// One line of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// When it was written, as in the log.
    pub time: String,
    /// Where it came from.
    pub stream: Stream,
    /// Whether the text ended without a line break, to be continued in the next line of this stream.
    pub partial: bool,
    /// The text.
    pub text: String,
}

/// The lines of a log.
///
/// # Errors
/// Fails on the first line that is not as the format wants it.
pub fn parse(log: &str) -> Result<Vec<Line>> {
    ensure!(log.is_empty() || log.ends_with('\n'), "the log ends in the middle of a line: {log:?}");
    // Not `lines`, which would take the carriage returns of a terminal for parts of line breaks.
    log.split_terminator('\n').map(line).collect()
}

fn line(line: &str) -> Result<Line> {
    let mut fields = line.splitn(4, ' ');
    let mut next = || fields.next().with_context(|| format!("too few fields in {line:?}"));
    let (time, stream, tag, text) = (next()?, next()?, next()?, next()?);
    ensure!(is_rfc3339_with_nanoseconds(time), "{time:?} is no time with nanoseconds, in {line:?}");
    let stream = match stream {
        "stdout" => Stream::Stdout,
        "stderr" => Stream::Stderr,
        _ => bail!("{stream:?} is no stream, in {line:?}"),
    };
    ensure!(matches!(tag, "F" | "P"), "{tag:?} is no tag, in {line:?}");
    Ok(Line { time: time.to_owned(), stream, partial: tag == "P", text: text.to_owned() })
}

/// `2026-01-02T03:04:05.123456789Z`, or with an offset such as `+01:00` at its end.
fn is_rfc3339_with_nanoseconds(time: &str) -> bool {
    let Some((moment, rest)) = time.split_at_checked(29) else { return false };
    let shape =
        |text: &str| -> String { text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect() };
    shape(moment) == "0000-00-00T00:00:00.000000000"
        && (rest == "Z" || matches!(shape(rest).as_str(), "+00:00" | "-00:00"))
}

/// What `stream` wrote: its lines with their breaks, partial ones joined.
#[must_use]
pub fn text(lines: &[Line], stream: Stream) -> String {
    let of_stream = lines.iter().filter(|line| line.stream == stream);
    of_stream.fold(String::new(), |mut text, line| {
        text.push_str(&line.text);
        if !line.partial {
            text.push('\n');
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: &str = "2026-01-02T03:04:05.123456789Z";

    #[test]
    fn lines_are_read_and_joined() {
        let log = format!("{TIME} stdout P ab\n{TIME} stderr F \n{TIME} stdout F c d\n");
        let lines = parse(&log).unwrap();
        assert_eq!(lines.iter().map(|line| line.partial).collect::<Vec<_>>(), [true, false, false]);
        assert_eq!(text(&lines, Stream::Stdout), "abc d\n");
        assert_eq!(text(&lines, Stream::Stderr), "\n");
    }

    #[test]
    fn what_is_not_in_the_format_is_refused() {
        for bad in [
            "2026-01-02T03:04:05Z stdout F x\n".to_owned(),
            format!("{TIME} stdin F x\n"),
            format!("{TIME} stdout X x\n"),
            format!("{TIME} stdout F\n"),
            format!("{TIME} stdout F x"),
        ] {
            assert!(parse(&bad).is_err(), "{bad:?}");
        }
    }
}
