//! `mounts`: the options of fstab(5) and of the OCI specification as attributes, propagation and filesystem parameters.

use std::path::{Component, PathBuf};

use cleat_sys::mount::{self as attribute, Attributes, Propagation};
use oci_spec::runtime as oci;

use super::{IdMaps, RootPropagation, SpecError};

/// What begins an option of ours: options that begin with `X-` are not the kernel's (mount(8)). With it not the source is
/// bound, but what is found at this path without leaving the source, whatever links somebody who can write to it puts there.
const BENEATH: &str = "X-cleat.beneath=";

/// One mount.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Mount {
    /// Absolute, in the container.
    pub(crate) target: PathBuf,
    pub(crate) kind: MountKind,
    /// Attributes of the mount itself.
    pub(crate) attributes: Attributes,
    /// Attributes of it and of everything beneath it (`rro` and its kin).
    pub(crate) recursive_attributes: Attributes,
    /// Set after it is in place.
    pub(crate) propagation: Option<RootPropagation>,
    /// How owners are mapped.
    pub(crate) owners: Option<Owners>,
    /// Whether it begins with what is at its place.
    pub(crate) copy_up: bool,
}

/// A mapping of the owners on a bind mount.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Owners {
    /// Without any, the mapping of the container's user namespace.
    pub(crate) maps: Option<IdMaps>,
    /// On everything mounted beneath it too (`ridmap`).
    pub(crate) recursive: bool,
}

/// What is mounted.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum MountKind {
    /// A file or folder of the host; with `beneath` the one at that path, which must not lead out of the source.
    Bind { source: PathBuf, recursive: bool, beneath: Option<PathBuf> },
    /// A new filesystem.
    Filesystem { name: String, source: String, options: OptionList },
    /// The container's own cgroups, in the host's layout.
    Cgroup,
}

/// Parameters of a filesystem: flags, and keys with values.
pub(crate) type OptionList = Vec<(String, Option<String>)>;

/// How one option changes the plan.
enum Effect {
    Set(u64),
    Clear(u64),
    /// The access time modes replace each other.
    AccessTime(u64),
    Propagation(Propagation),
    Bind,
    MapOwners,
    CopyUp,
    /// A part of a bind mount's source.
    Beneath,
    /// It is so already.
    Nothing,
    Unsupported,
    /// A parameter of the filesystem.
    Parameter,
}

impl Mount {
    pub(super) fn new(specified: &oci::Mount) -> Result<Self, SpecError> {
        let target = specified.destination().clone();
        let invalid = |value: &str| SpecError::value(format!("mounts[{}]", target.display()), value);
        if !target.is_absolute() || target.components().any(|part| part == Component::ParentDir) {
            return Err(invalid("destination is not a plain absolute path"));
        }
        let mut parsed = Parsed::default();
        for option in specified.options().as_deref().unwrap_or_default() {
            parsed.add(option).map_err(|reason| match reason {
                Refusal::Invalid => invalid(option),
                Refusal::Unsupported => {
                    SpecError::Unsupported(format!("mounts[{}]: option {option}", target.display()))
                }
            })?;
        }
        let name = specified.typ().as_deref().unwrap_or_default();
        let source = specified.source().clone().unwrap_or_default();
        let kind = match (parsed.bind, name) {
            (None, "bind") => MountKind::Bind { source, recursive: false, beneath: parsed.beneath.take() },
            (Some(recursive), _) => MountKind::Bind { source, recursive, beneath: parsed.beneath.take() },
            (None, "cgroup" | "cgroup2") => MountKind::Cgroup,
            (None, "") => return Err(invalid("type is missing")),
            (None, name) => {
                let source = source.to_str().ok_or_else(|| invalid("source"))?;
                let source = if source.is_empty() { name } else { source };
                MountKind::Filesystem { name: name.into(), source: source.into(), options: parsed.parameters }
            }
        };
        if let MountKind::Bind { source, .. } = &kind
            && !source.is_absolute()
        {
            return Err(invalid("source of a bind mount has to be absolute"));
        }
        if parsed.beneath.is_some() {
            return Err(invalid("X-cleat.beneath is for bind mounts"));
        }
        if parsed.copy_up && name != "tmpfs" {
            return Err(invalid("tmpcopyup is for tmpfs"));
        }
        if parsed.copy_up
            && (parsed.attributes.set | parsed.recursive_attributes.set) & attribute::READ_ONLY != 0
        {
            return Err(invalid("tmpcopyup needs a filesystem that is not read-only"));
        }
        let owners = owners(specified, parsed.map_owners, matches!(kind, MountKind::Bind { .. }))?;
        Ok(Self {
            target,
            kind,
            attributes: parsed.attributes,
            recursive_attributes: parsed.recursive_attributes,
            propagation: parsed.propagation,
            owners,
            copy_up: parsed.copy_up,
        })
    }

