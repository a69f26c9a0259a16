//! Checkpoint and restore with criu. Where criu itself says that this kernel cannot, each test sees to it that the refusal
//! tells so and that the container runs on (`criu_works`).
#![forbid(unsafe_code)]

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Lines};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use cleat_sys::holder::Holder;
use cleat_sys::namespace;
use cleat_tests_runtime::{Bundle, Container, assert_refused, checkpoint, criu_that, criu_works, text};
use serde_json::json;
use tempfile::TempDir;

/// Counts in memory, and tells how far it is in a file of the root filesystem: who goes on has not begun anew.
const COUNTER: &str =
    "i=0; while :; do i=$((i+1)); echo $i > /tmp/.count; mv /tmp/.count /tmp/count; sleep 0.05; done";

fn counter() -> Bundle {
    let mut bundle = Bundle::script(COUNTER);
    let applets = ["mv", "rm"];
    for applet in applets {
        std::os::unix::fs::symlink("busybox", bundle.rootfs("bin").join(applet)).expect("an applet");
    }
    bundle.spec["process"]["noNewPrivileges"] = json!(true);
    bundle
}

fn count(bundle: &Bundle) -> u64 {
    fs::read_to_string(bundle.rootfs("tmp/count")).map_or(0, |text| text.trim().parse().unwrap_or(0))
}

/// A running counter, which has counted already.
struct Counting {
    container: Container,
    bundle: Bundle,
    folder: TempDir,
}

impl Counting {
    fn start(mut bundle: Bundle) -> Self {
        let container = Container::new(&mut bundle);
        let started = container
            .command("run")
            .args(["--detach", "--bundle"])
            .arg(bundle.path())
            .arg(&container.id)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        assert!(started.expect("the runtime can be run").success(), "run");
        let this = Self { container, bundle, folder: tempfile::tempdir().expect("a folder can be made") };
        this.container.await_growth(&this.counter());
        this
    }

    fn counter(&self) -> PathBuf {
        self.bundle.rootfs("tmp/count")
    }

    fn works(&self) -> bool {
        criu_works(&self.container, &self.counter())
    }

    fn images(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn checkpoint(&self, options: &[&str]) {
        let taken = checkpoint(&self.container, &self.images("images"), options);
        assert!(taken.status.success(), "{}\n{}", text(&taken), log(&self.images("images"), "dump.log"));
    }

    fn restore(&self, options: &[&str]) -> Output {
        let mut command = self.container.command("restore");
        command.args(["--detach", "--bundle"]).arg(self.bundle.path());
        command.arg("--image-path").arg(self.images("images")).args(options).arg(&self.container.id);
        // Pipes would be inherited by the container, and have no end before its.
        let errors = self.images("errors");
        command.stdout(Stdio::null()).stderr(File::create(&errors).expect("a file can be made"));
        let status = command.status().expect("the runtime can be run");
        Output { status, stdout: Vec::new(), stderr: fs::read(errors).unwrap_or_default() }
    }

    /// Restores it; it has to go on from where it was.
    fn goes_on(&self, options: &[&str]) {
        let before = count(&self.bundle);
        let restored = self.restore(options);
        assert!(
            restored.status.success(),
            "{}\n{}",
            text(&restored),
            log(&self.images("images"), "restore.log")
        );
        assert_eq!(self.container.state()["status"], "running");
        self.container.await_growth(&self.counter());
        assert!(count(&self.bundle) > before, "{before} was reached before");
    }
}

fn log(images: &Path, name: &str) -> String {
    fs::read_to_string(images.join(name)).unwrap_or_default()
}

#[test]
fn privileged_a_restored_container_goes_on_from_where_it_was() {
    let shared = tempfile::tempdir().unwrap();
    fs::write(shared.path().join("word"), "shared").unwrap();
    let mut bundle = counter();
    bundle.mount(
        json!({ "destination": "/run/shared", "type": "bind", "source": shared.path(), "options": ["bind"] }),
    );
    let file = shared.path().join("word");
    bundle.mount(
        json!({ "destination": "/etc/word", "type": "bind", "source": file, "options": ["bind", "ro"] }),
    );
    let counting = Counting::start(bundle);
    if !counting.works() {
        return;
    }
    let container = &counting.container;
    assert!(container.exec(&[], &["sh", "-c", "echo kept > /dev/shm/memory"]).status.success());
    counting.checkpoint(&[]);
    assert!(!container.simple("state").status.success(), "a checkpointed container is gone");
    assert!(!container.cgroup("pids").exists(), "and so is its cgroup");
    let pid_file = counting.images("pid");
    counting.goes_on(&["--pid-file", &pid_file.to_string_lossy()]);
    assert_eq!(fs::read_to_string(pid_file).unwrap(), container.state()["pid"].to_string());
    let script = "cat /dev/shm/memory /run/shared/word /etc/word; hostname; cat /proc/timer_list | wc -c;
        echo x > /proc/sys/kernel/hostname || echo read-only; touch /etc/word || echo read-only; readlink /proc/1/cwd";
    let inside = text(&container.exec(&[], &["sh", "-c", script]));
    for expected in ["kept\nsharedshared", "inside\n0\n", "/\n"] {
        assert!(inside.contains(expected), "{inside}");
    }
    assert_eq!(inside.matches("read-only\n").count(), 2, "{inside}");
    let procs = fs::read_to_string(container.cgroup("pids").join("cgroup.procs")).unwrap();
    assert!(procs.contains(&container.state()["pid"].to_string()), "it is in its cgroup: {procs}");
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(&*counting.bundle.path().to_string_lossy()), "no mount of the host's is left");
}

