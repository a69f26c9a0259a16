//! What a container may do: capabilities, privileges, filters, masks, devices.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use cleat_cri_api::v1::security_profile::ProfileType;
use cleat_cri_api::v1::*;
use cleat_tests_cri::{Node, Pod, check, configs};
use rustix::fs::SealFlags;

/// The fourteen capabilities of docs/config.md as the kernel shows them.
const DEFAULT_CAPABILITIES: u64 = 0xa804_25fb;

const CAP_NET_ADMIN: u64 = 1 << 12;
const CAP_NET_BIND_SERVICE: u64 = 1 << 10;
const CAP_CHOWN: u64 = 1;

/// A line of a container's /proc/self/status.
fn of_status<'a>(status: &'a str, key: &str) -> Result<&'a str> {
    let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    line.map(str::trim).with_context(|| format!("no {key} in {status}"))
}

/// A capability set of a process's status.
fn set(status: &str, key: &str) -> Result<u64> {
    u64::from_str_radix(of_status(status, key)?, 16).with_context(|| key.to_owned())
}

/// What a container changed by `change` reads in its own status.
fn status_of(
    node: &Node,
    pod: &Pod,
    name: &str,
    change: impl FnOnce(&mut ContainerConfig),
) -> Result<String> {
    let mut config = configs::script(name, "cat /proc/self/status");
    change(&mut config);
    node.output(pod, &config).with_context(|| name.to_owned())
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

#[test]
fn privileged_capabilities_are_added_and_dropped() {
    check(Node::builder(), |node| {
        let pod = node.run_pod(configs::pod("caps"))?;
        let cases: [(&str, &[&str], &[&str], u64); 6] = [
            ("default", &[], &[], DEFAULT_CAPABILITIES),
            ("add", &["NET_ADMIN"], &[], DEFAULT_CAPABILITIES | CAP_NET_ADMIN),
            ("prefixed", &["CAP_NET_ADMIN"], &[], DEFAULT_CAPABILITIES | CAP_NET_ADMIN),
            ("drop", &[], &["CHOWN"], DEFAULT_CAPABILITIES & !CAP_CHOWN),
            ("none", &[], &["ALL"], 0),
            ("only", &["CHOWN"], &["ALL"], CAP_CHOWN),
        ];
        for (name, add, drop, expected) in cases {
            let status = status_of(node, &pod, name, |config| {
                let capabilities = configs::capabilities(config);
                capabilities.add_capabilities = names(add);
                capabilities.drop_capabilities = names(drop);
            })?;
            for key in ["CapBnd", "CapPrm", "CapEff"] {
                assert_eq!(set(&status, key)?, expected, "{key} of {name}");
            }
            // Inherited capabilities would survive in a file's (CVE-2022-24769).
            assert_eq!((set(&status, "CapInh")?, set(&status, "CapAmb")?), (0, 0), "{name}");
        }
        let all = status_of(node, &pod, "all", |config| {
            configs::capabilities(config).add_capabilities = names(&["ALL"]);
        })?;
        assert_eq!(set(&all, "CapEff")?, own_bounding_set()?);
        Ok(())
    });
}

/// What this process, and so the daemon, could give away.
fn own_bounding_set() -> Result<u64> {
    set(&fs::read_to_string("/proc/self/status").context("read /proc/self/status")?, "CapBnd")
}

#[test]
fn privileged_users_other_than_root_have_ambient_capabilities_only() {
    check(Node::builder(), |node| {
        let pod = node.run_pod(configs::pod("ambient"))?;
        let status = status_of(node, &pod, "plain", |config| {
            configs::security(config).run_as_user = Some(Int64Value { value: 1000 });
        })?;
        assert_eq!((set(&status, "CapEff")?, set(&status, "CapPrm")?), (0, 0));
        assert_eq!(set(&status, "CapBnd")?, DEFAULT_CAPABILITIES);
        let status = status_of(node, &pod, "ambient", |config| {
            configs::security(config).run_as_user = Some(Int64Value { value: 1000 });
            configs::capabilities(config).add_ambient_capabilities = names(&["NET_BIND_SERVICE"]);
        })?;
        for key in ["CapAmb", "CapEff", "CapPrm", "CapInh"] {
            assert_eq!(set(&status, key)?, CAP_NET_BIND_SERVICE, "{key}");
        }
        Ok(())
    });
}

/// A node in the host's /dev, another /dev/null, until it is dropped.
struct LateDevice(PathBuf);

impl LateDevice {
    fn new(node: &Node) -> Result<Self> {
        let path = PathBuf::from("/dev/cleat-test-late");
        node.cleat().world().shell(&format!("mknod {} c 1 3", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for LateDevice {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.0) {
            eprintln!("remove {}: {error}", self.0.display());
        }
    }
}

#[test]
fn privileged_a_privileged_container_may_what_the_daemon_may() {
    check(Node::builder(), |node| {
        let mut config = configs::pod("privileged");
        configs::pod_security(&mut config).privileged = true;
        let pod = node.run_pod(config)?;
        let mut config = configs::script(
            "privileged",
            "cat /proc/self/status; mkdir /tmp/m && mount -t tmpfs none /tmp/m && echo mounted; \
             grep -E ' /(proc/sys|sys) ' /proc/self/mounts | cut -d' ' -f2,4; \
             test -c /dev/kmsg && echo devices; test -c /dev/cleat-test-late && echo late",
        );
        configs::security(&mut config).privileged = true;
        // A device that was not there when the daemon started.
        let late = LateDevice::new(node)?;
        let output = node.output(&pod, &config)?;
        drop(late);
        assert_eq!(set(&output, "CapEff")?, own_bounding_set()?);
        assert_eq!(of_status(&output, "Seccomp")?, "0");
        ensure!(output.contains("\nmounted\n"), "{output}");
        ensure!(output.contains("/sys rw"), "/sys is read-only: {output}");
        ensure!(!output.contains("/proc/sys ro"), "/proc/sys is read-only: {output}");
        ensure!(output.ends_with("devices\nlate"), "a device is missing: {output}");
        Ok(())
    });
}

#[test]
fn privileged_no_new_privileges_and_seccomp() {
    check(Node::builder(), |node| {
        let pod = node.run_pod(configs::pod("filters"))?;
        let file = node.folder().join("profile.json");
        let text = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],
            "action":"SCMP_ACT_ERRNO","errnoRet":38}]}"#;
        fs::write(&file, text).context("write a profile")?;
        let localhost = configs::profile(ProfileType::Localhost, &file.display().to_string());
        let script = "grep -E '^(NoNewPrivs|Seccomp):' /proc/self/status; mkdir /tmp/new 2>&1; \
                      unshare -U true 2>/dev/null && echo unshared; true";
        let run = |name: &str, profile: Option<SecurityProfile>, no_new_privs: bool| -> Result<String> {
            let mut config = configs::script(name, script);
            configs::security(&mut config).seccomp = profile;
            configs::security(&mut config).no_new_privs = no_new_privs;
            Ok(node.output(&pod, &config)?.replace('\t', ""))
        };
        assert_eq!(run("absent", None, false)?, "NoNewPrivs:0\nSeccomp:0\nunshared");
        assert_eq!(run("no-new", None, true)?, "NoNewPrivs:1\nSeccomp:0\nunshared");
        let unconfined = configs::profile(ProfileType::Unconfined, "");
        assert_eq!(run("unconfined", Some(unconfined), false)?, "NoNewPrivs:0\nSeccomp:0\nunshared");
        let default = configs::profile(ProfileType::RuntimeDefault, "");
        assert_eq!(run("default", Some(default), false)?, "NoNewPrivs:0\nSeccomp:2");
        let refused =
            "NoNewPrivs:0\nSeccomp:2\nmkdir: can't create directory '/tmp/new': Function not implemented";
        assert_eq!(run("localhost", Some(localhost), false)?, format!("{refused}\nunshared"));
        Ok(())
    });
}