    /// Has the files of a new filesystem labelled, unless an option says how or its labels are the kernel's own.
    pub(super) fn label(&mut self, label: &str) {
        let MountKind::Filesystem { name, options, .. } = &mut self.kind else { return };
        let is_labelled = options.iter().any(|(key, _)| key.ends_with("context"));
        if !is_labelled && !matches!(name.as_str(), "proc" | "sysfs" | "mqueue") {
            options.push(("context".into(), Some(label.into())));
        }
    }

    /// Whether it is a new filesystem of this type.
    pub(crate) fn is_filesystem(&self, wanted: &str) -> bool {
        matches!(&self.kind, MountKind::Filesystem { name, .. } if name == wanted)
    }

    /// Whether its owners are mapped as the container's users are.
    pub(super) fn takes_the_containers_owners(&self) -> bool {
        self.owners.as_ref().is_some_and(|owners| owners.maps.is_none())
    }
}

#[derive(Default)]
struct Parsed {
    attributes: Attributes,
    recursive_attributes: Attributes,
    propagation: Option<RootPropagation>,
    bind: Option<bool>,
    /// Whether recursively.
    map_owners: Option<bool>,
    copy_up: bool,
    beneath: Option<PathBuf>,
    parameters: OptionList,
}

enum Refusal {
    Invalid,
    Unsupported,
}

impl Parsed {
    fn add(&mut self, option: &str) -> Result<(), Refusal> {
        if option.contains('\0') {
            return Err(Refusal::Invalid);
        }
        let (effect, recursive) = effect_or_recursive(option);
        match effect {
            Effect::Bind => self.bind = Some(recursive),
            Effect::MapOwners => self.map_owners = Some(recursive),
            Effect::CopyUp => self.copy_up = true,
            Effect::Beneath => self.beneath = Some(part(option).ok_or(Refusal::Invalid)?),
            Effect::Propagation(kind) => self.propagation = Some(RootPropagation { kind, recursive }),
            Effect::Nothing => {}
            Effect::Unsupported => return Err(Refusal::Unsupported),
            Effect::Parameter => self.parameters.push(parameter(option)),
            Effect::Set(bits) => change(self.attributes_mut(recursive), bits, 0),
            Effect::Clear(bits) => change(self.attributes_mut(recursive), 0, bits),
            Effect::AccessTime(mode) => {
                let attributes = self.attributes_mut(recursive);
                attributes.set = attributes.set & !attribute::ACCESS_TIME_MASK | mode;
                attributes.clear |= attribute::ACCESS_TIME_MASK;
            }
        }
        Ok(())
    }

    fn attributes_mut(&mut self, recursive: bool) -> &mut Attributes {
        if recursive { &mut self.recursive_attributes } else { &mut self.attributes }
    }
}

/// The later of two options that contradict each other holds.
fn change(attributes: &mut Attributes, set: u64, clear: u64) {
    attributes.set = attributes.set & !clear | set;
    attributes.clear = attributes.clear & !set | clear;
}

/// The mapping of a mount's owners.
fn owners(specified: &oci::Mount, option: Option<bool>, is_bind: bool) -> Result<Option<Owners>, SpecError> {
    let field = format!("mounts[{}]", specified.destination().display());
    let (users, groups) = (specified.uid_mappings(), specified.gid_mappings());
    match (IdMaps::new(&field, users.as_deref(), groups.as_deref())?, option) {
        (None, None) => Ok(None),
        (_, _) if !is_bind => Err(SpecError::Unsupported(format!("{field}: mappings of a new filesystem"))),
        (maps, option) => Ok(Some(Owners { maps, recursive: option.unwrap_or(false) })),
    }
}

