//! One more process in a container.
#![forbid(unsafe_code)]

use std::fs;
use std::path::Path;

use cleat_tests_runtime::{Bundle, Container, text};
use serde_json::json;

fn running() -> (Bundle, Container) {
    let mut bundle = Bundle::script("exec sleep 100");
    let container = Container::new(&mut bundle);
    container.start();
    (bundle, container)
}

#[test]
fn privileged_it_is_where_init_is() {
    let (_bundle, container) = running();
    for kind in ["pid", "net", "ipc", "uts", "mnt", "cgroup"] {
        let script = format!("[ $(readlink /proc/self/ns/{kind}) = $(readlink /proc/1/ns/{kind}) ]");
        let output = container.exec(&[], &["sh", "-c", &script]);
        assert!(output.status.success(), "{kind}: {}", text(&output));
    }
    let v1_cgroups =
        container.exec(&[], &["sh", "-c", "grep -v ^0: /proc/self/cgroup | grep -v ':/$' | wc -l"]);
    assert_eq!(text(&v1_cgroups), "0\n", "it shares init's v1 cgroups");
    let output = container.exec(&[], &["sh", "-c", "echo hello; ls /proc/1/root/bin/sh; hostname; exit 5"]);
    assert_eq!(output.status.code(), Some(5));
    assert_eq!(text(&output), "hello\n/proc/1/root/bin/sh\ninside\n");
}

#[test]
fn privileged_options_change_the_process() {
    let (_bundle, container) = running();
    let options = ["--user", "7:8", "--cwd", "/tmp", "--env", "A=b", "--additional-gids", "9"];
    let output =
        container.exec(&options, &["sh", "-c", "id -u; id -g; pwd; echo $A; grep Groups /proc/self/status"]);
    assert_eq!(text(&output), "7\n8\n/tmp\nb\nGroups:\t9 \n");
    let output = container.exec(&["--cap", "CAP_NET_RAW"], &["grep", "CapBnd", "/proc/self/status"]);
    assert_eq!(
        text(&output),
        "CapBnd:\t00000000080020e1\n"
            .replace("080020e1", &format!("{:08x}", 1u64 << 27 | 1 << 13 | 0b1110_0001))
    );
    assert!(!container.exec(&["--user", "root"], &["true"]).status.success());
}

/// Unlike the container's own, which is made.
#[test]
fn privileged_a_missing_working_folder_is_an_error() {
    let (_bundle, container) = running();
    let output = container.exec(&["--cwd", "/nosuch"], &["true"]);
    assert!(!output.status.success());
    assert!(container.exec(&[], &["sh", "-c", "test ! -e /nosuch"]).status.success());
}

#[test]
fn privileged_no_capability_is_inherited() {
    let (_bundle, container) = running();
    let output =
        container.exec(&["--cap", "CAP_NET_RAW"], &["grep", "-E", "CapInh|CapAmb", "/proc/self/status"]);
    assert_eq!(text(&output), "CapInh:\t0000000000000000\nCapAmb:\t0000000000000000\n");
}

#[test]
fn privileged_a_process_file_says_it_all() {
    let (bundle, container) = running();
    let path = bundle.path().join("process.json");
    let process = json!({ "user": { "uid": 3, "gid": 4 }, "args": ["sh", "-c", "id -u; echo $B; umask"], "env": ["PATH=/bin", "B=c"], "cwd": "/" });
    fs::write(&path, process.to_string()).unwrap();
    let output = container.command("exec").arg("--process").arg(&path).arg(&container.id).output().unwrap();
    assert_eq!(text(&output).lines().take(2).collect::<Vec<_>>(), ["3", "c"]);
}

