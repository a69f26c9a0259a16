//! Hooks: when they run, where, and what they are told.
#![forbid(unsafe_code)]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cleat_tests_runtime::{Bundle, Container, text};
use serde_json::{Value, json};

/// A hook of the host's that appends its name, its view of the world and the state it was given to the bundle's `story`.
/// The names of namespaces tell where it ran.
fn teller(bundle: &Bundle, name: &str) -> Value {
    let script = format!(
        "(echo {name} $(readlink /proc/self/ns/net) $(readlink /proc/self/ns/mnt) \
         ${{A-unset}} ${{CARGO_MANIFEST_DIR-unset}}; cat; echo) \
         >> {}",
        story(bundle).display()
    );
    json!({ "path": "/bin/busybox", "args": ["sh", "-c", script], "env": ["A=given"] })
}

fn story(bundle: &Bundle) -> PathBuf {
    bundle.path().join("story")
}

/// What hooks told: names, network and mount namespaces, states.
fn told(bundle: &Bundle) -> Vec<(String, [PathBuf; 2], Value)> {
    let text = fs::read_to_string(story(bundle)).unwrap_or_default();
    let lines: Vec<_> = text.lines().filter(|line| !line.is_empty()).collect();
    let (pairs, []) = lines.as_chunks::<2>() else { panic!("{text}") };
    let parse = |[head, state]: &[&str; 2]| {
        let words: Vec<_> = head.split(' ').collect();
        assert_eq!(&words[3..], ["given", "unset"], "the environment is the specified one: {head}");
        (
            words[0].into(),
            [words[1].into(), words[2].into()],
            serde_json::from_str(state).expect("the state is JSON"),
        )
    };
    pairs.iter().map(parse).collect()
}

fn own(kind: &str) -> PathBuf {
    fs::read_link(format!("/proc/self/ns/{kind}")).expect("procfs is mounted")
}

#[test]
fn privileged_every_hook_runs_at_its_time_and_place() {
    let mut bundle = Bundle::script("echo program >> /story; exec sleep 100");
    for point in ["prestart", "createRuntime", "createContainer", "poststart", "poststop"] {
        bundle.spec["hooks"][point] = json!([teller(&bundle, point)]);
    }
    // It resolves in the container.
    bundle.spec["hooks"]["startContainer"] =
        json!([{ "path": "/bin/sh", "args": ["sh", "-c", "(echo start; cat) >> /story"] }]);
    bundle.spec["annotations"] = json!({ "org.example": "x" });
    let container = Container::new(&mut bundle);
    assert!(container.create().status.success(), "{}", container.output());
    let names = |bundle: &Bundle| told(bundle).into_iter().map(|(name, ..)| name).collect::<Vec<_>>();
    assert_eq!(names(&bundle), ["prestart", "createRuntime", "createContainer"]);
    assert!(!bundle.rootfs("story").exists());
    let pid = container.state()["pid"].clone();
    let started = container.simple("start");
    assert!(started.status.success(), "{}", text(&started));
    container.await_status("running");
    let deadline = Instant::now() + Duration::from_secs(5);
    let inside = || fs::read_to_string(bundle.rootfs("story")).unwrap_or_default();
    while !inside().ends_with("program\n") {
        assert!(Instant::now() < deadline, "{}", inside());
        std::thread::sleep(Duration::from_millis(2));
    }
    assert!(inside().starts_with("start\n{"), "before the program: {}", inside());
    assert!(container.command("delete").args(["--force", &container.id]).status().unwrap().success());

    let told = told(&bundle);
    let expected = [
        ("prestart", "creating", true),
        ("createRuntime", "creating", true),
        ("createContainer", "creating", false),
        ("poststart", "running", true),
        ("poststop", "stopped", true),
    ];
    assert_eq!(told.len(), expected.len());
    for ((name, [net, mnt], state), (point, status, on_host)) in told.iter().zip(expected) {
        assert_eq!((name.as_str(), &state["status"]), (point, &json!(status)));
        assert_eq!((*net == own("net"), *mnt == own("mnt")), (on_host, on_host), "{point}");
        assert_eq!(state["id"], json!(container.id));
        assert_eq!(state["bundle"], json!(bundle.path().canonicalize().unwrap()));
        assert_eq!(state["annotations"]["org.example"], json!("x"));
        if on_host && status != "stopped" {
            assert_eq!(state["pid"], pid, "{point}");
        }
    }
}

#[test]
fn privileged_a_hook_of_the_runtime_is_outside_of_namespaces_that_are_joined() {
    let netns = Netns::make();
    let mut bundle = Bundle::script("true");
    bundle.spec["linux"]["namespaces"][1] = json!({ "type": "network", "path": netns.0 });
    bundle.spec["hooks"]["createRuntime"] = json!([teller(&bundle, "createRuntime")]);
    let output = Container::new(&mut bundle).run();
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(told(&bundle)[0].1, [own("net"), own("mnt")]);
}

#[test]
fn privileged_a_failed_hook_stops_the_container_and_is_named_with_its_words() {
    for point in ["prestart", "createRuntime", "createContainer", "startContainer", "poststart"] {
        let mut bundle = Bundle::script("exec sleep 100");
        let path = if point == "startContainer" { "/bin/sh" } else { "/bin/busybox" };
        bundle.spec["hooks"][point] =
            json!([{ "path": path, "args": ["sh", "-c", "echo the reason >&2; exit 3"] }]);
        bundle.spec["hooks"]["poststop"] = json!([teller(&bundle, "poststop")]);
        let container = Container::new(&mut bundle);
        let output = container.run();
        assert!(!output.status.success(), "{point}");
        let said = text(&output);
        assert!(said.contains("the reason"), "{point}: {said}");
        assert!(!container.simple("state").status.success(), "{point}: nothing is kept");
        assert_eq!(told(&bundle).len(), 1, "{point}: poststop hooks are run all the same");
    }
}

#[test]
fn privileged_a_hook_has_its_time_and_no_more() {
    for (point, sleep) in [("createRuntime", "/bin/busybox"), ("startContainer", "/bin/sleep")] {
        let mut bundle = Bundle::script("true");
        bundle.spec["hooks"][point] = json!([{ "path": sleep, "args": ["sleep", "100"], "timeout": 1 }]);
        let begin = Instant::now();
        let output = Container::new(&mut bundle).run();
        assert!(!output.status.success(), "{point}");
        assert!((1..10).contains(&begin.elapsed().as_secs()), "{point}: {:?}", begin.elapsed());
    }
}

#[test]
fn privileged_a_failed_poststop_hook_changes_nothing_and_the_rest_run() {
    let mut bundle = Bundle::script("true");
    bundle.spec["hooks"]["poststop"] = json!([{ "path": "/no/such" }, teller(&bundle, "poststop")]);
    let container = Container::new(&mut bundle);
    let output = container.run();
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(told(&bundle).len(), 1);
}

/// A network namespace that a file keeps.
struct Netns(PathBuf);

impl Netns {
    fn make() -> Self {
        let name = format!("cleat-test-{}", std::process::id());
        let made = std::process::Command::new("ip").args(["netns", "add", &name]).status();
        assert!(made.expect("iproute2 is installed").success());
        Self(Path::new("/run/netns").join(name))
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        let name = self.0.file_name().unwrap_or_default();
        let deleted = std::process::Command::new("ip").args(["netns", "delete"]).arg(name).status();
        assert!(deleted.is_ok_and(|status| status.success()), "{} is left", self.0.display());
    }
}
