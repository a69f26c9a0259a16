//! Containers whose users are others outside.
#![forbid(unsafe_code)]

use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::net::UnixListener;
use std::path::Path;

use cleat_sys::holder::Holder;
use cleat_sys::namespace;
use cleat_tests_runtime::{Bundle, Container, text};
use serde_json::{Value, json};

/// The container's root outside.
const ROOT: u32 = 100_000;

/// A bundle of a script with a user namespace, whose root filesystem belongs to its root.
fn bundle(script: &str) -> Bundle {
    let mut bundle = Bundle::script(script);
    let maps = json!([{ "containerID": 0, "hostID": ROOT, "size": 65_536 }]);
    bundle.spec["linux"]["uidMappings"] = maps.clone();
    bundle.spec["linux"]["gidMappings"] = maps;
    bundle.spec["linux"]["namespaces"].as_array_mut().expect("a list").push(json!({ "type": "user" }));
    own(&bundle.rootfs(""));
    bundle
}

fn own(path: &Path) {
    std::os::unix::fs::lchown(path, Some(ROOT), Some(ROOT)).expect("an owner can be set");
    if path.is_dir() && !path.is_symlink() {
        let entries = fs::read_dir(path).expect("a folder can be listed");
        entries.for_each(|entry| own(&entry.expect("an entry").path()));
    }
}

/// Runs it; it has to succeed.
fn run(bundle: &mut Bundle) -> String {
    let output = Container::new(bundle).run();
    assert!(output.status.success(), "{}", text(&output));
    text(&output)
}

#[test]
fn privileged_root_inside_is_nobody_outside() {
    let mut bundle = bundle("id -u; id -g; cat /proc/self/uid_map; touch /made; readlink /proc/self/ns/user");
    let output = run(&mut bundle);
    let own = fs::read_link("/proc/self/ns/user").unwrap();
    assert!(output.starts_with("0\n0\n"), "{output}");
    let map: Vec<_> = output.lines().nth(2).unwrap().split_whitespace().collect();
    assert_eq!(map, ["0", "100000", "65536"]);
    assert!(!output.contains(&*own.to_string_lossy()), "{output}");
    assert_eq!(fs::metadata(bundle.rootfs("made")).unwrap().uid(), ROOT);
}

#[test]
fn privileged_its_file_systems_are_its_own() {
    let mut bundle = bundle(
        "for path in /proc /sys /dev /dev/pts /dev/shm /dev/mqueue /dev/null /proc/self/status; do
           stat -c '%n %u' $path; done; stat -c '%n %g' /dev/pts/ptmx; hostname;
         echo x > /dev/null && head -c 2 /dev/zero | wc -c; stat -c '%t:%T %a' /dev/null;
         cat /proc/keys | wc -c; (echo 1 > /proc/sys/kernel/shmmax) 2>/dev/null || echo read-only; touch /sys/x 2>&1 || true",
    );
    let output = run(&mut bundle);
    for path in ["/dev", "/dev/shm", "/dev/mqueue", "/dev/null", "/proc/self/status"] {
        assert!(output.contains(&format!("{path} 0\n")), "{path} is root's: {output}");
    }
    for part in ["inside\n", "\n2\n", "1:3 666\n", "0\nread-only\n", "/sys/x"] {
        assert!(output.contains(part), "{part:?} in {output}");
    }
}

#[test]
fn privileged_its_capabilities_hold_within() {
    let mut bundle = bundle(
        "chown 5 /tmp && stat -c %u /tmp; mount -t tmpfs none /tmp && echo mounted;
         hostname changed && hostname; mknod /dev/sda b 8 0 2>&1 || true",
    );
    let capabilities = json!(["CAP_CHOWN", "CAP_SYS_ADMIN", "CAP_MKNOD", "CAP_NET_ADMIN"]);
    for set in ["bounding", "effective", "permitted"] {
        bundle.spec["process"]["capabilities"][set] = capabilities.clone();
    }
    let output = run(&mut bundle);
    assert!(output.contains("5\nmounted\n") && output.contains("changed\n"), "{output}");
    assert!(output.contains("not permitted"), "no device is made: {output}");
}

