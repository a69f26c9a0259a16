//! What is mounted in a container, in which order, with which options.
//!
//! First the volumes of the image, which must cover nothing that is not its own; then the kernel's filesystems, then the pod's files, then what the client asks for, by depth, so that nothing is
//! mounted below a place that is covered later. A client's mount on one of our places replaces ours, and one on /dev
//! replaces everything of ours below it.
//!
//! /sys is a new instance of sysfs in nearly every case, also in the host's network: an instance shows the network
//! namespace of whoever mounts it, and unlike a bind of the host's /sys it brings nothing along that is mounted below. The
//! exception is the host's network in a user namespace, which may not mount what shows a network that it does not own.

use std::path::{Component, Path, PathBuf};

use oci_spec::runtime::Mount;

use super::namespaces::mapping_list;
use super::path::{depth, normalised};
use super::process::INIT_DESTINATION;
use super::{ContainerFacts, Host, KernelVersion, NetworkNamespace, PodFacts, SpecError};
use crate::engine::model::{self, IpcMode, MountSource, Propagation, UserMapping};

/// Options of every memory filesystem of a client that does not say otherwise, with what says otherwise.
const TMPFS_DEFAULTS: [(&str, &str); 3] = [("nosuid", "suid"), ("nodev", "dev"), ("noexec", "exec")];

/// The first kernel that takes an overlay's layers one by one.
const LAYER_BY_LAYER: KernelVersion = KernelVersion { major: 6, minor: 7 };

/// Longest option of a filesystem that fsconfig(2) takes.
const MAX_OPTION_BYTES: usize = 255;

/// What containers see of a volume, in the folder of its name.
pub(crate) const VOLUME_DATA: &str = "_data";

/// What begins our runtime's option for a part of what is bound (`runtime/src/spec/mounts.rs`).
const BENEATH: &str = "X-cleat.beneath=";

/// Group of terminals in every distribution.
const TTY_GID: u32 = 5;

/// The mounts of a container and what they ask of the root.
#[derive(Debug, PartialEq)]
pub(super) struct Mounts {
    /// In the order to mount them.
    pub(super) list: Vec<Mount>,
    /// `linux.rootfsPropagation`: as far as the mount that is propagated furthest.
    pub(super) rootfs_propagation: Option<&'static str>,
}

/// Decides all mounts of a container.
pub(super) fn mounts(
    host: &Host,
    pod: &PodFacts<'_>,
    facts: &ContainerFacts<'_>,
) -> Result<Mounts, SpecError> {
    let mut volumes = facts.volumes.iter().map(Vec::as_slice);
    let mut asked = facts
        .config
        .mounts
        .iter()
        .map(|mount| asked(host, mount, &mut volumes, facts.volume_folder))
        .collect::<Result<Vec<_>, _>>()?;
    asked.sort_by_key(|mount| depth(mount.destination()));
    let mut list = kernel_mounts(facts.config.security.privileged);
    if pod.user.is_some() && pod.network == NetworkNamespace::Host {
        let read_only = if host.recursive_read_only { "rro" } else { "ro" };
        let options = ["rbind", "rprivate", "nosuid", "noexec", "nodev", read_only];
        let bound = bind("/sys", Path::new("/sys"), &options);
        list.iter_mut()
            .filter(|mount| mount.destination() == bound.destination())
            .for_each(|mount| *mount = bound.clone());
    }
    list.extend(shm(host, pod));
    list.extend(pod_files(pod, facts.config.security.read_only_rootfs));
    list.extend(facts.init.map(|program| bind(INIT_DESTINATION, program, &["rbind", "rprivate", "ro"])));
    list.retain(|ours| !asked.iter().any(|theirs| replaces(theirs.destination(), ours.destination())));
    // On what the client mounts above them.
    let is_above =
        |ours: &Mount| asked.iter().any(|theirs| ours.destination().starts_with(theirs.destination()));
    let (late, early): (Vec<Mount>, Vec<Mount>) = list.into_iter().partition(|ours| is_above(ours));
    let own = facts.own_volumes.iter().map(|(place, folder)| own_volume(pod, place, folder));
    let list = own.chain(early).chain(asked).chain(late).collect();
    let furthest = facts.config.mounts.iter().map(|mount| mount.propagation);
    Ok(Mounts { list, rootfs_propagation: rootfs_propagation(furthest) })
}

