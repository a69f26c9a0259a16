//! Decisions: what a plan and a caller's wishes become for criu. Pure.
//!
//! What belongs to the host does not go into the images: bind mounts, device nodes and the host's `/dev/null` over a
//! masked file are *external*. A dump calls each by a name, a restore says what stands for the name then. The same holds
//! for a network or pid namespace that the specification has by a path, and for the pipes of the standard streams.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use cleat_sys::namespace as kinds;

use super::NULL;
use super::options::{CgroupsMode, Checkpoint, CriuOptions, Restore};
use super::rpc::{self, CgroupRoot, Inherit, JoinNamespace, Options, Pair};
use crate::spec::{MountKind, Plan};

pub(super) const DUMP_LOG: &str = "dump.log";
pub(super) const RESTORE_LOG: &str = "restore.log";

/// Everything is logged but the details of memory (criu's levels are 0 to 4).
const LOG_LEVEL: i32 = 4;
/// `CLONE_NEWNET`: interfaces and addresses are the business of whoever made the network.
const EMPTY_NETWORK: u32 = 0x4000_0000;
/// Where runc has criu look for settings that go before the request's.
const CONFIG_FILE: &str = "/etc/criu/runc.conf";
/// The annotation that names another such file, or with an empty value none.
const CONFIG_ANNOTATION: &str = "org.criu.config";

/// A mount from outside the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct External {
    /// Where it is in the container.
    pub(super) place: PathBuf,
    /// What a dump calls it.
    pub(super) name: String,
    /// What it is a mount of, on the host.
    pub(super) source: PathBuf,
}

/// What is found out before a dump.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) images: i32,
    pub(super) work: Option<i32>,
    pub(super) externals: Vec<External>,
    /// The namespaces joined by path, by kind and inode.
    pub(super) namespaces: Vec<(u64, u64)>,
    /// The cgroup's folder in the hierarchy that freezes.
    pub(super) freezer: Option<String>,
}

/// What is found out before a restore.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) images: i32,
    pub(super) work: Option<i32>,
    pub(super) externals: Vec<External>,
    /// Where the root filesystem is mounted.
    pub(super) root: String,
    /// Namespaces by kind and the number that criu will know them by.
    pub(super) namespaces: Vec<(u64, i32)>,
    /// What the standard streams were at the dump.
    pub(super) streams: Vec<String>,
    pub(super) cgroup_roots: Vec<CgroupRoot>,
}

/// The mounts from outside: `hierarchies` are the cgroup's folders by their names in a cgroup mount, or one without a
/// name where all controllers are in one hierarchy.
pub(super) fn externals(plan: &Plan, hierarchies: &[(String, PathBuf)]) -> Vec<External> {
    let external = |place: &Path, source: &Path| External {
        place: place.to_owned(),
        name: text(place),
        source: source.to_owned(),
    };
    let mut all = Vec::new();
    for mount in &plan.mounts {
        match &mount.kind {
            MountKind::Bind { source, .. } => all.push(external(&mount.target, source)),
            // In a cgroup namespace of the container's own they are mounts like others to criu.
            MountKind::Cgroup if !plan.namespaces.has_own_cgroup() => all
                .extend(hierarchies.iter().map(|(name, folder)| external(&mount.target.join(name), folder))),
            MountKind::Cgroup | MountKind::Filesystem { .. } => {}
        }
    }
    all.extend(plan.devices.iter().map(|device| external(&device.path, &device.path)));
    let masked = plan.masked_paths.iter();
    all.extend(masked.map(|path| External { place: path.clone(), name: NULL.into(), source: NULL.into() }));
    all
}

/// The request for a dump.
pub(super) fn dump(asked: &Checkpoint<'_>, plan: &Plan, found: &Found) -> Options {
    let wanted = asked.dump;
    let mut options = both_ways(asked.criu, plan, DUMP_LOG, found.images, found.work);
    options.pid = Some(asked.pid);
    options.root = Some(text(&plan.root.path));
    options.leave_running = Some(wanted.leave_running);
    options.tcp_skip_in_flight = Some(wanted.tcp_skip_in_flight);
    options.link_remap = Some(wanted.link_remap);
    options.freeze_cgroup = found.freezer.clone();
    options.page_server = wanted.page_server.as_ref().map(|server| rpc::PageServer {
        address: Some(server.address.clone()),
        port: Some(server.port.into()),
    });
    if let Some(parent) = &wanted.parent {
        options.parent_images = Some(text(parent));
        options.track_memory = Some(true);
    }
    let namespaces = found.namespaces.iter();
    options.external = namespaces
        .filter_map(|(kind, inode)| Some(format!("{}[{inode}]:{}", name_of(*kind)?, key_of(*kind)?)))
        .collect();
    if !wanted.pre_dump {
        let pairs = found.externals.iter().map(|external| (text(&external.place), external.name.clone()));
        options.external_mounts = unique(pairs);
    }
    options
}

