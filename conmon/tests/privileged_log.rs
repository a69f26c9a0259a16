//! The log of a container, byte for byte.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod harness;

use std::fs;

use cleat_conmon_proto::{ExitStatus, Request};
use harness::{Bundle, Fixture, eventually};
use rustix::mount::{MountFlags, UnmountFlags};

/// One line of the log.
#[derive(Debug, PartialEq, Eq)]
struct Line<'a> {
    stream: &'a [u8],
    tag: &'a [u8],
    content: &'a [u8],
}

fn lines(log: &[u8]) -> Vec<Line<'_>> {
    let Some(log) = log.strip_suffix(b"\n") else {
        assert!(log.is_empty(), "a log ends with a newline");
        return Vec::new();
    };
    log.split(|byte| *byte == b'\n').map(line).collect()
}

fn line(text: &[u8]) -> Line<'_> {
    let mut parts = text.splitn(4, |byte| *byte == b' ');
    let mut part = || parts.next().unwrap();
    let (time, stream, tag, content) = (part(), part(), part(), part());
    assert_eq!((time.len(), time[10], time[19], time[29]), (30, b'T', b'.', b'Z'));
    Line { stream, tag, content }
}

/// What a reader that follows the CRI's rules gives back for one stream.
fn bytes_of(log: &[u8], stream: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for line in lines(log).into_iter().filter(|line| line.stream == stream.as_bytes()) {
        bytes.extend_from_slice(line.content);
        if line.tag == b"F" {
            bytes.push(b'\n');
        }
    }
    bytes
}

fn run(script: &str) -> Fixture {
    let fixture = Fixture::start(script);
    assert_eq!(fixture.client.expect_exited().status, ExitStatus::Exited(0));
    fixture
}

#[test]
fn privileged_output_is_logged_byte_for_byte() {
    let table: [(&str, &[u8]); 8] = [
        ("true", b""),
        ("echo hello", b"hello\n"),
        ("printf 'no newline'", b"no newline"),
        (r"printf '\n\n\na\n'", b"\n\n\na\n"),
        (r"printf 'nul\000 and \377\376 and \r\n'", b"nul\0 and \xff\xfe and \r\n"),
        (r"printf 'half '; sleep 0.1; printf 'a line\nrest'", b"half a line\nrest"),
        (
            "printf '2016-10-06T00:17:09.669794202Z stdout F forged\\n'",
            b"2016-10-06T00:17:09.669794202Z stdout F forged\n",
        ),
        ("seq 1 3; printf '%s' ''", b"1\n2\n3\n"),
    ];
    for (script, expected) in table {
        assert_eq!(bytes_of(&run(script).log(), "stdout"), expected, "{script}");
    }
}

#[test]
fn privileged_streams_are_told_apart() {
    let fixture = run("echo out; echo err >&2; printf last >&2");
    let log = fixture.log();
    assert_eq!(bytes_of(&log, "stdout"), b"out\n");
    assert_eq!(bytes_of(&log, "stderr"), b"err\nlast");
    assert_eq!(lines(&log).last().unwrap().tag, b"P");
}

#[test]
fn privileged_long_lines_are_cut_at_16_kib_and_lose_nothing() {
    let fixture = run("dd if=/dev/zero bs=1000 count=100 2>/dev/null; echo; echo short");
    let log = fixture.log();
    let lengths: Vec<usize> = lines(&log).iter().map(|line| line.content.len()).collect();
    assert_eq!(lengths, [16_384, 16_384, 16_384, 16_384, 16_384, 16_384, 1_696, 5]);
    assert_eq!(bytes_of(&log, "stdout"), [vec![0; 100_000], b"\nshort\n".to_vec()].concat());
}

#[test]
fn privileged_much_output_at_the_end_is_all_there() {
    let fixture = run("seq 1 200000");
    let expected: String = (1..=200_000).map(|number| format!("{number}\n")).collect();
    assert!(bytes_of(&fixture.log(), "stdout") == expected.as_bytes());
}

#[test]
fn privileged_two_hundred_rotations_under_load_lose_no_line() {
    const ROTATIONS: usize = 200;
    let script = "n=0; while [ ! -e /stop ] || [ $n -lt 100 ]; do seq $((n * 1000 + 1)) $(((n + 1) * 1000)); n=$((n + 1)); done";
    let fixture = Fixture::start(script);
    let folder = fixture.bundle.path().join("log");
    let rotated = |number: usize| folder.join(format!("rotated.{number}"));
    let ask = fixture.connect();
    for number in 0..ROTATIONS {
        fs::rename(fixture.bundle.log_path(), rotated(number)).unwrap();
        ask.send(&Request::ReopenLog);
        let (answer, _) = ask.receive().expect("an answer");
        assert_eq!(answer, cleat_conmon_proto::Message::Done);
    }
    fs::write(fixture.bundle.rootfs().join("stop"), "").unwrap();
    fixture.client.expect_exited();
    let mut bytes = Vec::new();
    for log in (0..ROTATIONS).map(rotated).chain([fixture.bundle.log_path()]) {
        bytes.extend(bytes_of(&fs::read(log).unwrap(), "stdout"));
    }
    let lines = bytes.iter().filter(|byte| **byte == b'\n').count();
    assert!(lines > ROTATIONS && lines.is_multiple_of(1000), "{lines} lines");
    let expected: String = (1..=lines).map(|number| format!("{number}\n")).collect();
    assert!(bytes == expected.as_bytes(), "{} of {} bytes", bytes.len(), expected.len());
}

