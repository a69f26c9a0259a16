//! Specifications that went wrong: a whole one is changed at random, read and planned.
//!
//! Nothing may panic, and what is accepted has to keep what the code behind it counts on.

use std::path::{Component, Path};

use cleat_sys::cgroup::Layout;
use cleat_test_fuzz::{Campaign, Dice};
use oci_spec::runtime::Spec;
use serde_json::{Value, json};

use super::{MountKind, Plan, UserNamespace};
use crate::{cgroups, seccomp};

/// Executions of an ordinary test run: a second or two.
const EXECUTIONS: u64 = 2_000;
/// An ordinary test run is the same each time.
const SEED: u64 = 0x5eed_c1ea_7000_0001;
/// Most changes of one case.
const MAX_CHANGES: u64 = 4;

#[test]
fn no_specification_breaks_the_plan() {
    let campaign = Campaign::from_environment(EXECUTIONS, SEED);
    let Campaign { executions, seed } = campaign;
    let (base, layout) = (specification(), Layout::detect().ok());
    let mut accepted = 0_u64;
    for (execution, mut dice) in campaign.cases() {
        let text = case(&base, &mut dice);
        let judged = std::panic::catch_unwind(|| judge(&text, layout.as_ref()));
        match judged {
            Ok(is_accepted) => accepted += u64::from(is_accepted),
            Err(_) => panic!("seed {seed}, execution {execution}: {}", String::from_utf8_lossy(&text)),
        }
    }
    println!("{executions} executions, {accepted} accepted");
    // A loop whose cases are all refused at the door tests the door only.
    assert!(accepted > executions / 20, "{accepted} of {executions} accepted");
}

fn case(base: &Value, dice: &mut Dice) -> Vec<u8> {
    let mut spec = base.clone();
    for _ in 0..=dice.roll(MAX_CHANGES) {
        change(&mut spec, dice);
    }
    let mut text = serde_json::to_vec(&spec).unwrap();
    if dice.roll(16) == 0 {
        let at = dice.index(text.len());
        text[at] = u8::try_from(dice.roll(256)).unwrap();
    }
    text
}

/// Walks down to a random place and changes what is there.
fn change(value: &mut Value, dice: &mut Dice) {
    match value {
        Value::Object(map) if !map.is_empty() && dice.roll(12) != 0 => {
            let key = map.keys().nth(dice.index(map.len())).unwrap().clone();
            match dice.roll(24) {
                0 => drop(map.remove(&key)),
                1 => {
                    let moved = map[&key].clone();
                    map.insert((*dice.one(&["path", "type", "options", "size", "x"])).to_owned(), moved);
                }
                _ => change(&mut map[&key], dice),
            }
        }
        Value::Array(list) if !list.is_empty() && dice.roll(12) != 0 => {
            let at = dice.index(list.len());
            match dice.roll(12) {
                0 => drop(list.remove(at)),
                1 => list.push(list[at].clone()),
                _ => change(&mut list[at], dice),
            }
        }
        Value::String(text) if dice.roll(2) == 0 => *text = changed(text, dice),
        value => *value = oddity(dice),
    }
}

fn changed(text: &str, dice: &mut Dice) -> String {
    let mut letters: Vec<char> = text.chars().collect();
    let odd = ['\0', '/', '.', ':', ',', '=', '-', '\n', 'r', '9', 'ä', '\u{10ffff}'];
    let at = dice.index(letters.len() + 1);
    match dice.roll(4) {
        0 => letters.truncate(at),
        1 => letters.insert(at, *dice.one(&odd)),
        2 => letters.splice(at..at, "/../".chars()).for_each(drop),
        _ => {
            if let Some(letter) = letters.get_mut(at) {
                *letter = *dice.one(&odd);
            }
        }
    }
    letters.into_iter().collect()
}