#[test]
fn privileged_a_missing_program_is_a_failure_that_leaves_nothing() {
    let (_bundle, container) = running();
    for (program, reason) in
        [("/missing", "no such file"), ("/etc", "denied"), ("missing", "not found|no such file")]
    {
        let output = container.exec(&[], &[program]);
        let said = text(&output).to_lowercase();
        assert!(!output.status.success() && reason.split('|').any(|reason| said.contains(reason)), "{said}");
    }
    let unified = container.cgroup("unified");
    let left: Vec<_> =
        fs::read_dir(&unified).unwrap().flatten().filter(|entry| entry.path().is_dir()).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn privileged_the_containers_filter_holds_for_it() {
    let mut bundle = Bundle::script("exec sleep 100");
    bundle.spec["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"],
        "syscalls": [{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38 }],
    });
    let container = Container::new(&mut bundle);
    container.start();
    let output = container.exec(&[], &["mkdir", "/tmp/x"]);
    assert!(text(&output).contains("Function not implemented"), "{}", text(&output));
}

#[test]
fn privileged_what_it_leaves_running_goes_on() {
    let (_bundle, container) = running();
    let output = container.exec(&[], &["sh", "-c", "setsid sleep 100 >/dev/null 2>&1 & echo left"]);
    assert_eq!(text(&output), "left\n");
    let unified = container.cgroup("unified");
    let pids = fs::read_to_string(unified.join("cgroup.procs")).unwrap();
    assert_eq!(pids.lines().count(), 2, "init and what was left: {pids}");
    assert!(
        !fs::read_dir(unified).unwrap().flatten().any(|entry| entry.path().is_dir()),
        "no cgroup is left"
    );
}

#[test]
fn privileged_only_the_standard_streams_are_inherited() {
    let (_bundle, container) = running();
    let output = container.exec(&[], &["sh", "-c", "for fd in /proc/self/fd/*; do echo $fd; done"]);
    let fds = text(&output);
    assert!(fds.starts_with("/proc/self/fd/0\n/proc/self/fd/1\n/proc/self/fd/2\n"), "{fds}");
    assert!(fds.lines().count() <= 4, "{fds}");
}

#[test]
fn privileged_many_at_once() {
    let (_bundle, container) = running();
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..8)
            .map(|number: i32| {
                let container = &container;
                scope.spawn(move || {
                    let script = format!("exit {number}");
                    (0..5).for_each(|_| {
                        let output = container.exec(&[], &["sh", "-c", &script]);
                        assert_eq!(output.status.code(), Some(number), "{}", text(&output));
                    });
                })
            })
            .collect();
        workers.into_iter().for_each(|worker| worker.join().unwrap());
    });
}

#[test]
fn privileged_a_detached_one_goes_on_by_itself() {
    let (_bundle, container) = running();
    let mut exec = container.command("exec");
    exec.args(["--detach", &container.id, "sleep", "100"]).stdout(std::process::Stdio::null());
    assert!(exec.stderr(std::process::Stdio::null()).status().unwrap().success());
    let unified = container.cgroup("unified");
    let pids = fs::read_to_string(unified.join("cgroup.procs")).unwrap();
    assert_eq!(pids.lines().count(), 2, "init and the other: {pids}");
    assert!(
        !fs::read_dir(unified).unwrap().flatten().any(|entry| entry.path().is_dir()),
        "no cgroup of its own is left"
    );
}

#[test]
fn privileged_a_cgroup_within_the_containers_can_be_the_execs() {
    let (_bundle, container) = running();
    let is_v1 = Path::new("/sys/fs/cgroup/pids").is_dir();
    let prefix = if is_v1 { "pids:" } else { "" };
    fs::create_dir(container.cgroup("pids").join("sub")).unwrap();
    let exec = |cgroup: &str| {
        let script = ["sh", "-c", "grep -E '^0:|pids' /proc/self/cgroup"];
        container.exec(&["--cgroup", &format!("{prefix}{cgroup}")], &script)
    };
    for cgroup in ["sub", "/sub"] {
        let output = exec(cgroup);
        let all = text(&output);
        let line = all.lines().find(|line| line.contains("pids") == is_v1);
        assert!(output.status.success() && line.is_some_and(|line| line.ends_with(":/sub")), "{all}");
    }
    for cgroup in ["../other", "absent"] {
        let output = exec(cgroup);
        assert!(!output.status.success() && text(&output).contains(cgroup), "{}", text(&output));
    }
}