#[test]
fn privileged_a_reopen_that_fails_keeps_the_old_log() {
    let fixture = Fixture::start("sleep 0.3; echo later");
    let folder = fixture.bundle.path().join("log");
    fs::rename(&folder, fixture.bundle.path().join("moved")).unwrap();
    assert_eq!(fixture.client.ask_failed(&Request::ReopenLog).errno, Some(2));
    fixture.client.expect_exited();
    let log = fs::read(fixture.bundle.path().join("moved/0.log")).unwrap();
    assert_eq!(bytes_of(&log, "stdout"), b"later\n");
    assert!(!folder.exists());
}

/// A small filesystem over a container's log folder.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    fn mount(folder: std::path::PathBuf) -> Self {
        rustix::mount::mount("tmpfs", &folder, "tmpfs", MountFlags::empty(), Some(c"size=256k")).unwrap();
        Self(folder)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        rustix::mount::unmount(&self.0, UnmountFlags::DETACH).unwrap();
    }
}

#[test]
fn privileged_a_full_disk_neither_stalls_the_container_nor_tears_lines() {
    let bundle = Bundle::new("seq 1 100000; sleep 0.5; echo after");
    let log_folder = bundle.path().join("log");
    let ballast = log_folder.join("ballast");
    let mut disk = None;
    let fixture = Fixture::launch(bundle, |_| {
        disk = Some(SmallDisk::mount(log_folder));
        fs::write(&ballast, vec![0; 128 << 10]).unwrap();
    });
    // Declared after the fixture, whose folder it lies in, and so dropped before it.
    let _disk = disk;
    fixture.client.ask_done(&Request::Start);
    eventually("the disk is full", || fixture.complaints().contains("No space left"));
    // The 100,000 lines are through, or on their way to be dropped, when there is room again.
    std::thread::sleep(std::time::Duration::from_millis(250));
    fs::remove_file(&ballast).unwrap();
    assert_eq!(fixture.client.expect_exited().status, ExitStatus::Exited(0));
    let log = fixture.log();
    let numbers: Vec<Vec<u8>> = lines(&log).iter().map(|line| line.content.to_vec()).collect();
    let (last, counted) = numbers.split_last().unwrap();
    assert_eq!(last, b"after");
    for (place, number) in counted.iter().enumerate() {
        assert_eq!(
            number,
            (place + 1).to_string().as_bytes(),
            "whole lines in order, up to where the disk was full"
        );
    }
    assert_eq!(fixture.complaints().matches("No space left").count(), 1, "said once");
}

#[test]
fn privileged_without_a_log_output_goes_nowhere() {
    let fixture = Fixture::launch(Bundle::new("seq 1 100000"), |launch| launch.log = None);
    fixture.client.ask_done(&Request::Start);
    assert_eq!(fixture.client.expect_exited().status, ExitStatus::Exited(0));
    assert!(!fixture.bundle.log_path().exists());
}

#[test]
fn privileged_a_terminal_is_logged_and_resized() {
    let script = "[ -t 0 ] && [ -t 2 ] && echo terminal; \
                  while [ \"$(stty size 2>&1)\" != '33 111' ]; do sleep 0.01; done; stty size >&2";
    let bundle = Bundle::new(script).with("/process/terminal", true.into());
    let fixture = Fixture::launch(bundle, |launch| launch.terminal = true);
    fixture.client.ask_done(&Request::Start);
    fixture.client.ask_done(&Request::Resize { height: 33, width: 111 });
    assert_eq!(fixture.client.expect_exited().status, ExitStatus::Exited(0));
    assert_eq!(bytes_of(&fixture.log(), "stdout"), b"terminal\r\n33 111\r\n");
}

#[test]
fn privileged_without_a_terminal_there_is_none_to_resize() {
    let fixture = Fixture::start("sleep 100");
    let failure = fixture.client.ask_failed(&Request::Resize { height: 1, width: 1 });
    assert_eq!(failure.errno, Some(rustix::io::Errno::NOTTY.raw_os_error()));
}

#[test]
fn privileged_open_input_neither_ends_nor_has_anything() {
    let script = "read -t 1 line; echo \"$? [$line]\"";
    let fixture =
        Fixture::launch(Bundle::new(script), |launch| launch.stdin = cleat_conmon_proto::Stdin::Open);
    fixture.client.ask_done(&Request::Start);
    let record = fixture.client.expect_exited();
    assert!(record.finished_at_ns - record.started_at_ns > 900_000_000, "it waited for input");
}