#[test]
fn privileged_a_container_may_run_on_and_be_checkpointed_again() {
    let counting = Counting::start(counter());
    if !counting.works() {
        return;
    }
    let pid = counting.container.state()["pid"].clone();
    counting.checkpoint(&["--leave-running"]);
    counting.container.await_growth(&counting.counter());
    assert_eq!(counting.container.state()["pid"], pid, "it is the same process");
    counting.checkpoint(&[]);
    counting.goes_on(&[]);
    // A restored one is like any other.
    counting.checkpoint(&["--work-path", &counting.images("work").to_string_lossy()]);
    assert!(counting.images("work/dump.log").exists());
    counting.goes_on(&[]);
}

/// A command that runs a container in the foreground, and its output.
struct Foreground {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Foreground {
    fn start(command: &mut Command) -> Self {
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the runtime can be run");
        let lines = BufReader::new(child.stdout.take().expect("it is a pipe")).lines();
        Self { child, lines }
    }

    /// The next number that the container counts to, once it has; none after its end.
    fn next(&mut self) -> Option<u64> {
        let line = self.lines.next()?.expect("output can be read");
        Some(line.parse().expect("it counts"))
    }

    /// How it ended, with what it said about errors.
    fn end(self) -> Output {
        self.child.wait_with_output().expect("it can be waited for")
    }
}

#[test]
fn privileged_pipes_and_the_exit_code_are_the_callers_of_the_restore() {
    let mut bundle =
        Bundle::script("i=0; until test -e /tmp/stop; do i=$((i+1)); echo $i; sleep 0.05; done; exit 7");
    std::os::unix::fs::symlink("busybox", bundle.rootfs("bin/test")).unwrap();
    let container = Container::new(&mut bundle);
    let mut first =
        Foreground::start(container.command("run").arg("--bundle").arg(bundle.path()).arg(&container.id));
    assert_eq!(first.next(), Some(1));
    let folder = tempfile::tempdir().unwrap();
    let images = folder.path().join("images");
    let taken = checkpoint(&container, &images, &[]);
    let check = Command::new("criu").arg("check").output().expect("criu is installed");
    if !check.status.success() {
        println!("NOT TESTED {}: criu cannot work on this kernel: {}", container.id, text(&check));
        assert!(!taken.status.success());
        fs::write(bundle.rootfs("tmp/stop"), "").unwrap();
        while first.next().is_some() {}
        assert_eq!(first.end().status.code(), Some(7), "it ran on");
        return;
    }
    assert!(taken.status.success(), "{}", text(&taken));
    let last = std::iter::from_fn(|| first.next()).last().unwrap_or(1);
    assert_eq!(first.end().status.code(), Some(137), "a checkpointed container was killed");

    let mut restore = container.command("restore");
    let restore = restore.arg("--bundle").arg(bundle.path()).arg("--image-path").arg(&images);
    let mut second = Foreground::start(restore.arg(&container.id));
    let next = second.next();
    fs::write(bundle.rootfs("tmp/stop"), "").unwrap();
    while second.next().is_some() {}
    let second = second.end();
    assert_eq!(second.status.code(), Some(7), "{}", text(&second));
    assert!(next.is_some_and(|next| next > 1 && next <= last + 1), "{next:?} after {last}");
}

#[test]
fn privileged_a_network_namespace_by_path_is_joined_again() {
    let holder = Holder::new(namespace::NETWORK).unwrap();
    let path = format!("/proc/{}/ns/net", holder.pid());
    let mut bundle = counter();
    for namespace in bundle.spec["linux"]["namespaces"].as_array_mut().unwrap() {
        if namespace["type"] == "network" {
            namespace["path"] = path.clone().into();
        }
    }
    let counting = Counting::start(bundle);
    if !counting.works() {
        return;
    }
    counting.checkpoint(&[]);
    counting.goes_on(&[]);
    let inode = |path: &str| fs::metadata(path).unwrap().ino();
    let restored = format!("/proc/{}/ns/net", counting.container.state()["pid"]);
    assert_eq!(inode(&restored), inode(&path));
}

#[test]
fn privileged_a_container_with_users_of_its_own_is_restored() {
    let mut bundle = counter();
    let maps = json!([{ "containerID": 0, "hostID": 100_000, "size": 65_536 }]);
    bundle.spec["linux"]["uidMappings"] = maps.clone();
    bundle.spec["linux"]["gidMappings"] = maps;
    bundle.spec["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "user" }));
    own(&bundle.rootfs(""));
    let counting = Counting::start(bundle);
    if !counting.works() {
        return;
    }
    counting.checkpoint(&[]);
    counting.goes_on(&[]);
    let status = fs::read_to_string(format!("/proc/{}/status", counting.container.state()["pid"])).unwrap();
    assert!(status.contains("Uid:\t100000"), "{status}");
}

fn own(path: &Path) {
    std::os::unix::fs::lchown(path, Some(100_000), Some(100_000)).expect("an owner can be set");
    if path.is_dir() && !path.is_symlink() {
        let entries = fs::read_dir(path).expect("a folder can be listed");
        entries.for_each(|entry| own(&entry.expect("an entry").path()));
    }
}

#[test]
fn privileged_hooks_see_a_restored_containers_namespaces() {
    let mut bundle = counter();
    let story = bundle.path().join("story");
    let script = format!("cat >> {}", story.display());
    bundle.spec["hooks"]["createRuntime"] =
        json!([{ "path": "/bin/busybox", "args": ["sh", "-c", script], "env": ["PATH=/bin"] }]);
    let counting = Counting::start(bundle);
    if !counting.works() {
        return;
    }
    counting.checkpoint(&[]);
    fs::remove_file(&story).unwrap();
    counting.goes_on(&[]);
    let told: serde_json::Value = serde_json::from_str(&fs::read_to_string(story).unwrap()).unwrap();
    assert_eq!(told["pid"], counting.container.state()["pid"]);
}

/// criu begins and then finds what it cannot take along: a file of the host.
#[test]
fn privileged_a_dump_that_fails_changes_nothing() {
    let mut bundle = counter();
    let container = Container::new(&mut bundle);
    container.start();
    container.await_growth(&bundle.rootfs("tmp/count"));
    if !criu_works(&container, &bundle.rootfs("tmp/count")) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let failed = checkpoint(&container, &folder.path().join("images"), &[]);
    assert!(!failed.status.success(), "standard output is a file outside of the container");
    assert!(text(&failed).contains("dump.log"), "{}", text(&failed));
    assert_eq!(container.state()["status"], "running");
    container.await_growth(&bundle.rootfs("tmp/count"));
    assert!(container.exec(&[], &["true"]).status.success());
}

#[test]
fn privileged_a_restore_that_fails_leaves_nothing() {
    let counting = Counting::start(counter());
    if !counting.works() {
        return;
    }
    counting.checkpoint(&[]);
    fs::remove_file(counting.images("images/pstree.img")).unwrap();
    let failed = counting.restore(&[]);
    assert!(!failed.status.success() && text(&failed).contains("restore.log"), "{}", text(&failed));
    assert!(!counting.container.simple("state").status.success());
    assert!(!counting.container.cgroup("pids").exists());
}

#[test]
fn privileged_memory_is_dumped_ahead_where_the_kernel_tracks_it() {
    let counting = Counting::start(counter());
    if !counting.works() {
        return;
    }
    let first = checkpoint(&counting.container, &counting.images("first"), &["--pre-dump"]);
    if !first.status.success() {
        assert!(text(&first).contains("track memory"), "{}", text(&first));
        println!("NOT TESTED: {}", text(&first));
        counting.container.await_growth(&counting.counter());
        return;
    }
    counting.container.await_growth(&counting.counter());
    counting.checkpoint(&["--parent-path", "../first"]);
    counting.goes_on(&[]);
}

#[test]
fn privileged_a_paused_container_stays_so_through_a_checkpoint() {
    let counting = Counting::start(counter());
    if !counting.works() {
        return;
    }
    let container = &counting.container;
    assert!(container.simple("pause").status.success());
    let taken = checkpoint(container, &counting.images("images"), &["--leave-running"]);
    // Beside cgroup v1 a pause is of a kind that criu does not know.
    let is_hybrid = Path::new("/sys/fs/cgroup/unified").is_dir();
    assert_eq!(taken.status.success(), !is_hybrid, "{}", text(&taken));
    assert_eq!(container.state()["status"], "paused");
    assert!(container.simple("resume").status.success());
    container.await_growth(&counting.counter());
}

#[test]
fn privileged_what_criu_says_against_this_kernel_is_the_error() {
    let mut counting = Counting::start(counter());
    let script = "echo 'Error (criu/x.c:1): the moon is not full' >&2; exit 1";
    let (broken, absent) = (criu_that(script), tempfile::tempdir().unwrap());
    for (path, reason) in
        [(broken.path(), "criu says: the moon is not full"), (absent.path(), "not installed")]
    {
        counting.container.set_path(path);
        assert_refused(&counting.container, &counting.counter(), reason);
        let restored = counting.restore(&[]);
        assert!(!restored.status.success() && text(&restored).contains("exists"), "{}", text(&restored));
    }
}

#[test]
fn privileged_a_criu_that_breaks_off_is_a_failure_and_no_hang() {
    let mut counting = Counting::start(counter());
    let ends = criu_that("test \"$1\" = check");
    counting.container.set_path(ends.path());
    let failed = checkpoint(&counting.container, &counting.images("images"), &[]);
    assert!(text(&failed).contains("ended without an answer"), "{}", text(&failed));
    counting.container.await_growth(&counting.counter());
}
