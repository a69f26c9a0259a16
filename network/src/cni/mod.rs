//! A network made by plugins: the runtime's side of the CNI specification, versions 0.3.0 to 1.1.0.
//!
//! ```text
//!   ADD      plugin 1 ─prevResult─▶ plugin 2 ─prevResult─▶ ... ─▶ result    stops at the first failure
//!   DEL      plugin n ◀── ... ◀── plugin 2 ◀── plugin 1                     goes on past failures, reports all
//!   CHECK    plugin 1, 2, ...                                               stops at the first failure
//!   STATUS   plugin 1, 2, ...                                               stops at the first failure
//!   GC       plugin 1, 2, ...                                               goes on past failures, reports all
//! ```
//!
//! The specification lets DEL stop at a failing plugin; then the others' resources stay until somebody repairs that one,
//! and each retry of a pod leaks another address. Ours goes on.
//!
//! A pod keeps the configuration that it was attached with ([`CniRecord`]), so that its DEL is right after the
//! operator has replaced the network. `lo` is no plugin's work here: every namespace we make has it up.

mod capability;
mod config;
mod error;
mod execute;
mod load;
mod record;
mod request;
mod result;
mod version;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Serialize;

pub use capability::{Bandwidth, CapabilityArgs, Dns, IpRange, PortMapping, PortProtocol};
pub use config::FormatError;
pub use error::{CniError, PluginError};
pub use load::{ConfigError, FileError, FileFault};
pub use record::CniRecord;
pub use result::ResultError;

use crate::{Attached, POD_INTERFACE, PodNetwork};
use config::{NetworkList, Plugin};
use execute::Execution;
use request::Command;

/// How long a plugin may take before it is killed: half of the four minutes that the kubelet gives a sandbox, since
/// plugins wait for their daemons to come up after a boot.
pub const DEFAULT_PLUGIN_TIMEOUT: Duration = Duration::from_secs(120);

/// A network that plugins make.
#[derive(Clone, Debug)]
pub struct CniNetwork {
    list: NetworkList,
    plugin_dirs: Vec<PathBuf>,
    plugin_timeout: Duration,
}

/// An attachment that is in use, as GC is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ValidAttachment {
    /// The pod.
    #[serde(rename = "containerID")]
    pub container_id: String,
    /// Its interface.
    pub ifname: String,
}

impl ValidAttachment {
    /// The one attachment of a pod.
    #[must_use]
    pub fn of_pod(pod_id: &str) -> Self {
        Self { container_id: pod_id.to_owned(), ifname: POD_INTERFACE.to_owned() }
    }
}

impl CniNetwork {
    /// The first usable configuration of `conf_dir` in the lexical order of file names. Plugins are looked for in
    /// `plugin_dirs` in order.
    ///
    /// [`ConfigError::Empty`] says that no such network is wanted. Every other error is an operator's mistake, which
    /// another network must not paper over.
    pub fn load(
        conf_dir: &Path,
        plugin_dirs: &[PathBuf],
        plugin_timeout: Duration,
    ) -> Result<Self, ConfigError> {
        let (path, list) = load::first_usable(conf_dir)?;
        tracing::info!(path = %path.display(), network = list.name, "CNI configuration loaded");
        Ok(Self { list, plugin_dirs: plugin_dirs.to_vec(), plugin_timeout })
    }

