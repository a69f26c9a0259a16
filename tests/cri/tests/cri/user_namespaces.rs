//! Pods whose users are others on the node.

use std::fs;
use std::os::unix::fs::MetadataExt;

use anyhow::{Context, Result};
use cleat_cri_api::v1::*;
use cleat_tests_cri::{Node, check, configs};

/// The first of the pod's ids on the host.
const FIRST: u32 = 200_000;

fn ranges() -> Vec<IdMapping> {
    vec![IdMapping { host_id: FIRST, container_id: 0, length: 65_536 }]
}

fn user_namespace() -> Option<UserNamespace> {
    Some(UserNamespace { mode: NamespaceMode::Pod.into(), uids: ranges(), gids: ranges() })
}

fn pod(name: &str) -> PodSandboxConfig {
    let mut config = configs::pod(name);
    configs::pod_namespaces(&mut config).userns_options = user_namespace();
    config
}

#[test]
fn privileged_a_pods_root_is_nobody_on_the_node() {
    check(Node::builder(), |node| {
        let mut config = pod("mapped");
        config.hostname = "mapped".to_owned();
        configs::pod_linux(&mut config)
            .sysctls
            .insert("net.ipv4.ip_unprivileged_port_start".into(), "80".into());
        let pod = node.run_pod(config)?;
        let options = node.cri().pod_status(&pod.id)?.linux.and_then(|linux| linux.namespaces?.options);
        assert_eq!(options.context("options")?.userns_options, user_namespace());
        let script = "id -u; tr -s ' ' </proc/self/uid_map; hostname; cat /proc/sys/net/ipv4/ip_unprivileged_port_start; \
                      for path in / /bin /etc/hosts /dev/shm /dev/null /dev/mqueue; do stat -c '%n %u %g' $path; done; \
                      echo 192.0.2.1 added >>/etc/hosts && echo x >/dev/shm/x && echo x >/written && chown 7 /bin/busybox && \
                      ls /sys/class/net; stat -c %u /written";
        let output = node.output(&pod, &configs::script("look", script))?;
        let expected = "0\n 0 200000 65536\nmapped\n80\n/ 0 0\n/bin 0 0\n/etc/hosts 0 0\n/dev/shm 0 0\n/dev/null 0 0\n\
                        /dev/mqueue 0 0\neth0\nlo\n0";
        assert_eq!(output, expected);
        let container = node.start(&pod, &configs::sleeper("sleeper"))?;
        let process = node.init_pid(&container)?;
        assert_eq!(fs::metadata(format!("/proc/{process}")).context("its process")?.uid(), FIRST);
        assert_eq!(node.cri().shell(&container, "id -u; echo x >/dev/stdout")?, "0\nx");
        node.crash_and_restart()?;
        assert_eq!(node.cri().shell(&container, "id -u")?, "0");
        assert_eq!(node.output(&pod, &configs::script("after", "stat -c %u /bin"))?, "0");
        Ok(())
    });
}

#[test]
fn privileged_volumes_belong_to_whom_the_kubelet_says() {
    check(Node::builder(), |node| {
        let pod = node.run_pod(pod("volumes"))?;
        let folder = node.folder().join("volume");
        fs::create_dir(&folder).context("make a volume")?;
        fs::write(folder.join("file"), "").context("fill the volume")?;
        let mut config =
            configs::script("look", "stat -c %u /plain /mapped /mapped/file; echo x >/mapped/new");
        let mapped =
            Mount { uid_mappings: ranges(), gid_mappings: ranges(), ..configs::mount(&folder, "/mapped") };
        config.mounts = vec![configs::mount(&folder, "/plain"), mapped];
        assert_eq!(node.output(&pod, &config)?, "65534\n0\n0");
        assert_eq!(fs::metadata(folder.join("new")).context("what it wrote")?.uid(), 0);
        Ok(())
    });
}

#[test]
fn privileged_processes_and_the_hosts_network_can_be_shared() {
    check(Node::builder(), |node| {
        let mut config = pod("shared");
        configs::pod_namespaces(&mut config).network = NamespaceMode::Node.into();
        let pod = node.run_pod(config)?;
        let script = "ls /sys/class/net | grep -c .; touch /sys/x 2>&1 || true";
        let output = node.output(&pod, &configs::script("look", script));
        assert!(output?.contains("Read-only file system"));
        Ok(())
    });
}

#[test]
fn privileged_all_containers_of_a_pod_have_the_same_users() {
    check(Node::builder(), |node| {
        let with = |mode: NamespaceMode, host_id: u32| -> Result<()> {
            let pod =
                node.run_pod(self::pod(&format!("pod-{}-{host_id}", mode.as_str_name().to_lowercase())))?;
            let mut config = configs::script("other", "true");
            let range = vec![IdMapping { host_id, container_id: 0, length: 65_536 }];
            let uids = if mode == NamespaceMode::Pod { range } else { Vec::new() };
            configs::namespaces(&mut config).userns_options =
                Some(UserNamespace { mode: mode.into(), gids: uids.clone(), uids });
            node.run(&pod, &config).map(drop)
        };
        with(NamespaceMode::Pod, FIRST)?;
        for refused in [with(NamespaceMode::Pod, FIRST + 65_536), with(NamespaceMode::Node, 0)] {
            let error = refused.err().context("another user namespace is refused")?;
            assert!(format!("{error:#}").contains("it is not that of its pod"), "{error:#}");
        }
        Ok(())
    });
}
