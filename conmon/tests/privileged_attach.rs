//! Clients on the container's own standard streams.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod harness;

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};

use cleat_conmon_proto::{Attach, ExitStatus, Message, Request, Stdin};
use harness::{Bundle, Client, Fixture, eventually, pipe};

const NOTHING: Attach = Attach { stdin: false, stdout: false, stderr: false, stall_limit_ms: None };
const STDOUT: Attach = Attach { stdout: true, ..NOTHING };

/// Joins standard output; gives the connection and the end to read.
fn attach_output(fixture: &Fixture, stall_limit_ms: Option<u32>) -> (Client, File) {
    let (client, (read_end, write_end)) = (fixture.connect(), pipe());
    client.send_with(&Request::Attach(Attach { stall_limit_ms, ..STDOUT }), &[write_end.as_fd()]);
    assert_eq!(client.expect(), Message::Done);
    (client, read_end)
}

/// Joins standard input; gives the connection and the end to write.
fn attach_input(fixture: &Fixture) -> (Client, File) {
    let (client, (read_end, write_end)) = (fixture.connect(), pipe());
    client.send_with(&Request::Attach(Attach { stdin: true, ..NOTHING }), &[read_end.as_fd()]);
    assert_eq!(client.expect(), Message::Done);
    (client, File::from(write_end))
}

fn all_of(mut file: File) -> Vec<u8> {
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).unwrap();
    bytes
}

fn numbers(count: u32) -> Vec<u8> {
    (1..=count).map(|number| format!("{number}\n")).collect::<String>().into_bytes()
}

fn with_input(script: &str, stdin: Stdin) -> Fixture {
    let fixture = Fixture::launch(Bundle::new(script), |launch| launch.stdin = stdin);
    fixture.client.ask_done(&Request::Start);
    fixture
}

#[test]
fn privileged_every_client_gets_every_byte_from_the_first() {
    const LINES: u32 = 300_000;
    let fixture = Fixture::create(&format!("seq 1 {LINES}"));
    let (_first, one) = attach_output(&fixture, None);
    let (_second, two) = attach_output(&fixture, Some(60_000));
    fixture.client.ask_done(&Request::Start);
    let other = std::thread::spawn(move || all_of(two));
    assert!(all_of(one) == numbers(LINES));
    assert!(other.join().unwrap() == numbers(LINES));
    assert_eq!(fixture.client.expect_exited().status, ExitStatus::Exited(0));
}

#[test]
fn privileged_output_that_is_read_late_is_complete_and_holds_up_no_exit() {
    const LINES: u32 = 20_000;
    let fixture = Fixture::create(&format!("seq 1 {LINES}"));
    let (_client, output) = attach_output(&fixture, None);
    fixture.client.ask_done(&Request::Start);
    assert_eq!(fixture.client.expect_exited().status, ExitStatus::Exited(0));
    assert!(all_of(output) == numbers(LINES));
}

#[test]
fn privileged_a_client_that_stalls_is_detached_and_the_container_goes_on() {
    let fixture = Fixture::create("seq 1 300000");
    let (_client, output) = attach_output(&fixture, Some(50));
    fixture.client.ask_done(&Request::Start);
    assert_eq!(fixture.client.expect_exited().status, ExitStatus::Exited(0));
    assert!(numbers(300_000).starts_with(&all_of(output)));
    assert!(fixture.complaints().contains("it does not read and is detached"));
}

#[test]
fn privileged_clients_that_leave_are_not_noticed() {
    let fixture = Fixture::create("seq 1 300000");
    let (_kept, closed) = attach_output(&fixture, None);
    let (gone, _unread) = attach_output(&fixture, None);
    drop(closed);
    fixture.client.ask_done(&Request::Start);
    drop(gone);
    assert_eq!(fixture.client.expect_exited().status, ExitStatus::Exited(0));
}

#[test]
fn privileged_input_given_once_ends_with_its_client() {
    let fixture = with_input("cat; echo end", Stdin::Once);
    let (_reader, output) = attach_output(&fixture, None);
    let (_writer, mut input) = attach_input(&fixture);
    let text = numbers(50_000);
    let expected = [text.as_slice(), b"end\n"].concat();
    let reader = std::thread::spawn(move || all_of(output));
    input.write_all(&text).unwrap();
    drop(input);
    assert!(reader.join().unwrap() == expected);
    assert_eq!(fixture.client.expect_exited().status, ExitStatus::Exited(0));
}

#[test]
fn privileged_open_input_takes_one_client_after_another() {
    let fixture = with_input("read a; read b; echo $a $b", Stdin::Open);
    let (_reader, output) = attach_output(&fixture, None);
    for text in [b"one\n", b"two\n"] {
        let (_client, mut input) = attach_input(&fixture);
        input.write_all(text).unwrap();
        drop(input);
    }
    assert_eq!(all_of(output), b"one two\n");
}

#[test]
fn privileged_full_input_stops_nobody() {
    let fixture = with_input("sleep 100", Stdin::Open);
    let (client, mut input) = attach_input(&fixture);
    let writer = std::thread::spawn(move || input.write_all(&[b'x'; 1 << 20]).is_err());
    eventually("the monitor answers", || fixture.client.ask(&Request::ReopenLog) == Message::Done);
    drop(client);
    assert!(writer.join().unwrap(), "a writer that is detached is told");
}

#[test]
fn privileged_a_terminal_is_joined_both_ways() {
    let bundle = Bundle::new("read line; echo got $line").with("/process/terminal", true.into());
    let fixture = Fixture::launch(bundle, |launch| launch.terminal = true);
    let (_reader, output) = attach_output(&fixture, None);
    fixture.client.ask_done(&Request::Start);
    let (_writer, mut input) = attach_input(&fixture);
    input.write_all(b"hi\n").unwrap();
    let text = String::from_utf8(all_of(output)).unwrap();
    assert!(text.ends_with("got hi\r\n"), "{text:?}");
}

#[test]
fn privileged_what_cannot_be_joined_is_refused() {
    let fixture = Fixture::start("sleep 100");
    let null: OwnedFd = File::open("/dev/null").unwrap().into();
    let (read_end, _write_end) = pipe();
    let stdin = Attach { stdin: true, ..NOTHING };
    let before = fixture.descriptors();
    for (asked, passed) in
        [(NOTHING, vec![]), (STDOUT, vec![]), (stdin, vec![read_end.as_fd()]), (STDOUT, vec![null.as_fd()])]
    {
        fixture.client.send_with(&Request::Attach(asked), &passed);
        let answer = fixture.client.expect();
        assert!(matches!(answer, Message::Failed(_)), "{asked:?}: {answer:?}");
    }
    assert_eq!(fixture.descriptors(), before);
}
