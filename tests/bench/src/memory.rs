//! Memory and processor time of processes, from /proc.

use std::collections::BTreeSet;
use std::fs;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cleat_cri_api::v1::ContainerFilter;

use crate::subject::Subject;

/// Memory while many pods run. Every figure is a proportional set size: shared pages count by their share.
pub(crate) struct Crowded {
    pub(crate) daemon_kb: u64,
    /// The mean of all processes that hold containers and pods: monitors, or shims.
    pub(crate) helper_kb: u64,
    /// How many of them there are for one pod with one container.
    pub(crate) helpers_per_pod: f64,
    /// The mean of the pause processes.
    pub(crate) pause_kb: f64,
}

impl Crowded {
    pub(crate) fn measure(subject: &Subject, pods: &[String]) -> Result<Self> {
        let containers = subject.cri().containers(ContainerFilter::default()).context("ListContainers")?;
        let pauses = pods.iter().map(|pod| subject.pause_pid(pod)).collect::<Result<Vec<_>>>()?;
        let mut all = pauses.clone();
        for container in &containers {
            all.push(subject.init_pid(&container.id)?);
        }
        // A monitor or shim is the parent of what it holds.
        let helpers = all.iter().map(|pid| parent(*pid)).collect::<Result<BTreeSet<u32>>>()?;
        let helpers: Vec<u32> = helpers.into_iter().collect();
        ensure!(!pods.is_empty() && !helpers.contains(&1), "helpers {helpers:?} of {} pods", pods.len());
        Ok(Self {
            daemon_kb: pss_kb(subject.daemon())?,
            helper_kb: sum_kb(&helpers)? / helpers.len() as u64,
            helpers_per_pod: helpers.len() as f64 / pods.len() as f64,
            pause_kb: sum_kb(&pauses)? as f64 / pauses.len() as f64,
        })
    }
}

fn sum_kb(pids: &[u32]) -> Result<u64> {
    pids.iter().map(|pid| pss_kb(*pid)).sum()
}

/// The proportional set size of a process, KB (proc_pid_smaps_rollup(5)).
pub(crate) fn pss_kb(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).with_context(|| path.clone())?;
    line.trim().trim_end_matches(" kB").parse().with_context(|| path.clone())
}

/// The fields of a process's stat behind its name, the state first (proc_pid_stat(5)).
fn stat(pid: u32) -> Result<Vec<String>> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let (_, rest) = text.rsplit_once(") ").with_context(|| path.clone())?;
    Ok(rest.split(' ').map(ToOwned::to_owned).collect())
}

/// Who started it.
pub(crate) fn parent(pid: u32) -> Result<u32> {
    stat(pid)?.get(1).context("parent")?.parse().context("parent")
}

/// The processor time of a process and of its children that have ended.
pub(crate) fn processor_time(pid: u32) -> Result<Duration> {
    let fields = stat(pid)?;
    // utime, stime, cutime and cstime, fields 14 to 17 of the whole line.
    let ticks =
        fields.get(11..15).context("times")?.iter().map(|field| field.parse::<u64>().context("times"));
    let ticks = ticks.sum::<Result<u64>>()? as f64;
    Ok(Duration::from_secs_f64(ticks / rustix::param::clock_ticks_per_second() as f64))
}

/// The share of one processor that a process takes during the next `during`, in percent.
pub(crate) fn processor_percent(pid: u32, during: Duration) -> Result<f64> {
    let before = processor_time(pid)?;
    // Doing nothing for a while is what is measured.
    sleep(during);
    let used = processor_time(pid)?.saturating_sub(before);
    Ok(used.as_secs_f64() * 100.0 / during.as_secs_f64())
}
