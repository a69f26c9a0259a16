//! Containers whose files stand where the runtime writes: none of its writes may reach them.
#![forbid(unsafe_code)]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use cleat_tests_runtime::{Bundle, Container, text};
use serde_json::json;

/// Files of procfs that runtimes write to.
const WRITTEN: [&str; 16] = [
    "sys/net/ipv4/ip_forward",
    "self/oom_score_adj",
    "self/setgroups",
    "self/uid_map",
    "self/gid_map",
    "self/timens_offsets",
    "self/attr/exec",
    "self/attr/keycreate",
    "self/attr/apparmor/exec",
    "thread-self/attr/exec",
    "thread-self/attr/keycreate",
    "thread-self/attr/apparmor/exec",
    "1/oom_score_adj",
    "1/attr/exec",
    "2/oom_score_adj",
    "2/attr/exec",
];

const PRECIOUS: &str = "precious\n";

/// A folder like a procfs whose files are links to `/precious`, the host's.
fn hostile_procfs(folder: &Path) {
    for name in WRITTEN {
        let file = folder.join(name);
        fs::create_dir_all(file.parent().expect("a folder")).expect("a folder can be made");
        symlink("/precious", file).expect("a link can be made");
    }
}

/// CVE-2025-52881, and CVE-2026-41579 and -47766, where it was missed: what is written to procfs is written to a procfs.
#[test]
fn privileged_nothing_is_written_to_what_stands_in_place_of_procfs() {
    let host = tempfile::tempdir().unwrap();
    let precious = host.path().join("precious");
    fs::write(&precious, PRECIOUS).unwrap();
    let mut bundle = Bundle::script(
        "cat /real/sys/net/ipv4/ip_forward /real/self/oom_score_adj; echo ready; exec sleep 100",
    );
    hostile_procfs(&bundle.path().join("hostile"));
    fs::write(bundle.rootfs("precious"), "").unwrap();
    for (destination, source) in
        [("/precious", precious.as_path()), ("/proc", &bundle.path().join("hostile"))]
    {
        let mount = json!({ "destination": destination, "type": "bind", "source": source, "options": ["bind", "rw"] });
        bundle.mount(mount);
    }
    bundle.mount(json!({ "destination": "/real", "type": "proc", "source": "proc" }));
    bundle.spec["linux"]["sysctl"] = json!({ "net.ipv4.ip_forward": "1" });
    // Not above ours, which may not be lowered again.
    bundle.spec["process"]["oomScoreAdj"] = 777.into();
    let container = Container::new(&mut bundle);
    let created = container.create();
    // Refused, or as if /proc were not there.
    if created.status.success() {
        assert!(container.simple("start").status.success());
        container.await_output("ready");
        assert_eq!(container.output(), "1\n777\nready\n");
        let executed = container.exec(&[], &["cat", "/real/self/oom_score_adj"]);
        assert_eq!(text(&executed), "777\n");
    }
    assert_eq!(fs::read_to_string(&precious).unwrap(), PRECIOUS);
}

/// CVE-2025-31133: what hides a file is the host's `/dev/null`, whatever the image calls so.
#[test]
fn privileged_masks_hide_whatever_the_image_has_as_dev_null() {
    let as_file = |path: &Path| fs::write(path, "shown\n").expect("a file can be written");
    let as_link = |path: &Path| symlink("/etc/hidden", path).expect("a link can be made");
    let as_folder = |path: &Path| fs::create_dir(path).expect("a folder can be made");
    let makers: [&dyn Fn(&Path); 3] = [&as_file, &as_link, &as_folder];
    for (number, make) in makers.iter().enumerate() {
        let mut bundle = Bundle::script("cat /etc/hidden; echo x >/etc/hidden; true");
        // The image's own /dev, in which it could have put anything.
        bundle.spec["mounts"].as_array_mut().unwrap().retain(|mount| mount["destination"] != "/dev");
        make(&bundle.rootfs("dev/null"));
        fs::write(bundle.rootfs("etc/hidden"), "shown\n").unwrap();
        bundle.spec["linux"]["maskedPaths"] = json!(["/etc/hidden"]);
        let output = Container::new(&mut bundle).run();
        assert!(!text(&output).contains("shown"), "{number}: {}", text(&output));
        assert_eq!(fs::read_to_string(bundle.rootfs("etc/hidden")).unwrap(), "shown\n", "{number}");
    }
}
