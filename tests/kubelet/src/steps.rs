//! What has to hold under a kubelet.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use cleat_cri_api::v1::{ContainerFilter, PodSandboxFilter, PodSandboxStatusRequest};
use cleat_tests_cri::Node;
use serde_json::{Value, json};

use crate::kubelet::{Kubelet, is_ready, until};
use crate::manifest::{httpd, pod, script, sleeper, with};

type Step = fn(&mut Node, &mut Kubelet) -> Result<()>;

/// Every step, in order; each leaves nothing that runs.
pub(crate) const ALL: &[(&str, Step)] = &[
    ("init, sidecar and ordinary containers, volumes, limits", shapes),
    ("probes by command, HTTP and TCP", probes),
    ("a failing liveness probe restarts its container", unlive),
    ("a container that fails is restarted, later each time", back_off),
    ("postStart and preStop, and time to end", hooks),
    ("new limits reach running containers", resize),
    ("a restart of the kubelet changes nothing", kubelet_restart),
    ("kill -9 of the daemon changes nothing", daemon_crash),
];

fn statuses<'a>(pod: &'a Value, kind: &str) -> impl Iterator<Item = &'a Value> {
    pod["status"][kind].as_array().into_iter().flatten()
}

fn restarts(pod: &Value) -> u64 {
    statuses(pod, "containerStatuses").filter_map(|status| status["restartCount"].as_u64()).sum()
}

/// The ids of a pod's containers, which change when one is started anew.
fn container_ids(pod: &Value) -> Vec<String> {
    statuses(pod, "containerStatuses").map(|status| status["containerID"].to_string()).collect()
}

fn take_away(node: &Node, kubelet: &Kubelet, name: &str) -> Result<()> {
    kubelet.remove(name)?;
    kubelet.ended(node, name)
}

