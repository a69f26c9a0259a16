//! Containers of a user who is not root: what `spec --rootless` says, and what such a user cannot have.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use cleat_tests_runtime::{Bundle, limited, runtime, text};
use serde_json::{Value, json};

/// Nobody on the host; ids of theirs are those from `FIRST_SUBORDINATE` on.
const USER: u32 = 54_321;
const FIRST_SUBORDINATE: u32 = 2_000_000;

/// A user with a bundle, a session's folder, and a runtime that they can execute.
struct User {
    bundle: Bundle,
    /// What is to be executed instead of the runtime, before its own arguments.
    through: Vec<String>,
}

impl User {
    /// The bundle's configuration is that of `spec --rootless`, without a terminal and with this program.
    fn new(program: &[&str]) -> Self {
        let mut user = Self { through: Vec::new(), bundle: Bundle::program(program) };
        fs::copy(runtime(), user.program()).unwrap();
        fs::create_dir(user.session()).unwrap();
        user.own();
        let asked = user.run(&["spec", "--rootless", "--bundle", user.bundle.path().to_str().unwrap()]);
        assert!(asked.status.success(), "spec: {}", text(&asked));
        user.bundle.spec = user.read();
        user.bundle.spec["process"]["terminal"] = false.into();
        user.bundle.spec["process"]["args"] = json!(program);
        user.write();
        user
    }

    fn read(&self) -> Value {
        let config = fs::read(self.bundle.path().join("config.json")).unwrap();
        serde_json::from_slice(&config).unwrap()
    }

    fn write(&self) {
        self.bundle.write();
    }

    /// Gives the user the whole bundle.
    fn own(&self) {
        let status =
            Command::new("chown").args(["-hR", &format!("{USER}:{USER}")]).arg(self.bundle.path()).status();
        assert!(status.unwrap().success());
        fs::set_permissions(self.bundle.path(), PermissionsExt::from_mode(0o755)).unwrap();
        chown(self.bundle.path(), Some(USER), Some(USER)).unwrap();
    }

    fn program(&self) -> PathBuf {
        self.bundle.path().join("runtime")
    }

    fn session(&self) -> PathBuf {
        self.bundle.path().join("session")
    }

    /// The runtime with arguments, as the user.
    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = limited(Path::new("env"));
        command.args(&self.through).arg(format!("XDG_RUNTIME_DIR={}", self.session().display()));
        let id = USER.to_string();
        command.args(["setpriv", "--reuid", &id, "--regid", &id, "--clear-groups"]).arg(self.program());
        command.args(arguments).stdin(Stdio::null()).output().unwrap()
    }

    /// `run` of a container, with options.
    fn run_container(&self, options: &[&str]) -> Output {
        self.run(&[&["run", "--bundle", self.bundle.path().to_str().unwrap()], options, &["c"]].concat())
    }

    /// Starts a container that goes on. Its program keeps the streams, for whose end nobody is to wait.
    fn start(&mut self) {
        let quiet =
            ["sh", "-c", "exec env \"$@\" >\"$0\" 2>&1", self.bundle.path().join("output").to_str().unwrap()]
                .map(str::to_owned);
        self.through = quiet.into();
        let started = self.run_container(&["--detach"]);
        self.through.clear();
        let output = fs::read_to_string(self.bundle.path().join("output")).unwrap_or_default();
        assert!(started.status.success(), "run: {}{output}", text(&started));
    }
}

impl Drop for User {
    fn drop(&mut self) {
        // Absent is fine.
        self.run(&["delete", "--force", "c"]);
    }
}

#[test]
fn privileged_a_user_runs_execs_and_deletes_a_container() {
    let mut user = User::new(&["sleep", "100"]);
    user.start();
    let state: Value = serde_json::from_slice(&user.run(&["state", "c"]).stdout).unwrap();
    assert_eq!(state["status"], "running");
    let status = fs::read_to_string(format!("/proc/{}/status", state["pid"])).unwrap();
    assert!(status.contains(&format!("Uid:\t{USER}\t{USER}\t{USER}\t{USER}")), "{status}");
    let inside =
        user.run(&["exec", "c", "sh", "-c", "id -u; echo x > /dev/null && echo fine; hostname; echo $$"]);
    let inside = text(&inside);
    assert!(inside.starts_with("0\nfine\n"), "{inside}");
    // Of the init of a pid namespace of its own.
    let commands = text(&user.run(&["exec", "c", "cat", "/proc/1/cmdline"]));
    assert_eq!(commands, "sleep\x00100\0");
    assert_eq!(fs::read_dir(user.session()).unwrap().count(), 1, "the state is in the session's folder");
    for command in [&["pause", "c"][..], &["update", "--memory", "33554432", "c"]] {
        let refused = user.run(command);
        assert!(!refused.status.success(), "{command:?} without a cgroup");
    }
    let stopped = user.run(&["kill", "c", "KILL"]);
    assert!(stopped.status.success(), "kill: {}", text(&stopped));
    let deleted = user.run(&["delete", "--force", "c"]);
    assert!(deleted.status.success(), "delete: {}", text(&deleted));
    // Whose child it is by now may take its time.
    let process = fs::read_to_string(format!("/proc/{}/stat", state["pid"])).unwrap_or_default();
    assert!(process.is_empty() || process.contains(") Z "), "{process}");
    assert!(!user.run(&["state", "c"]).status.success());
}