/// The mounts of the pause process: a process list of its own namespace, which nobody can write to, and an empty /dev.
pub(super) fn pause_mounts() -> Vec<Mount> {
    vec![
        mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev", "ro"]),
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "noexec", "mode=755", "size=64k"]),
    ]
}

fn kernel_mounts(privileged: bool) -> Vec<Mount> {
    let write = if privileged { "rw" } else { "ro" };
    let pts = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", &format!("gid={TTY_GID}")];
    vec![
        mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount("/dev/pts", "devpts", "devpts", &pts),
        mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", write]),
        mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", write]),
    ]
}

/// Shared memory: that of the IPC namespace the container is in.
fn shm(host: &Host, pod: &PodFacts<'_>) -> Option<Mount> {
    let options = ["rbind", "rprivate", "nosuid", "noexec", "nodev"];
    match (pod.config.namespaces.ipc, pod.shm) {
        (IpcMode::Node, _) => Some(bind("/dev/shm", Path::new("/dev/shm"), &options)),
        (IpcMode::WithoutMemory, _) => None,
        (IpcMode::Pod | IpcMode::Shareable, Some(shared)) => Some(bind("/dev/shm", shared, &options)),
        (IpcMode::Pod | IpcMode::Shareable, None) => {
            let size = format!("size={}", pod.config.shm_size_bytes.unwrap_or(host.shm_size_bytes));
            let options = ["nosuid", "noexec", "nodev", "mode=1777", &size];
            Some(mount("/dev/shm", "tmpfs", "shm", &options))
        }
    }
}

/// The files the daemon generates for the pod.
fn pod_files(pod: &PodFacts<'_>, read_only: bool) -> [Mount; 3] {
    let options = ["rbind", "rprivate", if read_only { "ro" } else { "rw" }];
    [
        bind("/etc/hostname", pod.hostname_file, &options),
        bind("/etc/hosts", pod.hosts, &options),
        bind("/etc/resolv.conf", pod.resolv_conf, &options),
    ]
}

/// A mount of the client's. `volumes` has the folders of each image.
fn asked<'a>(
    host: &Host,
    asked: &model::Mount,
    volumes: &mut impl Iterator<Item = &'a [PathBuf]>,
    volume_folder: &Path,
) -> Result<Mount, SpecError> {
    let destination = normalised(&asked.destination)
        .map_err(|source| SpecError::Path { what: "mount destination", source })?;
    if depth(&destination) == 0 {
        return Err(SpecError::MountOnRoot);
    }
    let write = write_option(host, asked, &destination)?;
    match &asked.source {
        MountSource::Host(source) => {
            let source =
                normalised(source).map_err(|source| SpecError::Path { what: "mount source", source })?;
            let options = [bind_option(asked), propagation_option(asked.propagation), write];
            let mut bound = bind(destination, &source, &options);
            if !asked.users.is_empty() {
                bound.set_uid_mappings(Some(mapping_list(&asked.users)));
                bound.set_gid_mappings(Some(mapping_list(&asked.groups)));
            }
            Ok(bound)
        }
        MountSource::Tmpfs(options) => {
            let options = tmpfs_options(options, &destination, write)?;
            Ok(mount(destination, "tmpfs", "tmpfs", &options))
        }
        MountSource::Volume { name, sub_path, .. } => {
            let mut options = vec![bind_option(asked), propagation_option(asked.propagation), write];
            let beneath = beneath(&destination, sub_path)?;
            options.extend(beneath.as_deref());
            Ok(bind(destination, &volume_folder.join(name).join(VOLUME_DATA), &options))
        }
        MountSource::Image { .. } => volume(host, destination, volumes.next().unwrap_or_default()),
    }
}

