//! What a container sees and may do.
#![forbid(unsafe_code)]

use std::fs;

use cleat_tests_runtime::{Bundle, Container, text};
use serde_json::json;

/// Runs a script and gives its output; it has to succeed.
fn run(bundle: &mut Bundle) -> String {
    let output = Container::new(bundle).run();
    assert!(output.status.success(), "{}", text(&output));
    text(&output)
}

#[test]
fn privileged_namespaces_are_its_own() {
    for kind in ["pid", "net", "ipc", "uts", "mnt", "cgroup"] {
        let own = fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
        let inside = run(&mut Bundle::script(&format!("readlink /proc/self/ns/{kind}")));
        assert_ne!(inside.trim(), own.to_string_lossy(), "{kind}");
    }
    assert_eq!(run(&mut Bundle::script("hostname; echo $$")), "inside\n1\n");
}

#[test]
fn privileged_a_namespace_is_joined_by_its_path() {
    let mut bundle = Bundle::script("readlink /proc/self/ns/net; readlink /proc/self/ns/ipc");
    let namespaces = bundle.spec["linux"]["namespaces"].as_array_mut().unwrap();
    for namespace in namespaces {
        if namespace["type"] == "network" {
            namespace["path"] = "/proc/self/ns/net".into();
        }
        if namespace["type"] == "ipc" {
            namespace["path"] = "/proc/self/ns/ipc".into();
        }
    }
    let own = |kind| fs::read_link(format!("/proc/self/ns/{kind}")).unwrap().to_string_lossy().into_owned();
    assert_eq!(run(&mut bundle), format!("{}\n{}\n", own("net"), own("ipc")));
}

#[test]
fn privileged_masked_and_read_only_paths_hold() {
    let script = "cat /proc/keys | wc -c; ls /sys/firmware | wc -l; echo 1 > /proc/sys/kernel/shmmax; echo $?
        cat /proc/timer_list | wc -c; mkdir /proc/acpi/x; echo $?";
    let output = run(&mut Bundle::script(&format!("({script}) 2>/dev/null")));
    assert_eq!(output, "0\n0\n1\n0\n1\n");
}

#[test]
fn privileged_capabilities_are_exactly_those_asked_for() {
    let mut bundle = Bundle::script("grep Cap /proc/self/status");
    bundle.spec["process"]["capabilities"] = json!({
        "bounding": ["CAP_CHOWN", "CAP_KILL"], "effective": ["CAP_CHOWN"], "permitted": ["CAP_CHOWN", "CAP_KILL"],
        "inheritable": ["CAP_KILL"], "ambient": ["CAP_KILL"],
    });
    let output = run(&mut bundle);
    // Ambient capabilities are permitted and effective for a program without any of its own; root gets its bounding set.
    for line in ["CapInh:\t0000000000000020", "CapBnd:\t0000000000000021", "CapAmb:\t0000000000000020"] {
        assert!(output.contains(line), "{line} in {output}");
    }
}

#[test]
fn privileged_no_capability_is_inherited_unless_asked_for() {
    let output = run(&mut Bundle::script("grep -E 'CapInh|CapAmb' /proc/self/status"));
    assert_eq!(output, "CapInh:\t0000000000000000\nCapAmb:\t0000000000000000\n");
}

#[test]
fn privileged_a_user_has_its_groups_umask_home_and_no_capability() {
    let mut bundle = Bundle::script(
        "id -u; id -g; grep Groups /proc/self/status; umask; echo $HOME; grep CapEff /proc/self/status",
    );
    fs::write(bundle.rootfs("etc/passwd"), "1000:x:0:0::/root:/bin/sh\nu:x:1000:1001:u:/home/u:/bin/sh\n")
        .unwrap();
    bundle.spec["process"]["user"] =
        json!({ "uid": 1000, "gid": 1001, "additionalGids": [7, 8], "umask": 0o27 });
    let output = run(&mut bundle);
    assert_eq!(output, "1000\n1001\nGroups:\t7 8 \n0027\n/home/u\nCapEff:\t0000000000000000\n");
}

