//! Containers as Docker's clients read them. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde_json::{Value, json};

use super::endpoint::{Endpoint, endpoints};
use super::{defaults, health, restart_policy};
use crate::docker::Facts;
use crate::docker::notices::Attributes;
use crate::docker::wire::rfc3339;
use crate::engine::One;
use crate::engine::container::{Container, ContainerState, Exit, ExitReason};
use crate::engine::model::{DEFAULT_NETWORK, Mount, MountSource, PortMapping};
use crate::engine::pod::Pod;
use crate::spec;

/// The annotation with the request as it came, for `inspect`.
pub(super) const REQUEST: &str = "docker.request";
/// The annotation with the arguments that were decided, program first.
pub(super) const COMMAND: &str = "docker.command";

/// Nanoseconds in a second.
pub(super) const NS_PER_SECOND: i64 = 1_000_000_000;

/// The state in Docker's word. What could not be started is "created", as before the attempt.
pub(super) fn word(container: &Container) -> &'static str {
    match &container.state {
        _ if container.is_restarting() => "restarting",
        ContainerState::Creating | ContainerState::Created | ContainerState::Starting => "created",
        ContainerState::Running { .. } => "running",
        ContainerState::Paused { .. } => "paused",
        ContainerState::Exited(Exit { reason: ExitReason::StartError, .. }) => "created",
        ContainerState::Exited(_) => "exited",
    }
}

/// The exit code of its last run, if it has ended.
pub(super) fn exit_code(state: &ContainerState) -> Option<i32> {
    match state {
        ContainerState::Exited(exit) => Some(exit.code),
        _ => None,
    }
}

/// The state as `docker ps` shows it.
pub(super) fn status(container: &Container, now_ns: i64) -> String {
    let since = |then: i64| duration((now_ns - then) / NS_PER_SECOND);
    match &container.state {
        ContainerState::Exited(exit) if container.is_restarting() => {
            format!("Restarting ({}) {} ago", exit.code, since(exit.finished_at_ns))
        }
        ContainerState::Running { started_at_ns, .. } => {
            format!("Up {}{}", since(*started_at_ns), health::suffix(container))
        }
        ContainerState::Paused { started_at_ns, .. } => format!("Up {} (Paused)", since(*started_at_ns)),
        ContainerState::Exited(exit) if exit.reason != ExitReason::StartError => {
            format!("Exited ({}) {} ago", exit.code, since(exit.finished_at_ns))
        }
        _ => "Created".to_owned(),
    }
}

/// A duration in people's words.
fn duration(seconds: i64) -> String {
    let (minutes, hours) = (seconds / 60, (seconds + 1_800) / 3_600);
    match seconds {
        ..1 => "Less than a second".to_owned(),
        1 => "1 second".to_owned(),
        2..60 => format!("{seconds} seconds"),
        _ if minutes == 1 => "About a minute".to_owned(),
        _ if minutes < 60 => format!("{minutes} minutes"),
        _ if hours == 1 => "About an hour".to_owned(),
        _ if hours < 48 => format!("{hours} hours"),
        _ if hours < 24 * 14 => format!("{} days", hours / 24),
        _ if hours < 24 * 60 => format!("{} weeks", hours / 24 / 7),
        _ if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", hours / 24 / 365),
    }
}

