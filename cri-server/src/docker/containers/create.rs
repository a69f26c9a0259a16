//! Creating: from Docker's request to what the engine is asked for. Pure but for the last step.

use std::collections::BTreeMap;

use cleat_image::Image;
use hyper::StatusCode;
use oci_spec::image::Config;
use serde_json::{Value, json};

use super::describe::{COMMAND, REQUEST};
use super::mounts;
use super::refused::check;
use super::request::{Create, HostConfig, Ulimit};
use super::settled::settled;
use super::{group, log_options, restart_policy, sources, user};
use crate::docker::dispatch::Ask;
use crate::docker::healthcheck::Healthcheck;
use crate::docker::refusal::{Answer, Refusal};
use crate::docker::wire::{json as in_json, read_json};
use crate::docker::{Door, images};
use crate::engine::model::{
    AppArmor, Capabilities, ContainerConfig, Device, Id, ImageChoice, Mount, PidMode, Resources,
    RestartPolicy, Rlimit, Seccomp, Security,
};
use crate::engine::{EngineError, One};
use crate::spec;

/// `POST /containers/create`.
pub(in crate::docker) async fn create(door: &Door, ask: Ask) -> Answer {
    let mut body: Value = read_json(ask.body).await?;
    let mut request: Create = serde_json::from_value(body.clone())
        .map_err(|error| Refusal::bad(format!("invalid JSON: {error}")))?;
    let image = door.engine.images().resolve(&request.image);
    let image = image.ok_or_else(|| Refusal::no_image(&request.image))?;
    check(&request)?;
    let name = match ask.query.get("name") {
        "" => generated_name()?,
        name => checked_name(name)?.to_owned(),
    };
    let settings = image.config.config().clone().unwrap_or_default();
    for (key, value) in settings.labels().iter().flatten() {
        request.labels.entry(key.clone()).or_insert_with(|| value.clone());
    }
    let volumes = volumes(&request, &settings);
    let mounts = mounts::mounts(&request.host_config, &volumes, &lenders(door, &request)?)?;
    sources::prepare(&request.host_config).await?;
    body["Volumes"] = if volumes.is_empty() { Value::Null } else { json!(volumes) };
    let written = images::written(door, &image).await?;
    let health = Healthcheck::settled(&request.healthcheck, &written["config"], ask.version);
    body["Healthcheck"] = json!(health);
    let health = health.and_then(|health| health.wanted(&written["config"]));
    let config = ContainerConfig { health, ..container(&request, &image, mounts)? };
    let command = spec::process_args(&config, &settings)
        .map_err(|_| Refusal::bad("no command specified: give one, or use an image that has one"))?;
    let other = other_group(door, &request)?;
    let mut group = group::config(
        &request,
        &group::Around { image: &settings, facts: &door.facts, other: other.as_ref() },
    )?;
    if let Some(other) = &other {
        body["HostConfig"]["NetworkMode"] = json!(format!("container:{}", other.container.id));
    }
    group.annotations.insert(REQUEST.to_owned(), settled(body, &settings).to_string());
    group.annotations.insert(COMMAND.to_owned(), json!(command).to_string());
    let auto_remove = request.host_config.auto_remove;
    let created = door.engine.create_one(&name, auto_remove, group, config).await;
    let id = created.map_err(taken)?;
    Ok(in_json(StatusCode::CREATED, &json!({"Id": id.to_string(), "Warnings": []})))
}

/// The container whose network this one is to use.
fn other_group(door: &Door, request: &Create) -> Result<Option<One>, Refusal> {
    let name = request.host_config.network_mode.strip_prefix("container:");
    Ok(name.map(|name| door.engine.one(name)).transpose()?)
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

fn container(request: &Create, image: &Image, mounts: Vec<Mount>) -> Result<ContainerConfig, Refusal> {
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
        mounts,
        devices: host.devices.iter().map(device).collect(),
        labels: request.labels.clone(),
        log_path: (host.log_config.r#type != "none").then(|| "log".into()),
        log_rotation: log_options::rotation(&host.log_config)?,
        stdin: request.open_stdin,
        stdin_once: request.stdin_once,
        tty: request.tty,
        resources: resources(host),
        security: security(request)?,
        pid: if host.pid_mode == "host" { PidMode::Node } else { PidMode::Container },
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

fn device(device: &super::request::Device) -> Device {
    let inside =
        if device.path_in_container.is_empty() { &device.path_on_host } else { &device.path_in_container };
    let permissions = if device.cgroup_permissions.is_empty() { "rwm" } else { &device.cgroup_permissions };
    Device {
        host_path: device.path_on_host.clone().into(),
        container_path: inside.into(),
        permissions: permissions.to_owned(),
    }
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

fn security(request: &Create) -> Result<Security, Refusal> {
    let host = &request.host_config;
    let mut security = Security {
        privileged: host.privileged,
        capabilities: Capabilities {
            add: host.cap_add.clone(),
            drop: host.cap_drop.clone(),
            add_ambient: Vec::new(),
        },
        user: user::choice(&request.user, &host.group_add),
        read_only_rootfs: host.readonly_rootfs,
        masked_paths: host.masked_paths.clone(),
        read_only_paths: host.readonly_paths.clone(),
        seccomp: if host.privileged { Seccomp::Unconfined } else { Seccomp::RuntimeDefault },
        ..Security::default()
    };
    for option in &host.security_opt {
        // Old clients write a colon; what is behind the first of the two is the client's own text.
        let (key, value) = option.split_once(['=', ':']).unwrap_or((option, ""));
        let written = if value.is_empty() { option.clone() } else { format!("{key}={value}") };
        match written.as_str() {
            "seccomp=unconfined" => security.seccomp = Seccomp::Unconfined,
            "seccomp=builtin" => {}
            "apparmor=unconfined" => security.app_armor = AppArmor::Unconfined,
            // What clients know the default profile by.
            "apparmor=docker-default" => security.app_armor = AppArmor::RuntimeDefault,
            "no-new-privileges" | "no-new-privileges=true" => security.no_new_privileges = true,
            "no-new-privileges=false" | "label=disable" => {}
            other => named_option(&mut security, option, other)?,
        }
    }
    Ok(security)
}

/// A security option with a value of the client's own.
fn named_option(security: &mut Security, written: &str, option: &str) -> Result<(), Refusal> {
    let invalid = || Refusal::bad(format!("invalid --security-opt 2: {written:?}"));
    let (key, value) = option.split_once('=').ok_or_else(invalid)?;
    match key {
        "apparmor" => security.app_armor = AppArmor::Localhost(value.to_owned()),
        // The profile itself: a client reads it from its own file.
        "seccomp" => security.seccomp = Seccomp::Inline(value.to_owned()),
        "label" | "credentialspec" | "writable-cgroups" => {
            return Err(Refusal::not_built(format!("the security option {written:?}")));
        }
        "no-new-privileges" => {
            return Err(Refusal::bad(format!(
                "invalid --security-opt 2: {written:?}: a yes or no is expected"
            )));
        }
        _ => return Err(invalid()),
    }
    Ok(())
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
