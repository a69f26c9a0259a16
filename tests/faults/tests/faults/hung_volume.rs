//! A volume that does not answer: a dead file server, a storage driver that is gone.

use std::thread;

use anyhow::{Context, anyhow, ensure};
use cleat_cri_api::v1::*;
use cleat_test_support::HungVolume;
use cleat_tests_cri::{Node, check, configs};

/// Something of the monitor of container `id` waits for the volume, or will in a moment: its folder of state is there.
fn is_being_started(node: &Node, id: &str) -> Option<()> {
    node.cleat().state().join("containers").join(id).join("monitor.log").exists().then_some(())
}

#[test]
fn privileged_a_volume_that_does_not_answer_holds_up_one_start_and_no_removal() {
    check(Node::builder(), |node| {
        let volume = HungVolume::mount(node.cleat().world(), &node.folder().join("hung"))?;
        let pod = node.run_pod(configs::pod("hanging"))?;
        let mut config = configs::sleeper("hanging");
        config.mounts.push(configs::mount(volume.path(), "/hung"));
        let hanging = node.create(&pod, &config)?;
        let cri = node.connect()?;
        let started = thread::scope(|scope| {
            let start = scope.spawn(|| cri.start(&hanging));
            node.until("the start is under way", || Ok(is_being_started(node, &hanging)))?;

            let other = node.run_pod(configs::pod("other"))?;
            assert_eq!(node.output(&other, &configs::script("works", "echo works"))?, "works");
            let beside = node.start(&pod, &configs::sleeper("beside")).context("in the same pod")?;
            assert_eq!(node.cri().shell(&beside, "echo here")?, "here");
            assert_eq!(node.cri().containers(ContainerFilter::default())?.len(), 2);
            assert_eq!(node.cri().list_container_stats(ListContainerStatsRequest::default())?.stats.len(), 2);
            ensure!(!start.is_finished(), "nothing hung");

            node.remove_pod(&pod.id)?;
            node.remove_pod(&other.id)?;
            start.join().map_err(|_| anyhow!("a caller panicked"))
        })?;
        let refused = started.expect_err("the start was given up");
        ensure!(refused.message().contains("stopped or removed"), "{refused:?}");
        let path = volume.path().display().to_string();
        volume.give_up()?;
        node.cleat().world().shell(&format!("umount {path}"))?;
        Ok(())
    });
}

#[test]
fn privileged_a_daemon_that_dies_while_a_volume_hangs_starts_again() {
    check(Node::builder(), |node| {
        let volume = HungVolume::mount(node.cleat().world(), &node.folder().join("hung"))?;
        let pod = node.run_pod(configs::pod("hanging"))?;
        let mut config = configs::sleeper("hanging");
        config.mounts.push(configs::mount(volume.path(), "/hung"));
        let hanging = node.create(&pod, &config)?;
        let cri = node.connect()?;
        thread::scope(|scope| {
            let start = scope.spawn(|| cri.start(&hanging));
            node.until("the start is under way", || Ok(is_being_started(node, &hanging)))?;
            node.cleat_mut().kill()?;
            start.join().map_err(|_| anyhow!("a caller panicked"))?.expect_err("the daemon died");
            node.start_again()
        })?;
        let status = node.cri().container(&hanging)?;
        assert_eq!(status.state(), ContainerState::ContainerExited, "{status:?}");
        node.remove_pod(&pod.id)?;
        let path = volume.path().display().to_string();
        volume.give_up()?;
        node.cleat().world().shell(&format!("umount {path}"))?;
        Ok(())
    });
}