/// The request as it came.
pub(super) fn request(one: &One) -> Value {
    let text = one.group.config.annotations.get(REQUEST);
    text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

/// What is told of a container's group in events.
pub(in crate::docker) fn attributes(group: &Pod) -> Attributes {
    let labels = group.config.labels.iter().map(|(key, value)| (key.clone(), json!(value)));
    let mut attributes: Attributes = labels.collect();
    attributes.insert("image".into(), json!(requested_image(group)));
    attributes.insert("name".into(), json!(group.config.name.name));
    attributes
}

/// The image as the client named it.
fn requested_image(group: &Pod) -> String {
    let text = group.config.annotations.get(REQUEST);
    let request: Value = text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    request["Image"].as_str().unwrap_or_default().to_owned()
}

/// The arguments that were decided, program first.
pub(super) fn command(one: &One) -> Vec<String> {
    let text = one.group.config.annotations.get(COMMAND);
    text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

/// A command as `docker ps` shows it: what has blanks in it in quotes.
pub(super) fn shown_command(command: &[String]) -> String {
    let (program, arguments) =
        command.split_first().map_or(("", &[][..]), |(one, rest)| (one.as_str(), rest));
    let quoted =
        arguments.iter().map(|word| if word.contains(' ') { format!("'{word}'") } else { word.clone() });
    std::iter::once(program.to_owned()).chain(quoted).collect::<Vec<_>>().join(" ")
}

/// The network that a request names, or means.
pub(super) fn network_mode(request: &Value) -> &str {
    match request["HostConfig"]["NetworkMode"].as_str() {
        None | Some("" | "default") => "bridge",
        Some(mode) => mode,
    }
}

/// The published ports of a row. Without an address of the host a port is open on all of the families that the container
/// has: each is told.
pub(super) fn ports(one: &One) -> Vec<Value> {
    if !runs(one) {
        return Vec::new();
    }
    let open_on = |mapping: &PortMapping| match mapping.host_ip {
        Some(ip) => vec![ip],
        None => everywhere(&one.group.addresses),
    };
    let row = |ip: IpAddr, mapping: &PortMapping| {
        json!({
            "IP": ip.to_string(), "PrivatePort": mapping.container_port, "PublicPort": mapping.host_port,
            "Type": format!("{:?}", mapping.protocol).to_lowercase(),
        })
    };
    let mappings = one.group.ports.iter();
    mappings.flat_map(|mapping| open_on(mapping).into_iter().map(move |ip| row(ip, mapping))).collect()
}

/// All addresses of the host, once for each family of these.
fn everywhere(addresses: &[IpAddr]) -> Vec<IpAddr> {
    let any = [IpAddr::from(Ipv4Addr::UNSPECIFIED), IpAddr::from(Ipv6Addr::UNSPECIFIED)];
    let has = |any: &IpAddr| addresses.iter().any(|address| address.is_ipv4() == any.is_ipv4());
    any.into_iter().filter(has).collect()
}

/// Whether it has a process.
pub(super) fn runs(one: &One) -> bool {
    one.container.state.pid().is_some()
}

/// Everything about one.
pub(super) fn inspect(one: &One, facts: &Facts) -> Value {
    let (container, mut request) = (&one.container, request(one));
    let mut host = request["HostConfig"].take();
    let mode = network_mode(&json!({"HostConfig": host.clone()})).to_owned();
    if !host.is_object() {
        host = json!({});
    }
    host["NetworkMode"] = json!(mode);
    defaults::fill(&mut host, defaults::host_config());
    if host["Runtime"] == "" {
        host["Runtime"] = json!("cleat");
    }
    let [masked, read_only] = hidden_paths(container);
    host["MaskedPaths"] = masked;
    host["ReadonlyPaths"] = read_only;
    // What was changed since.
    let limits = &container.resources;
    host["RestartPolicy"] = restart_policy::told(container.restarts.policy);
    host["Memory"] = json!(limits.memory_limit_bytes.unwrap_or_default());
    host["MemorySwap"] = json!(limits.memory_swap_limit_bytes.unwrap_or_default());
    host["CpuShares"] = json!(limits.cpu_shares.unwrap_or_default());
    if host["LogConfig"]["Type"] == "" {
        host["LogConfig"]["Type"] = json!("json-file");
    }
    let (networks, mounts) = (json!(endpoints(one)), mounts(one, &host, facts));
    // The fields of before there were several networks are about the default one.
    let place = networks.get(DEFAULT_NETWORK).cloned().unwrap_or_else(|| json!(Endpoint::default()));
    let owner = one.group.config.network_of.as_ref().unwrap_or(&one.group.id);
    let file = |name: &str| facts.root.join("pods").join(owner.as_str()).join(name);
    let mut network = json!({
        "Bridge": "", "SandboxID": "", "SandboxKey": "", "Ports": published(one), "Gateway": place["Gateway"],
        "EndpointID": place["EndpointID"], "MacAddress": place["MacAddress"],
        "IPAddress": place["IPAddress"], "IPPrefixLen": place["IPPrefixLen"], "IPv6Gateway": place["IPv6Gateway"],
        "GlobalIPv6Address": place["GlobalIPv6Address"], "GlobalIPv6PrefixLen": place["GlobalIPv6PrefixLen"],
    });
    defaults::fill(&mut network, defaults::network_settings());
    network["Networks"] = networks;
    let probe = container.health.as_ref().and_then(|health| health.probe.as_ref());
    let command = command(one);
    let (path, args) =
        command.split_first().map_or((String::new(), &[][..]), |(path, args)| (path.clone(), args));
    json!({
        "Id": container.id.to_string(), "Created": rfc3339(container.created_at_ns), "Path": path, "Args": args,
        "State": state(container), "Image": container.image.id,
        "ResolvConfPath": file("resolv.conf"), "HostnamePath": file("hostname"), "HostsPath": file("hosts"),
        "LogPath": container.log_path, "Name": format!("/{}", one.name()), "RestartCount": container.restarts.count,
        "Driver": "overlayfs", "Platform": "linux", "MountLabel": "", "ProcessLabel": "", "AppArmorProfile": "",
        "ExecIDs": probe.map(|probe| [probe]), "HostConfig": host, "GraphDriver": {"Name": "overlayfs", "Data": null},
        "Mounts": mounts, "Config": config(one, request),
        "NetworkSettings": network,
    })
}

/// The paths that are hidden and those that are read-only; none where all is shown.
fn hidden_paths(container: &Container) -> [Value; 2] {
    let security = &container.config.security;
    if security.privileged {
        return [Value::Null, Value::Null];
    }
    let told = |own: &Option<Vec<String>>, usual: &[&str]| match own {
        Some(paths) => json!(paths),
        None => json!(usual),
    };
    [
        told(&security.masked_paths, &spec::MASKED_PATHS),
        told(&security.read_only_paths, &spec::READ_ONLY_PATHS),
    ]
}

/// The container's part of the request, with what was decided.
fn config(one: &One, mut request: Value) -> Value {
    let container = &one.container;
    if !request.is_object() {
        request = json!({});
    }
    if let Value::Object(fields) = &mut request {
        fields.remove("HostConfig");
        fields.remove("NetworkingConfig");
    }
    request["Hostname"] = json!(one.group.config.hostname);
    request["Image"] = json!(container.config.image.user_specified);
    request["Labels"] = json!(container.config.labels);
    request["Tty"] = json!(container.config.tty);
    request["OpenStdin"] = json!(container.config.stdin);
    request["StdinOnce"] = json!(container.config.stdin_once);
    defaults::fill(&mut request, defaults::config());
    request
}

fn state(container: &Container) -> Value {
    let (state, restarting) = (&container.state, container.is_restarting());
    let (exit, pid, started) = match state {
        ContainerState::Running { pid, started_at_ns } | ContainerState::Paused { pid, started_at_ns } => {
            (None, *pid, *started_at_ns)
        }
        ContainerState::Exited(exit) => (Some(exit), 0, exit.started_at_ns),
        _ => (None, 0, 0),
    };
    let mut told = json!({
        "Status": word(container), "Running": pid != 0 || restarting, "Paused": matches!(state, ContainerState::Paused { .. }), "Restarting": restarting, "Dead": false, "Pid": pid,
        "OOMKilled": exit.is_some_and(|exit| exit.reason == ExitReason::OomKilled),
        "ExitCode": exit.map_or(0, |exit| exit.code),
        "Error": exit.map_or("", |exit| exit.message.as_str()),
        "StartedAt": rfc3339(started), "FinishedAt": rfc3339(exit.map_or(0, |exit| exit.finished_at_ns)),
    });
    if let Some(health) = &container.health {
        told["Health"] = health::told(health);
    }
    told
}

/// What is mounted; `--tmpfs` alone is told in `HostConfig` only.
pub(super) fn mounts(one: &One, host: &Value, facts: &Facts) -> Vec<Value> {
    let target = |mount: &Mount| mount.destination.display().to_string();
    let mode = |destination: &str| {
        let binds = host["Binds"].as_array().map(Vec::as_slice).unwrap_or_default();
        let parts = binds.iter().filter_map(|bind| bind.as_str()).map(|bind| bind.splitn(3, ':'));
        let mut modes = parts.filter_map(|mut parts| Some((parts.nth(1)?, parts.next()?)));
        modes.find(|(target, _)| *target == destination).map(|(_, mode)| mode.to_owned()).unwrap_or_default()
    };
    let all = one.container.config.mounts.iter();
    let told = all.filter(|mount| host["Tmpfs"][target(mount)].is_null()).map(|mount| {
        let (kind, source) = match &mount.source {
            MountSource::Host(path) => ("bind", path.display().to_string()),
            MountSource::Tmpfs(_) => ("tmpfs", String::new()),
            MountSource::Image { image, .. } => ("image", image.clone()),
            MountSource::Volume { name, .. } => return volume(mount, name, facts, &mode(&target(mount))),
        };
        json!({
            "Type": kind, "Source": source, "Destination": mount.destination, "Mode": mode(&target(mount)), "RW": !mount.read_only,
            "Propagation": if kind == "bind" { "rprivate" } else { "" },
        })
    });
    told.collect()
}

/// A volume that is mounted.
fn volume(mount: &Mount, name: &str, facts: &Facts, mode: &str) -> Value {
    json!({
        "Type": "volume", "Name": name, "Source": facts.volume(name), "Destination": mount.destination,
        "Driver": "local", "Mode": if mode.is_empty() { "z" } else { mode }, "RW": !mount.read_only, "Propagation": "",
    })
}

/// The published ports of an inspection.
fn published(one: &One) -> Value {
    let mut told = json!({});
    for row in ports(one) {
        let key = format!("{}/{}", row["PrivatePort"], row["Type"].as_str().unwrap_or_default());
        let binding = json!({"HostIp": row["IP"], "HostPort": row["PublicPort"].to_string()});
        match &mut told[&key] {
            Value::Array(list) => list.push(binding),
            absent => *absent = json!([binding]),
        }
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::container::sample;
    use crate::engine::model::Id;

    #[test]
    fn durations_are_told_as_docker_tells_them() {
        for (seconds, expected) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (119, "About a minute"),
            (3_599, "59 minutes"),
            (3_600, "About an hour"),
            (2 * 86_400, "2 days"),
            (20 * 86_400, "2 weeks"),
            (100 * 86_400, "3 months"),
            (800 * 86_400, "2 years"),
        ] {
            assert_eq!(duration(seconds), expected, "{seconds}");
        }
    }

    #[test]
    fn a_port_is_open_on_the_families_that_the_container_has() {
        for (addresses, expected) in [
            (&["10.0.0.2", "fd00::2"][..], &["0.0.0.0", "::"][..]),
            (&["10.0.0.2"], &["0.0.0.0"]),
            (&["fd00::2"], &["::"]),
            (&[], &[]),
        ] {
            let addresses: Vec<IpAddr> = addresses.iter().map(|text| text.parse().unwrap()).collect();
            let told: Vec<String> = everywhere(&addresses).iter().map(ToString::to_string).collect();
            assert_eq!(told, expected);
        }
    }

    #[test]
    fn arguments_with_blanks_are_shown_in_quotes() {
        for (command, shown) in [
            (vec!["sh", "-c", "exit 5"], "sh -c 'exit 5'"),
            (vec!["sleep", "1"], "sleep 1"),
            (vec!["a b"], "a b"),
            (vec![], ""),
        ] {
            let command: Vec<String> = command.into_iter().map(str::to_owned).collect();
            assert_eq!(shown_command(&command), shown);
        }
    }

    #[test]
    fn states_have_dockers_words() {
        let exit = |reason| {
            ContainerState::Exited(Exit {
                code: 3,
                reason,
                message: String::new(),
                started_at_ns: 1,
                finished_at_ns: 0,
            })
        };
        let running = ContainerState::Running { pid: 7, started_at_ns: 0 };
        let now = 2 * NS_PER_SECOND;
        let id = Id::random().unwrap();
        let mut container = sample(&id, &id);
        for (state, one, two) in [
            (ContainerState::Created, "created", "Created"),
            (running, "running", "Up 2 seconds"),
            (ContainerState::Paused { pid: 7, started_at_ns: 0 }, "paused", "Up 2 seconds (Paused)"),
            (exit(ExitReason::Error), "exited", "Exited (3) 2 seconds ago"),
            (exit(ExitReason::StartError), "created", "Created"),
        ] {
            container.state = state;
            assert_eq!((word(&container), status(&container, now).as_str()), (one, two));
        }
        container.state = exit(ExitReason::Error);
        container.restarts.due_at_ns = Some(1);
        assert_eq!(word(&container), "restarting");
        assert_eq!(status(&container, now), "Restarting (3) 2 seconds ago");
        assert_eq!(state(&container)["Running"], true);
    }
}