/// CVE-2026-31431: the kernel's algorithms are out of the default filter's bounds, as are sockets to the hypervisor.
#[test]
fn privileged_the_default_filter_opens_no_socket_to_the_kernels_algorithms() {
    check(Node::builder(), |node| {
        let pod = node.run_pod(configs::pod("sockets"))?;
        // The prober needs the host's libraries: it runs in the host's files, within the container's filter.
        let script = format!("chroot /host {} 2 38 40", env!("CARGO_BIN_EXE_socket-prober"));
        let run = |name: &str, kind: ProfileType| -> Result<String> {
            let mut config = configs::script(name, &script);
            config.mounts = vec![Mount { readonly: true, ..configs::mount("/".as_ref(), "/host") }];
            configs::security(&mut config).seccomp = Some(configs::profile(kind, ""));
            node.output(&pod, &config)
        };
        let refused = "Operation not permitted (os error 1)";
        let default = run("default", ProfileType::RuntimeDefault)?;
        assert_eq!(default, format!("2 opened\n38 {refused}\n40 {refused}"));
        // The kernel may have been built without them, but it is not the filter that says so.
        let unconfined = run("unconfined", ProfileType::Unconfined)?;
        ensure!(unconfined.starts_with("2 opened\n38 ") && !unconfined.contains(refused), "{unconfined}");
        Ok(())
    });
}

