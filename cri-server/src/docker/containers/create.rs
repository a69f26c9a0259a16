//! Creating: from Docker's request to what the engine is asked for. Pure but for the last step.

use std::collections::BTreeMap;

use cleat_image::Image;
use hyper::StatusCode;
use oci_spec::image::Config;
use serde_json::{Value, json};

use super::describe::{COMMAND, REQUEST};
use super::mounts;
use super::others::Others;
use super::refused::check;
use super::request::{Create, HostConfig, Ulimit};
use super::security::security;
use super::settled::settled;
use super::{devices, group, log_options, restart_policy, sources};
use crate::docker::dispatch::Ask;
use crate::docker::healthcheck::Healthcheck;
use crate::docker::networks;
use crate::docker::refusal::{Answer, Refusal};
use crate::docker::wire::{json as in_json, read_json};
use crate::docker::{Door, images};
use crate::engine::model::{
    CgroupMode, ContainerConfig, Id, ImageChoice, Mount, Resources, RestartPolicy, Rlimit,
};
use crate::engine::{EngineError, One};
use crate::spec::{self, Host};

/// `POST /containers/create`.
pub(in crate::docker) async fn create(door: &Door, ask: Ask) -> Answer {
    let mut body: Value = read_json(ask.body).await?;
    let mut request: Create = serde_json::from_value(body.clone())
        .map_err(|error| Refusal::bad(format!("invalid JSON: {error}")))?;
    let image = door.engine.images().resolve(&request.image);
    let image = image.ok_or_else(|| Refusal::no_image(&request.image))?;
    let machine = door.engine.host();
    let warnings = devices::discard_weights(&mut request.host_config, machine);
    check(&request, machine)?;
    let name = match ask.query.get("name") {
        "" => generated_name()?,
        name => checked_name(name)?.to_owned(),
    };
    let settings = image.config.config().clone().unwrap_or_default();
    let volumes = volumes(&request, &settings);
    let mounts = mounts::mounts(&request.host_config, &volumes, &lenders(door, &request)?, machine)?;
    sources::prepare(&request.host_config).await?;
    body["Volumes"] = if volumes.is_empty() { Value::Null } else { json!(volumes) };
    let others = Others::find(door, &request.host_config)?;
    let written = images::written(door, &image).await?;
    let health = Healthcheck::settled(&request.healthcheck, &written["config"], ask.version);
    body["Healthcheck"] = json!(health);
    let health = health.and_then(|health| health.wanted(&written["config"]));
    let config = ContainerConfig {
        health,
        ..container(&request, &image, &Findings { mounts, others: &others, machine })?
    };
    let command = spec::process_args(&config, &settings)
        .map_err(|_| Refusal::bad("no command specified: give one, or use an image that has one"))?;
    let endpoints = &request.networking_config.endpoints_config;
    let places = networks::wanted(door, &request.host_config.network_mode, endpoints, &request.mac_address)?;
    let around = group::Around { image: &settings, facts: &door.facts, others: &others, places };
    let mut group = group::config(&request, around)?;
    others.settle(&mut body);
    devices::settle_weights(&mut body, &request.host_config);
    group.annotations.insert(REQUEST.to_owned(), settled(body, &settings).to_string());
    group.annotations.insert(COMMAND.to_owned(), json!(command).to_string());
    let auto_remove = request.host_config.auto_remove;
    let created = door.engine.create_one(&name, auto_remove, group, config).await;
    let id = created.map_err(taken)?;
    Ok(in_json(StatusCode::CREATED, &json!({"Id": id.to_string(), "Warnings": warnings})))
}

/// What the request and the image want volumes for.
fn volumes(request: &Create, image: &Config) -> BTreeMap<String, Value> {
    let of_image = image.volumes().iter().flatten().map(|path| (path.clone(), json!({})));
    request.volumes.clone().into_iter().chain(of_image).collect()
}

/// The containers whose volumes are wanted, too, and whether for reading only.
fn lenders(door: &Door, request: &Create) -> Result<Vec<(One, bool)>, Refusal> {
    let lender = |text: &String| {
        let (name, mode) = text.split_once(':').unwrap_or((text, "rw"));
        match mode {
            // Not by the status for a missing image: the command line would pull one.
            "rw" | "ro" | "z" | "Z" => match door.engine.one(name) {
                Err(EngineError::NotFound { .. }) => Err(Refusal::bad(format!("No such container: {name}"))),
                found => Ok((found?, mode == "ro")),
            },
            _ => Err(Refusal::bad(format!("invalid mode for volumes-from: {mode}"))),
        }
    };
    request.host_config.volumes_from.iter().map(lender).collect()
}

