//! What is mounted in a container that is to be created: `-v`, `--mount`, `--tmpfs`, the image's volumes and those of other
//! containers. Pure but for the names of volumes that have none.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::request::{self, BindOptions, HostConfig, TmpfsOptions, VolumeOptions};
use crate::docker::refusal::Refusal;
use crate::engine::One;
use crate::engine::model::{Mount, MountSource, Propagation};
use crate::engine::volumes::{is_name, volume_name};
use crate::spec::Host;

/// A name for a volume of which that is all.
pub(super) const ALLOWED: &str = "[a-zA-Z0-9][a-zA-Z0-9_.-]";

/// All mounts: those the request names, and a volume of its own for each of `volumes` that nothing is mounted on. `others`
/// are the containers of `--volumes-from`, with whether theirs are read-only.
pub(super) fn mounts(
    host: &HostConfig,
    volumes: &BTreeMap<String, Value>,
    others: &[(One, bool)],
    machine: &Host,
) -> Result<Vec<Mount>, Refusal> {
    let memory = host.tmpfs.iter().map(|(target, options)| {
        let options = options.split(',').filter(|option| !option.is_empty());
        mount(target, MountSource::Tmpfs(options.map(str::to_owned).collect()))
    });
    let binds = host.binds.iter().map(|text| Ok(recursively(bind(text)?, false, machine)));
    let described = host.mounts.iter().map(|wanted| {
        Ok(recursively(described(wanted)?, wanted.bind_options.read_only_non_recursive, machine))
    });
    let named = binds.chain(described).chain(memory);
    let mut all: Vec<Mount> = Vec::new();
    for mount in named {
        let mount = mount?;
        if has(&all, &mount.destination) {
            return Err(Refusal::bad(format!("Duplicate mount point: {}", mount.destination.display())));
        }
        all.push(mount);
    }
    for (other, read_only) in others {
        let theirs = other.container.config.mounts.iter().filter(|mount| is_lasting(mount));
        for mount in theirs.filter(|mount| !has(&all, &mount.destination)).cloned().collect::<Vec<_>>() {
            all.push(borrowed(mount, *read_only));
        }
    }
    for target in volumes.keys() {
        let mount = mount(target, anonymous(true)?)?;
        if !has(&all, &mount.destination) {
            all.push(mount);
        }
    }
    Ok(all)
}

fn has(all: &[Mount], destination: &Path) -> bool {
    all.iter().any(|known| known.destination == destination)
}

/// A read-only mount is read-only with all that is mounted below it, where the kernel can and nobody asks otherwise.
fn recursively(mut mount: Mount, unless: bool, machine: &Host) -> Mount {
    let can = machine.recursive_read_only && mount.propagation == Propagation::Private && is_lasting(&mount);
    mount.recursive_read_only |= mount.read_only && can && !unless;
    mount
}

/// Whether another container can have it, too.
fn is_lasting(mount: &Mount) -> bool {
    matches!(mount.source, MountSource::Host(_) | MountSource::Volume { .. })
}

/// The mount of another container, whose volumes are not this one's to take along.
fn borrowed(mut mount: Mount, read_only: bool) -> Mount {
    mount.read_only |= read_only;
    if let MountSource::Volume { is_anonymous, copy, .. } = &mut mount.source {
        (*is_anonymous, *copy) = (false, false);
    }
    mount
}

fn anonymous(copy: bool) -> Result<MountSource, Refusal> {
    Ok(volume_called(volume_name()?, true, copy))
}

/// All of a volume.
fn volume_called(name: String, is_anonymous: bool, copy: bool) -> MountSource {
    MountSource::Volume { name, is_anonymous, copy, sub_path: String::new(), labels: BTreeMap::new() }
}

fn mount(target: &str, source: MountSource) -> Result<Mount, Refusal> {
    // As the words say: a trailing slash is no other place.
    let destination: PathBuf = Path::new(target).components().collect();
    if destination == Path::new("/") {
        return Err(Refusal::bad("invalid specification: destination can't be '/'"));
    }
    if !destination.is_absolute() {
        return Err(Refusal::bad(format!("invalid mount path: '{target}' mount path must be absolute")));
    }
    Ok(Mount::new(destination, source))
}

fn propagation(text: &str) -> Result<Propagation, Refusal> {
    match text {
        "" | "rprivate" | "private" => Ok(Propagation::Private),
        "rslave" | "slave" => Ok(Propagation::HostToContainer),
        "rshared" | "shared" => Ok(Propagation::Bidirectional),
        other => Err(Refusal::bad(format!("invalid propagation mode: {other}"))),
    }
}

