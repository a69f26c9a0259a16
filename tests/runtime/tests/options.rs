//! Options of the command line that no other test needs.
#![forbid(unsafe_code)]

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixListener;
use std::process::{Command, Output, Stdio};

use cleat_tests_runtime::{Bundle, Container, runtime, text};

/// Runs a container with these options by way of `starter`, with the bundle's file `handed` open as descriptor 3.
fn run_with_descriptor(bundle: &mut Bundle, options: &str, starter: &str) -> Output {
    let container = Container::new(bundle);
    fs::write(bundle.path().join("handed"), "handed over").expect("a file can be written");
    let run = container.command("run");
    let words = std::iter::once(run.get_program()).chain(run.get_args());
    let mut words: Vec<_> = words.map(|word| word.to_string_lossy().into_owned()).collect();
    let program = words.iter().position(|word| *word == runtime().to_string_lossy()).expect("it is there");
    words.insert(program, starter.to_owned());
    let folder = bundle.path().display();
    let script = format!(
        "exec 3<{folder}/handed; exec {} {options} --bundle {folder} {}",
        words.join(" "),
        container.id
    );
    Command::new("sh").args(["-c", &script]).stdin(Stdio::null()).output().expect("a shell can be run")
}

#[test]
fn privileged_descriptors_are_inherited_when_asked_for_and_never_otherwise() {
    let mut bundle = Bundle::script("cat <&3; ls /proc/self/fd");
    let output = run_with_descriptor(&mut bundle, "--preserve-fds 1", "");
    assert!(text(&output).contains("handed over"), "{}", text(&output));
    let output = run_with_descriptor(&mut bundle, "", "");
    assert!(!text(&output).contains("handed over"), "{}", text(&output));
    let output = run_with_descriptor(&mut bundle, "--preserve-fds 7", "");
    assert!(!output.status.success(), "descriptor 9 is not open");
}

#[test]
fn privileged_sockets_of_an_activation_are_inherited_and_told_of() {
    let mut bundle = Bundle::script("echo $LISTEN_FDS $LISTEN_PID $$; cat <&3; ls /proc/self/fd");
    bundle.spec["process"]["env"].as_array_mut().unwrap().push("LISTEN_FDS=7".into());
    // `timeout` starts the runtime as another process.
    let activate = |number: &str| format!("sh -c 'LISTEN_FDS=1 LISTEN_PID={number} exec \"$@\"' sh");
    let ours = run_with_descriptor(&mut bundle, "", &activate("$$"));
    assert!(text(&ours).starts_with("1 1 1\nhanded over"), "{}", text(&ours));
    let not_ours = run_with_descriptor(&mut bundle, "", &activate("1"));
    assert!(!text(&not_ours).contains("handed over"), "{}", text(&not_ours));
}

#[test]
fn privileged_a_root_without_pivot_is_the_containers() {
    let mut bundle = Bundle::script("ls /; echo in $(pwd)");
    fs::write(bundle.rootfs("own"), "").unwrap();
    let container = Container::new(&mut bundle);
    let mut run = container.command("run");
    let output =
        run.arg("--no-pivot").arg("--bundle").arg(bundle.path()).arg(&container.id).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    assert!(text(&output).contains("own") && text(&output).contains("in /\n"), "{}", text(&output));
    assert!(!text(&output).contains("root"), "the host's root is not seen: {}", text(&output));
}

#[test]
fn privileged_the_process_is_handed_over_by_descriptor() {
    let mut bundle = Bundle::script("exec sleep 100");
    let container = Container::new(&mut bundle);
    let path = bundle.path().join("pidfd.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let mut create = container.command("create");
    create.arg("--pidfd-socket").arg(&path).arg("--bundle").arg(bundle.path()).arg(&container.id);
    let status = create.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
    assert!(status.success());
    let (stream, _) = listener.accept().unwrap();
    let (_, descriptors) = cleat_sys::passing::receive(&stream, &mut [0; 64]).unwrap();
    let told = fs::read_to_string(format!("/proc/self/fdinfo/{}", descriptors[0].as_raw_fd())).unwrap();
    let pid = container.state()["pid"].to_string();
    assert!(told.lines().any(|line| line.split_whitespace().eq(["Pid:", &pid])), "{pid} in {told}");
}

#[test]
fn privileged_a_failed_exec_has_an_exit_code_that_programs_have_not() {
    let mut bundle = Bundle::script("exec sleep 100");
    let container = Container::new(&mut bundle);
    container.start();
    assert_eq!(container.exec(&[], &["/no/such/program"]).status.code(), Some(255));
    assert_eq!(container.exec(&[], &["sh", "-c", "exit 3"]).status.code(), Some(3));
}

#[test]
fn privileged_options_may_follow_the_id() {
    let mut bundle = Bundle::script("exit 4");
    let container = Container::new(&mut bundle);
    let mut run = container.command("run");
    let output = run.arg(&container.id).arg("--bundle").arg(bundle.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(4), "{}", text(&output));
}

#[test]
fn privileged_engines_find_the_words_of_runc() {
    let mut bundle = Bundle::script("exec sleep 100");
    let container = Container::new(&mut bundle);
    assert!(text(&container.simple("state")).contains("does not exist"));
    container.start();
    assert!(text(&container.create()).contains("already exists"));
    assert!(container.kill("KILL").status.success());
    container.await_status("stopped");
    assert!(text(&container.kill("TERM")).contains("not running"));
}