#[test]
fn privileged_a_users_program_ends_with_its_code() {
    let user = User::new(&["sh", "-c", "id -u; exit 7"]);
    let ran = user.run_container(&[]);
    assert_eq!((ran.status.code(), text(&ran)), (Some(7), "0\n".to_owned()));
}

#[test]
fn privileged_a_users_limits_are_refused() {
    let mut user = User::new(&["true"]);
    user.bundle.spec["linux"]["resources"] = json!({ "memory": { "limit": 33_554_432 } });
    user.write();
    let ran = user.run_container(&[]);
    assert!(!ran.status.success() && text(&ran).contains("cgroup"), "{}", text(&ran));
    user.bundle.spec["linux"]["resources"] = json!({});
    user.bundle.spec["linux"]["cgroupsPath"] = json!("/of-a-user");
    user.write();
    let ran = user.run_container(&[]);
    assert!(!ran.status.success() && text(&ran).contains("of-a-user"), "{}", text(&ran));
}

#[test]
fn privileged_a_user_needs_a_user_namespace() {
    let mut user = User::new(&["true"]);
    let linux = user.bundle.spec["linux"].as_object_mut().unwrap();
    linux["namespaces"].as_array_mut().unwrap().retain(|namespace| namespace["type"] != "user");
    linux.remove("uidMappings");
    linux.remove("gidMappings");
    user.write();
    let ran = user.run_container(&[]);
    assert!(!ran.status.success() && text(&ran).contains("rootless container"), "{}", text(&ran));
}

/// By newuidmap and newgidmap, who read of a user's ids in files that are others' here.
#[test]
fn privileged_a_users_subordinate_ids_are_mapped() {
    let mut user = User::new(&["sh", "-c", "id; touch /tmp/of-one; cat /proc/self/uid_map"]);
    let mapping = json!([
        { "containerID": 0, "hostID": USER, "size": 1 },
        { "containerID": 1, "hostID": FIRST_SUBORDINATE, "size": 100 },
    ]);
    (user.bundle.spec["linux"]["uidMappings"], user.bundle.spec["linux"]["gidMappings"]) =
        (mapping.clone(), mapping);
    user.bundle.spec["process"]["user"] = json!({ "uid": 1, "gid": 2 });
    user.bundle.spec["root"]["readonly"] = false.into();
    user.write();
    fs::set_permissions(user.bundle.rootfs("tmp"), PermissionsExt::from_mode(0o777)).unwrap();
    let folder = user.bundle.path().join("etc");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("passwd"), format!("root:x:0:0::/:/bin/sh\none:x:{USER}:{USER}::/:/bin/sh\n"))
        .unwrap();
    for ids in ["subuid", "subgid"] {
        fs::write(folder.join(ids), format!("one:{FIRST_SUBORDINATE}:100\n")).unwrap();
    }
    let through = ["unshare", "--mount", "sh", "-c", "mount --bind \"$0\" /etc && exec env \"$@\""];
    user.through = through.iter().map(|part| (*part).to_owned()).collect();
    user.through.push(folder.to_str().unwrap().to_owned());
    let ran = user.run_container(&[]);
    user.through.clear();
    let output = text(&ran);
    assert!(ran.status.success() && output.starts_with("uid=1 gid=2"), "{output}");
    let made = fs::metadata(user.bundle.rootfs("tmp/of-one")).unwrap();
    let ids = (std::os::unix::fs::MetadataExt::uid(&made), std::os::unix::fs::MetadataExt::gid(&made));
    assert_eq!(ids, (FIRST_SUBORDINATE, FIRST_SUBORDINATE + 1));
}
