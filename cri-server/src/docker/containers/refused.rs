//! What a request may not ask for: what cannot be, and what would otherwise be left out silently. Pure.

use super::request::{Create, HostConfig};
use crate::docker::healthcheck::Healthcheck;
use crate::docker::refusal::Refusal;
use crate::spec::{self, Host};

/// The least memory a container may be given, bytes: what starting its first process takes.
const LEAST_MEMORY_BYTES: i64 = 6 << 20;

/// Refuses what makes no sense, by dockerd's words, and what is not built, by name.
pub(super) fn check(request: &Create, machine: &Host) -> Result<(), Refusal> {
    check_limits(&request.host_config)?;
    check_cpus(&request.host_config)?;
    check_realtime(&request.host_config, machine)?;
    check_disks(&request.host_config)?;
    check_storage(&request.host_config)?;
    check_capabilities(&request.host_config)?;
    check_modes(request)?;
    request.healthcheck.as_ref().map_or(Ok(()), Healthcheck::check)?;
    let lists = [unbuilt_modes(request), unbuilt_limits(&request.host_config)];
    match lists.into_iter().flatten().find(|(wanted, _)| *wanted) {
        Some((_, what)) => Err(Refusal::not_built(format!("a container with {what}"))),
        None => Ok(()),
    }
}

fn check_limits(host: &HostConfig) -> Result<(), Refusal> {
    let memory = host.memory;
    let senseless = [
        ((1..LEAST_MEMORY_BYTES).contains(&memory), "Minimum memory limit allowed is 6MB"),
        (
            (1..LEAST_MEMORY_BYTES).contains(&host.memory_reservation),
            "Minimum memory reservation allowed is 6MB",
        ),
        (
            memory > 0 && host.memory_swap > 0 && host.memory_swap < memory,
            "Minimum memoryswap limit should be larger than memory limit, see usage",
        ),
        (
            memory == 0 && host.memory_swap > 0,
            "You should always set the Memory limit when using Memoryswap limit, see usage",
        ),
        (
            memory > 0 && host.memory_reservation > memory,
            "Minimum memory limit can not be less than memory reservation limit, see usage",
        ),
        (
            host.nano_cpus > 0 && host.cpu_period > 0,
            "Conflicting options: Nano CPUs and CPU Period cannot both be set",
        ),
        (
            host.nano_cpus > 0 && host.cpu_quota > 0,
            "Conflicting options: Nano CPUs and CPU Quota cannot both be set",
        ),
        (
            host.cpu_period != 0 && !(1_000..=1_000_000).contains(&host.cpu_period),
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)",
        ),
        (host.cpu_quota > 0 && host.cpu_quota < 1_000, "CPU cfs quota can not be less than 1ms (i.e. 1000)"),
    ];
    if let Some((_, why)) = senseless.iter().find(|(is_so, _)| *is_so) {
        return Err(Refusal::bad(*why));
    }
    match host.memory_swappiness {
        Some(number) if !(-1..=100).contains(&number) => {
            Err(Refusal::bad(format!("Invalid value: {number}, valid memory swappiness range is 0-100")))
        }
        _ if !(-1000..=1000).contains(&host.oom_score_adj) => Err(Refusal::bad(format!(
            "Invalid value {}, range for oom score adj is [-1000, 1000]",
            host.oom_score_adj
        ))),
        _ => Ok(()),
    }
}

/// Nobody gets more processors than there are.
fn check_cpus(host: &HostConfig) -> Result<(), Refusal> {
    const NANO: i64 = 1_000_000_000;
    let there = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let most = i64::try_from(there).unwrap_or(i64::MAX / NANO) * NANO;
    if host.nano_cpus == 0 || (NANO / 100..=most).contains(&host.nano_cpus) {
        return Ok(());
    }
    Err(Refusal::bad(format!(
        "Range of CPUs is from 0.01 to {there}.00, as there are only {there} CPUs available"
    )))
}

fn check_realtime(host: &HostConfig, machine: &Host) -> Result<(), Refusal> {
    let (period, runtime) = (host.cpu_realtime_period, host.cpu_realtime_runtime);
    if (period != 0 || runtime != 0) && !machine.cpu_realtime {
        return Err(Refusal::bad("kernel does not support CPU real-time scheduler"));
    }
    if period != 0 && runtime > period {
        return Err(Refusal::bad("cpu real-time runtime cannot be higher than cpu real-time period"));
    }
    Ok(())
}

fn check_disks(host: &HostConfig) -> Result<(), Refusal> {
    match host.blkio_weight {
        0 | 10..=1000 => Ok(()),
        _ => Err(Refusal::bad("Range of blkio weight is from 10 to 1000")),
    }
}

/// A container's layer is a folder like others: nothing limits what is in it.
fn check_storage(host: &HostConfig) -> Result<(), Refusal> {
    match host.storage_opt.keys().find(|key| *key != "size") {
        Some(key) => Err(Refusal::failed(format!("Unknown option {key}"))),
        None if host.storage_opt.is_empty() => Ok(()),
        None => Err(Refusal::failed(
            "--storage-opt is supported only for overlay over xfs with 'pquota' mount option",
        )),
    }
}