/// A name that another container has is told in dockerd's words.
pub(super) fn taken(error: EngineError) -> Refusal {
    match error {
        EngineError::Exists { name, id, .. } => Refusal::conflict(format!(
            "Conflict. The container name \"/{name}\" is already in use by container \"{id}\". You have to remove (or rename) that container to be able to reuse that name."
        )),
        other => other.into(),
    }
}

/// The name, if it may be one.
pub(super) fn checked_name(name: &str) -> Result<&str, Refusal> {
    let name = name.strip_prefix('/').unwrap_or(name);
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    let first = name.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric);
    if first && name.len() > 1 && name.bytes().all(good) {
        return Ok(name);
    }
    Err(Refusal::bad(format!("Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")))
}

const MANNERS: [&str; 16] = [
    "able", "brisk", "calm", "deft", "even", "fair", "glad", "hardy", "keen", "lucid", "merry", "neat",
    "plain", "quick", "steady", "trim",
];
const THINGS: [&str; 16] = [
    "anchor", "beacon", "buoy", "capstan", "davit", "fathom", "fender", "halyard", "harbour", "keel",
    "lantern", "mooring", "rudder", "sextant", "tiller", "windlass",
];

/// A name for a container that was given none: two words and four digits, so that they do not run out.
fn generated_name() -> Result<String, Refusal> {
    let id = Id::random().map_err(|error| Refusal::failed(format!("make a name: {error}")))?;
    let digit = |at: usize| {
        id.as_str()[at..=at].parse().unwrap_or_else(|_| usize::from(id.as_str().as_bytes()[at] - b'a') + 10)
    };
    Ok(format!("{}_{}_{}", MANNERS[digit(0) % 16], THINGS[digit(1) % 16], &id.as_str()[2..6]))
}

/// What a container is decided from besides the request.
struct Findings<'a> {
    mounts: Vec<Mount>,
    others: &'a Others,
    machine: &'a Host,
}