#[test]
fn privileged_no_new_privileges_and_the_filter_hold() {
    for no_new_privileges in [true, false] {
        let mut bundle = Bundle::script("mkdir /tmp/x; echo $?; grep -E 'NoNew|Seccomp:' /proc/self/status");
        bundle.spec["process"]["noNewPrivileges"] = no_new_privileges.into();
        bundle.spec["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
        bundle.spec["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"],
            "syscalls": [{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38 }],
        });
        let output = run(&mut bundle);
        assert!(output.contains("Function not implemented"), "{output}");
        assert!(output.contains(&format!("NoNewPrivs:\t{}", u8::from(no_new_privileges))), "{output}");
        assert!(output.contains("Seccomp:\t2"), "{output}");
    }
}

#[test]
fn privileged_only_the_standard_streams_are_inherited() {
    // A file the runtime itself inherits, and whatever it opens.
    let mut bundle = Bundle::program(&["sh", "-c", "for fd in /proc/self/fd/*; do echo $fd; done"]);
    let container = Container::new(&mut bundle);
    let inner = container.command("run");
    let arguments: Vec<_> = inner.get_args().map(|text| text.to_string_lossy().into_owned()).collect();
    let script = format!(
        "exec timeout {} --bundle {} {} 9</etc/passwd 8</",
        arguments.join(" "),
        bundle.path().display(),
        container.id
    );
    let output = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let fds: Vec<_> = String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect();
    assert_eq!(fds[..3], ["/proc/self/fd/0", "/proc/self/fd/1", "/proc/self/fd/2"], "{}", text(&output));
    // The shell's own descriptor of the folder it lists may follow.
    assert!(fds.len() <= 4 && !fds.iter().any(|fd| fd.ends_with("/9") || fd.ends_with("/8")), "{fds:?}");
}

#[test]
fn privileged_rlimits_are_set() {
    let mut bundle = Bundle::script("ulimit -n; ulimit -Hn");
    bundle.spec["process"]["rlimits"] = json!([{ "type": "RLIMIT_NOFILE", "soft": 100, "hard": 200 }]);
    assert_eq!(run(&mut bundle), "100\n200\n");
}

/// With CAP_SYS_RESOURCE what was asked for, without it the nearest value that may be set; in no case a failure.
#[test]
fn privileged_limits_beyond_what_may_be_set_are_clamped() {
    let own = std::process::Command::new("sh")
        .args(["-c", "ulimit -Hn; cat /proc/self/oom_score_adj"])
        .output()
        .unwrap();
    let own = String::from_utf8(own.stdout).unwrap();
    let [hard, adjustment] = own.lines().collect::<Vec<_>>()[..] else { panic!("{own}") };
    let wanted = hard.parse::<u64>().unwrap() + 1000;
    let mut bundle = Bundle::script("ulimit -Hn; cat /proc/self/oom_score_adj");
    bundle.spec["process"]["rlimits"] = json!([{ "type": "RLIMIT_NOFILE", "soft": 100, "hard": wanted }]);
    bundle.spec["process"]["oomScoreAdj"] = json!(-999);
    let output = run(&mut bundle);
    let clamped = format!("{hard}\n{adjustment}\n");
    assert!(
        output == clamped || output == format!("{wanted}\n-999\n"),
        "{output} is neither what was asked for nor {clamped}"
    );
}

