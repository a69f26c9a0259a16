//! What a pod can be asked to be.

use std::fs;

use anyhow::{Context, Result, ensure};
use cleat_cri_api::v1::*;
use cleat_tests_cri::{Node, Pod, check, configs};

/// The namespace of kind `kind` a container lives in, as a link's text.
fn namespace(node: &Node, container: &str, kind: &str) -> Result<String> {
    node.cri().shell(container, &format!("readlink /proc/self/ns/{kind}"))
}

/// The namespace of kind `kind` of a process of this host.
fn of_process(pid: u32, kind: &str) -> Result<String> {
    let link = fs::read_link(format!("/proc/{pid}/ns/{kind}")).context("read a namespace's link")?;
    Ok(link.display().to_string())
}

#[test]
fn privileged_hostname_dns_and_hosts_are_those_of_the_request() {
    check(Node::builder(), |node| {
        let mut config = configs::pod("names");
        config.hostname = "chosen-name".to_owned();
        config.dns_config = Some(DnsConfig {
            servers: vec!["192.0.2.53".to_owned(), "2001:db8::53".to_owned()],
            searches: vec!["svc.example".to_owned(), "example".to_owned()],
            options: vec!["ndots:5".to_owned()],
        });
        let pod = node.run_pod(config)?;
        let ip = node.cri().pod_status(&pod.id)?.network.context("network")?.ip;
        let all = "hostname; cat /etc/hostname; echo --; cat /etc/resolv.conf; echo --; cat /etc/hosts";
        let output = node.output(&pod, &configs::script("look", all))?;
        let parts: Vec<&str> = output.split("--\n").collect();
        assert_eq!(parts[0], "chosen-name\nchosen-name\n");
        assert_eq!(
            parts[1],
            "search svc.example example\nnameserver 192.0.2.53\nnameserver 2001:db8::53\noptions ndots:5\n"
        );
        let names = |line: &str| line.split_whitespace().map(ToOwned::to_owned).collect::<Vec<_>>();
        let hosts: Vec<Vec<String>> = parts[2].lines().map(names).collect();
        assert!(hosts.contains(&vec!["127.0.0.1".to_owned(), "localhost".to_owned()]), "{hosts:?}");
        assert!(hosts.contains(&vec![ip, "chosen-name".to_owned()]), "{hosts:?}");
        Ok(())
    });
}

#[test]
fn privileged_shared_memory_is_the_pods_and_has_its_size() {
    check(Node::builder().settings("[runtime]\nshm_size_bytes = 8388608\n"), |node| {
        let pod = node.run_pod(configs::pod("shm"))?;
        let write = "echo from-one >/dev/shm/file; df -k /dev/shm | tail -1 | awk '{ print $2 }'";
        assert_eq!(node.output(&pod, &configs::script("one", write))?, "8192");
        assert_eq!(node.output(&pod, &configs::script("two", "cat /dev/shm/file"))?, "from-one");
        let other = node.run_pod(configs::pod("other"))?;
        assert_eq!(node.output(&other, &configs::script("three", "ls /dev/shm | wc -l"))?, "0");
        Ok(())
    });
}

#[test]
fn privileged_sysctls_are_set_in_the_pods_namespaces() {
    check(Node::builder(), |node| {
        let mut config = configs::pod("sysctls");
        let wanted = [("net.ipv4.ip_unprivileged_port_start", "0"), ("kernel.shm_rmid_forced", "1")];
        configs::pod_linux(&mut config).sysctls =
            wanted.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let pod = node.run_pod(config)?;
        let look = "cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/shm_rmid_forced";
        assert_eq!(node.output(&pod, &configs::script("look", look))?, "0\n1");
        Ok(())
    });
}

#[test]
fn privileged_containers_share_network_ipc_and_uts_of_their_pod_only() {
    check(Node::builder(), |node| {
        let pod = node.run_pod(configs::pod("one"))?;
        let other = node.run_pod(configs::pod("other"))?;
        let first = node.start(&pod, &configs::sleeper("first"))?;
        let second = node.start(&pod, &configs::sleeper("second"))?;
        let stranger = node.start(&other, &configs::sleeper("stranger"))?;
        for (kind, in_pod) in [("net", true), ("ipc", true), ("uts", true), ("mnt", false), ("pid", true)] {
            let own = namespace(node, &first, kind)?;
            assert_eq!(own == namespace(node, &second, kind)?, in_pod, "{kind} of two containers of a pod");
            assert_ne!(own, namespace(node, &stranger, kind)?, "{kind} of containers of two pods");
            assert_ne!(own, of_process(std::process::id(), kind)?, "{kind} of the host");
        }
        Ok(())
    });
}