/// `source:target[:options]`, or a target alone.
fn bind(text: &str) -> Result<Mount, Refusal> {
    let wrong = || Refusal::bad(format!("invalid volume specification: '{text}'"));
    let mut parts = text.splitn(3, ':');
    let (Some(source), Some(target)) = (parts.next(), parts.next()) else { return Err(wrong()) };
    let options: Vec<&str> = parts.next().unwrap_or_default().split(',').collect();
    let source = match source.starts_with('/') {
        true => MountSource::Host(source.into()),
        false => volume_called(checked_name(source)?.to_owned(), false, !options.contains(&"nocopy")),
    };
    let is_host = matches!(source, MountSource::Host(_));
    let mut mount = match mount(target, source) {
        Err(refusal) if target == "/" => {
            let why = format!("invalid mount config for type \"bind\": {}", refusal.message());
            return Err(Refusal::bad(format!("{}: {why}", wrong().message())));
        }
        mount => mount?,
    };
    for option in options {
        match option {
            "" | "rw" => {}
            "ro" => mount.read_only = true,
            "z" | "Z" => mount.selinux_relabel = true,
            "nocopy" if !is_host => {}
            // What Docker's engine for other systems did by them.
            "consistent" | "cached" | "delegated" => {}
            other => match propagation(other) {
                Ok(known) if is_host => mount.propagation = known,
                _ => return Err(Refusal::bad(format!("invalid mode: {other}"))),
            },
        }
    }
    Ok(mount)
}

/// The name of a volume, if it may be one.
pub(in crate::docker) fn checked_name(name: &str) -> Result<&str, Refusal> {
    if is_name(name) {
        return Ok(name);
    }
    Err(Refusal::bad(match name.len() {
        1 => {
            format!(
                "create {name}: volume name is too short, names should be at least two alphanumeric characters"
            )
        }
        _ => format!(
            "create {name}: {name:?} includes invalid characters for a local volume name, only \"{ALLOWED}\" are allowed. If you intended to pass a host directory, use absolute path"
        ),
    }))
}