/// The request for a restore.
pub(super) fn restore(asked: &Restore<'_>, plan: &Plan, stage: &Stage) -> Options {
    let mut options = both_ways(asked.criu, plan, RESTORE_LOG, stage.images, stage.work);
    options.root = Some(stage.root.clone());
    options.evasive_devices = Some(true);
    options.restore_sibling = Some(true);
    options.lsm_profile = asked.lsm_profile.map(str::to_owned);
    options.lsm_mount_context = asked.lsm_mount_context.map(str::to_owned);
    options.cgroup_roots.clone_from(&stage.cgroup_roots);
    options.external_mounts =
        unique(stage.externals.iter().map(|external| (external.name.clone(), text(&external.source))));
    let namespaces = stage.namespaces.iter();
    let namespaces =
        namespaces.filter_map(|(kind, descriptor)| Some((key_of(*kind)?.to_owned(), *descriptor)));
    let streams = (0..).zip(&stage.streams).filter(|(_, stream)| stream.contains("pipe:"));
    let streams = streams.map(|(number, stream)| (stream.clone(), number));
    options.inherit =
        namespaces.chain(streams).map(|(key, descriptor)| Inherit { key, descriptor }).collect();
    let joined = plan.namespaces.join.iter().filter(|(kind, _)| key_of(*kind).is_none());
    options.join_namespaces = joined
        .filter_map(|(kind, path)| Some(JoinNamespace { kind: name_of(*kind)?.into(), path: text(path) }))
        .collect();
    options
}

/// The lines of `/proc/<pid>/cgroup` as places for restored cgroups: one for each controller of a hierarchy.
pub(super) fn cgroup_roots(lines: &str) -> Vec<CgroupRoot> {
    let root = |line: &str| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        let roots = controllers
            .split(',')
            .map(|controller| CgroupRoot { controller: Some(controller.to_owned()), path: path.to_owned() });
        Some(roots.collect::<Vec<_>>())
    };
    lines.lines().filter_map(root).flatten().collect()
}

/// Whether restored processes join a namespace of this kind by a descriptor; the key it has then in the images is runc's.
pub(super) fn key_of(kind: u64) -> Option<&'static str> {
    match kind {
        kinds::NETWORK => Some("extRootNetNS"),
        kinds::PID => Some("extRootPidNS"),
        _ => None,
    }
}

/// criu's names of namespaces; it cannot join one of cgroups.
fn name_of(kind: u64) -> Option<&'static str> {
    match kind {
        kinds::NETWORK => Some("net"),
        kinds::PID => Some("pid"),
        kinds::IPC => Some("ipc"),
        kinds::UTS => Some("uts"),
        kinds::USER => Some("user"),
        kinds::TIME => Some("time"),
        _ => None,
    }
}

fn both_ways(criu: &CriuOptions, plan: &Plan, log: &str, images: i32, work: Option<i32>) -> Options {
    let mode = match criu.cgroups_mode {
        Some(CgroupsMode::Ignore) => 0,
        Some(CgroupsMode::Soft) => 3,
        Some(CgroupsMode::Full) => 4,
        Some(CgroupsMode::Strict) => 5,
        None => 6,
    };
    Options {
        images_dir: images,
        work_dir: work,
        log_level: Some(LOG_LEVEL),
        log_file: Some(log.to_owned()),
        notify_scripts: Some(true),
        orphan_pts_master: Some(true),
        manage_cgroups: Some(true),
        cgroups_mode: Some(mode),
        empty_namespaces: Some(EMPTY_NETWORK),
        shell_job: Some(criu.shell_job),
        ext_unix_sockets: Some(criu.external_unix_sockets),
        tcp_established: Some(criu.tcp_established),
        file_locks: Some(criu.file_locks),
        auto_dedup: Some(criu.auto_dedup),
        lazy_pages: Some(criu.lazy_pages),
        config_file: match plan.annotations.get(CONFIG_ANNOTATION).map(String::as_str) {
            Some("") => None,
            Some(path) => Some(path.to_owned()),
            None => Some(CONFIG_FILE.to_owned()),
        },
        ..Options::default()
    }
}