fn oddity(dice: &mut Dice) -> Value {
    let values = [
        json!(null),
        json!(true),
        json!(0),
        json!(-1),
        json!(1),
        json!(u32::MAX),
        json!(u64::MAX),
        json!(i64::MIN),
        json!(1e300),
        json!(""),
        json!("/"),
        json!(".."),
        json!("/proc/self/fd/3"),
        json!("a".repeat(5000)),
        json!([]),
        json!({}),
        json!([{}]),
        json!(["CAP_SYS_ADMIN", "rbind", "idmap", "0-9999999"]),
    ];
    dice.one(&values).clone()
}

/// Whether it was accepted.
fn judge(text: &[u8], layout: Option<&Layout>) -> bool {
    let Ok(spec) = serde_json::from_slice::<Spec>(text) else { return false };
    if let Some(profile) = spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref())
        && let Ok(filter) = seccomp::compile(profile)
    {
        assert!(filter.instructions.len() <= seccomp::MAX_INSTRUCTIONS);
        assert_eq!(seccomp::Filter::decode(&filter.encode()).as_ref(), Ok(&filter));
    }
    match Plan::new("id", Path::new("/bundle"), &spec) {
        Ok(plan) => {
            check(&plan);
            if let Some(layout) = layout {
                // Whatever comes of it.
                drop(cgroups::settings(layout, &plan.resources));
                drop(cgroups::DeviceRules::new(plan.resources.devices().as_deref().unwrap_or_default()));
            }
            true
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            false
        }
    }
}

/// What the code behind a plan counts on.
fn check(plan: &Plan) {
    let climbs = |path: &Path| path.components().any(|part| part == Component::ParentDir);
    assert!(plan.cgroup_path.starts_with('/'));
    assert!(plan.root.path.is_absolute());
    for mount in &plan.mounts {
        assert!(mount.target.is_absolute() && !climbs(&mount.target), "{}", mount.target.display());
        if let MountKind::Bind { source, .. } = &mount.kind {
            assert!(source.is_absolute());
        }
    }
    assert!(plan.devices.iter().all(|device| device.path.is_absolute() && device.path.file_name().is_some()));
    assert!(plan.masked_paths.iter().chain(&plan.readonly_paths).all(|path| path.is_absolute()));
    assert!(plan.sysctls.iter().all(|(name, _)| name.is_relative() && !climbs(name)));
    if let Some(rdt) = &plan.intel_rdt {
        assert!(!rdt.group.contains('/') && !matches!(rdt.group.as_str(), "" | "." | ".."), "{}", rdt.group);
        assert!(rdt.schemata.iter().all(|line| !line.contains('\n')));
    }
    let process = &plan.process;
    assert!(
        process.arguments.first().is_some_and(|program| !program.is_empty()) && process.cwd.is_absolute()
    );
    assert!(process.rlimits.iter().all(|limit| limit.soft <= limit.hard));
    let hooks = [&plan.hooks.create_runtime, &plan.hooks.create_container, &plan.hooks.start_container];
    assert!(hooks.into_iter().flatten().all(|hook| hook.path.as_bytes().starts_with(b"/")));
    if let Some(UserNamespace::New(maps) | UserNamespace::At(_, Some(maps))) = &plan.namespaces.user {
        assert!(maps.users.outside(0).is_some() && maps.groups.outside(0).is_some());
        assert_eq!(super::IdMap::parse(&maps.users.to_string()).as_ref(), Some(&maps.users));
    }
}

