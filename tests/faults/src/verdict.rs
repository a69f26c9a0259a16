//! What has to hold after a crash in the middle of an operation.

use anyhow::{Context, Result, bail, ensure};
use cleat_cri_api::v1::*;
use cleat_tests_cri::{HTTPD, Node, Pod, configs};

use crate::crash::{Act, Target};

/// A daemon that was killed and has started again.
pub(crate) struct Verdict<'a> {
    pub(crate) node: &'a Node,
    pub(crate) act: Act,
    pub(crate) target: &'a Target,
    /// What the daemon said before it was killed, if it did.
    pub(crate) answer: Option<String>,
}

impl Verdict<'_> {
    /// Fails where something does not hold. What was answered has to be so; what was not may have happened or not, but
    /// not halfway; and the same request again has to succeed.
    pub(crate) fn given(&self) -> Result<()> {
        match self.act {
            Act::RunPod => self.ran_a_pod(),
            Act::Create => self.created(),
            Act::Start => self.started(),
            Act::Stop => self.stopped(),
            Act::Remove => self.removed(),
            Act::StopPod => self.stopped_a_pod(),
            Act::RemovePod => self.removed_a_pod(),
            Act::Pull => self.pulled(),
        }
    }

    fn again(&self) -> Result<String> {
        self.act.ask(self.node.cri(), self.target).context("the same request again")
    }

    fn pod(&self) -> &str {
        self.target.pod.as_deref().unwrap_or_default()
    }

    fn container(&self) -> Result<ContainerStatus> {
        let id = self.target.container.as_deref().unwrap_or_default();
        self.node.cri().container(id).context("ContainerStatus")
    }

    fn ran_a_pod(&self) -> Result<()> {
        let mut found = self.node.cri().pods(PodSandboxFilter::default())?;
        found.retain(|pod| pod.metadata == self.target.config.metadata);
        if let Some(id) = &self.answer {
            ensure!(found.len() == 1 && found[0].id == *id, "{id} was answered, and there is {found:?}");
        }
        ensure!(found.iter().all(|pod| pod.state() == PodSandboxState::SandboxReady), "{found:?}");
        self.works(&self.again()?)
    }

    fn created(&self) -> Result<()> {
        if let Some(id) = &self.answer {
            let state = self.node.cri().container(id).context("a container that was answered")?.state();
            ensure!(state == ContainerState::ContainerCreated, "{state:?}");
        }
        self.node.cri().start(&self.again()?).context("start it")
    }

    /// Running, if that was answered; else created, or ended. The program never runs twice.
    fn started(&self) -> Result<()> {
        let (cri, status) = (self.node.cri(), self.container()?);
        match status.state() {
            ContainerState::ContainerRunning => {
                ensure!(cri.shell(&status.id, "echo here")? == "here", "exec in it");
                cri.stop(&status.id, 10)?;
                // 143: the signal came before the program had its handler.
                ensure!(matches!(self.container()?.exit_code, 0 | 143), "{:?}", self.container()?);
            }
            ContainerState::ContainerCreated if self.answer.is_none() => drop(self.again()?),
            ContainerState::ContainerExited if self.answer.is_none() => {
                ensure!(status.exit_code != 0, "nobody stopped it, and it ended with 0");
            }
            other => bail!("{other:?}, and the start had been answered: {:?}", self.answer),
        }
        let log = std::fs::read_to_string(&status.log_path).unwrap_or_default();
        ensure!(log.matches(" up\n").count() <= 1, "its program ran twice:\n{log}");
        Ok(())
    }

    fn stopped(&self) -> Result<()> {
        let state = self.container()?.state();
        let stopped = state == ContainerState::ContainerExited;
        ensure!(stopped || (self.answer.is_none() && state == ContainerState::ContainerRunning), "{state:?}");
        self.again()?;
        let status = self.container()?;
        ensure!(status.state() == ContainerState::ContainerExited && status.exit_code == 0, "{status:?}");
        Ok(())
    }

    fn removed(&self) -> Result<()> {
        ensure!(self.answer.is_none() || self.container().is_err(), "it was answered and is there");
        self.again()?;
        ensure!(self.container().is_err(), "it was removed and is there");
        self.works(self.pod())
    }

    fn stopped_a_pod(&self) -> Result<()> {
        let state = || self.node.cri().pod_status(self.pod()).map(|status| status.state());
        let first = state()?;
        ensure!(self.answer.is_none() || first == PodSandboxState::SandboxNotready, "{first:?}");
        self.again()?;
        ensure!(state()? == PodSandboxState::SandboxNotready, "stopped twice, and ready");
        let status = self.container()?;
        ensure!(status.state() == ContainerState::ContainerExited, "{status:?}");
        Ok(())
    }

    fn removed_a_pod(&self) -> Result<()> {
        let gone = || self.node.cri().pod_status(self.pod()).is_err();
        ensure!(self.answer.is_none() || gone(), "it was answered and is there");
        self.again()?;
        ensure!(gone(), "it was removed and is there");
        Ok(())
    }

    fn pulled(&self) -> Result<()> {
        let found = self.node.cri().image(HTTPD)?;
        ensure!(self.answer.is_none() || found.is_some(), "it was answered and is not there");
        self.again().map(drop)
    }

    /// A container can run in the pod.
    fn works(&self, pod: &str) -> Result<()> {
        let pod = Pod { id: pod.to_owned(), config: self.target.config.clone() };
        let output = self.node.output(&pod, &configs::script("works", "echo works"))?;
        ensure!(output == "works", "{output:?}");
        Ok(())
    }
}