fn check_capabilities(host: &HostConfig) -> Result<(), Refusal> {
    for (key, names) in [("CapAdd", &host.cap_add), ("CapDrop", &host.cap_drop)] {
        let is_unknown =
            |name: &&String| !name.eq_ignore_ascii_case("all") && spec::capability(name).is_err();
        if let Some(name) = names.iter().find(is_unknown) {
            let upper = name.to_ascii_uppercase();
            let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
            return Err(Refusal::bad(format!("invalid {key}: unknown capability: \"CAP_{bare}\"")));
        }
    }
    Ok(())
}

fn check_modes(request: &Create) -> Result<(), Refusal> {
    let host = &request.host_config;
    if !matches!(host.runtime.as_str(), "" | "cleat") {
        return Err(Refusal::bad(format!("unknown or invalid runtime name: {}", host.runtime)));
    }
    let is_container = |mode: &str| mode.starts_with("container:");
    let known = [
        ("IPC", &host.ipc_mode, &["", "private", "shareable", "host", "none"][..]),
        ("PID", &host.pid_mode, &["", "host"]),
        ("UTS", &host.uts_mode, &["", "host"]),
        ("user namespace", &host.userns_mode, &["", "host"]),
        ("cgroup namespace", &host.cgroupns_mode, &["", "host", "private"]),
    ];
    for (what, mode, words) in known {
        let joins = matches!(what, "IPC" | "PID") && is_container(mode);
        if !joins && !words.contains(&mode.as_str()) {
            return Err(Refusal::bad(format!("Invalid {what} mode: {mode}")));
        }
    }
    if !matches!(host.isolation.as_str(), "" | "default") {
        return Err(Refusal::bad(format!(
            "Invalid isolation: {:?} - linux only supports 'default'",
            host.isolation
        )));
    }
    if host.uts_mode == "host" && !request.hostname.is_empty() {
        return Err(Refusal::bad("conflicting options: hostname and the UTS mode"));
    }
    Ok(())
}

fn unbuilt_modes(request: &Create) -> Vec<(bool, &'static str)> {
    let host = &request.host_config;
    vec![
        (!host.device_requests.is_empty(), "device requests"),
        (!host.links.is_empty(), "links"),
        (!matches!(host.volume_driver.as_str(), "" | "local"), "this driver of volumes"),
        (request.network_disabled, "a disabled network (`--network none` has one)"),
    ]
}

fn unbuilt_limits(host: &HostConfig) -> Vec<(bool, &'static str)> {
    vec![(host.kernel_memory != 0, "a limit of kernel memory")]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(request: &Create) -> Result<(), Refusal> {
        super::check(request, &spec::fixture::host())
    }

    #[test]
    fn what_is_not_built_is_refused_by_name() {
        for (text, status) in [
            (r#"{"HostConfig":{"Links":["a:b"]}}"#, 501),
            (r#"{"HostConfig":{"VolumeDriver":"nfs"}}"#, 501),
            (r#"{"HostConfig":{"BlkioWeight":9}}"#, 400),
            (r#"{"HostConfig":{"CpuRealtimePeriod":1000}}"#, 400),
            (r#"{"HostConfig":{"StorageOpt":{"size":"1g"}}}"#, 500),
            (r#"{"HostConfig":{"StorageOpt":{"nosuch":"1"}}}"#, 500),
            (r#"{"Healthcheck":{"Test":["CMD","true"],"Interval":5}}"#, 400),
            (r#"{"HostConfig":{"PidMode":"nosuch"}}"#, 400),
            (r#"{"HostConfig":{"Isolation":"hyperv"}}"#, 400),
            (r#"{"HostConfig":{"Memory":1000}}"#, 400),
            (r#"{"HostConfig":{"MemorySwappiness":101}}"#, 400),
            (r#"{"HostConfig":{"OomScoreAdj":1001}}"#, 400),
            (r#"{"HostConfig":{"CapAdd":["ALL","NOSUCH"]}}"#, 400),
            (r#"{"HostConfig":{"NanoCpus":1}}"#, 400),
            (r#"{"HostConfig":{"NanoCpus":1,"CpuQuota":5000}}"#, 400),
        ] {
            let refusal = check(&serde_json::from_str(text).unwrap()).unwrap_err();
            assert_eq!(refusal.status().as_u16(), status, "{text}: {}", refusal.message());
        }
    }

    #[test]
    fn what_clients_send_by_default_is_none_of_it() {
        for text in [
            r#"{"HostConfig":{"NetworkMode":"none","RestartPolicy":{"Name":"no"},"PidsLimit":9}}"#,
            r#"{"HostConfig":{"MemorySwappiness":-1,"CgroupnsMode":"private","Isolation":"default","UsernsMode":"host"}}"#,
            r#"{"Healthcheck":{"Test":["NONE"]},"NetworkingConfig":{"EndpointsConfig":{"default":{"IPAMConfig":{}}}}}"#,
        ] {
            check(&serde_json::from_str(text).unwrap()).unwrap();
        }
    }
}
