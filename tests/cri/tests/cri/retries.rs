//! A caller that gives up and asks again: a kubelet does so after two minutes. The work goes on without it, and the
//! repeated request gets the first one's result.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::PermissionsExt;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use cleat_cri_api::v1::*;
use cleat_tests_cri::{Cri, Node, Pod, check, configs};
use tonic::Status;

/// When the first caller gives up. What it asked for waits for the test, so that no answer comes before.
const IMPATIENCE: Duration = Duration::from_secs(1);

/// A network plugin that notes what it is called for, and then waits at a gate: for somebody who opens its pipe.
struct Gate(tempfile::TempDir);

impl Gate {
    fn new() -> Result<Self> {
        let gate = Self(tempfile::tempdir().context("make a folder")?);
        let folder = gate.0.path();
        fs::create_dir(folder.join("net.d")).context("make net.d")?;
        let conf = serde_json::json!({
            "cniVersion": "1.0.0",
            "name": "cleat-gate",
            "plugins": [{
                "type": "gated",
                "bridge": "cni-gate0",
                "isGateway": true,
                "ipam": {"type": "host-local", "dataDir": folder.join("data"), "ranges": [[{"subnet": "10.88.9.0/24"}]]},
            }],
        });
        fs::write(folder.join("net.d/10-gate.conflist"), conf.to_string())
            .context("write a configuration")?;
        let plugin = "#!/bin/sh\nfolder=$(dirname \"$0\")\ncase $CNI_COMMAND in ADD | DEL)\n\
                      echo $CNI_COMMAND >>\"$folder/calls\"\n[ ! -e \"$folder/pipe\" ] || cat \"$folder/pipe\" >&2 ;;\nesac\n\
                      exec /usr/lib/cni/bridge\n";
        fs::write(folder.join("gated"), plugin).context("write the plugin")?;
        fs::set_permissions(folder.join("gated"), fs::Permissions::from_mode(0o755)).context("chmod")?;
        Ok(gate)
    }

    fn settings(&self) -> String {
        let conf = self.0.path().join("net.d");
        format!(
            "[network]\ncni_conf_dir = {conf:?}\ncni_plugin_dirs = [{:?}, \"/usr/lib/cni\"]\n",
            self.0.path()
        )
    }

    /// From now on calls are counted, and wait.
    fn shut(&self) -> Result<()> {
        fs::remove_file(self.0.path().join("calls")).context("forget the calls so far")?;
        let pipe = self.0.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, pipe, rustix::fs::Mode::RWXU).context("shut the gate")
    }

    /// How often the plugin was called for `command`.
    fn calls(&self, command: &str) -> Result<usize> {
        let text = match fs::read_to_string(self.0.path().join("calls")) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            text => text.context("read the plugin's calls")?,
        };
        Ok(text.lines().filter(|line| *line == command).count())
    }

    /// Lets the one call through that waits, or will.
    fn open(&self) -> Result<()> {
        OpenOptions::new().write(true).open(self.0.path().join("pipe")).context("open the gate").map(drop)
    }

    /// Nobody waits any more.
    fn pull_down(&self) -> Result<()> {
        fs::remove_file(self.0.path().join("pipe")).context("remove the gate")
    }
}

/// Asks and gives up; then asks again, while `meanwhile` lets the work end.
fn twice<T: Send>(
    node: &Node,
    call: impl Fn(&Cri) -> Result<T, Status> + Sync,
    under_way: impl Fn() -> Result<bool>,
    let_end: impl FnOnce() -> Result<()>,
) -> Result<T> {
    let impatient = Cri::connect_until(&node.cleat().socket(), Instant::now() + IMPATIENCE)?;
    ensure!(call(&impatient).is_err(), "the first call was answered before its work could end");
    node.until("the work goes on", || Ok(under_way()?.then_some(())))?;
    let again = node.connect()?;
    thread::scope(|scope| {
        let call = &call;
        let asked = scope.spawn(move || call(&again));
        let_end()?;
        asked.join().map_err(|_| anyhow!("a caller panicked"))?.context("the repeated call")
    })
}

#[test]
fn privileged_who_gives_up_and_asks_again_gets_the_first_result() -> Result<()> {
    let gate = Gate::new()?;
    check(Node::builder().settings(&gate.settings()), |node| {
        gate.shut()?;
        let config = node.with_logs(configs::pod("again"))?;
        let id = twice(node, |cri| cri.run_pod(&config), || Ok(gate.calls("ADD")? == 1), || gate.open())?;
        let pod = Pod { id, config };
        let pods = node.cri().pods(PodSandboxFilter::default())?;
        assert_eq!(pods.iter().map(|pod| &pod.id).collect::<Vec<_>>(), [&pod.id]);

        let deaf = configs::script(
            "deaf",
            "trap 'echo asked' TERM; echo up; until [ -e /go ]; do sleep 0.1; done; exit 5",
        );
        let id = created_once(node, &pod, &deaf)?;
        node.cri().start(&id)?;
        let log = node.await_log(&id, " up")?;
        ensure!(!log.contains("asked"), "{log}");
        let asked = || Ok(node.await_log(&id, " asked").is_ok());
        let go = || node.cri().shell(&id, "touch /go").map(drop).context("let it end");
        twice(node, |cri| cri.stop(&id, 600), asked, go)?;
        assert_eq!(node.cri().container(&id)?.exit_code, 5, "it ended by itself, in its time");
        let log = node.await_log(&id, " asked")?;
        assert_eq!(log.matches("asked").count(), 1, "one signal for both: {log}");

        twice(node, |cri| cri.stop_pod(&pod.id), || Ok(gate.calls("DEL")? == 1), || gate.open())?;
        assert_eq!(node.cri().pod_status(&pod.id)?.state(), PodSandboxState::SandboxNotready);
        assert_eq!((gate.calls("ADD")?, gate.calls("DEL")?), (1, 1), "each once");
        gate.pull_down()
    });
    Ok(())
}

/// A caller that is gone at once, before or after its request arrived, changes nothing for the next one.
fn created_once(node: &Node, pod: &Pod, config: &ContainerConfig) -> Result<String> {
    let hasty = Cri::connect_until(&node.cleat().socket(), Instant::now() + Duration::from_millis(3))?;
    let first = hasty.create(&pod.id, config, &pod.config);
    let second = node.cri().create(&pod.id, config, &pod.config)?;
    if let Ok(first) = first {
        assert_eq!(first, second);
    }
    let there = node.cri().containers(ContainerFilter::default())?;
    assert_eq!(there.iter().map(|one| &one.id).collect::<Vec<_>>(), [&second]);
    Ok(second)
}
