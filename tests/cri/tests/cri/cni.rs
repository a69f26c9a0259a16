//! The network when the operator has a CNI configuration: Debian's plugins, executed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use cleat_cri_api::v1::*;
use cleat_tests_cri::{BUSYBOX, HTTPD, Node, check, configs};

/// bridge, host-local and portmap, with the addresses' records in `data`.
fn configuration(data: &Path) -> String {
    serde_json::json!({
        "cniVersion": "1.0.0",
        "name": "cleat-cni",
        "plugins": [
            {
                "type": "bridge",
                "bridge": "cni-cleat0",
                "isGateway": true,
                "ipMasq": true,
                "ipam": {
                    "type": "host-local",
                    "dataDir": data,
                    "ranges": [[{ "subnet": "10.88.7.0/24" }], [{ "subnet": "fd88:7::/64" }]],
                    "routes": [{ "dst": "0.0.0.0/0" }, { "dst": "::/0" }]
                }
            },
            { "type": "portmap", "capabilities": { "portMappings": true }, "snat": true }
        ]
    })
    .to_string()
}

#[test]
fn privileged_plugins_are_executed_where_there_is_a_configuration() -> Result<()> {
    let folder = tempfile::tempdir().context("make a folder")?;
    let (conf, data) = (folder.path().join("net.d"), folder.path().join("addresses"));
    fs::create_dir(&conf).context("make net.d")?;
    fs::write(conf.join("10-cleat.conflist"), configuration(&data)).context("write a configuration")?;
    let settings = format!("[network]\ncni_conf_dir = {conf:?}\ncni_plugin_dirs = [\"/usr/lib/cni\"]\n");
    // What host-local has handed out: a file for each address.
    let reserved = || -> Result<Vec<String>> {
        let entries = fs::read_dir(data.join("cleat-cni")).context("list the reserved addresses")?;
        let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        let names = names.collect::<std::io::Result<Vec<_>>>().context("list the reserved addresses")?;
        Ok(names
            .into_iter()
            .filter(|name| name.starts_with("10.88.7.") || name.starts_with("fd88:7:"))
            .collect())
    };
    check(Node::builder().settings(&settings).images(&[BUSYBOX, HTTPD]), |node| {
        let network_config = Some(NetworkConfig { pod_cidr: "10.244.1.0/24".to_owned() });
        let runtime_config = Some(RuntimeConfig { network_config });
        let request = UpdateRuntimeConfigRequest { runtime_config };
        node.cri().update_runtime_config(request).context("the addresses are the plugins' business")?;
        assert_eq!(reserved()?, Vec::<String>::new(), "of the first pod");
        let pod = node.run_pod(configs::pod("server"))?;
        let network = node.cri().pod_status(&pod.id)?.network.context("network")?;
        ensure!(network.ip.starts_with("10.88.7."), "{network:?}");
        ensure!(network.additional_ips.len() == 1, "{network:?}");
        assert_eq!(reserved()?.len(), 2);
        let server = node.start(&pod, &configs::container("httpd", HTTPD))?;
        node.await_log(&server, "httpd starts")?;
        let client = node.run_pod(configs::pod("client"))?;
        let fetch = format!(
            "for try in 1 2 3 4 5; do printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 2 {} 80 | tail -n 1 | grep . && exit; \
             sleep 0.2; done; exit 1",
            network.ip
        );
        let page = node.output(&client, &configs::script("fetch", &fetch))?;
        assert_eq!(page, "served by a container of cleat");
        node.crash_and_restart()?;
        assert_eq!(node.cri().pod_status(&pod.id)?.network.context("network")?, network);
        node.remove_pod(&pod.id)?;
        node.remove_pod(&client.id)?;
        assert_eq!(reserved()?, Vec::<String>::new());
        Ok(())
    });
    Ok(())
}