fn shapes(node: &mut Node, kubelet: &mut Kubelet) -> Result<()> {
    let host = node.folder().join("from-host");
    std::fs::create_dir_all(&host).context("make a folder for a hostPath")?;
    std::fs::write(host.join("file"), "from the host\n").context("write into it")?;
    let data = json!([{"name": "data", "mountPath": "/data"}]);
    let everything = json!([
        {"name": "data", "mountPath": "/data"},
        {"name": "host", "mountPath": "/host", "readOnly": true},
        {"name": "about", "mountPath": "/about"},
        {"name": "memory", "mountPath": "/memory"},
    ]);
    let main = sleeper("main", "cat /data/init /host/file /about/labels; ls /data");
    let main = with(main, "volumeMounts", everything);
    let main = with(main, "resources", json!({"limits": {"memory": "48Mi", "cpu": "300m"}}));
    let mut shapes = pod("shapes", json!([main]));
    let sidecar = with(sleeper("sidecar", "touch /data/sidecar"), "restartPolicy", json!("Always"));
    let init = script("init", "echo from init > /data/init");
    shapes["spec"]["initContainers"] =
        json!([with(init, "volumeMounts", data.clone()), with(sidecar, "volumeMounts", data)]);
    // A kubelet without an API server refuses every projected volume. What it writes for the downward API is the same to
    // a runtime: a folder of links that it swaps.
    shapes["spec"]["volumes"] = json!([
        {"name": "data", "emptyDir": {}},
        {"name": "memory", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
        {"name": "host", "hostPath": {"path": host}},
        {"name": "about", "downwardAPI": {"items":
            [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
    ]);
    kubelet.add(&shapes)?;
    let seen = kubelet.ready(node, "shapes")?;
    let init = statuses(&seen, "initContainerStatuses").find(|status| status["name"] == "init");
    ensure!(init.is_some_and(|init| init["state"]["terminated"]["exitCode"] == 0), "{}", seen["status"]);
    let sidecar = statuses(&seen, "initContainerStatuses").find(|status| status["name"] == "sidecar");
    ensure!(sidecar.is_some_and(|sidecar| sidecar["state"]["running"].is_object()), "{}", seen["status"]);
    let logs = kubelet.logs(node, "shapes", "main")?;
    for line in ["from init", "from the host", "app=\"shapes\""] {
        ensure!(logs.contains(line), "{line:?} is not in {logs:?}");
    }
    ensure!(
        kubelet.run_in(node, "shapes", "main", "hostname")?.trim() == "shapes-node",
        "the pod's host name"
    );
    take_away(node, kubelet, "shapes")
}

fn probes(node: &mut Node, kubelet: &mut Kubelet) -> Result<()> {
    let often = |probe: Value| with(probe, "periodSeconds", json!(1));
    let web = with(httpd("web"), "readinessProbe", often(json!({"httpGet": {"path": "/", "port": 80}})));
    let web = with(web, "livenessProbe", often(json!({"tcpSocket": {"port": 80}})));
    let count = json!({"exec": {"command": ["sh", "-c", "echo >> /count"]}});
    let cell = with(sleeper("cell", "touch /count"), "livenessProbe", often(count));
    kubelet.add(&pod("probed", json!([web, cell])))?;
    let first = kubelet.ready(node, "probed")?;
    until("some rounds of probes", || {
        let counted = kubelet.run_in(node, "probed", "cell", "wc%20-l%20/count")?;
        Ok(counted
            .split(' ')
            .next()
            .and_then(|count| count.parse::<u32>().ok())
            .is_some_and(|count| count >= 5))
    })?;
    let later = kubelet.ready(node, "probed")?;
    ensure!(container_ids(&first) == container_ids(&later) && restarts(&later) == 0, "{}", later["status"]);
    take_away(node, kubelet, "probed")
}

fn unlive(node: &mut Node, kubelet: &mut Kubelet) -> Result<()> {
    let probe =
        json!({"exec": {"command": ["test", "-e", "/alive"]}, "periodSeconds": 1, "failureThreshold": 1});
    // The second life makes the file at once.
    let cell = sleeper("cell", "[ ! -e /keep/second ] || touch /alive; touch /keep/second");
    let cell = with(
        with(cell, "livenessProbe", probe),
        "volumeMounts",
        json!([{"name": "keep", "mountPath": "/keep"}]),
    );
    let mut unlive = pod("unlive", json!([cell]));
    unlive["spec"]["volumes"] = json!([{"name": "keep", "emptyDir": {}}]);
    kubelet.add(&unlive)?;
    kubelet.until(node, "unlive", "restarted and ready", |pod| restarts(pod) == 1 && is_ready(pod))?;
    take_away(node, kubelet, "unlive")
}

fn back_off(node: &mut Node, kubelet: &mut Kubelet) -> Result<()> {
    kubelet.add(&pod("failing", json!([script("fails", "echo trying; exit 3")])))?;
    let seen = kubelet.until(node, "failing", "restarted twice, then held back", |pod| {
        let waiting = |status: &Value| status["state"]["waiting"]["reason"] == "CrashLoopBackOff";
        restarts(pod) >= 2 && statuses(pod, "containerStatuses").any(waiting)
    })?;
    let mut last =
        statuses(&seen, "containerStatuses").map(|status| &status["lastState"]["terminated"]["exitCode"]);
    ensure!(last.all(|code| *code == 3), "{}", seen["status"]);
    take_away(node, kubelet, "failing")
}

fn hooks(node: &mut Node, kubelet: &mut Kubelet) -> Result<()> {
    let out = node.folder().join("hooks");
    std::fs::create_dir_all(&out).context("make a folder for what the hooks write")?;
    let run = |script: &str| json!({"exec": {"command": ["sh", "-c", script]}});
    let lifecycle = json!({
        "postStart": run("echo postStart >> /out/said"),
        "preStop": run("echo preStop >> /out/said"),
    });
    let main =
        script("main", "trap 'sleep 1; echo TERM >> /out/said; exit 0' TERM; while true; do sleep 0.1; done");
    let main = with(
        with(main, "lifecycle", lifecycle),
        "volumeMounts",
        json!([{"name": "out", "mountPath": "/out"}]),
    );
    let mut hooked = pod("hooked", json!([main]));
    hooked["spec"]["volumes"] = json!([{"name": "out", "hostPath": {"path": out}}]);
    kubelet.add(&hooked)?;
    kubelet.ready(node, "hooked")?;
    take_away(node, kubelet, "hooked")?;
    let said = std::fs::read_to_string(out.join("said")).context("what the hooks wrote")?;
    ensure!(said == "postStart\npreStop\nTERM\n", "{said:?}");
    Ok(())
}

fn resize(node: &mut Node, kubelet: &mut Kubelet) -> Result<()> {
    let limited = |memory: &str, cpu: &str| {
        let limits = json!({"limits": {"memory": memory, "cpu": cpu}});
        let mut resized = pod("resized", json!([with(sleeper("main", "true"), "resources", limits)]));
        // The kubelet makes a static pod's id of its file's content, unless the file has one: it stays the same pod.
        resized["metadata"]["uid"] = json!("0b6f7a52-1f0e-4c64-9a33-5d1f6a0c9e21");
        resized
    };
    kubelet.add(&limited("48Mi", "300m"))?;
    let first = kubelet.ready(node, "resized")?;
    kubelet.add(&limited("64Mi", "500m"))?;
    let wanted = json!({"memory": "64Mi", "cpu": "500m"});
    let later = kubelet.until(node, "resized", "with its new limits", |pod| {
        statuses(pod, "containerStatuses").any(|status| status["resources"]["limits"] == wanted)
    })?;
    same(&first, &later)?;
    let id = container_ids(&later).concat().trim_matches('"').rsplit('/').next().map(str::to_owned);
    let id = id.context("the container's id")?;
    for (controller, files, expected) in [
        ("memory", ["memory.limit_in_bytes", "memory.max"], (64 << 20).to_string()),
        ("cpu", ["cpu.cfs_quota_us", "cpu.max"], "50000".to_owned()),
    ] {
        let folder = node.cgroup(&id, controller)?;
        let text = files.iter().find_map(|file| std::fs::read_to_string(folder.join(file)).ok());
        let text = text.with_context(|| format!("no limit in {}", folder.display()))?;
        ensure!(text.split_whitespace().next() == Some(&expected), "{controller}: {text:?}");
    }
    told_of_the_pod(node, &id, 64 << 20)?;
    take_away(node, kubelet, "resized")
}

/// Whether the daemon was told what the pod of `container` needs as a whole.
fn told_of_the_pod(node: &Node, container: &str, memory_bytes: i64) -> Result<()> {
    let filter = ContainerFilter { id: container.to_owned(), ..Default::default() };
    let listed = node.cri().containers(filter).context("ListContainers")?;
    let pod_sandbox_id = listed.first().context("the container")?.pod_sandbox_id.clone();
    let request = PodSandboxStatusRequest { pod_sandbox_id, verbose: true };
    let status = node.cri().pod_sandbox_status(request).context("PodSandboxStatus")?;
    let info: Value = serde_json::from_str(status.info.get("info").context("info")?).context("info")?;
    ensure!(info["resources"]["memory_limit_in_bytes"] == memory_bytes, "{info}");
    Ok(())
}

/// What must be the same of a pod that nothing happened to.
fn same(first: &Value, later: &Value) -> Result<()> {
    let ids = (container_ids(first), container_ids(later));
    ensure!(
        ids.0 == ids.1 && restarts(first) == restarts(later),
        "{} became {}",
        first["status"],
        later["status"]
    );
    Ok(())
}

fn kubelet_restart(node: &mut Node, kubelet: &mut Kubelet) -> Result<()> {
    kubelet.add(&pod("stays", json!([sleeper("main", "true"), httpd("web")])))?;
    let first = kubelet.ready(node, "stays")?;
    kubelet.stop()?;
    kubelet.run(node)?;
    same(&first, &kubelet.ready(node, "stays")?)?;
    take_away(node, kubelet, "stays")
}

fn daemon_crash(node: &mut Node, kubelet: &mut Kubelet) -> Result<()> {
    let cell = with(
        sleeper("main", "true"),
        "livenessProbe",
        json!({"exec": {"command": ["true"]}, "periodSeconds": 1, "failureThreshold": 5}),
    );
    kubelet.add(&pod("stays", json!([cell])))?;
    let first = kubelet.ready(node, "stays")?;
    node.crash_and_restart()?;
    same(&first, &kubelet.ready(node, "stays")?)?;
    // A pod that was asked for while no daemon ran comes, too.
    node.cleat_mut().kill()?;
    kubelet.add(&pod("late", json!([sleeper("main", "true")])))?;
    node.start_again()?;
    kubelet.ready(node, "late")?;
    same(&first, &kubelet.ready(node, "stays")?)?;
    take_away(node, kubelet, "late")?;
    take_away(node, kubelet, "stays")
}

/// Many pods at once: all ready, then all gone.
pub(crate) fn multitude(node: &Node, kubelet: &Kubelet, count: u32) -> Result<()> {
    let names: Vec<String> = (0..count).map(|number| format!("many-{number}")).collect();
    let begun = Instant::now();
    names.iter().try_for_each(|name| kubelet.add(&pod(name, json!([sleeper("main", "true")]))))?;
    until("all are ready", || {
        let pods = kubelet.pods(node)?;
        Ok(pods.len() == names.len() && pods.iter().all(is_ready))
    })?;
    let ready = begun.elapsed();
    names.iter().try_for_each(|name| kubelet.remove(name))?;
    until("all are gone", || {
        Ok(node.cri().pods(PodSandboxFilter::default()).context("ListPodSandbox")?.is_empty())
    })?;
    let gone = begun.elapsed() - ready;
    println!(
        "kubelet: {count} pods: all ready after {:.1} s, all gone {:.1} s later",
        ready.as_secs_f64(),
        gone.as_secs_f64()
    );
    Ok(())
}