/// The path of an option for a part of the source: relative, and it does not go up.
fn part(option: &str) -> Option<PathBuf> {
    let path = PathBuf::from(option.strip_prefix(BENEATH)?);
    let is_plain = path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    (is_plain && path != PathBuf::new()).then_some(path)
}

fn parameter(option: &str) -> (String, Option<String>) {
    match option.split_once('=') {
        Some((key, value)) => (key.into(), Some(value.into())),
        None => (option.into(), None),
    }
}

/// `rro` is `ro` for everything beneath too. Names that merely begin with an r (`relatime`) are looked up first.
fn effect_or_recursive(option: &str) -> (Effect, bool) {
    match (effect(option), option.strip_prefix('r').map(effect)) {
        (
            Effect::Parameter,
            Some(
                effect @ (Effect::Set(_)
                | Effect::Clear(_)
                | Effect::AccessTime(_)
                | Effect::Propagation(_)
                | Effect::MapOwners
                | Effect::Bind),
            ),
        ) => (effect, true),
        (effect, _) => (effect, false),
    }
}

fn effect(option: &str) -> Effect {
    match option {
        "ro" => Effect::Set(attribute::READ_ONLY),
        "rw" => Effect::Clear(attribute::READ_ONLY),
        "nosuid" => Effect::Set(attribute::NO_SUID),
        "suid" => Effect::Clear(attribute::NO_SUID),
        "nodev" => Effect::Set(attribute::NO_DEVICES),
        "dev" => Effect::Clear(attribute::NO_DEVICES),
        "noexec" => Effect::Set(attribute::NO_EXEC),
        "exec" => Effect::Clear(attribute::NO_EXEC),
        "nodiratime" => Effect::Set(attribute::NO_FOLDER_ACCESS_TIME),
        "diratime" => Effect::Clear(attribute::NO_FOLDER_ACCESS_TIME),
        "nosymfollow" => Effect::Set(attribute::NO_SYMLINKS),
        "symfollow" => Effect::Clear(attribute::NO_SYMLINKS),
        "noatime" => Effect::AccessTime(attribute::NO_ACCESS_TIME),
        "strictatime" => Effect::AccessTime(attribute::STRICT_ACCESS_TIME),
        // Mode 0 of the access time bits is relatime; every kernel takes atime and norelatime for it.
        "relatime" | "atime" | "norelatime" | "nostrictatime" => Effect::AccessTime(0),
        "private" => Effect::Propagation(Propagation::Private),
        "slave" => Effect::Propagation(Propagation::Slave),
        "shared" => Effect::Propagation(Propagation::Shared),
        "unbindable" => Effect::Propagation(Propagation::Unbindable),
        "bind" => Effect::Bind,
        "idmap" => Effect::MapOwners,
        // `async`, `nomand` and `nolazytime` are what a new mount has; `loud` and `silent` concern the kernel's log.
        "defaults" | "async" | "nomand" | "nolazytime" | "loud" | "silent" => Effect::Nothing,
        "tmpcopyup" => Effect::CopyUp,
        "remount" | "copy-symlink" | "dest-nofollow" | "src-nofollow" => Effect::Unsupported,
        _ if option.starts_with("idmap=") || option.starts_with("ridmap=") => Effect::Unsupported,
        _ if option.starts_with(BENEATH) => Effect::Beneath,
        _ => Effect::Parameter,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(typ: &str, source: &str, options: &[&str]) -> Result<Mount, SpecError> {
        let mut mount = oci::Mount::default();
        mount.set_destination("/target".into());
        mount.set_typ(Some(typ.into()));
        mount.set_source(Some(source.into()));
        mount.set_options(Some(options.iter().map(ToString::to_string).collect()));
        Mount::new(&mount)
    }

    #[test]
    fn options_become_attributes_and_parameters() {
        let mount = plan("tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]).unwrap();
        assert_eq!(mount.attributes.set, attribute::NO_SUID | attribute::STRICT_ACCESS_TIME);
        let MountKind::Filesystem { options, .. } = mount.kind else { panic!("a filesystem") };
        assert_eq!(options, [("mode".into(), Some("755".into())), ("size".into(), Some("65536k".into()))]);
    }

    #[test]
    fn the_later_option_holds() {
        let mount = plan("bind", "/x", &["ro", "rw", "noexec", "exec", "noexec"]).unwrap();
        assert_eq!(mount.attributes.set, attribute::NO_EXEC);
        assert_eq!(mount.attributes.clear, attribute::READ_ONLY);
    }

    #[test]
    fn a_leading_r_means_recursive_where_it_is_no_part_of_the_name() {
        let mount = plan("", "/x", &["rbind", "rslave", "rro", "relatime"]).unwrap();
        assert_eq!(mount.kind, MountKind::Bind { source: "/x".into(), recursive: true, beneath: None });
        assert_eq!(mount.propagation, Some(RootPropagation { kind: Propagation::Slave, recursive: true }));
        assert_eq!(mount.recursive_attributes.set, attribute::READ_ONLY);
        assert_eq!(mount.attributes.clear, attribute::ACCESS_TIME_MASK);
    }

    #[test]
    fn owners_are_mapped_on_bind_mounts_by_mappings() {
        let with = |typ: &str, options: &[&str]| {
            let json = serde_json::json!({
                "destination": "/target", "type": typ, "source": "/x", "options": options,
                "uidMappings": [{ "containerID": 0, "hostID": 1, "size": 1 }],
                "gidMappings": [{ "containerID": 0, "hostID": 2, "size": 1 }],
            });
            Mount::new(&serde_json::from_value(json).unwrap())
        };
        for (options, recursive) in
            [(&["bind"][..], false), (&["rbind", "idmap"], false), (&["rbind", "ridmap"], true)]
        {
            let owners = with("bind", options).unwrap().owners.unwrap();
            let groups = owners.maps.unwrap().groups.to_string();
            assert_eq!((owners.recursive, groups.as_str()), (recursive, "0 2 1\n"), "{options:?}");
        }
        assert!(with("tmpfs", &[]).is_err());
        assert!(plan("bind", "/x", &["bind", "idmap"]).unwrap().takes_the_containers_owners());
    }

    #[test]
    fn a_part_of_a_source_is_plain_and_relative() {
        let mount = plan("bind", "/x", &["rbind", "X-cleat.beneath=a/./b"]).unwrap();
        let expected = MountKind::Bind { source: "/x".into(), recursive: true, beneath: Some("a/b".into()) };
        assert_eq!(mount.kind, expected);
        for option in ["X-cleat.beneath=", "X-cleat.beneath=/a", "X-cleat.beneath=a/../../b"] {
            assert!(plan("bind", "/x", &[option]).is_err(), "{option}");
        }
        assert!(plan("tmpfs", "x", &["X-cleat.beneath=a"]).is_err());
    }

    #[test]
    fn new_filesystems_are_labelled_once() {
        for (typ, options, expected) in [
            ("tmpfs", &["size=1k"][..], vec![("size", "1k"), ("context", "l:a,b")]),
            ("tmpfs", &["fscontext=x"], vec![("fscontext", "x")]),
            ("proc", &[], vec![]),
            ("mqueue", &[], vec![]),
        ] {
            let mut mount = plan(typ, "x", options).unwrap();
            mount.label("l:a,b");
            let MountKind::Filesystem { options, .. } = mount.kind else { panic!("a filesystem") };
            let expected: OptionList =
                expected.into_iter().map(|(key, value)| (key.into(), Some(value.into()))).collect();
            assert_eq!(options, expected);
        }
        let mut bind = plan("bind", "/x", &[]).unwrap();
        bind.label("l");
        assert_eq!(bind, plan("bind", "/x", &[]).unwrap());
    }

    #[test]
    fn what_cannot_be_done_is_refused() {
        assert!(plan("tmpfs", "tmpfs", &["tmpcopyup"]).unwrap().copy_up);
        assert!(plan("bind", "/x", &["tmpcopyup"]).is_err());
        assert!(plan("tmpfs", "tmpfs", &["ro", "tmpcopyup"]).is_err());
        for option in ["idmap", "ridmap", "idmap=uids=0-1-2", "remount"] {
            assert!(matches!(plan("tmpfs", "tmpfs", &[option]), Err(SpecError::Unsupported(_))), "{option}");
        }
        assert!(plan("bind", "relative", &[]).is_err());
        assert!(plan("", "x", &[]).is_err());
    }
}
