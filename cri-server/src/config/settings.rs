//! The table of all settings. Everything else is derived from it: what files may say, flags, checks, documentation.

use super::kind::Kind;

/// One setting.
#[derive(Debug)]
pub(crate) struct Setting {
    /// Its name: `section.key`, or `key` at the top of a file.
    pub(crate) key: &'static str,
    /// What it may be.
    pub(crate) kind: Kind,
    /// What it is when nobody says otherwise.
    pub(crate) fallback: Fallback,
    /// What it means, in a sentence, with its unit.
    pub(crate) doc: &'static str,
}

/// A default value.
#[derive(Debug)]
pub(crate) enum Fallback {
    /// A string.
    Text(&'static str),
    /// A number.
    Integer(i64),
    /// A switch.
    Switch(bool),
    /// A list.
    List(&'static [&'static str]),
    /// The path of a helper program of this name.
    Program(&'static str),
    /// No value: the setting is optional.
    Unset,
}

/// The settings that SIGHUP has read again: the daemon goes by their new values without a new start.
const LIVE: &[&str] = &[
    "log.level",
    "image.registries_conf",
    "image.registries_conf_dir",
    "image.policy",
    "image.auth_files",
    "image.certs_dirs",
    "image.keep_blobs",
];

/// The setting called `key`.
pub(crate) fn find(key: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.key == key)
}

/// Whether `name` is a section: a setting's name begins with `name.`.
pub(crate) fn is_section(name: &str) -> bool {
    SETTINGS.iter().any(|setting| setting.section() == Some(name))
}

impl Setting {
    /// Whether SIGHUP is enough for a new value.
    pub(crate) fn is_live(&self) -> bool {
        LIVE.contains(&self.key)
    }

    /// The section it is in.
    pub(crate) fn section(&self) -> Option<&'static str> {
        self.key.split_once('.').map(|(section, _)| section)
    }

    /// Its name inside its section.
    pub(crate) fn name(&self) -> &'static str {
        self.key.split_once('.').map_or(self.key, |(_, name)| name)
    }
}

