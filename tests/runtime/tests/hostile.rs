//! Images and requests that try to get out.
#![forbid(unsafe_code)]

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

use cleat_tests_runtime::{Bundle, Container, text};
use serde_json::json;

/// CVE-2024-21626: a working folder by a descriptor that leads out of the container.
#[test]
fn privileged_no_descriptor_leads_out_by_the_working_folder() {
    for number in 3..20 {
        let mut bundle = Bundle::script("pwd; ls ..");
        bundle.spec["process"]["cwd"] = format!("/proc/self/fd/{number}").into();
        let output = Container::new(&mut bundle).run();
        assert!(!output.status.success(), "{number}: {}", text(&output));
    }
    let mut bundle = Bundle::script("exec sleep 100");
    let container = Container::new(&mut bundle);
    container.start();
    for number in 3..20 {
        let output = container.exec(&["--cwd", &format!("/proc/self/fd/{number}")], &["ls", ".."]);
        assert!(!output.status.success(), "{number}: {}", text(&output));
    }
}

#[test]
fn privileged_a_missing_working_folder_is_made() {
    let mut bundle = Bundle::script("pwd");
    bundle.spec["process"]["cwd"] = "/made/for/it".into();
    assert_eq!(text(&Container::new(&mut bundle).run()), "/made/for/it\n");
}

/// A host's folder as links in an image name it: from the root, and upwards.
fn links(outside: &std::path::Path) -> [String; 3] {
    let path = outside.display();
    [path.to_string(), format!("../../../../../../..{path}"), format!("/../../../../../..{path}")]
}

/// CVE-2021-30465 and its kin: links in the image as mount targets.
#[test]
fn privileged_links_in_the_image_do_not_lead_mounts_out() {
    for kind in 0..3 {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("hosts"), "host's\n").unwrap();
        let source = tempfile::tempdir().unwrap();
        fs::write(source.path().join("hosts"), "container's\n").unwrap();
        let mut bundle = Bundle::script("cat /etc/hosts");
        fs::remove_dir(bundle.rootfs("etc")).unwrap();
        symlink(&links(outside.path())[kind], bundle.rootfs("etc")).unwrap();
        bundle.mount(json!({
            "destination": "/etc/hosts", "type": "bind", "source": source.path().join("hosts"), "options": ["bind"],
        }));
        let output = Container::new(&mut bundle).run();
        assert_eq!(text(&output), "container's\n");
        assert_eq!(fs::read_to_string(outside.path().join("hosts")).unwrap(), "host's\n");
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1, "nothing is made outside");
    }
}

#[test]
fn privileged_a_link_as_dev_makes_nothing_outside() {
    for kind in 0..3 {
        let outside = tempfile::tempdir().unwrap();
        let mut bundle = Bundle::script("ls -l /dev/null");
        // Without a filesystem on it: the nodes themselves would go there.
        bundle.spec["mounts"].as_array_mut().unwrap().retain(|mount| mount["destination"] != "/dev");
        fs::remove_dir(bundle.rootfs("dev")).unwrap();
        symlink(&links(outside.path())[kind], bundle.rootfs("dev")).unwrap();
        // Either refused or kept within the root: in no case anything outside.
        let output = Container::new(&mut bundle).run();
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0, "{}", text(&output));
    }
}

/// CVE-2019-19921: with /proc elsewhere its masks would be, too.
#[test]
fn privileged_a_link_as_proc_is_refused() {
    let mut bundle = Bundle::program(&["true"]);
    fs::remove_dir(bundle.rootfs("proc")).unwrap();
    symlink("/tmp", bundle.rootfs("proc")).unwrap();
    let output = Container::new(&mut bundle).run();
    assert!(!output.status.success(), "{}", text(&output));
}

/// CVE-2026-47262: a passwd that never ends, or never begins.
#[test]
fn privileged_a_hostile_passwd_delays_nothing() {
    let mut bundle = Bundle::script("echo $HOME");
    fs::File::create(bundle.rootfs("etc/passwd")).unwrap().set_len(10 << 30).unwrap();
    let output = Container::new(&mut bundle).run();
    assert!(!output.status.success() || text(&output) == "/\n", "{}", text(&output));
    for target in ["/dev/zero", "/proc/self/fd/0"] {
        let mut bundle = Bundle::script("echo $HOME");
        symlink(target, bundle.rootfs("etc/passwd")).unwrap();
        let output = Container::new(&mut bundle).run();
        assert!(!output.status.success() || text(&output) == "/\n", "{}", text(&output));
    }
    let mut bundle = Bundle::script("echo $HOME");
    let made = std::process::Command::new("mkfifo").arg(bundle.rootfs("etc/passwd")).status().unwrap();
    assert!(made.success());
    assert_eq!(text(&Container::new(&mut bundle).run()), "/\n");
}

/// CVE-2019-5736: what a process in the container can get hold of by `/proc/<pid>/exe` of a process of the runtime is on
/// a read-only mount (or a copy in memory), so that it cannot be written to even once it is executed no more.
#[test]
fn privileged_the_runtimes_program_is_out_of_reach() {
    let mut bundle = Bundle::program(&["true"]);
    let container = Container::new(&mut bundle);
    assert!(container.create().status.success());
    // Until it is started, init executes the runtime.
    let init = Path::new("/proc").join(container.state()["pid"].to_string());
    assert_out_of_reach(&init.join("exe"));
    // What is mapped of it can be opened, too.
    let program = inode(&init.join("exe"));
    let mapped = fs::read_dir(init.join("map_files")).unwrap().map(|file| file.unwrap().path());
    mapped.filter(|file| inode(file) == program).for_each(|file| assert_out_of_reach(&file));
}

fn inode(file: &Path) -> (u64, u64) {
    let found = fs::metadata(file).expect("a file that is executed or mapped");
    (found.dev(), found.ino())
}

/// Opening it for writing says nothing now: an executed file is busy wherever it is.
fn assert_out_of_reach(file: &Path) {
    let in_memory = fs::read_link(file).expect("a link").to_string_lossy().starts_with("/memfd:");
    let mount = rustix::fs::statvfs(file).expect("a mounted file").f_flag;
    let is_read_only = mount.contains(rustix::fs::StatVfsMountFlags::RDONLY);
    assert!(in_memory || is_read_only, "{}: {mount:?}", file.display());
}