    /// The network's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.list.name
    }

    /// What is known of a pod's network before ADD, which DEL needs should ADD never return.
    #[must_use]
    pub fn record(&self) -> CniRecord {
        CniRecord::new(&self.list, &self.plugin_dirs, None)
    }

    /// Executes ADD of every plugin in order. After a failure DEL is owed, as after a success: the plugins before the
    /// failing one have done their part.
    pub fn add(&self, pod: &PodNetwork) -> Result<Attached, CniError> {
        // A program that is missing is found before any other has made something.
        let programs = self.programs()?;
        let environment = request::pod_environment(pod, &self.plugin_dirs)?;
        let mut previous = None;
        for (plugin, program) in self.list.plugins.iter().zip(&programs) {
            let input = request::pod_input(&self.list, plugin, &pod.capabilities, previous.as_ref());
            let printed = self.execution(plugin, program, Command::Add, &environment).run(&input)?;
            previous = Some(result::parse(&printed).map_err(|source| of_plugin(plugin, source))?);
        }
        let last = self.list.plugins.last().zip(previous).expect("a list has at least one plugin");
        let (plugin, result) = last;
        let mut attached = result::attached(&result).map_err(|source| of_plugin(plugin, source))?;
        attached.cni = Some(CniRecord::new(&self.list, &self.plugin_dirs, Some(result)));
        Ok(attached)
    }

    /// Executes DEL of every plugin in reverse order, also past failing and missing ones, and reports all failures. The
    /// pod's own record of its network is used where there is one.
    pub fn del(&self, pod: &PodNetwork, record: Option<&CniRecord>) -> Result<(), CniError> {
        let of_pod = self.of_record(record)?;
        let environment = request::pod_environment(pod, &of_pod.plugin_dirs)?;
        let previous = record.and_then(CniRecord::result).filter(|_| of_pod.list.version.has_check());
        let delete = |plugin: &Plugin| {
            let input = request::pod_input(&of_pod.list, plugin, &pod.capabilities, previous);
            match of_pod.execute(plugin, Command::Del, &environment, &input) {
                Err(CniError::Plugin { source, .. }) if source.code == PluginError::UNKNOWN_CONTAINER => {
                    Ok(())
                }
                other => other.map(drop),
            }
        };
        all("DEL", of_pod.list.plugins.iter().rev().map(delete))
    }

    /// Executes CHECK of every plugin in order. Nothing is executed where the pod's configuration is older than CHECK
    /// (0.4.0) or has turned it off.
    pub fn check(&self, pod: &PodNetwork, record: &CniRecord) -> Result<(), CniError> {
        let of_pod = self.of_record(Some(record))?;
        if of_pod.list.disable_check || !of_pod.list.version.has_check() {
            return Ok(());
        }
        let result = record.result().ok_or_else(|| CniError::NotAttached { pod_id: pod.pod_id.clone() })?;
        let environment = request::pod_environment(pod, &of_pod.plugin_dirs)?;
        for plugin in &of_pod.list.plugins {
            let input = request::pod_input(&of_pod.list, plugin, &pod.capabilities, Some(result));
            of_pod.execute(plugin, Command::Check, &environment, &input)?;
        }
        Ok(())
    }

    /// Whether pods can be attached: all programs are there and, from version 1.1.0 on, STATUS of every plugin
    /// succeeds.
    pub fn status(&self) -> Result<(), CniError> {
        self.programs()?;
        if !self.list.version.has_status_and_gc() {
            return Ok(());
        }
        let environment = request::network_environment(&self.plugin_dirs);
        for plugin in &self.list.plugins {
            self.execute(plugin, Command::Status, &environment, &request::status_input(&self.list, plugin))?;
        }
        Ok(())
    }

    /// Executes GC of every plugin, also past failing ones: what belongs to no attachment of `valid` is freed. Nothing
    /// is executed where the configuration is older than GC (1.1.0) or has turned it off.
    pub fn gc(&self, valid: &[ValidAttachment]) -> Result<(), CniError> {
        if self.list.disable_gc || !self.list.version.has_status_and_gc() {
            return Ok(());
        }
        let environment = request::network_environment(&self.plugin_dirs);
        let collect = |plugin: &Plugin| {
            let input = request::gc_input(&self.list, plugin, valid);
            self.execute(plugin, Command::Gc, &environment, &input).map(drop)
        };
        all("GC", self.list.plugins.iter().map(collect))
    }

    /// The network that a pod was attached to: its record's, whose plugins are also looked for where they are now.
    fn of_record(&self, record: Option<&CniRecord>) -> Result<Self, CniError> {
        let Some(record) = record else { return Ok(self.clone()) };
        let mut recorded = record.network(self.plugin_timeout)?;
        let mut dirs = self.plugin_dirs.clone();
        dirs.extend(recorded.plugin_dirs.into_iter().filter(|dir| !self.plugin_dirs.contains(dir)));
        recorded.plugin_dirs = dirs;
        Ok(recorded)
    }

    fn programs(&self) -> Result<Vec<PathBuf>, CniError> {
        self.list.plugins.iter().map(|plugin| self.program(plugin)).collect()
    }

    fn program(&self, plugin: &Plugin) -> Result<PathBuf, CniError> {
        load::find_plugin(&plugin.kind, &self.plugin_dirs)
            .ok_or_else(|| CniError::NotFound { plugin: plugin.kind.clone(), dirs: self.plugin_dirs.clone() })
    }

    fn execute(
        &self,
        plugin: &Plugin,
        command: Command,
        environment: &[(&'static str, String)],
        input: &[u8],
    ) -> Result<Vec<u8>, CniError> {
        let program = self.program(plugin)?;
        self.execution(plugin, &program, command, environment).run(input)
    }

    fn execution<'a>(
        &self,
        plugin: &'a Plugin,
        program: &'a Path,
        command: Command,
        environment: &'a [(&'static str, String)],
    ) -> Execution<'a> {
        Execution { plugin: &plugin.kind, program, command, environment, limit: self.plugin_timeout }
    }
}

/// Runs every step, whatever became of those before it.
fn all(command: &'static str, steps: impl Iterator<Item = Result<(), CniError>>) -> Result<(), CniError> {
    let mut failures: Vec<_> = steps.filter_map(Result::err).collect();
    match failures.len() {
        0 => Ok(()),
        1 => Err(failures.remove(0)),
        _ => Err(CniError::Several { command, failures }),
    }
}

fn of_plugin(plugin: &Plugin, source: ResultError) -> CniError {
    CniError::Result { plugin: plugin.kind.clone(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_runs_and_every_failure_is_told() {
        let missing =
            |plugin: &str| CniError::NotFound { plugin: plugin.to_owned(), dirs: vec!["/opt".into()] };
        assert!(all("DEL", [Ok(()), Ok(())].into_iter()).is_ok());
        assert!(matches!(
            all("DEL", [Err(missing("a")), Ok(())].into_iter()),
            Err(CniError::NotFound { .. })
        ));
        let both = all("DEL", [Err(missing("a")), Ok(()), Err(missing("b"))].into_iter()).unwrap_err();
        assert_eq!(
            both.to_string(),
            "2 CNI plugins failed DEL: CNI plugin a is not in /opt: install it there; \
             CNI plugin b is not in /opt: install it there"
        );
    }
}
