//! Pinned network namespaces.

#![allow(clippy::unwrap_used, reason = "a test ends at what it does not expect")]

mod lab;

use cleat_network::{Netns, netns::NetnsError};
use lab::isolated;

fn own_namespace() -> std::path::PathBuf {
    std::fs::read_link("/proc/thread-self/ns/net").unwrap()
}

#[test]
fn a_namespace_is_made_entered_and_removed() {
    isolated(|lab| {
        let path = lab.path().join("pod");
        let before = own_namespace();
        let made = Netns::create(&path).unwrap();
        let inside = made.run(own_namespace).unwrap();
        assert_ne!(inside, before);
        assert_eq!(own_namespace(), before, "the caller's thread stays where it is");
        assert_eq!(Netns::open(&path).unwrap().run(own_namespace).unwrap(), inside);
        let lo = made.run(|| lab::run("ip", &["-o", "address", "show", "up"])).unwrap();
        assert!(lo.contains("127.0.0.1/8"), "{lo}");
        for _ in 0..2 {
            Netns::remove(&path).unwrap();
            assert!(!path.exists());
        }
    });
}

#[test]
fn a_path_in_use_is_refused_and_kept() {
    isolated(|lab| {
        let pod = lab.netns("pod");
        assert!(matches!(Netns::create(&pod.path), Err(NetnsError::CreateFile { .. })));
        pod.netns.run(|| ()).unwrap();
        assert!(pod.path.exists());
    });
}

#[test]
fn a_plain_file_left_behind_is_removed() {
    isolated(|lab| {
        let path = lab.path().join("leftover");
        std::fs::write(&path, "").unwrap();
        Netns::remove(&path).unwrap();
        assert!(!path.exists());
    });
}

#[test]
fn a_file_that_is_no_namespace_cannot_be_entered() {
    isolated(|lab| {
        let path = lab.path().join("file");
        std::fs::write(&path, "").unwrap();
        assert!(matches!(Netns::open(&path).unwrap().run(|| ()), Err(NetnsError::Enter { .. })));
    });
}
