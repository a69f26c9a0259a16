//! Many pods at once.

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use cleat_cri_api::v1::*;
use cleat_tests_cri::{Cri, Node, Pod, check, configs};

/// How many pods there are.
const PODS: usize = 50;

/// How many clients work at once.
const CLIENTS: usize = 5;

/// Does `work` for each of `items`, several at once, each with a connection of its own.
fn at_once<T: Sync, R: Send>(
    node: &Node,
    items: &[T],
    work: impl Fn(&Cri, &T) -> Result<R> + Sync,
) -> Result<Vec<R>> {
    let share = items.len().div_ceil(CLIENTS).max(1);
    thread::scope(|scope| {
        let work = &work;
        let mut threads = Vec::new();
        for part in items.chunks(share) {
            let cri = node.connect()?;
            threads.push(
                scope.spawn(move || part.iter().map(|item| work(&cri, item)).collect::<Result<Vec<R>>>()),
            );
        }
        let parts =
            threads.into_iter().map(|thread| thread.join().map_err(|_| anyhow!("a client panicked"))?);
        Ok(parts.collect::<Result<Vec<Vec<R>>>>()?.into_iter().flatten().collect())
    })
}

/// A pod with two containers.
fn start(cri: &Cri, config: &PodSandboxConfig) -> Result<Pod> {
    let id = cri.run_pod(config).context("RunPodSandbox")?;
    for name in ["one", "two"] {
        let container = cri.create(&id, &configs::sleeper(name), config).context("CreateContainer")?;
        cri.start(&container).context("StartContainer")?;
    }
    Ok(Pod { id, config: config.clone() })
}

/// Everything the daemon tells of all pods and containers, in order.
fn told(node: &Node) -> Result<(Vec<PodSandboxStatus>, Vec<ContainerStatus>)> {
    let mut pods = node.cri().pods(PodSandboxFilter::default())?;
    pods.sort_by(|a, b| a.id.cmp(&b.id));
    let mut containers = node.cri().containers(ContainerFilter::default())?;
    containers.sort_by(|a, b| a.id.cmp(&b.id));
    let pods = pods.iter().map(|pod| node.cri().pod_status(&pod.id)).collect::<Result<_, _>>()?;
    let containers =
        containers.iter().map(|each| node.cri().container(&each.id)).collect::<Result<_, _>>()?;
    Ok((pods, containers))
}

#[test]
fn privileged_fifty_pods_start_survive_a_crash_stop_and_go() {
    check(Node::builder().limit(Duration::from_secs(240)), |node| {
        let configs = (0..PODS)
            .map(|number| node.with_logs(configs::pod(&format!("pod-{number:02}"))))
            .collect::<Result<Vec<_>>>()?;
        let pods = at_once(node, &configs, start)?;
        let before = told(node)?;
        ensure!(
            before.0.len() == PODS && before.1.len() == 2 * PODS,
            "{} and {}",
            before.0.len(),
            before.1.len()
        );
        let addresses: BTreeSet<_> = before
            .0
            .iter()
            .filter_map(|pod| pod.network.as_ref())
            .map(|network| network.ip.clone())
            .collect();
        ensure!(addresses.len() == PODS, "{} different addresses", addresses.len());
        ensure!(before.1.iter().all(|each| each.state() == ContainerState::ContainerRunning), "not all run");
        node.crash_and_restart()?;
        ensure!(told(node)? == before, "the daemon tells something else after the crash");
        let ids: Vec<String> = before.1.iter().map(|each| each.id.clone()).collect();
        let answers = at_once(node, &ids, |cri, id| cri.shell(id, "echo here"))?;
        ensure!(answers.iter().all(|answer| answer == "here"), "{answers:?}");
        // A container of the first half stops by itself, one of the second with its pod.
        let (first, second) = pods.split_at(PODS / 2);
        at_once(node, &ids, |cri, id| Ok(cri.stop(id, 10)?))?;
        at_once(node, first, |cri, pod| Ok(cri.stop_pod(&pod.id)?))?;
        at_once(node, first, |cri, pod| Ok(cri.remove_pod(&pod.id)?))?;
        at_once(node, second, |cri, pod| Ok(cri.remove_pod(&pod.id)?))?;
        ensure!(node.cri().pods(PodSandboxFilter::default())?.is_empty(), "pods are left");
        Ok(())
    });
}

#[test]
fn privileged_starts_after_starts_find_everything_again() {
    check(Node::builder(), |node| {
        let config = node.with_logs(configs::pod("again"))?;
        start(node.cri(), &config)?;
        let before = told(node)?;
        for round in 0..5 {
            node.crash_and_restart()?;
            ensure!(told(node)? == before, "round {round}");
        }
        Ok(())
    });
}