#[test]
fn privileged_devices_are_the_allowed_ones() {
    let mut bundle = Bundle::script(
        "echo x > /dev/null && head -c 3 /dev/zero | wc -c; stat -c '%t:%T %a %u' /dev/special; cat /dev/special 2>&1; echo $?
         mknod /tmp/null c 1 3 && echo x > /tmp/null && echo made; readlink /dev/fd; readlink /dev/ptmx",
    );
    bundle.spec["linux"]["devices"] = json!([{ "path": "/dev/special", "type": "c", "major": 10, "minor": 237, "fileMode": 0o666, "uid": 5, "gid": 6 }]);
    let output = run(&mut bundle);
    for part in ["3\n", "a:ed 666 5\n", "made\n", "/proc/self/fd\npts/ptmx\n"] {
        assert!(output.contains(part), "{part:?} in {output}");
    }
    assert!(output.contains("Operation not permitted\n1\n"), "the device cgroup refuses it: {output}");
}

#[test]
fn privileged_the_root_is_read_only_and_mounts_are_what_they_say() {
    let mut bundle =
        Bundle::script("touch /x; touch /data/x; touch /ro/x; cat /file; touch /tmp/y && echo tmp");
    let source = tempfile::tempdir().unwrap();
    fs::write(source.path().join("file"), "content\n").unwrap();
    let bind = |destination: &str, from: &str, options: &[&str]| json!({ "destination": destination, "type": "bind", "source": source.path().join(from), "options": options });
    bundle.spec["root"]["readonly"] = true.into();
    bundle.mount(bind("/data", "", &["rbind", "rw"]));
    bundle.mount(bind("/ro", "", &["rbind", "ro"]));
    bundle.mount(bind("/file", "file", &["bind", "ro"]));
    bundle.mount(json!({ "destination": "/tmp", "type": "tmpfs", "source": "tmpfs" }));
    let output = run(&mut bundle);
    assert!(source.path().join("x").exists(), "a writable bind mount is written to: {output}");
    assert!(output.contains("/x: Read-only") && output.contains("/ro/x: Read-only"), "{output}");
    assert!(output.contains("content\n") && output.contains("tmp\n"), "{output}");
}

#[test]
fn privileged_sysctls_are_set_and_those_of_the_host_refused() {
    let mut bundle = Bundle::script("cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shm_rmid_forced");
    bundle.spec["linux"]["sysctl"] = json!({ "net.ipv4.ip_forward": "1", "kernel.shm_rmid_forced": "1" });
    assert_eq!(run(&mut bundle), "1\n1\n");
    let mut bundle = Bundle::program(&["true"]);
    bundle.spec["linux"]["sysctl"] = json!({ "kernel.core_pattern": "|/x" });
    assert!(!Container::new(&mut bundle).run().status.success());
}

#[test]
fn privileged_its_cgroups_are_all_it_sees() {
    // Processes are listed in each v1 hierarchy, or in the unified one itself.
    let output = run(&mut Bundle::script(
        "cat /proc/self/cgroup; cd /sys/fs/cgroup; cat */cgroup.procs cgroup.procs 2>/dev/null | head -1",
    ));
    assert!(output.lines().filter(|line| line.contains(':')).all(|line| line.ends_with(":/")), "{output}");
    assert!(output.ends_with("1\n"), "{output}");
}

/// Seconds since the boot, as the shell's output says them.
fn uptime(text: &str) -> f64 {
    text.split_whitespace().next().and_then(|seconds| seconds.parse().ok()).expect("an uptime")
}

