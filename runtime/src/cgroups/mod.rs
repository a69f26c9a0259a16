//! `linux.resources`: limits become values of cgroup files, all checked before the first is written.
//!
//! ```text
//! LinuxResources ──settings──▶ Vec<Setting> ──apply──▶ cgroup files        (create)
//!                                         └──replace──▶ the same, old values put back on failure   (update)
//!                ──devices──▶  v1 rules or a v2 device program
//!                ──properties─▶ what systemd is told, for a cgroup of its making
//! ```

mod apply;
mod device_program;
mod devices;
mod properties;
mod rare;
mod settings;

use cleat_sys::cgroup::{Cgroup, CgroupError, Layout};
use oci_spec::runtime::LinuxResources;

use crate::Failure;
use crate::failure::Step;
use crate::systemd::{self, Property, Scope};

pub(crate) use devices::DeviceRules;
pub(crate) use settings::{Setting, settings};

/// Limits that cannot be set.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ResourceError {
    #[error("linux.resources.{field} has the invalid value {value}")]
    Value { field: &'static str, value: String },
    #[error("linux.resources.{0} is not supported on this host")]
    Unsupported(&'static str),
    #[error(transparent)]
    Cgroup(CgroupError),
    #[error("put back {file} after a failure ({first})")]
    Restore {
        file: String,
        /// What made putting it back necessary.
        first: Box<CgroupError>,
        #[source]
        source: CgroupError,
    },
    #[error("{0} the device program of the cgroup")]
    DeviceProgram(&'static str, #[source] std::io::Error),
}

/// Sets all limits of a new cgroup, without processes as yet.
pub(crate) fn limit(cgroup: &Cgroup, resources: &LinuxResources) -> Result<(), Failure> {
    if cgroup.layout().is_none() {
        return Ok(());
    }
    let settings = settings(cgroup.layout(), resources).step(|| "read linux.resources")?;
    let rules = DeviceRules::new(resources.devices().as_deref().unwrap_or_default())
        .step(|| "read linux.resources.devices")?;
    apply::apply(cgroup, &settings).step(|| format!("set the limits of cgroup {}", cgroup.path()))?;
    rules.apply(cgroup).step(|| format!("set the device rules of cgroup {}", cgroup.path()))
}

/// Whether a container asks for limits of its cgroup. Device rules are none: without them it has the devices of its user.
pub(crate) fn has_limits(layout: &Layout, resources: &LinuxResources) -> Result<bool, Failure> {
    Ok(!settings(layout, resources).step(|| "read linux.resources")?.is_empty())
}

/// Removes a cgroup without processes, and has systemd forget it if it is a scope. Absent is fine.
pub(crate) fn remove(cgroup: &Cgroup) -> Result<(), Failure> {
    if cgroup.layout().is_none() {
        return Ok(());
    }
    let removed = cgroup.remove().step(|| format!("remove cgroup {}", cgroup.path()));
    let Some(scope) = Scope::of_path(&cgroup.path()) else { return removed };
    removed.and(systemd::stop(&scope))
}

/// Changes the limits of a cgroup in use: all or none. Device rules cannot be changed.
pub(crate) fn update(cgroup: &Cgroup, resources_json: &str) -> Result<(), Failure> {
    let resources: LinuxResources = serde_json::from_str(resources_json).step(|| "read resources")?;
    if resources.devices().as_ref().is_some_and(|rules| !rules.is_empty()) {
        return Err(Failure::new("read resources", &ResourceError::Unsupported("devices (in an update)")));
    }
    let settings = settings(cgroup.layout(), &resources).step(|| "read resources")?;
    let step = || format!("change the limits of cgroup {}", cgroup.path());
    let Some(scope) = Scope::of_path(&cgroup.path()) else {
        return apply::replace(cgroup, settings).map(drop).step(step);
    };
    let is_unified = cgroup.layout().v1().is_empty();
    let properties = properties::properties(&resources, is_unified).step(|| "read resources")?;
    let mut limits = systemd::Limits::open()?;
    let old = apply::replace(cgroup, settings).step(step)?;
    limits.set(&scope, properties).map_err(|mut failure| {
        if let Err(error) = apply::put_back(cgroup, &old) {
            failure.reason =
                format!("{}; then also: {}", failure.reason, Failure::new("undo", &error).reason);
        }
        failure
    })
}

/// What systemd is told of the limits of a new scope.
pub(crate) fn scope_properties(
    cgroup: &Cgroup,
    resources: &LinuxResources,
) -> Result<Vec<Property>, Failure> {
    let step = || "read linux.resources";
    // What is wrong is told by the field's name, not by the property's.
    settings(cgroup.layout(), resources).step(step)?;
    let mut all = properties::properties(resources, cgroup.layout().v1().is_empty()).step(step)?;
    let rules = DeviceRules::new(resources.devices().as_deref().unwrap_or_default()).step(step)?;
    let path = "/proc/devices";
    let known = std::fs::read_to_string(path).step(|| format!("read {path}"))?;
    all.extend(properties::devices(&rules, &known));
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Callers put a few words before it: "start container c1: ...".
    #[test]
    fn a_limit_that_cannot_be_set_is_one_sentence_without_repetition() {
        let path = "/sys/fs/cgroup/cpuset/c1/cpuset.cpus".into();
        let source = std::io::Error::from_raw_os_error(22);
        let error = ResourceError::Cgroup(CgroupError::Write { path, value: "4000".into(), source });
        assert_eq!(
            Failure::new("set the limits of cgroup /c1", &error).to_string(),
            "set the limits of cgroup /c1: write \"4000\" to /sys/fs/cgroup/cpuset/c1/cpuset.cpus: Invalid \
             argument (os error 22)"
        );
    }
}