/// A volume of the container's own, whose files have the owners that its image says.
fn own_volume(pod: &PodFacts<'_>, place: &Path, folder: &Path) -> Mount {
    let mut bound = bind(place, folder, &["bind", "rprivate", "rw"]);
    if let Some(UserMapping { users, groups }) = pod.config.namespaces.user.mapping() {
        bound.set_uid_mappings(Some(mapping_list(std::slice::from_ref(users))));
        bound.set_gid_mappings(Some(mapping_list(std::slice::from_ref(groups))));
    }
    bound
}

/// The option by which our runtime binds a part of the source, which it finds beneath the source's descriptor: whoever
/// writes to a volume may put links there.
fn beneath(destination: &Path, sub_path: &str) -> Result<Option<String>, SpecError> {
    if sub_path.is_empty() {
        return Ok(None);
    }
    let parts = || Path::new(sub_path).components();
    let is_plain = parts().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if !is_plain || sub_path.chars().any(char::is_control) {
        let (destination, sub_path) = (destination.to_owned(), sub_path.to_owned());
        return Err(SpecError::SubPath { destination, sub_path });
    }
    Ok(Some(format!("{BENEATH}{sub_path}")))
}

fn bind_option(asked: &model::Mount) -> &'static str {
    if asked.non_recursive { "bind" } else { "rbind" }
}

/// An image, of which nothing is executed (KEP-4639) and nothing written.
fn volume(host: &Host, destination: PathBuf, folders: &[PathBuf]) -> Result<Mount, SpecError> {
    if let [only] = folders {
        let options = ["bind", "rprivate", "ro", "nosuid", "nodev", "noexec"];
        return Ok(bind(destination, only, &options));
    }
    let mut options: Vec<_> = ["ro", "nosuid", "nodev", "noexec"].map(str::to_owned).into();
    let names = folders.iter().map(|folder| folder.display().to_string());
    if host.kernel >= LAYER_BY_LAYER {
        options.extend(names.map(|name| format!("lowerdir+={name}")));
    } else {
        let lower = names.collect::<Vec<_>>().join(":");
        if lower.len() > MAX_OPTION_BYTES {
            return Err(SpecError::VolumeLayers { destination, layers: folders.len() });
        }
        options.push(format!("lowerdir={lower}"));
    }
    let options: Vec<_> = options.iter().map(String::as_str).collect();
    Ok(mount(destination, "overlay", "overlay", &options))
}

fn write_option(host: &Host, asked: &model::Mount, destination: &Path) -> Result<&'static str, SpecError> {
    match (asked.recursive_read_only, asked.read_only) {
        (false, false) => Ok("rw"),
        (false, true) => Ok("ro"),
        (true, true) if asked.propagation == Propagation::Private => {
            if host.recursive_read_only {
                Ok("rro")
            } else {
                Err(SpecError::RecursiveReadOnlyUnsupported(destination.to_owned()))
            }
        }
        (true, _) => Err(SpecError::RecursiveReadOnlyConflict(destination.to_owned())),
    }
}

fn tmpfs_options<'a>(
    given: &'a [String],
    destination: &Path,
    write: &'static str,
) -> Result<Vec<&'a str>, SpecError> {
    let bad = |option: &&String| option.is_empty() || option.contains(|c: char| c == ',' || c.is_control());
    if let Some(option) = given.iter().find(bad) {
        return Err(SpecError::TmpfsOption { destination: destination.to_owned(), option: option.clone() });
    }
    let states = |option: &str| given.iter().any(|known| known == option);
    let mut options: Vec<&str> = TMPFS_DEFAULTS
        .iter()
        .filter(|(option, opposite)| !states(option) && !states(opposite))
        .map(|(option, _)| *option)
        .collect();
    options.extend(given.iter().map(String::as_str));
    if write != "rw" {
        options.push("ro");
    }
    Ok(options)
}