#[test]
fn privileged_pid_namespaces_follow_the_option() {
    check(Node::builder(), |node| {
        let with_pid = |name: &str, mode: NamespaceMode, target: &str| -> Result<ContainerConfig> {
            let mut config = configs::sleeper(name);
            let options = configs::namespaces(&mut config);
            options.pid = mode.into();
            options.target_id = target.to_owned();
            Ok(config)
        };
        let mut config = configs::pod("pids");
        configs::pod_namespaces(&mut config).pid = NamespaceMode::Container.into();
        let pod: Pod = node.run_pod(config)?;
        let own = node.start(&pod, &with_pid("own", NamespaceMode::Container, "")?)?;
        let target = node.start(&pod, &with_pid("target", NamespaceMode::Target, &own)?)?;
        let late = node.create(&pod, &with_pid("late", NamespaceMode::Target, &own)?)?;
        let host = node.start(&pod, &with_pid("host", NamespaceMode::Node, "")?)?;
        let of_host = of_process(std::process::id(), "pid")?;
        let of_own = namespace(node, &own, "pid")?;
        assert_ne!(of_own, of_host);
        assert_eq!(namespace(node, &target, "pid")?, of_own);
        assert_eq!(namespace(node, &host, "pid")?, of_host);
        assert!(node.cri().shell(&own, "tr '\\0' ' ' </proc/1/cmdline")?.starts_with("sh -c trap"));
        // What it was to share is gone, and its process id anybody's.
        node.cri().stop(&own, 10)?;
        let refused = node.cri().start(&late).expect_err("it has nobody to share processes with");
        assert_eq!(refused.code(), tonic::Code::FailedPrecondition, "{refused:?}");
        let mut config = configs::pod("shared");
        configs::pod_namespaces(&mut config).pid = NamespaceMode::Pod.into();
        let shared = node.run_pod(config)?;
        let first = node.start(&shared, &with_pid("first", NamespaceMode::Pod, "")?)?;
        let second = node.start(&shared, &with_pid("second", NamespaceMode::Pod, "")?)?;
        assert_eq!(namespace(node, &first, "pid")?, namespace(node, &second, "pid")?);
        let pause = node.cri().shell(&first, "cat /proc/1/comm")?;
        ensure!(pause.contains("pause"), "process 1 of a shared namespace is {pause:?}");
        Ok(())
    });
}

#[test]
fn privileged_a_pod_in_the_hosts_network_has_no_network_of_its_own() {
    check(Node::builder(), |node| {
        let mut config = configs::pod("hostnet");
        configs::pod_namespaces(&mut config).network = NamespaceMode::Node.into();
        let pod = node.run_pod(config)?;
        let mut config = configs::sleeper("look");
        configs::namespaces(&mut config).network = NamespaceMode::Node.into();
        let container = node.start(&pod, &config)?;
        let of_world = of_process(node.cleat().world().pid(), "net")?;
        assert_eq!(namespace(node, &container, "net")?, of_world);
        let status = node.cri().pod_status(&pod.id)?;
        let options = status.linux.and_then(|linux| linux.namespaces).and_then(|all| all.options);
        assert_eq!(options.context("options")?.network(), NamespaceMode::Node);
        Ok(())
    });
}

#[test]
fn privileged_pods_are_listed_by_id_state_and_labels() {
    check(Node::builder(), |node| {
        let labelled = |name: &str, pairs: &[(&str, &str)]| {
            let own = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
            let labels = pairs.iter().map(own).collect();
            PodSandboxConfig { labels, ..configs::pod(name) }
        };
        let mut first = labelled("first", &[("app", "web"), ("tier", "front")]);
        first.annotations = [("note".to_owned(), "kept\nas it is".to_owned())].into();
        let one = node.run_pod(first.clone())?;
        let two = node.run_pod(labelled("second", &[("app", "web"), ("tier", "back")]))?;
        node.cri().stop_pod(&two.id)?;
        let select = |pairs: &[(&str, &str)]| {
            let label_selector = labelled("", pairs).labels;
            PodSandboxFilter { label_selector, ..Default::default() }
        };
        let state = |state: PodSandboxState| PodSandboxFilter {
            state: Some(PodSandboxStateValue { state: state.into() }),
            ..Default::default()
        };
        let by_id = PodSandboxFilter { id: two.id[..12].to_owned(), ..Default::default() };
        let table = [
            (PodSandboxFilter::default(), vec![&one.id, &two.id]),
            (select(&[("app", "web")]), vec![&one.id, &two.id]),
            (select(&[("app", "web"), ("tier", "back")]), vec![&two.id]),
            (select(&[("app", "we")]), vec![]),
            (state(PodSandboxState::SandboxReady), vec![&one.id]),
            (state(PodSandboxState::SandboxNotready), vec![&two.id]),
            (by_id, vec![&two.id]),
        ];
        for (filter, mut expected) in table {
            let found = node.cri().pods(filter.clone())?;
            let mut ids: Vec<&String> = found.iter().map(|pod| &pod.id).collect();
            ids.sort();
            expected.sort();
            assert_eq!(ids, expected, "{filter:?}");
        }
        let status = node.cri().pod_status(&one.id)?;
        assert_eq!((status.labels, status.annotations), (first.labels, first.annotations));
        assert_eq!(status.metadata, one.config.metadata);
        Ok(())
    });
}

#[test]
fn privileged_a_pod_lives_below_its_cgroup_parent() {
    check(Node::builder(), |node| {
        let mut config = configs::pod("cgroup");
        let parent = format!("{}/kubepods/burstable", node.cleat().cgroup_parent());
        configs::pod_linux(&mut config).cgroup_parent = parent.clone();
        let pod = node.run_pod(config)?;
        let container = node.start(&pod, &configs::sleeper("inside"))?;
        for controller in ["memory", "pids", "cpu"] {
            let path = node.cgroup(&container, controller)?;
            ensure!(path.display().to_string().contains(&parent), "{} is not below {parent}", path.display());
        }
        node.remove_pod(&pod.id)?;
        // The parent is its maker's, as the kubelet's are; an empty one may stay.
        node.cleat().world().shell(&format!(
            "find /sys/fs/cgroup -ignore_readdir_race -depth -path '*{parent}' -exec rmdir {{}} ';' ; \
             find /sys/fs/cgroup -ignore_readdir_race -depth -path '*{}/kubepods' -exec rmdir {{}} ';'",
            node.cleat().cgroup_parent()
        ))?;
        Ok(())
    });
}