#[test]
fn privileged_a_port_of_the_host_leads_into_the_pod_by_portmap() -> Result<()> {
    let folder = tempfile::tempdir().context("make a folder")?;
    let conf = folder.path().join("net.d");
    fs::create_dir(&conf).context("make net.d")?;
    let list = configuration(&folder.path().join("addresses"));
    fs::write(conf.join("10-cleat.conflist"), list).context("write a configuration")?;
    let settings = format!("[network]\ncni_conf_dir = {conf:?}\ncni_plugin_dirs = [\"/usr/lib/cni\"]\n");
    check(Node::builder().settings(&settings).images(&[HTTPD]), |node| {
        let publish = |name: &str| {
            let mapping = PortMapping { host_port: 8088, container_port: 80, ..Default::default() };
            PodSandboxConfig { port_mappings: vec![mapping], ..configs::pod(name) }
        };
        // The plugin's chains stay with the host, as those of its first pod do: they belong to the state before.
        let first = node.run_pod(publish("chains"))?;
        node.remove_pod(&first.id)?;
        let before = node.snapshot()?;
        let pod = node.run_pod(publish("published"))?;
        let server = node.start(&pod, &configs::container("httpd", HTTPD))?;
        node.await_log(&server, "httpd starts")?;
        let fetch = "curl --max-time 5 --retry 5 --retry-connrefused -sS http://127.0.0.1:8088/";
        assert_eq!(node.cleat().world().shell(fetch)?.trim(), "served by a container of cleat");
        node.remove_pod(&pod.id)?;
        before.leaks(&node.snapshot()?).none()?;
        node.keep_as_baseline()
    });
    Ok(())
}

/// Debian's plugins and, behind them, one of the test's own that fails when it is told to.
struct Failing {
    folder: tempfile::TempDir,
}

impl Failing {
    /// Fails at the command that the file `fail` beside it names.
    const PLUGIN: &str = "#!/bin/sh\n[ \"$CNI_COMMAND\" = \"$(cat \"${0%/*}/fail\")\" ] && \
                          { echo '{\"cniVersion\":\"1.0.0\",\"code\":117,\"msg\":\"told to fail\"}'; exit 1; }\n\
                          [ \"$CNI_COMMAND\" = ADD ] && exec jq -c .prevResult\nexit 0\n";

    fn new() -> Result<Self> {
        let failing = Self { folder: tempfile::tempdir().context("make a folder")? };
        let (conf, plugins) = (failing.conf(), failing.plugins());
        fs::create_dir(&conf).context("make net.d")?;
        fs::create_dir(&plugins).context("make a folder for plugins")?;
        let good = configuration(&failing.folder.path().join("addresses"));
        let mut list: serde_json::Value = serde_json::from_str(&good).context("configuration")?;
        list["plugins"].as_array_mut().context("plugins")?.push(serde_json::json!({ "type": "fails" }));
        fs::write(conf.join("10-cleat.conflist"), list.to_string()).context("write a configuration")?;
        let plugin = plugins.join("fails");
        fs::write(&plugin, Self::PLUGIN).context("write a plugin")?;
        fs::set_permissions(plugin, fs::Permissions::from_mode(0o755)).context("mode")?;
        failing.at("nothing")?;
        Ok(failing)
    }

    fn conf(&self) -> PathBuf {
        self.folder.path().join("net.d")
    }

    fn plugins(&self) -> PathBuf {
        self.folder.path().join("plugins")
    }

    fn settings(&self) -> String {
        let (conf, plugins) = (self.conf(), self.plugins());
        format!("[network]\ncni_conf_dir = {conf:?}\ncni_plugin_dirs = [\"/usr/lib/cni\", {plugins:?}]\n")
    }

    /// Has it fail at `command` from now on.
    fn at(&self, command: &str) -> Result<()> {
        fs::write(self.plugins().join("fail"), command).context("tell the plugin where to fail")
    }
}

#[test]
fn privileged_a_plugin_that_fails_fails_the_pod_and_nothing_stays() -> Result<()> {
    let plugin = Failing::new()?;
    check(Node::builder().settings(&plugin.settings()), |node| {
        plugin.at("ADD")?;
        let before = node.snapshot()?;
        let status = node.cri().run_pod(&configs::pod("failed")).expect_err("its network failed");
        assert!(status.message().contains("told to fail"), "{status:?}");
        before.leaks(&node.snapshot()?).none()?;
        plugin.at("nothing")?;
        let pod = node.run_pod(configs::pod("failed"))?;
        node.remove_pod(&pod.id)
    });
    Ok(())
}