#[test]
fn privileged_its_sysctls_and_limits_are_set() {
    let mut bundle =
        bundle("cat /proc/sys/net/ipv4/ip_forward; ulimit -n; cat /proc/self/oom_score_adj; ulimit -Hn");
    bundle.spec["linux"]["sysctl"] = json!({ "net.ipv4.ip_forward": "1" });
    bundle.spec["process"]["rlimits"] = json!([{ "type": "RLIMIT_NOFILE", "soft": 100, "hard": 200 }]);
    bundle.spec["process"]["oomScoreAdj"] = json!(500);
    assert_eq!(run(&mut bundle), "1\n100\n500\n200\n");
}

#[test]
fn privileged_a_user_inside_has_its_groups() {
    let mut bundle = bundle("id -u; id -g; grep Groups /proc/self/status; grep CapEff /proc/self/status");
    bundle.spec["process"]["user"] = json!({ "uid": 1000, "gid": 1001, "additionalGids": [7, 8] });
    assert_eq!(run(&mut bundle), "1000\n1001\nGroups:\t7 8 \nCapEff:\t0000000000000000\n");
    let mut unmapped = self::bundle("true");
    unmapped.spec["process"]["user"] = json!({ "uid": 70_000, "gid": 0 });
    let output = Container::new(&mut unmapped).run();
    assert!(!output.status.success() && text(&output).contains("70000"), "{}", text(&output));
}

#[test]
fn privileged_exec_and_hooks_are_where_they_belong() {
    let mut bundle = bundle("exec sleep 100");
    let seen = bundle.path().join("seen");
    let script = format!("readlink /proc/self/ns/user > {}; id -u >> {0}", seen.display());
    bundle.spec["hooks"] =
        json!({ "createRuntime": [{ "path": "/bin/busybox", "args": ["sh", "-c", script] }] });
    let container = Container::new(&mut bundle);
    container.start();
    let own = fs::read_link("/proc/self/ns/user").unwrap();
    assert_eq!(fs::read_to_string(seen).unwrap(), format!("{}\n0\n", own.display()), "the runtime's");
    let init = container.state()["pid"].to_string();
    let script =
        "readlink /proc/self/ns/user; id -u; touch /by-exec; stat -c %u /by-exec; cat /proc/self/cgroup";
    let output = container.exec(&[], &["sh", "-c", script]);
    let namespace = fs::read_link(format!("/proc/{init}/ns/user")).unwrap();
    assert!(text(&output).starts_with(&format!("{}\n0\n0\n", namespace.display())), "{}", text(&output));
    let output = container.exec(&["--user", "1000:1000"], &["sh", "-c", "id -u; echo x > /dev/stdout"]);
    assert_eq!(text(&output), "1000\nx\n");
    assert_eq!(fs::metadata(bundle.rootfs("by-exec")).unwrap().uid(), ROOT);
    // Nobody inside reaches the processes outside: init, until it is started, executes the runtime.
    assert_eq!(fs::metadata(format!("/proc/{init}")).unwrap().uid(), ROOT);
}

