//! Terminals: made in the container, handed to whoever listens on the console socket.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use cleat_tests_runtime::{Bundle, Container, text};

/// Listens for one terminal while `use_socket` runs a command that sends it.
fn receive_terminal(bundle: &Bundle, use_socket: impl FnOnce(PathBuf)) -> File {
    let path = bundle.path().join("console.sock");
    let listener = UnixListener::bind(&path).expect("the socket can be made");
    use_socket(path.clone());
    let (stream, _) = listener.accept().expect("somebody connects");
    let (_, mut descriptors) = cleat_sys::passing::receive(&stream, &mut [0; 64]).expect("a message comes");
    std::fs::remove_file(path).expect("the socket is there");
    descriptors.remove(0).into()
}

/// Reads until `wanted` was read, or to the end.
fn read_until(terminal: &mut File, wanted: &str) -> String {
    let mut seen = String::new();
    let mut buffer = [0; 4096];
    while !seen.contains(wanted) {
        // EIO: the process has ended.
        let Ok(length @ 1..) = terminal.read(&mut buffer) else { break };
        seen.push_str(&String::from_utf8_lossy(&buffer[..length]));
    }
    seen
}

const SCRIPT: &str =
    "tty; stat -c %u $(tty); [ -c /dev/console ] && echo console; read line; echo got $line; stty size";

#[test]
fn privileged_init_has_a_terminal() {
    let mut bundle = Bundle::script(SCRIPT);
    bundle.spec["process"]["terminal"] = true.into();
    bundle.spec["process"]["user"] = serde_json::json!({ "uid": 77, "gid": 77 });
    let container = Container::new(&mut bundle);
    let mut terminal = receive_terminal(&bundle, |socket| {
        let mut create = container.command("create");
        create.arg("--bundle").arg(bundle.path()).arg("--console-socket").arg(socket).arg(&container.id);
        let output = create.output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
    });
    assert!(container.simple("start").status.success());
    cleat_sys::pty::set_size(&terminal, 33, 44).unwrap();
    let before = read_until(&mut terminal, "console\r\n");
    assert!(before.contains("/dev/pts/0\r\n77\r\nconsole"), "{before:?}");
    terminal.write_all(b"hello\n").unwrap();
    let after = read_until(&mut terminal, "33 44");
    assert!(after.contains("got hello\r\n33 44"), "{after:?}");
}

#[test]
fn privileged_an_execd_process_has_a_terminal_of_its_own() {
    let mut bundle = Bundle::script("exec sleep 100");
    let container = Container::new(&mut bundle);
    container.start();
    let mut terminal = receive_terminal(&bundle, |socket| {
        let mut exec = container.command("exec");
        exec.args(["--tty", "--detach", "--console-socket"]).arg(socket);
        exec.args([
            &container.id,
            "sh",
            "-c",
            "tty; grep CapInh /proc/self/status; read line; echo got $line",
        ]);
        let output = exec.output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
    });
    let before = read_until(&mut terminal, "CapInh:\t0000000000000000");
    assert!(before.contains("/dev/pts/0\r\nCapInh:\t0000000000000000"), "{before:?}");
    terminal.write_all(b"x\n").unwrap();
    assert!(read_until(&mut terminal, "got x").contains("got x"));
}

#[test]
fn privileged_a_terminal_without_a_listener_is_refused() {
    let mut bundle = Bundle::program(&["true"]);
    bundle.spec["process"]["terminal"] = true.into();
    let container = Container::new(&mut bundle);
    assert!(!container.create().status.success());
}