/// A daemon that starts while a detach cannot succeed neither forgets the pod nor what is its containers'.
#[test]
fn privileged_a_pod_whose_network_cannot_be_given_back_is_kept_until_it_can() -> Result<()> {
    let plugin = Failing::new()?;
    check(Node::builder().settings(&plugin.settings()), |node| {
        let stopped = node.run_pod(configs::pod("stopped"))?;
        let inside = node.run(&stopped, &configs::script("inside", "echo kept > /file; exit 3"))?.status.id;
        let removed = node.run_pod(configs::pod("removed"))?;
        node.start(&removed, &configs::sleeper("inside"))?;
        plugin.at("DEL")?;
        let refused = node.cri().stop_pod(&stopped.id).expect_err("its detach failed");
        assert!(refused.message().contains("told to fail"), "{refused:?}");
        node.cri().remove_pod(&removed.id).expect_err("its detach failed");
        for _ in 0..2 {
            node.crash_and_restart()?;
            for pod in [&stopped, &removed] {
                let state = node.cri().pod_status(&pod.id).context("it is kept")?.state();
                assert_eq!(state, PodSandboxState::SandboxNotready, "{pod:?}");
            }
            assert_eq!(node.cri().container(&inside)?.exit_code, 3);
        }
        let found =
            node.cleat().world().shell(&format!("find {} -name file", node.cleat().root().display()))?;
        ensure!(found.lines().count() == 1, "the file of a container that is there is not: {found:?}");
        plugin.at("nothing")?;
        node.remove_pod(&stopped.id)?;
        node.remove_pod(&removed.id)
    });
    Ok(())
}

/// What a plugin keeps of pods whose rows were lost with the power is freed by the next start, and nothing else.
#[test]
fn privileged_a_start_tells_the_plugins_which_pods_there_are() -> Result<()> {
    let folder = tempfile::tempdir().context("make a folder")?;
    let plugin = "#!/bin/sh\ncase $CNI_COMMAND in\n\
                  ADD) echo '{\"cniVersion\":\"1.1.0\",\"ips\":[{\"address\":\"10.88.5.2/24\"}]}' ;;\n\
                  GC) cat >\"${0%/*}/told.new\" && mv \"${0%/*}/told.new\" \"${0%/*}/told\" ;;\nesac\nexit 0\n";
    let program = folder.path().join("keeper");
    fs::write(&program, plugin).context("write a plugin")?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).context("mode")?;
    let list = r#"{"cniVersion":"1.1.0","name":"kept","plugins":[{"type":"keeper"}]}"#;
    fs::write(folder.path().join("10-kept.conflist"), list).context("write a configuration")?;
    let settings = format!("[network]\ncni_conf_dir = {0:?}\ncni_plugin_dirs = [{0:?}]\n", folder.path());
    check(Node::builder().settings(&settings), |node| {
        let pods = [node.run_pod(configs::pod("one"))?, node.run_pod(configs::pod("other"))?];
        let told = folder.path().join("told");
        ensure!(!told.exists(), "at the first start there is nothing to tell");
        node.crash_and_restart()?;
        let text = node.until("the plugin is told", || Ok(fs::read_to_string(&told).ok()))?;
        let input: serde_json::Value = serde_json::from_str(&text).context("what the plugin was told")?;
        let listed = input["cni.dev/valid-attachments"].as_array().context("attachments")?;
        let mut ids: Vec<_> = listed.iter().filter_map(|one| one["containerID"].as_str()).collect();
        let mut expected = pods.each_ref().map(|pod| pod.id.as_str());
        ids.sort_unstable();
        expected.sort_unstable();
        assert_eq!(ids, expected);
        node.remove_pod(&pods[0].id)?;
        node.remove_pod(&pods[1].id)
    });
    Ok(())
}
