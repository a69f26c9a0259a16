//! An operation and a crash in its middle.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use cleat_cri_api::v1::*;
use cleat_test_support::Snapshot;
use cleat_tests_cri::{Cri, HTTPD, Node, Pod, configs};
use tonic::Status;

use crate::verdict::Verdict;
use crate::witness::Witness;

/// How long after a failure it is looked once more.
const LATER: Duration = Duration::from_secs(2);

/// An operation to interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// RunPodSandbox.
    RunPod,
    /// CreateContainer.
    Create,
    /// StartContainer.
    Start,
    /// StopContainer.
    Stop,
    /// RemoveContainer, of a container that has ended.
    Remove,
    /// StopPodSandbox, with a running container in it.
    StopPod,
    /// RemovePodSandbox, likewise.
    RemovePod,
    /// PullImage.
    Pull,
}

/// One operation, interrupted at many moments.
pub struct Sweep {
    act: Act,
    /// How long it takes when nothing interrupts it.
    usual: Duration,
}

/// What an operation works on.
pub(crate) struct Target {
    pub(crate) config: PodSandboxConfig,
    pub(crate) pod: Option<String>,
    pub(crate) container: Option<String>,
}

impl Act {
    /// Everything the daemon does with pods and containers.
    pub const ALL: [Self; 8] = [
        Self::RunPod,
        Self::Create,
        Self::Start,
        Self::Stop,
        Self::Remove,
        Self::StopPod,
        Self::RemovePod,
        Self::Pull,
    ];

    /// Makes what the operation needs.
    fn prepare(self, node: &Node) -> Result<Target> {
        let config = node.with_logs(configs::pod("target"))?;
        let mut target = Target { config, pod: None, container: None };
        match self {
            Self::RunPod => {}
            Self::Pull => node.cri().remove_image_named(HTTPD)?,
            _ => target.pod = Some(node.cri().run_pod(&target.config)?),
        }
        let Some(pod) = target.pod.clone().filter(|_| self != Self::Create) else { return Ok(target) };
        let pod = Pod { id: pod, config: target.config.clone() };
        let container = node.create(&pod, &configs::sleeper("target"))?;
        if self != Self::Start {
            node.cri().start(&container)?;
            node.await_log(&container, " up")?;
        }
        if self == Self::Remove {
            node.cri().stop(&container, 10)?;
        }
        target.container = Some(container);
        Ok(target)
    }

    /// Asks for the operation; the answer's id or reference, if it has one.
    pub(crate) fn ask(self, cri: &Cri, target: &Target) -> Result<String, Status> {
        let (pod, container) = (target.pod.as_deref(), target.container.as_deref());
        let (pod, container) = (pod.unwrap_or_default(), container.unwrap_or_default());
        match self {
            Self::RunPod => cri.run_pod(&target.config),
            Self::Create => cri.create(pod, &configs::sleeper("target"), &target.config),
            Self::Start => cri.start(container).map(|()| String::new()),
            Self::Stop => cri.stop(container, 10).map(|()| String::new()),
            Self::Remove => cri.remove(container).map(|()| String::new()),
            Self::StopPod => cri.stop_pod(pod).map(|()| String::new()),
            Self::RemovePod => cri.remove_pod(pod).map(|()| String::new()),
            Self::Pull => cri.pull(HTTPD),
        }
    }
}

impl Sweep {
    /// Measures `act` once, uninterrupted.
    ///
    /// # Errors
    /// Fails when it does.
    pub fn new(node: &Node, act: Act) -> Result<Self> {
        let target = act.prepare(node)?;
        let begun = Instant::now();
        act.ask(node.cri(), &target).with_context(|| format!("{act:?}, uninterrupted"))?;
        let usual = begun.elapsed();
        clear(node)?;
        Ok(Self { act, usual })
    }

    /// Round `number` of `count`: the crash falls into a later part of the operation each time, the last one just
    /// behind its usual end.
    ///
    /// # Errors
    /// Names what does not hold after the crash.
    pub fn round(&self, node: &mut Node, witness: &Witness, number: u32, count: u32) -> Result<()> {
        let before = node.snapshot()?;
        let target = self.act.prepare(node)?;
        let delay = self.usual.mul_f64(1.2) * number / count.max(1);
        let answer = self.interrupt(node, &target, delay)?;
        node.start_again().context("start after the crash")?;
        let told = format!("{:?} interrupted after {delay:?}; it had answered {answer:?}", self.act);
        witness.is_unharmed(node).with_context(|| told.clone())?;
        Verdict { node, act: self.act, target: &target, answer: answer.ok() }
            .given()
            .with_context(|| told.clone())?;
        clear(node).with_context(|| told.clone())?;
        let leaks = before.leaks(&node.snapshot()?);
        leaks.none().with_context(|| format!("{told}; {}", later(node, &before)))
    }

    /// Asks, and kills the daemon `delay` later.
    fn interrupt(&self, node: &mut Node, target: &Target, delay: Duration) -> Result<Result<String, Status>> {
        let cri = node.connect()?;
        thread::scope(|scope| {
            let caller = scope.spawn(|| self.act.ask(&cri, target));
            // The delay is what the test varies; there is no event to wait for.
            thread::sleep(delay);
            node.cleat_mut().kill()?;
            caller.join().map_err(|_| anyhow!("the caller panicked"))
        })
    }
}

/// Whether what leaked goes by itself, for whoever looks for the reason.
fn later(node: &Node, before: &Snapshot) -> String {
    thread::sleep(LATER);
    match node.snapshot().map(|now| before.leaks(&now)) {
        Ok(leaks) => format!("{LATER:?} later there is still:{leaks}"),
        Err(error) => format!("{error:#}"),
    }
}

/// Removes the target, whatever is left of it.
fn clear(node: &Node) -> Result<()> {
    for pod in node.cri().pods(PodSandboxFilter::default())? {
        if pod.metadata.is_some_and(|metadata| metadata.name == "target") {
            node.remove_pod(&pod.id)?;
        }
    }
    // Its log is the client's, as the kubelet's are.
    let logs = node.folder().join("logs/target");
    std::fs::remove_dir_all(&logs).with_context(|| format!("remove {}", logs.display()))?;
    node.cri().pull(HTTPD)?;
    Ok(())
}