fn propagation_option(propagation: Propagation) -> &'static str {
    match propagation {
        Propagation::Private => "rprivate",
        Propagation::HostToContainer => "rslave",
        Propagation::Bidirectional => "rshared",
    }
}

/// A mount propagates no further than the root it is mounted in. The runtime's default is private.
fn rootfs_propagation(of_mounts: impl Iterator<Item = Propagation>) -> Option<&'static str> {
    of_mounts.fold(None, |furthest, propagation| match (furthest, propagation) {
        (_, Propagation::Bidirectional) | (Some("rshared"), _) => Some("rshared"),
        (_, Propagation::HostToContainer) => Some("rslave"),
        (furthest, Propagation::Private) => furthest,
    })
}

/// Whether a client's mount at `theirs` stands for ours at `ours`.
fn replaces(theirs: &Path, ours: &Path) -> bool {
    theirs == ours || (theirs == Path::new("/dev") && ours.starts_with(theirs))
}

fn bind(destination: impl Into<PathBuf>, source: &Path, options: &[&str]) -> Mount {
    mount(destination, "bind", source, options)
}

fn mount(destination: impl Into<PathBuf>, kind: &str, source: impl Into<PathBuf>, options: &[&str]) -> Mount {
    let mut mount = Mount::default();
    mount
        .set_destination(destination.into())
        .set_typ(Some(kind.to_owned()))
        .set_source(Some(source.into()))
        .set_options(Some(options.iter().map(|option| (*option).to_owned()).collect()));
    mount
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::model::{ContainerConfig, PodConfig};
    use crate::spec::fixture;

    fn host_mount(destination: &str, source: &str) -> model::Mount {
        model::Mount::new(destination, MountSource::Host(source.into()))
    }

    fn tmpfs(options: &[&str], read_only: bool) -> model::Mount {
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        model::Mount { source: MountSource::Tmpfs(options), read_only, ..host_mount("/t", "/unused") }
    }

    fn decide(pod: PodConfig, container: ContainerConfig) -> Result<Mounts, SpecError> {
        let scene = fixture::Scene { pod, container, ..fixture::Scene::default() };
        mounts(&scene.host, &scene.pod_facts(), &scene.container_facts())
    }

    fn with(mounts: Vec<model::Mount>) -> Result<Mounts, SpecError> {
        decide(PodConfig::default(), ContainerConfig { mounts, ..ContainerConfig::default() })
    }

    fn at<'a>(mounts: &'a Mounts, destination: &str) -> Vec<&'a Mount> {
        mounts.list.iter().filter(|mount| mount.destination() == Path::new(destination)).collect()
    }

    fn options(mounts: &Mounts, destination: &str) -> Vec<String> {
        at(mounts, destination)[0].options().clone().unwrap()
    }

    fn destinations(mounts: &Mounts) -> Vec<&str> {
        mounts.list.iter().map(|mount| mount.destination().to_str().unwrap()).collect()
    }

    #[test]
    fn the_hosts_sys_is_bound_only_where_no_other_can_be_mounted() {
        for (own_users, host_network, expected) in
            [(false, false, "sysfs"), (false, true, "sysfs"), (true, false, "sysfs"), (true, true, "bind")]
        {
            let mut scene = fixture::Scene { host_network, ..fixture::Scene::default() };
            if own_users {
                scene.pod.namespaces.user = fixture::user_mode();
            }
            let list = mounts(&scene.host, &scene.pod_facts(), &scene.container_facts()).unwrap().list;
            let sys = list.iter().find(|mount| mount.destination() == Path::new("/sys")).unwrap();
            assert_eq!(sys.typ().as_deref(), Some(expected), "{own_users} {host_network}");
        }
    }

    #[test]
    fn owners_of_a_volume_are_mapped_as_asked() {
        let mut scene = fixture::Scene::default();
        let range = model::IdRange { container_id: 0, host_id: 65_536, length: 65_536 };
        let (users, groups) = (vec![range.clone()], vec![range]);
        scene.container.mounts = vec![model::Mount { users, groups, ..host_mount("/v", "/srv/v") }];
        let list = mounts(&scene.host, &scene.pod_facts(), &scene.container_facts()).unwrap().list;
        let volume = list.iter().find(|mount| mount.destination() == Path::new("/v")).unwrap();
        assert_eq!(volume.uid_mappings().as_ref().unwrap()[0].host_id(), 65_536);
        assert_eq!(volume.gid_mappings().as_ref().unwrap()[0].size(), 65_536);
    }

    #[test]
    fn a_plain_container_has_the_usual_mounts() {
        let mounts = with(vec![]).unwrap();
        assert_eq!(
            destinations(&mounts),
            [
                "/proc",
                "/dev",
                "/dev/pts",
                "/dev/mqueue",
                "/sys",
                "/sys/fs/cgroup",
                "/dev/shm",
                "/etc/hostname",
                "/etc/hosts",
                "/etc/resolv.conf"
            ]
        );
        assert_eq!(mounts.rootfs_propagation, None);
        assert!(options(&mounts, "/sys").contains(&"ro".into()));
        assert!(options(&mounts, "/sys/fs/cgroup").contains(&"ro".into()));
        assert_eq!(options(&mounts, "/etc/hosts"), ["rbind", "rprivate", "rw"]);
        assert_eq!(at(&mounts, "/dev/shm")[0].source().as_deref(), Some(Path::new("/run/pod/shm")));
    }

    #[test]
    fn privilege_and_a_read_only_root_show_in_the_options() {
        let mut config = ContainerConfig::default();
        config.security.privileged = true;
        config.security.read_only_rootfs = true;
        let mounts = decide(PodConfig::default(), config).unwrap();
        assert!(options(&mounts, "/sys").contains(&"rw".into()));
        assert!(options(&mounts, "/sys/fs/cgroup").contains(&"rw".into()));
        assert_eq!(options(&mounts, "/etc/resolv.conf"), ["rbind", "rprivate", "ro"]);
    }

    #[test]
    fn shared_memory_goes_with_the_ipc_namespace() {
        let mut pod = PodConfig::default();
        pod.namespaces.ipc = IpcMode::Node;
        let mounts = decide(pod, ContainerConfig::default()).unwrap();
        assert_eq!(at(&mounts, "/dev/shm")[0].source().as_deref(), Some(Path::new("/dev/shm")));

        let mut scene = fixture::Scene { has_shm: false, ..fixture::Scene::default() };
        scene.pod.shm_size_bytes = Some(1 << 20);
        let mounts = super::mounts(&scene.host, &scene.pod_facts(), &scene.container_facts()).unwrap();
        assert_eq!(at(&mounts, "/dev/shm")[0].typ().as_deref(), Some("tmpfs"));
        assert!(options(&mounts, "/dev/shm").contains(&"size=1048576".into()));
    }

    #[test]
    fn a_clients_mount_replaces_ours() {
        let mounts =
            with(vec![host_mount("/etc/hosts/", "/k/hosts"), host_mount("/dev/../dev/shm", "/k/shm")])
                .unwrap();
        for (destination, source) in [("/etc/hosts", "/k/hosts"), ("/dev/shm", "/k/shm")] {
            let there = at(&mounts, destination);
            assert_eq!(
                (there.len(), there[0].source().as_deref()),
                (1, Some(Path::new(source))),
                "{destination}"
            );
        }
        let mounts = with(vec![host_mount("/dev", "/dev")]).unwrap();
        let below_dev: Vec<_> =
            destinations(&mounts).into_iter().filter(|path| path.starts_with("/dev")).collect();
        assert_eq!(below_dev, ["/dev"]);
    }

    #[test]
    fn mounts_go_from_the_outside_in_and_keep_their_order() {
        let mounts = with(vec![
            host_mount("/a/b/c", "/1"),
            host_mount("/z", "/2"),
            host_mount("/a", "/3"),
            host_mount("/a/b", "/4"),
            host_mount("/y", "/5"),
        ])
        .unwrap();
        assert_eq!(destinations(&mounts)[10..], ["/z", "/a", "/y", "/a/b", "/a/b/c"]);
    }

    #[test]
    fn propagation_reaches_the_root() {
        let mount = |propagation| model::Mount { propagation, ..host_mount("/m", "/m") };
        let (private, slave, shared) = (
            mount(Propagation::Private),
            mount(Propagation::HostToContainer),
            mount(Propagation::Bidirectional),
        );
        for (list, expected) in [
            (vec![private.clone()], None),
            (vec![slave.clone(), private.clone()], Some("rslave")),
            (vec![slave.clone(), shared.clone(), private.clone()], Some("rshared")),
            (vec![shared.clone(), slave.clone()], Some("rshared")),
        ] {
            assert_eq!(with(list).unwrap().rootfs_propagation, expected);
        }
        assert_eq!(options(&with(vec![slave]).unwrap(), "/m"), ["rbind", "rslave", "rw"]);
        assert_eq!(options(&with(vec![shared]).unwrap(), "/m"), ["rbind", "rshared", "rw"]);
        assert_eq!(options(&with(vec![private]).unwrap(), "/m"), ["rbind", "rprivate", "rw"]);
    }

    #[test]
    fn recursive_read_only_is_all_or_an_error() {
        let asked = |read_only, propagation| model::Mount {
            read_only,
            recursive_read_only: true,
            propagation,
            ..host_mount("/m", "/m")
        };
        assert_eq!(
            options(&with(vec![asked(true, Propagation::Private)]).unwrap(), "/m"),
            ["rbind", "rprivate", "rro"]
        );
        let conflict = Err(SpecError::RecursiveReadOnlyConflict("/m".into()));
        assert_eq!(with(vec![asked(false, Propagation::Private)]), conflict);
        assert_eq!(with(vec![asked(true, Propagation::HostToContainer)]), conflict);
        let mut scene = fixture::Scene::default();
        scene.host.recursive_read_only = false;
        scene.container.mounts = vec![asked(true, Propagation::Private)];
        let result = mounts(&scene.host, &scene.pod_facts(), &scene.container_facts());
        assert_eq!(result, Err(SpecError::RecursiveReadOnlyUnsupported("/m".into())));
    }

    #[test]
    fn memory_filesystems_are_harmless_unless_asked_otherwise() {
        for (given, read_only, expected) in [
            (&[][..], false, vec!["nosuid", "nodev", "noexec"]),
            (&["exec", "size=64m"], false, vec!["nosuid", "nodev", "exec", "size=64m"]),
            (&["noexec"], true, vec!["nosuid", "nodev", "noexec", "ro"]),
        ] {
            assert_eq!(options(&with(vec![tmpfs(given, read_only)]).unwrap(), "/t"), expected);
        }
        for bad in ["", "size=1,suid", "a\nb"] {
            let expected = SpecError::TmpfsOption { destination: "/t".into(), option: bad.into() };
            assert_eq!(with(vec![tmpfs(&[bad], false)]), Err(expected));
        }
    }

    #[test]
    fn an_image_is_bound_or_merged_and_never_written_to() {
        let asked = |destination: &str| model::Mount {
            source: MountSource::Image { image: "i".into(), sub_path: String::new() },
            read_only: true,
            ..host_mount(destination, "/unused")
        };
        let volumes = [vec![PathBuf::from("/l/1")], vec!["/l/2".into(), "/l/3".into()]];
        let mut scene = fixture::Scene::default();
        scene.container.mounts = vec![asked("/z"), host_mount("/h", "/h"), asked("/a")];
        let decide = |scene: &fixture::Scene| {
            let facts = ContainerFacts { volumes: &volumes, ..scene.container_facts() };
            mounts(&scene.host, &scene.pod_facts(), &facts)
        };
        for (kernel, merged) in [
            (LAYER_BY_LAYER, &["lowerdir+=/l/2", "lowerdir+=/l/3"][..]),
            (KernelVersion { major: 6, minor: 6 }, &["lowerdir=/l/2:/l/3"]),
        ] {
            scene.host.kernel = kernel;
            let mounts = decide(&scene).unwrap();
            assert_eq!(at(&mounts, "/z")[0].source().as_deref(), Some(Path::new("/l/1")));
            assert_eq!(options(&mounts, "/z"), ["bind", "rprivate", "ro", "nosuid", "nodev", "noexec"]);
            assert_eq!(at(&mounts, "/a")[0].typ().as_deref(), Some("overlay"));
            assert_eq!(options(&mounts, "/a")[..4], ["ro", "nosuid", "nodev", "noexec"]);
            assert_eq!(options(&mounts, "/a")[4..], *merged);
        }
        let deep =
            [vec![PathBuf::new()], vec![format!("/{}", "d".repeat(200)).into(), "/d".repeat(40).into()]];
        let facts = ContainerFacts { volumes: &deep, ..scene.container_facts() };
        let result = mounts(&scene.host, &scene.pod_facts(), &facts);
        assert_eq!(result, Err(SpecError::VolumeLayers { destination: "/a".into(), layers: 2 }));
    }

    #[test]
    fn an_images_volumes_cover_nothing_of_ours() {
        let own = ["/data", "/proc", "/etc"].map(|place| (PathBuf::from(place), PathBuf::from("/host/0")));
        let mut scene = fixture::Scene::default();
        scene.container.mounts = vec![host_mount("/data/sub", "/h")];
        let decide = |scene: &fixture::Scene| {
            let facts = ContainerFacts { own_volumes: &own, ..scene.container_facts() };
            mounts(&scene.host, &scene.pod_facts(), &facts).unwrap()
        };
        let mounts = decide(&scene);
        assert_eq!(destinations(&mounts)[..3], ["/data", "/proc", "/etc"]);
        for (place, above) in [("/proc", "/proc"), ("/etc", "/etc/hosts"), ("/data", "/data/sub")] {
            let last =
                |wanted: &str| destinations(&mounts).iter().rposition(|place| *place == wanted).unwrap();
            let first = destinations(&mounts).iter().position(|found| *found == place).unwrap();
            assert!(last(above) > first, "{place}");
        }
        assert_eq!(options(&mounts, "/data"), ["bind", "rprivate", "rw"]);
        assert_eq!(at(&mounts, "/data")[0].uid_mappings(), &None);
        scene.pod.namespaces.user = fixture::user_mode();
        let mapped = decide(&scene);
        assert_eq!(at(&mapped, "/data")[0].uid_mappings().as_ref().unwrap()[0].host_id(), 65_536);
    }

    #[test]
    fn places_that_are_none_are_refused() {
        for root in ["/", "/a/..", "/../"] {
            assert_eq!(with(vec![host_mount(root, "/x")]), Err(SpecError::MountOnRoot), "{root}");
        }
        for (destination, source) in [("a", "/x"), ("/a\n", "/x"), ("/a", "x"), ("/a", "/x\0")] {
            let result = with(vec![host_mount(destination, source)]);
            assert!(matches!(result, Err(SpecError::Path { .. })), "{destination:?} {source:?}");
        }
    }
}
