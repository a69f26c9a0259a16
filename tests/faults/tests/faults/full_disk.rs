//! The disk of the daemon's root is full: what happens is still told, and nothing is stuck once there is room again.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use cleat_tests_cri::{Node, check, configs};

/// A root of its own for the daemon, small enough to be filled.
struct SmallRoot {
    root: PathBuf,
}

impl SmallRoot {
    /// Puts the daemon's root, with all that is in it, on a file system of its own.
    fn new(node: &mut Node) -> Result<Self> {
        let root = node.cleat().root();
        node.cleat_mut().kill()?;
        let shown = root.display();
        node.cleat().world().shell(&format!(
            "set -e; mv {shown} {shown}.full; mkdir -m 700 {shown}; \
             mount -t tmpfs -o size=64m,mode=700 root {shown}; cp -a {shown}.full/. {shown}"
        ))?;
        node.start_again()?;
        Ok(Self { root })
    }

    fn filler(&self) -> PathBuf {
        self.root.join("filler")
    }

    fn fill(&self, node: &Node) -> Result<()> {
        let filler = self.filler();
        // It ends when there is no room left, which is no success.
        node.cleat()
            .world()
            .shell(&format!("! dd if=/dev/zero of={} bs=4k 2>/dev/null", filler.display()))?;
        Ok(())
    }

    fn make_room(&self, node: &Node) -> Result<()> {
        node.cleat().world().shell(&format!("rm {}", self.filler().display())).map(drop)
    }

    /// The daemon has its first root back, without what was made since; all of that has to be removed before.
    fn leave(self, node: &mut Node) -> Result<()> {
        node.cleat_mut().kill()?;
        let shown = self.root.display();
        node.cleat().world().shell(&format!("umount {shown} && rmdir {shown} && mv {shown}.full {shown}"))?;
        node.start_again()
    }
}

#[test]
fn privileged_on_a_full_disk_ends_are_told_and_a_start_can_be_tried_again() {
    check(Node::builder(), |node| {
        let disk = SmallRoot::new(node)?;
        let pod = node.run_pod(configs::pod("full"))?;
        let mut config =
            configs::script("ends", "echo up; while [ ! -e /signal/go ]; do sleep 0.02; done; exit 42");
        let folder = node.folder().join("signal");
        fs::create_dir_all(&folder).context("make a folder")?;
        config.mounts = vec![configs::mount(&folder, "/signal")];
        let ends = node.start(&pod, &config)?;
        node.await_log(&ends, " up")?;
        let later = node.create(&pod, &configs::sleeper("later"))?;

        disk.fill(node)?;
        fs::write(folder.join("go"), "").context("signal")?;
        assert_eq!(node.await_end(&ends)?.exit_code, 42);
        let refused = node.cri().start(&later).expect_err("its intent cannot be written down");
        ensure!(refused.message().contains("full"), "{refused:?}");

        disk.make_room(node)?;
        node.cri().start(&later).context("with room again")?;
        node.await_log(&later, " up")?;
        node.crash_and_restart()?;
        assert_eq!(node.cri().container(&ends)?.exit_code, 42);
        ensure!(node.init_pid(&later).is_ok(), "a container outlives the daemon");
        node.remove_pod(&pod.id)?;
        disk.leave(node)
    });
}