/// The capabilities a container gets that asks for nothing: the set Docker and containerd users expect.
const DEFAULT_CAPABILITIES: &[&str] = &[
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

/// A row of the table.
const fn row(key: &'static str, kind: Kind, fallback: Fallback, doc: &'static str) -> Setting {
    Setting { key, kind, fallback, doc }
}

/// All settings; those of a section stand together, those without one come first.
pub(crate) static SETTINGS: &[Setting] = &[
    row(
        "root",
        Kind::Path,
        Fallback::Text("/var/lib/cleat"),
        "Folder of what survives a reboot: images, records, writable layers.",
    ),
    row(
        "state",
        Kind::Path,
        Fallback::Text("/run/cleat"),
        "Folder of what a reboot may take: sockets, namespaces, exit records.",
    ),
    row("listen", Kind::Socket, Fallback::Text("unix:///run/cleat/cleat.sock"), "Where the CRI is served."),
    row(
        "log.level",
        Kind::Choice(&["error", "warn", "info", "debug", "trace"]),
        Fallback::Text("info"),
        "The least important messages that are still logged.",
    ),
    row(
        "log.format",
        Kind::Choice(&["text", "json"]),
        Fallback::Text("text"),
        "Form of the log on standard error: for people or for programs.",
    ),
    row(
        "cgroup.driver",
        Kind::CgroupDriver,
        Fallback::Text("cgroupfs"),
        "Who makes cgroups; `auto` is systemd where it is process 1. The kubelet asks for it, or its `cgroupDriver` has to agree.",
    ),
    row(
        "cgroup.parent",
        Kind::CgroupPath,
        Fallback::Text("/cleat"),
        "Cgroup of the pods that name no parent of their own, from the root of each hierarchy.",
    ),
    row(
        "runtime.conmon",
        Kind::Path,
        Fallback::Program("cleat-conmon"),
        "The monitor that is started for each container.",
    ),
    row(
        "runtime.pause",
        Kind::Path,
        Fallback::Program("cleat-pause"),
        "The program that holds the namespaces of a pod.",
    ),
    row(
        "runtime.handlers",
        Kind::Handlers,
        Fallback::List(&[]),
        "Other OCI runtimes for containers, as pods name them by `runtimeClassName`; the built-in one has no name.",
    ),
    row(
        "runtime.default_capabilities",
        Kind::Capabilities,
        Fallback::List(DEFAULT_CAPABILITIES),
        "Capabilities of a container before those it adds and drops.",
    ),
    row(
        "runtime.seccomp_profile",
        Kind::Path,
        Fallback::Unset,
        "A seccomp profile (JSON) to use in place of the built-in one for `RuntimeDefault`.",
    ),
    row(
        "runtime.cdi_spec_dirs",
        Kind::Paths,
        Fallback::List(&["/etc/cdi", "/var/run/cdi"]),
        "Folders of CDI files (`.json`, `.yaml`), which describe devices that containers are given by name; the later wins. \
         They may be absent, and are read anew by each creation that asks for such a device.",
    ),
    row(
        "runtime.pids_limit",
        Kind::Integer { min: 0, max: 4_194_304 },
        Fallback::Integer(0),
        "Most processes and threads of a container; 0 sets no limit.",
    ),
    row(
        "runtime.shm_size_bytes",
        Kind::Integer { min: 65_536, max: 1 << 40 },
        Fallback::Integer(67_108_864),
        "Size of a pod's `/dev/shm`, in bytes.",
    ),
    row(
        "image.registries_conf",
        Kind::Path,
        Fallback::Text("/etc/containers/registries.conf"),
        "Mirrors and blocked registries, in the format of containers-registries.conf(5). It may be absent.",
    ),
    row(
        "image.registries_conf_dir",
        Kind::Path,
        Fallback::Text("/etc/containers/registries.conf.d"),
        "Drop-ins to `registries_conf`. It may be absent.",
    ),
    row(
        "image.policy",
        Kind::Path,
        Fallback::Text("/etc/containers/policy.json"),
        "Which images may be pulled, signed by whom, in the format of containers-policy.json(5). Without it, all may.",
    ),
    row(
        "image.auth_files",
        Kind::Paths,
        Fallback::List(&["/etc/cleat/auth.json"]),
        "Credentials for pulls that come without their own, in the format of containers-auth.json(5) or Docker's \
         `config.json`. They may be absent, and are read by each pull anew.",
    ),
    row(
        "image.certs_dirs",
        Kind::Paths,
        Fallback::List(&["/etc/cleat/certs.d", "/etc/containers/certs.d", "/etc/docker/certs.d"]),
        "Folders with a folder for each registry's host: `hosts.toml` as containerd has it, or `*.crt`, `*.cert` and \
         `*.key`. They may be absent, and are read by each pull anew.",
    ),
    row(
        "image.additional_stores",
        Kind::Paths,
        Fallback::List(&[]),
        "Image stores of others that this one stands on: folders `image` of other daemons' `root`, on a disk of its own or \
         read-only. Their images and layers are used where they are and never changed or counted. One that is absent, \
         damaged or in use by its own daemon is refused at the start; images that need one that is no longer named have \
         to be pulled again.",
    ),
    row(
        "image.keep_blobs",
        Kind::Switch,
        Fallback::Switch(false),
        "Keep layers as they were pulled, so that pushes upload the same bytes. Takes their space once more.",
    ),
    row(
        "image.volumes",
        Kind::Choice(&["bind", "ignore"]),
        Fallback::Text("bind"),
        "What becomes of an image's `VOLUME`s in a pod's container where the pod mounts nothing: `bind` makes a folder of the \
         container's own for each, filled from the image, which can be written to also where the root is read-only and \
         goes with the container, as with containerd; `ignore` leaves folders of the writable layer.",
    ),
    row(
        "image.max_parallel_layers",
        Kind::Integer { min: 1, max: 64 },
        Fallback::Integer(4),
        "Most layers of one image fetched and unpacked at once.",
    ),
    row(
        "image.stall_timeout_s",
        Kind::Integer { min: 1, max: 3_600 },
        Fallback::Integer(30),
        "A download that receives nothing for so many seconds is given up and resumed.",
    ),
    row(
        "network.bridge",
        Kind::InterfaceName,
        Fallback::Text("cleat0"),
        "Bridge of the built-in network, used while there is no CNI configuration.",
    ),
    row(
        "network.subnets",
        Kind::Subnets,
        Fallback::List(&["10.213.0.0/16", "fdc4:8c1e:a7d5::/64"]),
        "Addresses of the built-in network: one range of IPv4, one of IPv6, or both.",
    ),
    row(
        "network.masquerade",
        Kind::Switch,
        Fallback::Switch(true),
        "Whether pods of the built-in network reach other networks under the node's address.",
    ),
    row(
        "network.mtu",
        Kind::Integer { min: 1_280, max: 65_535 },
        Fallback::Unset,
        "Largest packet of the built-in network, in bytes; unset takes the kernel's default.",
    ),
    row(
        "network.cni_conf_dir",
        Kind::Path,
        Fallback::Text("/etc/cni/net.d"),
        "CNI configurations; the first one in lexical order takes the built-in network's place. It may be absent.",
    ),
    row(
        "network.cni_plugin_dirs",
        Kind::Paths,
        Fallback::List(&["/opt/cni/bin", "/usr/lib/cni"]),
        "Where CNI plugins are looked for, in this order.",
    ),
    row(
        "api.exec_sync_output_bytes",
        Kind::Integer { min: 4_096, max: 1 << 30 },
        Fallback::Integer(16_773_120),
        "Most output of one ExecSync that is kept, in bytes, both streams together: the last bytes. The kubelet and \
         crictl accept no answer above 16 MiB.",
    ),
    row(
        "streaming.address",
        Kind::SocketAddress,
        Fallback::Text("127.0.0.1:0"),
        "Where exec, attach and port-forward are served to the kubelet and crictl of this node; port 0 takes a free one.",
    ),
    row(
        "streaming.idle_timeout_s",
        Kind::Integer { min: 0, max: 30 * 86_400 },
        Fallback::Integer(14_400),
        "How long such a session may be without a byte in either direction before it is closed, in seconds; 0 is for ever.",
    ),
    row(
        "streaming.tls_cert",
        Kind::Path,
        Fallback::Unset,
        "Certificate that exec, attach and port-forward are served with, and those that lead to its root, in PEM; with \
         `tls_key`. Unset serves without TLS. The three files are read again when they change.",
    ),
    row("streaming.tls_key", Kind::Path, Fallback::Unset, "Private key of `tls_cert`, in PEM."),
    row(
        "streaming.tls_ca",
        Kind::Path,
        Fallback::Unset,
        "Authorities, in PEM, one of which must have signed the certificate of each client; unset asks clients for none. \
         The kubelet has none to show: only for clients that come to the URLs themselves, such as crictl.",
    ),
    row(
        "docker.listen",
        Kind::OptionalSocket,
        Fallback::Text(""),
        "Where the Docker Engine API is served, such as `unix:///run/cleat/docker.sock`; empty serves none. Who can write \
         to it is root on this node.",
    ),
    row(
        "metrics.listen",
        Kind::SocketAddress,
        Fallback::Unset,
        "Address and port where figures of the daemon are served to Prometheus, such as `127.0.0.1:9537`, by `GET /metrics`; \
         unset serves none. Whoever reaches it may read.",
    ),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_sections_stand_together() {
        let mut keys = BTreeSet::new();
        let mut sections: Vec<Option<&str>> = Vec::new();
        for setting in SETTINGS {
            assert!(keys.insert(setting.key), "{} twice", setting.key);
            if sections.last() != Some(&setting.section()) {
                assert!(!sections.contains(&setting.section()), "{} stands apart", setting.key);
                sections.push(setting.section());
            }
        }
        assert_eq!(sections.first(), Some(&None));
    }

    #[test]
    fn what_is_live_is_a_setting() {
        let live = SETTINGS.iter().filter(|setting| setting.is_live());
        assert_eq!(live.count(), LIVE.len());
    }

    #[test]
    fn every_setting_says_what_it_means() {
        for setting in SETTINGS {
            assert!(setting.doc.ends_with('.'), "{}: {}", setting.key, setting.doc);
        }
    }
}