/// `--mount`.
fn described(wanted: &request::Mount) -> Result<Mount, Refusal> {
    let invalid =
        |why: &str| Refusal::bad(format!("invalid mount config for type \"{}\": {why}", wanted.r#type));
    let source = match wanted.r#type.as_str() {
        _ if wanted.target.is_empty() => return Err(invalid("field Target must not be empty")),
        "bind" if wanted.source.starts_with('/') => MountSource::Host(wanted.source.clone().into()),
        "bind" if wanted.source.is_empty() => return Err(invalid("field Source must not be empty")),
        "bind" => {
            return Err(invalid(&format!(
                "invalid mount path: '{}' mount path must be absolute",
                wanted.source
            )));
        }
        "volume" => volume(wanted)?,
        "tmpfs" if !wanted.source.is_empty() => return Err(invalid("field Source must not be specified")),
        "tmpfs" => MountSource::Tmpfs(memory_options(&wanted.tmpfs_options).map_err(|why| invalid(&why))?),
        "image" => {
            let sub_path = wanted.image_options.subpath.clone();
            MountSource::Image { image: wanted.source.clone(), sub_path }
        }
        "" | "npipe" | "cluster" => {
            return Err(Refusal::not_built(format!("a mount of type {:?}", wanted.r#type)));
        }
        _ => return Err(invalid("mount type unknown")),
    };
    let mut mount = mount(&wanted.target, source)?;
    mount.read_only = wanted.read_only;
    let BindOptions {
        propagation: mode,
        non_recursive,
        read_only_non_recursive,
        read_only_force_recursive,
        ..
    } = &wanted.bind_options;
    if *read_only_non_recursive && *read_only_force_recursive {
        return Err(invalid("mount options conflict: ReadOnlyNonRecursive && ReadOnlyForceRecursive"));
    }
    mount.non_recursive = *non_recursive;
    mount.recursive_read_only = *read_only_force_recursive;
    mount.propagation = propagation(mode).map_err(|refusal| invalid(refusal.message()))?;
    Ok(mount)
}

/// The options of a memory filesystem, of which clients choose but few.
fn memory_options(wanted: &TmpfsOptions) -> Result<Vec<String>, String> {
    let TmpfsOptions { size_bytes, mode, options } = wanted;
    let size = (*size_bytes > 0).then(|| format!("size={size_bytes}"));
    let mode = (*mode > 0).then(|| format!("mode={mode:o}"));
    let mut all: Vec<String> = size.into_iter().chain(mode).collect();
    for option in options {
        match option.as_slice() {
            [flag] if matches!(flag.as_str(), "exec" | "noexec") => all.push(flag.clone()),
            [name] | [name, _] => return Err(format!("invalid option: {name}")),
            _ => return Err("invalid option array length".to_owned()),
        }
    }
    Ok(all)
}

fn volume(wanted: &request::Mount) -> Result<MountSource, Refusal> {
    let VolumeOptions { no_copy, labels, subpath, driver_config } = &wanted.volume_options;
    let missing = [
        (!matches!(driver_config.name.as_str(), "" | "local"), "a volume's driver"),
        (!driver_config.options.is_empty(), "options of a volume's driver"),
    ];
    if let Some((_, what)) = missing.iter().find(|(wanted, _)| *wanted) {
        return Err(Refusal::not_built(what));
    }
    let (is_anonymous, labels) = (wanted.source.is_empty(), labels.clone());
    if is_anonymous && !subpath.is_empty() {
        let why =
            "invalid mount config for type \"volume\": must not set Subpath when using anonymous volumes";
        return Err(Refusal::bad(why));
    }
    let name = if is_anonymous { volume_name()? } else { checked_name(&wanted.source)?.to_owned() };
    // What is in a part is its user's.
    let copy = !no_copy && subpath.is_empty();
    Ok(MountSource::Volume { name, is_anonymous, copy, sub_path: subpath.clone(), labels })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::fixture;

    fn host(text: &str) -> HostConfig {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn binds_are_of_the_host_or_of_a_volume() {
        let read_only = bind("/a:/b:ro,rslave").unwrap();
        assert_eq!((read_only.read_only, read_only.propagation), (true, Propagation::HostToContainer));
        let named = |copy| volume_called("v1".into(), false, copy);
        assert_eq!(bind("v1:/b").unwrap().source, named(true));
        assert_eq!(bind("v1:/b/:nocopy").unwrap().source, named(false));
        for text in ["/a", "/a:b", "/a:/b:what", "v:/b", "a/../b:/x", "v1:/b:rslave"] {
            assert_eq!(bind(text).unwrap_err().status().as_u16(), 400, "{text}");
        }
    }

    #[test]
    fn volumes_are_made_where_nothing_else_is_mounted() {
        let host = host(
            r#"{"Binds":["/h:/a"],"Tmpfs":{"/b":"size=5"},"Mounts":[{"Type":"volume","Target":"/c"},
            {"Type":"tmpfs","Target":"/t","TmpfsOptions":{"SizeBytes":5}}]}"#,
        );
        let volumes = ["/a/", "/b", "/c", "/d"].map(|path| (path.to_owned(), Value::Null)).into();
        let found = mounts(&host, &volumes, &[], &fixture::host()).unwrap();
        let kinds: Vec<_> = found
            .iter()
            .map(|mount| {
                let anonymous = matches!(mount.source, MountSource::Volume { is_anonymous: true, .. });
                (mount.destination.to_str().unwrap(), anonymous)
            })
            .collect();
        assert_eq!(kinds, [("/a", false), ("/c", true), ("/t", false), ("/b", false), ("/d", true)]);
        assert_eq!(found[2].source, MountSource::Tmpfs(vec!["size=5".into()]));
    }

    #[test]
    fn read_only_is_recursive_unless_somebody_asks_otherwise() {
        let options = |options: &str| {
            let mounts = format!(r#"{{"Mounts":[{{"Type":"bind","Source":"/a","Target":"/x",{options}}}]}}"#);
            let mount = mounts_of(&mounts, true).remove(0);
            (mount.read_only, mount.recursive_read_only, mount.non_recursive)
        };
        assert_eq!(options(r#""ReadOnly":true"#), (true, true, false));
        assert_eq!(options(r#""ReadOnly":false"#), (false, false, false));
        let with = |option: &str| options(&format!(r#""ReadOnly":true,"BindOptions":{{{option}}}"#));
        assert_eq!(with(r#""ReadOnlyNonRecursive":true"#), (true, false, false));
        assert_eq!(with(r#""Propagation":"rslave""#), (true, false, false));
        assert_eq!(with(r#""NonRecursive":true"#), (true, true, true));
        assert!(mounts_of(r#"{"Binds":["/a:/x:ro"]}"#, true)[0].recursive_read_only);
        assert!(!mounts_of(r#"{"Binds":["/a:/x:ro"]}"#, false)[0].recursive_read_only);
    }

    fn mounts_of(text: &str, recursive_read_only: bool) -> Vec<Mount> {
        let machine = Host { recursive_read_only, ..fixture::host() };
        mounts(&host(text), &BTreeMap::new(), &[], &machine).unwrap()
    }

    #[test]
    fn what_is_twice_wrong_or_not_built_is_refused() {
        for (text, status) in [
            (r#"{"Binds":["/a:/x","/b:/x/"]}"#, 400),
            (r#"{"Mounts":[{"Type":"bind","Source":"a","Target":"/x"}]}"#, 400),
            (r#"{"Mounts":[{"Type":"bind","Target":"/x"}]}"#, 400),
            (r#"{"Mounts":[{"Type":"nosuch","Target":"/x"}]}"#, 400),
            (r#"{"Mounts":[{"Type":"volume"}]}"#, 400),
            (r#"{"Mounts":[{"Type":"volume","Target":"/x","VolumeOptions":{"Subpath":"a"}}]}"#, 400),
            (r#"{"Mounts":[{"Type":"tmpfs","Target":"/x","TmpfsOptions":{"Options":[["nosuch"]]}}]}"#, 400),
            (r#"{"Mounts":[{"Type":"tmpfs","Target":"/x","TmpfsOptions":{"Options":[[]]}}]}"#, 400),
            (
                r#"{"Mounts":[{"Type":"volume","Target":"/x","VolumeOptions":{"DriverConfig":{"Name":"nfs"}}}]}"#,
                501,
            ),
        ] {
            let refusal = mounts(&host(text), &BTreeMap::new(), &[], &fixture::host()).unwrap_err();
            assert_eq!(refusal.status().as_u16(), status, "{text}: {}", refusal.message());
        }
    }
}