/// The first of each key.
fn unique(pairs: impl Iterator<Item = (String, String)>) -> Vec<Pair> {
    let mut seen = BTreeSet::new();
    pairs.filter(|(key, _)| seen.insert(key.clone())).map(|(key, value)| Pair { key, value }).collect()
}

/// Paths come out of JSON: they are UTF-8.
fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use cleat_sys::cgroup::{Cgroup, Layout};
    use oci_spec::runtime::Spec;
    use serde_json::{Value, json};

    use super::*;
    use crate::checkpoint::options::{DumpOptions, PageServer};

    fn plan(change: impl FnOnce(&mut Value)) -> Plan {
        let mut spec = json!({
            "ociVersion": "1.0.2",
            "process": { "user": { "uid": 0, "gid": 0 }, "args": ["sh"], "cwd": "/" },
            "root": { "path": "rootfs" },
            "mounts": [
                { "destination": "/proc", "type": "proc", "source": "proc" },
                { "destination": "/data", "type": "bind", "source": "/srv/data", "options": ["rbind"] },
                { "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup" },
            ],
            "linux": { "namespaces": [{ "type": "mount" }], "maskedPaths": ["/proc/kcore", "/proc/keys"] },
        });
        change(&mut spec);
        let spec: Spec = serde_json::from_value(spec).unwrap();
        Plan::new("c1", "/bundle".as_ref(), &spec).unwrap()
    }

    fn dumped(plan: &Plan, wanted: &DumpOptions, namespaces: Vec<(u64, u64)>) -> Options {
        let cgroup = Cgroup::open(&Layout::detect().unwrap(), "/c1").unwrap();
        let (criu, streams) = (CriuOptions::default(), Vec::new());
        let asked = Checkpoint {
            id: "c1",
            bundle: "/bundle".as_ref(),
            pid: 42,
            cgroup: &cgroup,
            streams: &streams,
            criu: &criu,
            dump: wanted,
            status: None,
        };
        let externals = externals(plan, &[]);
        let found = Found { images: 5, work: None, externals, namespaces, freezer: Some("/f".into()) };
        dump(&asked, plan, &found)
    }

    fn restored(plan: &Plan, stage: &Stage) -> Options {
        let (null, criu) = (std::fs::File::open("/dev/null").unwrap(), CriuOptions::default());
        let asked = Restore {
            id: "c1",
            bundle: "/bundle".as_ref(),
            streams: [null.as_fd(); 3],
            systemd_cgroup: false,
            lsm_profile: None,
            lsm_mount_context: None,
            criu: &criu,
        };
        restore(&asked, plan, stage)
    }

    fn stage(plan: &Plan) -> Stage {
        Stage {
            images: 5,
            work: Some(6),
            externals: externals(plan, &[]),
            root: "/root".into(),
            namespaces: Vec::new(),
            streams: Vec::new(),
            cgroup_roots: Vec::new(),
        }
    }

    fn pairs(options: &Options) -> Vec<(&str, &str)> {
        options.external_mounts.iter().map(|pair| (pair.key.as_str(), pair.value.as_str())).collect()
    }

    #[test]
    fn what_a_dump_names_a_restore_finds_on_the_host() {
        let plan = plan(|_| {});
        let dump = dumped(&plan, &DumpOptions::default(), Vec::new());
        let restore = restored(&plan, &stage(&plan));
        for expected in [("/data", "/data"), ("/proc/kcore", "/dev/null"), ("/dev/null", "/dev/null")] {
            assert!(pairs(&dump).contains(&expected), "{expected:?}");
        }
        for expected in [("/data", "/srv/data"), ("/dev/null", "/dev/null"), ("/dev/zero", "/dev/zero")] {
            assert!(pairs(&restore).contains(&expected), "{expected:?}");
        }
        let names: BTreeSet<_> = dump.external_mounts.iter().map(|pair| &pair.value).collect();
        let found: BTreeSet<_> = restore.external_mounts.iter().map(|pair| &pair.key).collect();
        assert_eq!(names, found);
    }

    #[test]
    fn cgroup_mounts_are_from_outside_unless_there_is_a_cgroup_namespace() {
        let shared = plan(|_| {});
        let own = plan(|spec| spec["linux"]["namespaces"] = json!([{"type": "mount"}, {"type": "cgroup"}]));
        let unified = [(String::new(), PathBuf::from("/sys/fs/cgroup/c1"))];
        let v1 = [("cpu,cpuacct".to_owned(), PathBuf::from("/sys/fs/cgroup/cpu,cpuacct/c1"))];
        let places = |plan: &Plan, hierarchies: &[_]| -> Vec<_> {
            let all = externals(plan, hierarchies).into_iter();
            let mounts = all.filter(|external| external.place.starts_with("/sys"));
            mounts.map(|external| (external.name, external.source)).collect()
        };
        assert_eq!(places(&shared, &unified), [("/sys/fs/cgroup/".into(), "/sys/fs/cgroup/c1".into())]);
        assert_eq!(
            places(&shared, &v1),
            [("/sys/fs/cgroup/cpu,cpuacct".into(), "/sys/fs/cgroup/cpu,cpuacct/c1".into())]
        );
        assert!(places(&own, &v1).is_empty());
    }

    #[test]
    fn namespaces_by_path_are_named_in_a_dump_and_joined_in_a_restore() {
        let plan = plan(|spec| {
            spec["linux"]["namespaces"] = json!([
                { "type": "mount" }, { "type": "network", "path": "/run/n" }, { "type": "ipc", "path": "/run/i" },
            ]);
        });
        let namespaces = vec![(kinds::NETWORK, 77), (kinds::IPC, 78)];
        let dump = dumped(&plan, &DumpOptions::default(), namespaces);
        assert_eq!(dump.external, ["net[77]:extRootNetNS"]);
        let stage = Stage {
            namespaces: vec![(kinds::NETWORK, 9)],
            streams: vec!["/dev/null".into(), "pipe:[12]".into(), "/dev/pts/0".into()],
            ..stage(&plan)
        };
        let restore = restored(&plan, &stage);
        let inherit: Vec<_> = restore.inherit.iter().map(|one| (one.key.as_str(), one.descriptor)).collect();
        assert_eq!(inherit, [("extRootNetNS", 9), ("pipe:[12]", 1)]);
        assert_eq!(restore.join_namespaces, [JoinNamespace { kind: "ipc".into(), path: "/run/i".into() }]);
    }

    #[test]
    fn wishes_become_fields() {
        let wanted = DumpOptions {
            leave_running: true,
            parent: Some("../before".into()),
            page_server: Some(PageServer { address: "::1".into(), port: 80 }),
            ..DumpOptions::default()
        };
        let dump = dumped(&plan(|_| {}), &wanted, Vec::new());
        assert_eq!((dump.pid, dump.leave_running, dump.track_memory), (Some(42), Some(true), Some(true)));
        assert_eq!(dump.parent_images.as_deref(), Some("../before"));
        assert_eq!(dump.page_server.unwrap().port, Some(80));
        assert_eq!(dump.freeze_cgroup.as_deref(), Some("/f"));
        let first = DumpOptions { pre_dump: true, ..DumpOptions::default() };
        assert!(dumped(&plan(|_| {}), &first, Vec::new()).external_mounts.is_empty());
    }

    #[test]
    fn an_annotation_says_which_settings_go_before() {
        let annotated = |value: &str| {
            let plan = plan(|spec| spec["annotations"] = json!({ "org.criu.config": value }));
            dumped(&plan, &DumpOptions::default(), Vec::new()).config_file
        };
        assert_eq!(annotated("/etc/mine.conf").as_deref(), Some("/etc/mine.conf"));
        assert_eq!(annotated(""), None);
        let default = dumped(&plan(|_| {}), &DumpOptions::default(), Vec::new()).config_file;
        assert_eq!(default.as_deref(), Some(CONFIG_FILE));
    }

    #[test]
    fn every_controller_of_a_hierarchy_has_its_root() {
        let roots = cgroup_roots("4:cpu,cpuacct:/a:b\n1:name=systemd:/a\n0::/u\nnonsense\n");
        let roots: Vec<_> =
            roots.iter().map(|root| (root.controller.as_deref().unwrap(), root.path.as_str())).collect();
        assert_eq!(roots, [("cpu", "/a:b"), ("cpuacct", "/a:b"), ("name=systemd", "/a"), ("", "/u")]);
    }
}
