//! The daemon killed in the middle of each of its operations.

use std::time::Duration;

use cleat_tests_cri::{BUSYBOX, HTTPD, Node, check};
use cleat_tests_faults::{Act, Sweep, Witness, rounds};

/// How long one round may take: a crash, a start, the operation twice, two looks for leaks.
const ROUND_LIMIT: Duration = Duration::from_secs(8);

fn sweep(act: Act) {
    let rounds = rounds().expect("CLEAT_FAULT_ROUNDS");
    let limit = Duration::from_secs(60) + ROUND_LIMIT * rounds;
    check(Node::builder().images(&[BUSYBOX, HTTPD]).limit(limit), |node| {
        let witness = Witness::new(node)?;
        let sweep = Sweep::new(node, act)?;
        (0..rounds).try_for_each(|number| sweep.round(node, &witness, number, rounds - 1))?;
        witness.ends_well(node)
    });
}

#[test]
fn privileged_a_crash_while_a_pod_is_run() {
    sweep(Act::RunPod);
}

#[test]
fn privileged_a_crash_while_a_container_is_created() {
    sweep(Act::Create);
}

#[test]
fn privileged_a_crash_while_a_container_is_started() {
    sweep(Act::Start);
}

#[test]
fn privileged_a_crash_while_a_container_is_stopped() {
    sweep(Act::Stop);
}

#[test]
fn privileged_a_crash_while_a_container_is_removed() {
    sweep(Act::Remove);
}

#[test]
fn privileged_a_crash_while_a_pod_is_stopped() {
    sweep(Act::StopPod);
}

#[test]
fn privileged_a_crash_while_a_pod_is_removed() {
    sweep(Act::RemovePod);
}

#[test]
fn privileged_a_crash_while_an_image_is_pulled() {
    sweep(Act::Pull);
}
