//! What a container has written: the log as the monitor keeps it, turned into Docker's frames.
//!
//! Each line of its files is `<time> <stdout|stderr> <F|P> <text>`; `P` marks a part of a line that is not ended.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hyper::header::{CONTENT_TYPE, HeaderValue};
use rustix::fs::inotify;
use tokio::io::{AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::unix::pipe;
use tokio::sync::oneshot;

use super::log_files::LogFiles;
use super::log_options;
use super::streams::{Stream, content_type, frame};
use crate::docker::Door;
use crate::docker::dispatch::Ask;
use crate::docker::refusal::{Answer, Refusal};
use crate::docker::wire::{Bytes, Lines, from_rfc3339, lines, now_ns, seconds};
use crate::engine::{One, Streams};

/// Bytes of frames sent at a time.
const PIECE_BYTES: usize = 128 << 10;

/// Room for the kernel's notes about the file.
const EVENT_BYTES: usize = 4096;

/// What of the log is wanted.
#[derive(Clone, Debug, Default)]
struct Wanted {
    stdout: bool,
    stderr: bool,
    timestamps: bool,
    /// What the log's options add to each line, where it is asked for.
    details: Option<Arc<str>>,
    is_terminal: bool,
    tail: Option<u64>,
    /// How many files there are at most.
    files: u32,
    since_ns: Option<i64>,
    until_ns: Option<i64>,
}

/// `GET /containers/{id}/logs`.
pub(super) async fn logs(door: &Arc<Door>, one: &One, ask: &Ask) -> Answer {
    let wanted = wanted(one, ask)?;
    let path = one.container.log_path.clone().ok_or_else(Refusal::unreadable_log)?;
    let (sender, mut response) = lines();
    let kind = content_type(ask.version, wanted.is_terminal);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    let id = one.container.id.as_str();
    // Asked for before the state is looked at: an end in between is not missed.
    let end = door.engine.next_end(one);
    let runs = door.engine.one(id)?.container.state.pid().is_some();
    let end = (ask.query.is_on("follow") && runs).then_some(end);
    door.run(async move {
        if let Err(error) = send(&path, wanted, end, sender).await {
            tracing::warn!(log = %path.display(), %error, "a log could not be read");
        }
    });
    Ok(response)
}

fn wanted(one: &One, ask: &Ask) -> Result<Wanted, Refusal> {
    let query = &ask.query;
    let (stdout, stderr) = (query.is_on("stdout"), query.is_on("stderr"));
    if !stdout && !stderr {
        return Err(Refusal::bad("Bad parameters: you must choose at least one stream"));
    }
    let moment = |key: &str| match query.get(key) {
        "" | "0" => Ok(None),
        text => seconds(text)
            .map(Some)
            .ok_or_else(|| Refusal::bad(format!("invalid value for \"{key}\": {text}"))),
    };
    Ok(Wanted {
        stdout,
        stderr,
        timestamps: query.is_on("timestamps"),
        details: query.is_on("details").then(|| log_options::details(one).into()),
        is_terminal: one.container.config.tty,
        // What is no number means all, as with dockerd.
        tail: query.get("tail").parse().ok(),
        files: one.container.config.log_rotation.map_or(1, |rotation| rotation.files),
        since_ns: moment("since")?,
        until_ns: moment("until")?,
    })
}

/// What was written until now, for who is attached.
pub(super) struct Earlier {
    path: PathBuf,
    wanted: Wanted,
}

impl Earlier {
    /// All that these `streams` of the container were given.
    ///
    /// # Errors
    /// When there is no log.
    pub(super) fn of(one: &One, streams: Streams) -> Result<Self, Refusal> {
        let path = one.container.log_path.clone().ok_or_else(Refusal::unreadable_log)?;
        let wanted = Wanted {
            stdout: streams.stdout,
            stderr: streams.stderr,
            is_terminal: one.container.config.tty,
            files: one.container.config.log_rotation.map_or(1, |rotation| rotation.files),
            ..Wanted::default()
        };
        Ok(Self { path, wanted })
    }

    /// Without what is written from now on.
    pub(super) fn until_now(mut self) -> Self {
        self.wanted.until_ns = Some(now_ns());
        self
    }

    /// Writes it to `client`.
    pub(super) async fn send(self, client: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        let Self { path, wanted } = self;
        let files = wanted.files;
        let found = tokio::task::spawn_blocking(move || LogFiles::open(&path, files, None)).await;
        let mut log = found.map_err(io::Error::other)??;
        loop {
            let (piece, back) = read_piece(log, wanted.clone()).await?;
            log = back;
            match piece {
                Some(piece) => client.write_all(&piece).await?,
                None => return client.flush().await,
            }
        }
    }
}

/// Sends what is there, and what comes until `end`.
async fn send(
    path: &Path,
    wanted: Wanted,
    end: Option<oneshot::Receiver<i32>>,
    mut to: Lines,
) -> io::Result<()> {
    let mut watch = end.is_some().then(|| changes(path)).transpose()?;
    let (opened, files, tail) = (path.to_owned(), wanted.files, wanted.tail);
    let found = tokio::task::spawn_blocking(move || LogFiles::open(&opened, files, tail)).await;
    let mut log = found.map_err(io::Error::other)??;
    let (mut end, mut events) = (end, vec![0; EVENT_BYTES]);
    loop {
        // Seen before the file is read to its end: what was written before the end is read.
        let ended = match &mut end {
            None => true,
            Some(end) => !matches!(end.try_recv(), Err(oneshot::error::TryRecvError::Empty)),
        };
        loop {
            let (piece, back) = read_piece(log, wanted.clone()).await?;
            log = back;
            let Some(piece) = piece else { break };
            if !to.send_bytes(piece).await {
                return Ok(());
            }
        }
        let (false, Some(watch), Some(end)) = (ended, &mut watch, &mut end) else { return Ok(()) };
        tokio::select! {
            // What was told is of no interest: that there was something is enough.
            told = watch.read(&mut events) => drop(told?),
            _ = end => {
                // Once more to the end of the file, then it is over.
                let (piece, _) = read_rest(log, &wanted).await?;
                for piece in piece {
                    if !to.send_bytes(piece).await {
                        return Ok(());
                    }
                }
                return Ok(());
            }
            () = to.closed() => return Ok(()),
        }
    }
}

async fn read_rest(mut log: LogFiles, wanted: &Wanted) -> io::Result<(Vec<Bytes>, LogFiles)> {
    let mut all = Vec::new();
    loop {
        let (piece, back) = read_piece(log, wanted.clone()).await?;
        log = back;
        match piece {
            Some(piece) => all.push(piece),
            None => return Ok((all, log)),
        }
    }
}

/// Tells when the log was written to, or rotated: the folder has nothing else. It is read like a pipe.
fn changes(path: &Path) -> io::Result<pipe::Receiver> {
    let watch = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
    let flags = inotify::WatchFlags::MODIFY | inotify::WatchFlags::CREATE;
    inotify::add_watch(&watch, path.parent().unwrap_or(path), flags)?;
    pipe::Receiver::from_file_unchecked(File::from(watch))
}

/// Frames of the next lines; none at the end of what there is.
async fn read_piece(mut log: LogFiles, wanted: Wanted) -> io::Result<(Option<Bytes>, LogFiles)> {
    let work = move || -> io::Result<_> {
        let (mut out, mut line) = (Vec::new(), Vec::new());
        let mut any = false;
        while out.len() < PIECE_BYTES && log.next_line(&mut line)? {
            any = true;
            convert(&line, &wanted, &mut out);
        }
        Ok((any.then(|| Bytes::from(out)), log))
    };
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

/// Adds a line's frame, if it is wanted. A line in no known form is left out.
fn convert(line: &[u8], wanted: &Wanted, out: &mut Vec<u8>) {
    let mut parts = line.splitn(4, |byte| *byte == b' ');
    let (Some(time), Some(stream), Some(mark), Some(text)) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return;
    };
    let stream = match stream {
        b"stdout" if wanted.stdout => Stream::Stdout,
        b"stderr" if wanted.stderr => Stream::Stderr,
        _ => return,
    };
    let time = String::from_utf8_lossy(time);
    if wanted.since_ns.is_some() || wanted.until_ns.is_some() {
        let Some(at) = from_rfc3339(&time) else { return };
        if wanted.since_ns.is_some_and(|since| at < since) || wanted.until_ns.is_some_and(|until| at > until)
        {
            return;
        }
    }
    let mut payload = Vec::with_capacity(text.len() + 40);
    if wanted.timestamps {
        payload.extend(time.as_bytes());
        payload.push(b' ');
    }
    if let Some(details) = &wanted.details {
        payload.extend(details.as_bytes());
        payload.push(b' ');
    }
    payload.extend(text);
    if mark == b"F" {
        payload.push(b'\n');
    }
    if wanted.is_terminal {
        out.extend(payload);
    } else {
        out.extend(frame(stream, &payload));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both() -> Wanted {
        Wanted { stdout: true, stderr: true, is_terminal: true, ..Wanted::default() }
    }

    fn converted(line: &str, wanted: &Wanted) -> String {
        let mut out = Vec::new();
        convert(line.as_bytes(), wanted, &mut out);
        String::from_utf8(out).unwrap()
    }

    const LINE: &str = "1970-01-01T00:00:05.000000000Z stdout F a b";

    #[test]
    fn lines_become_what_was_written() {
        assert_eq!(converted(LINE, &both()), "a b\n");
        assert_eq!(converted("1970-01-01T00:00:05Z stderr P part", &both()), "part");
        assert_eq!(converted("1970-01-01T00:00:05Z stdout F ", &both()), "\n");
        assert_eq!(converted("garbage", &both()), "");
        let framed = Wanted { is_terminal: false, ..both() };
        assert_eq!(converted(LINE, &framed), "\u{1}\0\0\0\0\0\0\u{4}a b\n");
    }

    #[test]
    fn streams_times_and_stamps_are_chosen() {
        let only_errors = Wanted { stdout: false, ..both() };
        assert_eq!(converted(LINE, &only_errors), "");
        for (since, until, shown) in [(Some(6), None, false), (Some(5), None, true), (None, Some(4), false)] {
            let ns = |seconds: Option<i64>| seconds.map(|seconds| seconds * 1_000_000_000);
            let wanted = Wanted { since_ns: ns(since), until_ns: ns(until), ..both() };
            assert_eq!(!converted(LINE, &wanted).is_empty(), shown, "{since:?} {until:?}");
        }
        let stamped = Wanted { timestamps: true, ..both() };
        assert_eq!(converted(LINE, &stamped), "1970-01-01T00:00:05.000000000Z a b\n");
        let detailed = Wanted { details: Some("k=v".into()), ..both() };
        assert_eq!(converted(LINE, &detailed), "k=v a b\n");
    }
}
