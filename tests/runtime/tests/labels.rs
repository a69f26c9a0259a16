//! SELinux labels: they hold where the kernel has them, and are refused by their field's name where it has not.
#![forbid(unsafe_code)]

use std::fs;

use cleat_tests_runtime::{Bundle, Container, text};

/// A type that every policy with containers has.
const LABEL: &str = "system_u:system_r:container_t:s0:c1,c2";
const FILES: &str = "system_u:object_r:container_file_t:s0:c1,c2";

fn has_selinux() -> bool {
    fs::read_to_string("/proc/filesystems").expect("filesystems can be listed").contains("selinuxfs")
}

#[test]
fn privileged_a_label_of_a_program_holds_or_is_refused() {
    let mut bundle = Bundle::script("cat /proc/self/attr/current");
    bundle.spec["process"]["selinuxLabel"] = LABEL.into();
    let output = Container::new(&mut bundle).run();
    let said = text(&output);
    if has_selinux() {
        assert!(output.status.success() && said.starts_with(LABEL), "{said}");
    } else {
        assert!(!output.status.success() && said.to_lowercase().contains("selinux"), "{said}");
    }
}

#[test]
fn privileged_a_label_of_mounts_holds_or_is_refused() {
    let mut bundle = Bundle::script("ls -Zd /dev/shm");
    bundle.spec["linux"]["mountLabel"] = FILES.into();
    let output = Container::new(&mut bundle).run();
    let said = text(&output);
    if has_selinux() {
        assert!(output.status.success() && said.contains(FILES), "{said}");
    } else {
        assert!(!output.status.success() && said.contains("mountLabel"), "{said}");
    }
}

#[test]
fn privileged_a_label_of_an_execd_program_holds_or_is_refused() {
    let mut bundle = Bundle::script("exec sleep 100");
    let container = Container::new(&mut bundle);
    container.start();
    let output = container.exec(&["--process-label", LABEL], &["cat", "/proc/self/attr/current"]);
    let said = text(&output);
    if has_selinux() {
        assert!(output.status.success() && said.starts_with(LABEL), "{said}");
    } else {
        assert!(!output.status.success() && said.to_lowercase().contains("selinux"), "{said}");
    }
}