/// CVE-2019-5736: what runs beside a container, and is forked into it, is a copy in memory that nobody can change.
#[test]
fn privileged_a_monitor_executes_a_sealed_copy() {
    check(Node::builder(), |node| {
        let pod = node.run_pod(configs::pod("sealed"))?;
        let id = node.start(&pod, &configs::sleeper("sealed"))?;
        let status = fs::read_to_string(format!("/proc/{}/status", node.init_pid(&id)?))?;
        let program = format!("/proc/{}/exe", of_status(&status, "PPid")?);
        let link = fs::read_link(&program).with_context(|| program.clone())?;
        ensure!(link.to_string_lossy().starts_with("/memfd:cleat-conmon"), "{}", link.display());
        let seals = rustix::fs::fcntl_get_seals(fs::File::open(&program).context("open the program")?)?;
        ensure!(seals.contains(SealFlags::WRITE | SealFlags::SEAL | SealFlags::GROW), "{seals:?}");
        Ok(())
    });
}

#[test]
fn privileged_masked_and_readonly_paths_and_a_readonly_root() {
    check(Node::builder(), |node| {
        let pod = node.run_pod(configs::pod("masks"))?;
        let mut config = configs::script(
            "masks",
            "cat /etc/group /proc/kcore | wc -c; ls /bin/.. >/dev/null; ls /usr/bin | wc -l; \
             echo x 2>/dev/null >/proc/sys/kernel/domainname || echo proc-sys; \
             touch /x 2>&1 || touch /dev/shm/x /dev/x && echo shm",
        );
        let security = configs::security(&mut config);
        security.masked_paths = names(&["/proc/kcore", "/etc/group", "/usr/bin", "/nowhere/at/all"]);
        security.readonly_paths = names(&["/proc/sys"]);
        security.readonly_rootfs = true;
        let output = node.output(&pod, &config)?;
        assert_eq!(output, "0\n0\nproc-sys\ntouch: /x: Read-only file system\nshm");
        Ok(())
    });
}

#[test]
fn privileged_devices_are_there_when_asked_for_and_refused_when_not() {
    check(Node::builder(), |node| {
        let pod = node.run_pod(configs::pod("devices"))?;
        let script = "mknod /tmp/mem c 1 1; cat /tmp/mem 2>&1 | head -1; ls /dev/given 2>&1; \
                      head -c 3 /dev/given 2>/dev/null | wc -c; \
                      for each in null zero full random urandom tty; do test -c /dev/$each || echo no $each; done";
        let without = node.output(&pod, &configs::script("without", script))?;
        assert_eq!(
            without,
            "cat: can't open '/tmp/mem': Operation not permitted\nls: /dev/given: No such file or directory\n0"
        );
        let mut config = configs::script("with", script);
        config.devices = vec![Device {
            host_path: "/dev/zero".to_owned(),
            container_path: "/dev/given".to_owned(),
            permissions: "r".to_owned(),
        }];
        let with = node.output(&pod, &config)?;
        assert_eq!(with, "cat: can't open '/tmp/mem': Operation not permitted\n/dev/given\n3");
        Ok(())
    });
}