fn container(request: &Create, image: &Image, found: &Findings<'_>) -> Result<ContainerConfig, Refusal> {
    let host = &request.host_config;
    // `--entrypoint ""` takes the image's away.
    let none = request.entrypoint.iter().all(String::is_empty) && !request.entrypoint.is_empty();
    let (command, args) = if none {
        (request.cmd.clone(), Vec::new())
    } else {
        (request.entrypoint.clone(), request.cmd.clone())
    };
    let stop_signal = match request.stop_signal.as_str() {
        "" => None,
        text => Some(spec::parse_signal(text).map_err(|error| Refusal::bad(error.to_string()))?),
    };
    let envs = request.env.iter().filter_map(|variable| variable.split_once('='));
    Ok(ContainerConfig {
        image: ImageChoice { requested: image.id.to_string(), user_specified: request.image.clone() },
        command,
        args,
        working_dir: request.working_dir.clone(),
        envs: envs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        mounts: found.mounts.clone(),
        devices: host.devices.iter().map(devices::device).collect(),
        device_rules: host.device_cgroup_rules.iter().map(devices::rule).collect::<Result<_, _>>()?,
        disk_limits: devices::disk_limits(host),
        labels: request.labels.clone(),
        log_path: (host.log_config.r#type != "none").then(|| "log".into()),
        log_rotation: log_options::rotation(&host.log_config)?,
        stdin: request.open_stdin,
        stdin_once: request.stdin_once,
        tty: request.tty,
        resources: resources(host),
        security: security(request, found.machine)?,
        pid: found.others.pid(&host.pid_mode),
        cgroup_namespace: match host.cgroupns_mode.as_str() {
            "host" => CgroupMode::Node,
            "private" => CgroupMode::Container,
            _ => CgroupMode::ByPrivilege,
        },
        stop_signal,
        init: host.init,
        restart: restart(host)?,
        rlimits: host.ulimits.iter().map(rlimit).collect::<Result<_, _>>()?,
        ..ContainerConfig::default()
    })
}

fn restart(host: &HostConfig) -> Result<RestartPolicy, Refusal> {
    let policy = restart_policy::asked(&host.restart_policy)?.unwrap_or_default();
    if host.auto_remove && policy != RestartPolicy::No {
        return Err(Refusal::bad("can't create 'AutoRemove' container with restart policy"));
    }
    Ok(policy)
}

/// The resource limits Docker's clients know.
const ULIMITS: [&str; 15] = [
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

fn rlimit(wanted: &Ulimit) -> Result<Rlimit, Refusal> {
    let Ulimit { name, soft, hard } = wanted;
    if !ULIMITS.contains(&name.as_str()) {
        return Err(Refusal::bad(format!("invalid ulimit type: {name}")));
    }
    let number = |limit: i64| u64::try_from(limit).unwrap_or(u64::MAX);
    if number(*soft) > number(*hard) {
        let why = format!("ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}");
        return Err(Refusal::bad(why));
    }
    Ok(Rlimit { name: name.clone(), soft: number(*soft), hard: number(*hard) })
}

/// Zero is "no limit" to Docker.
pub(super) fn resources(host: &HostConfig) -> Resources {
    /// Microseconds; what `--cpus` is a part of.
    const PERIOD_US: i64 = 100_000;
    let positive = |number: i64| u64::try_from(number).ok().filter(|number| *number > 0);
    let (period, quota) = match host.nano_cpus {
        0 => (host.cpu_period, host.cpu_quota),
        nano => (PERIOD_US, nano / (1_000_000_000 / PERIOD_US)),
    };
    // Without a word about swap, as much again as memory.
    let swap = match (host.memory, host.memory_swap) {
        (_, swap) if swap != 0 => Some(swap),
        (memory, _) if memory > 0 => Some(memory.saturating_mul(2)),
        _ => None,
    };
    Resources {
        cpu_period_us: positive(period),
        cpu_quota_us: Some(quota).filter(|quota| *quota != 0),
        cpu_shares: positive(host.cpu_shares),
        cpu_realtime_period_us: positive(host.cpu_realtime_period),
        cpu_realtime_runtime_us: Some(host.cpu_realtime_runtime).filter(|runtime| *runtime != 0),
        disk_weight: Some(host.blkio_weight).filter(|weight| *weight != 0),
        memory_limit_bytes: Some(host.memory).filter(|memory| *memory > 0),
        memory_swap_limit_bytes: swap,
        memory_reservation_bytes: Some(host.memory_reservation).filter(|bytes| *bytes > 0),
        memory_swappiness: host.memory_swappiness.and_then(|number| u64::try_from(number).ok()),
        disable_oom_killer: host.oom_kill_disable,
        oom_score_adj: Some(host.oom_score_adj).filter(|adjustment| *adjustment != 0),
        cpuset_cpus: host.cpuset_cpus.clone(),
        cpuset_mems: host.cpuset_mems.clone(),
        pids_limit: Some(host.pids_limit.max(-1)).filter(|limit| *limit != 0),
        ..Resources::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(text: &str) -> Create {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn names_are_checked_and_made() {
        assert_eq!(checked_name("/web-1").unwrap(), "web-1");
        for name in ["", "a", "-a", "a b", "../x", "é1"] {
            assert_eq!(checked_name(name).unwrap_err().status().as_u16(), 400, "{name}");
        }
        let made = generated_name().unwrap();
        assert!(checked_name(&made).is_ok(), "{made}");
    }

    #[test]
    fn limits_are_dockers() {
        let host = |text: &str| resources(&request(&format!(r#"{{"HostConfig":{text}}}"#)).host_config);
        let limits = host(r#"{"Memory":67108864,"NanoCpus":500000000}"#);
        assert_eq!(
            (limits.memory_limit_bytes, limits.memory_swap_limit_bytes),
            (Some(64 << 20), Some(128 << 20))
        );
        assert_eq!((limits.cpu_period_us, limits.cpu_quota_us), (Some(100_000), Some(50_000)));
        assert_eq!(host("{}"), Resources::default());
    }

    #[test]
    fn ulimits_are_checked() {
        let limit = |name: &str, soft, hard| rlimit(&Ulimit { name: name.into(), soft, hard });
        assert_eq!(
            limit("nofile", 1, -1).unwrap(),
            Rlimit { name: "nofile".into(), soft: 1, hard: u64::MAX }
        );
        for (name, soft, hard) in [("nosuch", 1, 1), ("core", 2, 1), ("core", -1, 5)] {
            assert_eq!(limit(name, soft, hard).unwrap_err().status().as_u16(), 400, "{name}");
        }
    }
}
