//! One more process in a running container.
//!
//! ```text
//!  sync.rs      a client's probe: runs to its end or its limit; collect.rs keeps what it printed
//!  probe.rs     a probe of the engine's own, of a container's health
//!  session.rs   a person: streams to a client, or a terminal (see `engine::session`)
//!  accounts.rs  whom a name means in the container as it is now
//! ```
//!
//! Both make the pipes here and hand their far ends to the monitor, which hands them to the process: no byte passes
//! through the monitor. They differ in what a lost daemon or client means, see each.
mod accounts;
mod collect;
mod probe;
mod session;
mod sync;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cleat_conmon_proto::{Exec, ExecStdio, Message, Request};
use oci_spec::runtime::Spec;
use tokio::time::timeout;

pub(crate) use collect::ExecOutput;
pub(super) use probe::probe;
pub(super) use session::exec_session;
pub(crate) use session::{Command, ExecEnd};
pub(super) use sync::exec_sync;

use super::container::Container;
use super::error::{EngineError, Result};
use super::monitor::{Connection, MonitorError, Process};
use super::shared::Shared;
use crate::spec;

/// How long a killed exec may take to end before its caller goes on.
const KILL_LIMIT: Duration = Duration::from_secs(5);

/// Kills an exec'd process and all it started; whether the monitor has said in time that it has ended.
async fn kill(connection: &mut Connection) -> bool {
    let killed = async {
        connection.send(&Request::KillExec, &[]).await?;
        while let Some(message) = connection.receive().await? {
            if matches!(message, Message::ExecExited { .. }) {
                return Ok(());
            }
        }
        Err(MonitorError::Gone)
    };
    matches!(timeout(KILL_LIMIT, killed).await, Ok(Ok(())))
}

/// What tells one exec of a container from another.
struct Kind {
    stdio: ExecStdio,
    /// See [`Exec::kill_on_disconnect`].
    kill_on_disconnect: bool,
}

/// The container an exec happens in.
struct Place<'a> {
    shared: &'a Arc<Shared>,
    container: &'a Arc<Container>,
    process: &'a Arc<Process>,
}

impl<'a> Place<'a> {
    fn new(shared: &'a Arc<Shared>, container: &'a Arc<Container>, process: &'a Arc<Process>) -> Self {
        Self { shared, container, process }
    }

    /// Names the container in errors.
    fn object(&self) -> String {
        format!("container {}", self.container.id)
    }

    /// What the monitor is asked for.
    async fn request(&self, command: &[String], kind: Kind) -> Result<Exec> {
        /// Names the execs of this daemon's life; the process id keeps them apart from those of an earlier one's.
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let specification = self.process.exec_template().get_or_try_init(|| self.template()).await?;
        let terminal = matches!(kind.stdio, ExecStdio::Terminal { .. });
        let described = spec::exec_process(specification, command, terminal)
            .map_err(|error| EngineError::invalid("the command", &error))?;
        let process = serde_json::to_string(&described)
            .map_err(|error| EngineError::step("describe a command", self.object(), &error))?;
        let id = format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        Ok(Exec { id, process, stdio: kind.stdio, kill_on_disconnect: kind.kill_on_disconnect })
    }

    /// The same for a command with an environment, a working folder and a user of its own.
    async fn request_as(&self, command: &Command, kind: Kind) -> Result<Exec> {
        let mut exec = self.request(&command.arguments, kind).await?;
        let is_plain = command.environment.is_empty() && command.working_dir.is_none();
        if is_plain && command.user.is_none() && !command.privileged {
            return Ok(exec);
        }
        let failed =
            |error: serde_json::Error| EngineError::step("describe a command", self.object(), &error);
        let mut process: oci_spec::runtime::Process = serde_json::from_str(&exec.process).map_err(failed)?;
        if let Some(choice) = &command.user {
            let identity = accounts::identity(self, choice).await?;
            spec::run_as(&mut process, &self.container.identity, &identity);
        }
        if command.privileged {
            spec::make_privileged(&mut process, &self.shared.host)
                .map_err(|error| EngineError::invalid("a privileged command", &error))?;
        }
        let mut environment = process.env().clone().unwrap_or_default();
        for variable in &command.environment {
            let name = variable.split('=').next().unwrap_or_default();
            environment.retain(|known| known.split('=').next() != Some(name));
            environment.push(variable.clone());
        }
        process.set_env(Some(environment));
        if let Some(folder) = &command.working_dir {
            process.set_cwd(folder.into());
        }
        exec.process = serde_json::to_string(&process).map_err(failed)?;
        Ok(exec)
    }

    /// The part of a container's specification that its execs take over, read once a container and daemon.
    async fn template(&self) -> Result<Spec> {
        let path = self.shared.paths.container(&self.container.id).config();
        let text = tokio::fs::read(&path)
            .await
            .map_err(|error| EngineError::step("read the specification", path.display(), &error))?;
        let mut whole: Spec = serde_json::from_slice(&text)
            .map_err(|error| EngineError::step("understand the specification", path.display(), &error))?;
        let mut template = Spec::default();
        template.set_process(whole.process_mut().take());
        Ok(template)
    }
}