#[test]
fn privileged_a_time_namespace_has_its_own_clocks_for_exec_too() {
    const OFFSET: f64 = 1_000_000.0;
    let mut bundle = Bundle::script("cat /proc/uptime; exec sleep 100");
    bundle.spec["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "time" }));
    bundle.spec["linux"]["timeOffsets"] = json!({ "boottime": { "secs": 1_000_000 } });
    let container = Container::new(&mut bundle);
    container.start();
    container.await_output("\n");
    let host = uptime(&fs::read_to_string("/proc/uptime").unwrap());
    for inside in [container.output(), text(&container.exec(&[], &["cat", "/proc/uptime"]))] {
        assert!((uptime(&inside) - host - OFFSET).abs() < 60.0, "{inside} on a host at {host}");
    }
}

#[test]
fn privileged_scheduler_and_disk_priority_are_set() {
    let mut bundle = Bundle::script("cat /proc/self/stat; busybox ionice -p $$");
    bundle.spec["process"]["scheduler"] = json!({ "policy": "SCHED_BATCH", "nice": 7 });
    bundle.spec["process"]["ioPriority"] = json!({ "class": "IOPRIO_CLASS_BE", "priority": 6 });
    let output = run(&mut bundle);
    let (stat, io) = output.split_once('\n').expect("two lines");
    // Fields 19 and 41 of proc_pid_stat(5), counted from behind the name.
    let fields: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    assert_eq!((fields[16], fields[38]), ("7", "3"), "{stat}");
    assert!(io.contains("best-effort") && io.contains('6'), "{io}");
}

#[test]
fn privileged_owners_of_a_mount_are_mapped_both_ways() {
    // A tmpfs maps owners from Linux 6.3 on, ext4 and xfs do from 5.12 on; an overlay never does.
    let folder = std::env::var_os("CLEAT_TEST_IDMAP_FOLDER").unwrap_or("/dev/shm".into());
    let source = tempfile::tempdir_in(folder).unwrap();
    fs::write(source.path().join("file"), "").unwrap();
    std::os::unix::fs::chown(source.path().join("file"), Some(3), Some(4)).unwrap();
    std::os::unix::fs::chown(source.path(), Some(0), Some(0)).unwrap();
    let mut bundle =
        Bundle::script("stat -c %u:%g /mapped/file; touch /mapped/new; stat -c %u:%g /mapped/new");
    bundle.spec["process"]["user"] = json!({ "uid": 1000, "gid": 2000 });
    let map = |first| json!([{ "containerID": 0, "hostID": first, "size": 10 }]);
    bundle.mount(json!({
        "destination": "/mapped", "type": "bind", "source": source.path(), "options": ["bind", "idmap"],
        "uidMappings": map(1000), "gidMappings": map(2000),
    }));
    assert_eq!(run(&mut bundle), "1003:2004\n1000:2000\n");
    let new = std::os::unix::fs::MetadataExt::uid(&fs::metadata(source.path().join("new")).unwrap());
    assert_eq!(new, 0, "on the filesystem it is root's");
}

#[test]
fn privileged_a_memory_filesystem_begins_with_what_the_image_has() {
    let mut bundle = Bundle::script(
        "cat /etc/app/conf; stat -c '%a %u' /etc/app; echo new > /etc/app/conf; readlink /etc/app/l",
    );
    fs::create_dir(bundle.rootfs("etc/app")).unwrap();
    fs::write(bundle.rootfs("etc/app/conf"), "of the image\n").unwrap();
    fs::set_permissions(bundle.rootfs("etc/app"), std::os::unix::fs::PermissionsExt::from_mode(0o751))
        .unwrap();
    std::os::unix::fs::chown(bundle.rootfs("etc/app"), Some(7), None).unwrap();
    std::os::unix::fs::symlink("/proc/self/exe", bundle.rootfs("etc/app/l")).unwrap();
    bundle.mount(
        json!({ "destination": "/etc/app", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup"] }),
    );
    let output = run(&mut bundle);
    assert_eq!(output, "of the image\n751 7\n/proc/self/exe\n");
    assert_eq!(fs::read_to_string(bundle.rootfs("etc/app/conf")).unwrap(), "of the image\n");
}

#[test]
fn privileged_a_null_device_as_a_stream_is_the_containers_own() {
    let mut bundle = Bundle::script("stat -L -c %d /proc/self/fd/0 /dev/null; echo told; exec sleep 100");
    let container = Container::new(&mut bundle);
    container.start();
    container.await_output("told");
    let output = container.output();
    let devices: Vec<_> = output.lines().collect();
    assert_eq!(devices.len(), 3, "{output}");
    assert_eq!(devices[0], devices[1], "the filesystem of the stream is the container's /dev");
}
