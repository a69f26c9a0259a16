//! What a refusal is measured against: a node with a few things on it, which have to stay as they are.

use anyhow::{Context, Result, ensure};
use cleat_cri_api::v1::*;
use cleat_test_support::Snapshot;
use cleat_tests_cri::{Node, Pod, configs};
use tonic::{Code, Status};

/// A name nobody has.
pub(crate) const NOBODY: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// What stands between a request and its refusal.
pub(crate) struct Ground<'n> {
    pub(crate) node: &'n Node,
    pub(crate) pod: Pod,
    /// A container that was created and not started.
    pub(crate) created: String,
    pub(crate) running: String,
    pub(crate) exited: String,
    pub(crate) stopped_pod: Pod,
}

impl<'n> Ground<'n> {
    pub(crate) fn new(node: &'n Node) -> Result<Self> {
        let pod = node.run_pod(configs::pod("ground"))?;
        let stopped_pod = node.run_pod(configs::pod("stopped"))?;
        node.cri().stop_pod(&stopped_pod.id)?;
        let created = node.create(&pod, &configs::sleeper("created"))?;
        let running = node.start(&pod, &configs::sleeper("running"))?;
        node.await_log(&running, " up")?;
        let exited = node.run(&pod, &configs::script("exited", "true"))?.status.id;
        Ok(Self { node, pod, created, running, exited, stopped_pod })
    }

    pub(crate) fn create(&self, config: ContainerConfig) -> Result<(), Status> {
        self.node.cri().create(&self.pod.id, &config, &self.pod.config).map(drop)
    }

    /// Creation has to succeed; what the start says counts. The container is removed in the end.
    pub(crate) fn start(&self, config: ContainerConfig) -> Result<(), Status> {
        let id = self.node.cri().create(&self.pod.id, &config, &self.pod.config)?;
        let outcome = self.node.cri().start(&id);
        let state = self.node.cri().container(&id)?.state();
        self.node.cri().remove(&id)?;
        match (outcome, state) {
            (Err(status), ContainerState::ContainerExited | ContainerState::ContainerCreated) => Err(status),
            (outcome, state) => {
                Err(Status::unknown(format!("the start gave {outcome:?} and left it {state:?}")))
            }
        }
    }

    pub(crate) fn exec(&self, id: &str, command: &[&str]) -> Result<(), Status> {
        self.node.cri().exec_in(id, command, 5).map(drop)
    }

    pub(crate) fn update(&self, id: &str, linux: LinuxContainerResources) -> Result<(), Status> {
        let request = UpdateContainerResourcesRequest {
            container_id: id.to_owned(),
            linux: Some(linux),
            ..Default::default()
        };
        self.node.cri().update_container_resources(request).map(drop)
    }

    pub(crate) fn run_pod(&self, change: impl FnOnce(&mut PodSandboxConfig)) -> Result<(), Status> {
        let mut config = configs::pod("refused");
        change(&mut config);
        self.node.cri().run_pod(&config).map(drop)
    }

    /// Goes through a table of refusals.
    pub(crate) fn refuses(&self, table: &[Case]) -> Result<()> {
        let before = self.node.snapshot()?;
        for case in table {
            let outcome = (case.request)(self);
            judge(case, outcome)
                .and_then(|()| self.unchanged(&before))
                .with_context(|| case.what.to_owned())?;
        }
        Ok(())
    }

    /// Whether everything is as it was before the refusal.
    pub(crate) fn unchanged(&self, before: &Snapshot) -> Result<()> {
        let cri = self.node.cri();
        ensure!(cri.pods(PodSandboxFilter::default())?.len() == 2, "a pod was left behind");
        ensure!(cri.containers(ContainerFilter::default())?.len() == 3, "a container was left behind");
        before.leaks(&self.node.snapshot()?).none()
    }
}

/// One refusal.
pub(crate) struct Case {
    pub(crate) what: &'static str,
    pub(crate) request: fn(&Ground<'_>) -> Result<(), Status>,
    pub(crate) code: Code,
    /// What the message has to name.
    pub(crate) words: &'static [&'static str],
}

fn judge(case: &Case, outcome: Result<(), Status>) -> Result<()> {
    let status = outcome.err().context("it was accepted")?;
    ensure!(
        status.code() == case.code,
        "{:?} in place of {:?}: {}",
        status.code(),
        case.code,
        status.message()
    );
    for word in case.words {
        ensure!(status.message().contains(word), "no {word:?} in {:?}", status.message());
    }
    Ok(())
}