#[test]
fn privileged_a_terminal_belongs_to_its_user() {
    let mut bundle = bundle("exec sleep 100");
    let container = Container::new(&mut bundle);
    container.start();
    let socket = bundle.path().join("console.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let mut exec = container.command("exec");
    exec.args(["--tty", "--detach", "--user", "1000:1000", "--console-socket"])
        .arg(&socket)
        .arg(&container.id);
    exec.args(["sh", "-c", "tty; stat -c '%u %g' $(tty); echo end > /dev/tty; read line"]);
    assert!(exec.status().unwrap().success());
    let (stream, _) = listener.accept().unwrap();
    let (_, mut descriptors) = cleat_sys::passing::receive(&stream, &mut [0; 64]).unwrap();
    let mut terminal = fs::File::from(descriptors.remove(0));
    let mut seen = String::new();
    while !seen.contains("end") {
        let mut buffer = [0; 256];
        let length = terminal.read(&mut buffer).unwrap();
        seen.push_str(&String::from_utf8_lossy(&buffer[..length]));
    }
    assert_eq!(seen.replace('\r', "").trim(), "/dev/pts/0\n1000 5\nend");
}

/// Namespaces as an engine holds them for a pod.
struct Pod(Holder);

impl Pod {
    fn new() -> Self {
        let holder = Holder::new(namespace::USER | namespace::NETWORK | namespace::IPC | namespace::UTS)
            .expect("namespaces can be made");
        for file in ["uid_map", "gid_map"] {
            fs::write(format!("/proc/{}/{file}", holder.pid()), format!("0 {ROOT} 65536"))
                .expect("ids can be mapped");
        }
        Self(holder)
    }

    fn path(&self, kind: &str) -> String {
        format!("/proc/{}/ns/{kind}", self.0.pid())
    }

    fn namespace(&self, kind: &str) -> Value {
        json!({ "type": kind, "path": self.path(if kind == "network" { "net" } else { kind }) })
    }
}

#[test]
fn privileged_a_pods_namespaces_are_joined_with_and_without_mappings() {
    let pod = Pod::new();
    for with_mappings in [true, false] {
        let mut bundle = bundle(
            "readlink /proc/self/ns/user; readlink /proc/self/ns/net; stat -c '%n %u' /proc/sys/net/ipv4/ip_forward /dev/null /proc/self/status;
             echo 1 > /proc/sys/net/ipv4/ip_forward; cat /proc/sys/net/ipv4/ip_forward; ps | wc -l",
        );
        bundle.spec["linux"]["readonlyPaths"] = json!([]);
        for set in ["bounding", "effective", "permitted"] {
            bundle.spec["process"]["capabilities"][set] = json!(["CAP_NET_ADMIN"]);
        }
        bundle.spec["linux"]["namespaces"] = json!([
            { "type": "mount" }, { "type": "pid" }, { "type": "cgroup" },
            pod.namespace("user"), pod.namespace("network"), pod.namespace("ipc"), pod.namespace("uts"),
        ]);
        if !with_mappings {
            bundle.spec["linux"]["uidMappings"] = json!([]);
            bundle.spec["linux"]["gidMappings"] = json!([]);
        }
        let output = run(&mut bundle);
        let link = |kind: &str| fs::read_link(pod.path(kind)).unwrap();
        let expected = format!(
            "{}\n{}\n/proc/sys/net/ipv4/ip_forward 0\n/dev/null 0\n",
            link("user").display(),
            link("net").display()
        );
        assert!(output.starts_with(&expected), "{output}");
        assert!(output.contains("\n1\n"), "its own network's settings: {output}");
    }
}

#[test]
fn privileged_volumes_are_mapped_as_the_container_is() {
    let folder = std::env::var_os("CLEAT_TEST_IDMAP_FOLDER").unwrap_or("/dev/shm".into());
    // Closed to everybody but root: the container's root could not open it by itself.
    let source = tempfile::tempdir_in(folder).unwrap();
    let file = source.path().join("file");
    fs::write(&file, "").unwrap();
    chown(&file, Some(3), Some(4)).unwrap();
    let mut bundle = bundle(
        "stat -c %u:%g /mapped /mapped/file; touch /mapped/new; stat -c %u:%g /mapped/new; stat -c %u /plain/file",
    );
    let bind = |destination: &str, options: &[&str]| json!({ "destination": destination, "type": "bind", "source": source.path(), "options": options });
    bundle.mount(bind("/mapped", &["bind", "idmap"]));
    bundle.mount(bind("/plain", &["bind"]));
    // Its folder is closed to who nobody inside is.
    let output = run(&mut bundle);
    assert!(output.starts_with("0:0\n3:4\n0:0\n"), "{output}");
    assert_eq!(fs::metadata(source.path().join("new")).unwrap().uid(), 0, "on the filesystem it is root's");
}

#[test]
fn privileged_what_is_missing_is_told() {
    for (change, reason) in [
        (json!({ "uidMappings": [], "gidMappings": [] }), "linux.uidMappings"),
        (json!({ "gidMappings": [] }), "gidMappings"),
        (json!({ "namespaces": [{ "type": "mount" }] }), "user namespace"),
        (
            json!({ "namespaces": [{ "type": "mount" }, { "type": "user", "path": "/proc/self/ns/net" }] }),
            "/proc/self/ns/net",
        ),
    ] {
        let mut bundle = bundle("true");
        for (key, value) in change.as_object().unwrap() {
            bundle.spec["linux"][key] = value.clone();
        }
        bundle.spec["linux"]["cgroupsPath"] = Value::Null;
        bundle.spec["hostname"] = "".into();
        let output = Container::new(&mut bundle).run();
        assert!(!output.status.success() && text(&output).contains(reason), "{reason}: {}", text(&output));
    }
}
