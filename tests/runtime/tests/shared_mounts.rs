//! Containers without a mount namespace of their own.
#![forbid(unsafe_code)]

use std::fs;

use cleat_sys::holder::Holder;
use cleat_sys::namespace;
use cleat_tests_runtime::{Bundle, Container, text};
use serde_json::json;

/// A bundle of a script whose mount namespace is that of a file, or the runtime's.
fn bundle(script: &str, path: Option<&str>) -> Bundle {
    let mut bundle = Bundle::script(script);
    let namespaces = bundle.spec["linux"]["namespaces"].as_array_mut().expect("a list");
    namespaces.retain(|namespace| namespace["type"] != "mount");
    namespaces.extend(path.map(|path| json!({ "type": "mount", "path": path })));
    fs::write(bundle.rootfs("own"), "").expect("a file can be written");
    bundle
}

/// Whether a process's mount namespace has something mounted in the bundle.
fn has_mounts(process: &str, bundle: &Bundle) -> bool {
    let mounts = fs::read_to_string(format!("/proc/{process}/mountinfo")).expect("mounts can be listed");
    mounts.contains(&*bundle.path().to_string_lossy())
}

fn check(bundle: &mut Bundle, process: &str) {
    let container = Container::new(bundle);
    container.start();
    let mounts =
        fs::read_link(format!("/proc/{process}/ns/mnt")).expect("it has one").to_string_lossy().into_owned();
    container.await_output("ready");
    assert_eq!(container.output(), format!("{mounts}\nown\n/proc/1\nready\n"));
    assert!(has_mounts(process, bundle));
    let output = container.exec(&[], &["sh", "-c", "readlink /proc/self/ns/mnt; pwd; ls -d /own /root"]);
    let said = text(&output);
    assert!(said.starts_with(&format!("{mounts}\n/\n/own\n")) && said.contains("/root: No such"), "{said}");
    drop(container);
    assert!(!has_mounts(process, bundle), "it is gone with the container");
}

const SCRIPT: &str = "readlink /proc/self/ns/mnt; cd /; echo own*; echo /proc/1; echo ready; exec sleep 100";

#[test]
fn privileged_without_a_mount_namespace_the_runtimes_is_used_and_cleaned() {
    check(&mut bundle(SCRIPT, None), "self");
    let mut short = bundle("true", None);
    assert!(Container::new(&mut short).run().status.success());
    assert!(!has_mounts("self", &short));
}

#[test]
fn privileged_a_mount_namespace_is_joined_by_its_path() {
    let holder = Holder::new(namespace::MOUNT).unwrap();
    let process = holder.pid().to_string();
    let path = format!("/proc/{process}/ns/mnt");
    let mut bundle = bundle(SCRIPT, Some(&path));
    check(&mut bundle, &process);
    let root = fs::read_link(format!("/proc/{process}/root")).unwrap();
    assert_eq!(root.to_str(), Some("/"), "who lives there keeps its root");
}

#[test]
fn privileged_a_failed_creation_leaves_no_mount_where_others_live() {
    let holder = Holder::new(namespace::MOUNT).unwrap();
    let process = holder.pid().to_string();
    let path = format!("/proc/{process}/ns/mnt");
    for (path, process) in [(None, "self"), (Some(path.as_str()), process.as_str())] {
        let mut bundle = bundle("true", path);
        bundle.mount(json!({ "destination": "/x", "type": "nosuchfs", "source": "x" }));
        let output = Container::new(&mut bundle).run();
        assert!(!output.status.success() && text(&output).contains("/x"), "{}", text(&output));
        assert!(!has_mounts(process, &bundle), "{path:?}");
    }
}
