//! crictl: the node and pods.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use cleat_test_support::Crictl;
use cleat_tests_cri::{BUSYBOX, Node, check};
use serde_json::{Value, json};

/// Writes a pod's configuration as crictl reads it; returns its file.
pub(crate) fn pod_file(node: &Node, name: &str) -> Result<PathBuf> {
    let logs = node.folder().join("logs").join(name);
    fs::create_dir_all(&logs).context("make a folder for logs")?;
    write(
        node,
        &format!("pod-{name}.json"),
        &json!({
            "metadata": { "name": name, "namespace": "test", "uid": format!("uid-{name}"), "attempt": 1 },
            "hostname": name,
            "log_directory": logs,
            "labels": { "app": name },
            "annotations": { "note": "kept" },
            "linux": {}
        }),
    )
}

/// Writes the configuration of a busybox container that runs `script`; returns its file.
pub(crate) fn container_file(node: &Node, name: &str, script: &str) -> Result<PathBuf> {
    write(
        node,
        &format!("container-{name}.json"),
        &json!({
            "metadata": { "name": name },
            "image": { "image": BUSYBOX },
            "command": ["sh", "-c", script],
            "envs": [{ "key": "GIVEN", "value": "value" }],
            "labels": { "app": name },
            "log_path": format!("{name}.log"),
            "linux": { "resources": { "memory_limit_in_bytes": 64 << 20 } }
        }),
    )
}

fn write(node: &Node, name: &str, value: &Value) -> Result<PathBuf> {
    let file = node.folder().join(name);
    fs::write(&file, value.to_string()).with_context(|| format!("write {}", file.display()))?;
    Ok(file)
}

/// Runs a pod with crictl and returns its id.
pub(crate) fn run_pod(node: &Node, crictl: &Crictl<'_>, name: &str) -> Result<String> {
    crictl.run(&["runp", &pod_file(node, name)?.display().to_string()])
}

/// Creates and starts a container with crictl and returns its id.
pub(crate) fn start(node: &Node, crictl: &Crictl<'_>, pod: &str, name: &str, script: &str) -> Result<String> {
    let container = container_file(node, name, script)?.display().to_string();
    let pod_file = node.folder().join(format!("pod-{}.json", &pod_name(crictl, pod)?));
    let id = crictl.run(&["create", pod, &container, &pod_file.display().to_string()])?;
    assert_eq!(crictl.run(&["start", &id])?, id);
    Ok(id)
}

fn pod_name(crictl: &Crictl<'_>, pod: &str) -> Result<String> {
    let told = crictl.json(&["inspectp", pod])?;
    Ok(told["status"]["metadata"]["name"].as_str().context("name")?.to_owned())
}

#[test]
fn privileged_crictl_version_and_info() {
    check(Node::builder(), |node| {
        let crictl = node.cleat().crictl()?;
        let version = crictl.run(&["version"])?;
        for line in ["Version:  0.1.0", "RuntimeName:  cleat", "RuntimeApiVersion:  v1"] {
            assert!(version.contains(line), "no {line:?} in {version}");
        }
        let info = crictl.json(&["info"])?;
        let conditions = info["status"]["conditions"].as_array().context("conditions")?;
        let ready = |name: &str| {
            conditions.iter().any(|condition| condition["type"] == name && condition["status"] == true)
        };
        assert!(ready("RuntimeReady") && ready("NetworkReady"), "{info}");
        Ok(())
    });
}

#[test]
fn privileged_crictl_pods_inspectp_stopp_rmp() {
    check(Node::builder(), |node| {
        let crictl = node.cleat().crictl()?;
        let one = run_pod(node, &crictl, "one")?;
        let two = run_pod(node, &crictl, "two")?;
        let table = crictl.run(&["pods"])?;
        let row = table.lines().find(|line| line.starts_with(&one[..13])).context("a row for the pod")?;
        let columns: Vec<&str> = row.split_whitespace().collect();
        assert!(columns.contains(&"Ready") && columns.contains(&"one") && columns.contains(&"test"), "{row}");
        assert_eq!(crictl.run(&["pods", "-q", "--label", "app=two"])?, two);
        let told = crictl.json(&["inspectp", &one])?;
        let status = &told["status"];
        assert_eq!(status["id"], *one);
        assert_eq!(status["state"], "SANDBOX_READY");
        assert_eq!(status["metadata"]["attempt"], 1);
        assert_eq!(status["labels"]["app"], "one");
        assert_eq!(status["annotations"]["note"], "kept");
        let ip = status["network"]["ip"].as_str().context("ip")?;
        assert!(ip.starts_with("10.213."), "{ip}");
        assert!(told["info"]["pid"].as_u64().context("pid of the pause process")? > 1, "{told}");
        assert_eq!(told["info"]["runtimeSpec"]["hostname"], "one");
        assert_eq!(crictl.run(&["stopp", &one])?, format!("Stopped sandbox {one}"));
        assert_eq!(crictl.run(&["pods", "-q", "--state", "NotReady"])?, one);
        assert_eq!(crictl.run(&["rmp", &one])?, format!("Removed sandbox {one}"));
        assert_eq!(crictl.run(&["pods", "-q"])?, two);
        crictl.run(&["rmp", "--force", &two])?;
        assert_eq!(crictl.run(&["pods", "-q"])?, "");
        let gone = crictl.failure(&["inspectp", &one])?;
        assert!(gone.contains("NotFound"), "{gone}");
        Ok(())
    });
}

#[test]
fn privileged_crictl_stats_and_statsp() {
    check(Node::builder(), |node| {
        let crictl = node.cleat().crictl()?;
        let pod = run_pod(node, &crictl, "stats")?;
        let script = "head -c 33554432 /dev/zero >/dev/shm/file; echo ready; sleep 1000";
        let id = start(node, &crictl, &pod, "stats", script)?;
        node.await_log(&id, " ready")?;
        let told = crictl.json(&["stats", "-o", "json"])?;
        let stats = told["stats"].as_array().context("stats")?;
        let [stats] = &stats[..] else { anyhow::bail!("{told}") };
        assert_eq!(stats["attributes"]["id"], *id);
        assert!(number(&stats["memory"]["workingSetBytes"]["value"])? >= 32 << 20, "{stats}");
        assert!(number(&stats["cpu"]["usageCoreNanoSeconds"]["value"])? > 0, "{stats}");
        let table = crictl.run(&["stats"])?;
        assert!(table.lines().any(|line| line.starts_with(&id[..13]) && line.contains("stats")), "{table}");
        let told = crictl.json(&["statsp", "-o", "json"])?;
        let stats = told["stats"].as_array().context("stats")?;
        let [stats] = &stats[..] else { anyhow::bail!("{told}") };
        assert_eq!(stats["attributes"]["id"], *pod);
        assert!(number(&stats["linux"]["process"]["processCount"]["value"])? >= 2, "{stats}");
        assert_eq!(stats["linux"]["network"]["defaultInterface"]["name"], "eth0");
        assert_eq!(stats["linux"]["containers"].as_array().context("containers")?.len(), 1);
        let table = crictl.run(&["statsp"])?;
        assert!(table.lines().any(|line| line.contains("stats") && line.contains(&pod[..13])), "{table}");
        Ok(())
    });
}

/// A 64-bit number, which JSON of protocol buffers carries as text.
fn number(value: &Value) -> Result<u64> {
    value.as_str().with_context(|| format!("{value} is no number in quotes"))?.parse().context("number")
}