/// Something of everything.
fn specification() -> Value {
    let mount = |target: &str, kind: &str, options: &[&str]| json!({ "destination": target, "type": kind, "source": kind, "options": options });
    let ids = json!([{ "containerID": 0, "hostID": 100_000, "size": 65_536 }]);
    let capabilities = json!(["CAP_CHOWN", "CAP_KILL"]);
    let mut spec = json!({
        "ociVersion": "1.3.0",
        "process": {
            "terminal": false, "user": { "uid": 1, "gid": 2, "umask": 18, "additionalGids": [3] },
            "args": ["sh", "-c", "true"], "env": ["PATH=/bin"], "cwd": "/work", "noNewPrivileges": true,
            "capabilities": { "bounding": capabilities, "effective": capabilities, "permitted": capabilities },
            "rlimits": [{ "type": "RLIMIT_NOFILE", "soft": 1, "hard": 2 }], "oomScoreAdj": 5,
            "scheduler": { "policy": "SCHED_BATCH", "nice": 3 }, "execCPUAffinity": { "initial": "0-1", "final": "1" },
            "ioPriority": { "class": "IOPRIO_CLASS_BE", "priority": 6 }, "apparmorProfile": "p",
        },
        "root": { "path": "rootfs", "readonly": true }, "hostname": "h", "domainname": "d",
        "mounts": [
            mount("/proc", "proc", &["nosuid"]), mount("/dev", "tmpfs", &["mode=755", "size=64k", "strictatime"]),
            mount("/sys/fs/cgroup", "cgroup", &["ro"]),
            { "destination": "/v", "type": "bind", "source": "/srv", "options": ["rbind", "rro", "ridmap", "rslave"],
              "uidMappings": ids, "gidMappings": ids },
        ],
        "hooks": {
            "createRuntime": [{ "path": "/h", "args": ["h"], "env": ["A=1"], "timeout": 5 }],
            "poststop": [{ "path": "/h" }],
        },
        "annotations": { "a": "b" },
        "linux": {
            "cgroupsPath": "/a/b", "rootfsPropagation": "rslave", "uidMappings": ids, "gidMappings": ids,
            "namespaces": [
                { "type": "mount" }, { "type": "user" }, { "type": "network", "path": "/run/n" }, { "type": "uts" },
                { "type": "ipc" }, { "type": "pid" }, { "type": "cgroup" }, { "type": "time" },
            ],
            "timeOffsets": { "boottime": { "secs": 1, "nanosecs": 2 } },
            "sysctl": { "net.ipv4.ip_forward": "1", "kernel.shmmax": "1" },
            "devices": [{ "path": "/dev/x", "type": "c", "major": 1, "minor": 3, "fileMode": 438, "uid": 0, "gid": 0 }],
            "maskedPaths": ["/proc/kcore"], "readonlyPaths": ["/proc/sys"],
            "personality": { "domain": "LINUX32" }, "memoryPolicy": { "mode": "MPOL_BIND", "nodes": "0-1" },
            "resources": {
                "devices": [{ "allow": true, "type": "c", "major": 1, "minor": 3, "access": "rwm" }],
                "memory": { "limit": 1_048_576, "swap": 2_097_152, "reservation": 4096 },
                "cpu": { "shares": 100, "quota": 1000, "period": 10_000, "cpus": "0-1", "mems": "0" },
                "pids": { "limit": 5 }, "hugepageLimits": [{ "pageSize": "2MB", "limit": 1 }],
                "blockIO": { "weight": 10, "throttleReadBpsDevice": [{ "major": 8, "minor": 0, "rate": 5 }] },
            },
            "seccomp": {
                "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1,
                "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_AARCH64"],
                "flags": ["SECCOMP_FILTER_FLAG_LOG"],
                "syscalls": [
                    { "names": ["read", "write", "socketcall"], "action": "SCMP_ACT_ALLOW" },
                    { "names": ["clone"], "action": "SCMP_ACT_ALLOW",
                      "args": [{ "index": 0, "value": 2_114_060_288_u64, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ" }] },
                    { "names": ["personality"], "action": "SCMP_ACT_TRACE", "errnoRet": 3,
                      "args": [{ "index": 0, "value": 8, "op": "SCMP_CMP_GE" }] },
                ],
            },
        },
    });
    // The macro takes so much at once and no more.
    spec["linux"]["netDevices"] = json!({ "eth9": { "name": "net%d" } });
    spec["linux"]["intelRdt"] = json!({
        "closID": "c", "l3CacheSchema": "L3:0=f", "memBwSchema": "MB:0=9", "schemata": ["L2:0=1"],
        "enableMonitoring": true,
    });
    spec
}
