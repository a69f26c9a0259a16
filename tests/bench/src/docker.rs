//! `docker` on our engine and on Debian's dockerd: the same command lines, one on the one after one on the other, each
//! engine in namespaces of its own.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cleat_test_support::{Cleat, Dockerd, REGISTRY_PORT, Scope, tool};
use tempfile::TempDir;

use crate::figures::Samples;
use crate::memory::pss_kb;

/// The address of dockerd's bridge: any that is not the host's.
const GATEWAY: &str = "10.213.0.1/16";

/// What containers that stay do; by it they are told from the engine's own processes.
const RESTS: &str = "sleep 1000";

/// How much the container with the long log writes, bytes.
const LOG_BYTES: u64 = 100 << 20;

/// How often the long log is read: it takes seconds.
const LOG_RUNS: u32 = 5;

/// What is timed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Act {
    Run,
    RunDetached,
    Remove,
    Exec,
    Logs,
    List,
    Alone,
    Answer,
}

impl Act {
    /// All, as the table has them.
    const ALL: [Self; 8] = [
        Self::Run,
        Self::RunDetached,
        Self::Remove,
        Self::Exec,
        Self::Logs,
        Self::List,
        Self::Alone,
        Self::Answer,
    ];

    /// Its name, and the share of dockerd's time that ours may take at most. The bar of `docker ps` is held to what the
    /// engine does for it: most of the whole is the start of the command line, which is the same on both sides.
    fn row(self) -> (&'static str, Option<f64>) {
        match self {
            Self::Run => ("`docker run --rm busybox true`, ms", Some(0.4)),
            Self::RunDetached => ("`docker run -d`, ms", Some(0.4)),
            Self::Remove => ("`docker rm -f`, ms", None),
            Self::Exec => ("`docker exec rests true`, ms", Some(0.5)),
            Self::Logs => ("`docker logs` of 100 MiB, ms", Some(0.3)),
            Self::List => ("`docker ps` with all containers, ms", None),
            Self::Alone => ("of each the command line alone (`docker --version`), ms", None),
            Self::Answer => ("the list behind `docker ps` (`GET /containers/json`), ms", Some(0.3)),
        }
    }
}

/// The share of dockerd's memory that ours may take at most.
const MEMORY_MOST: f64 = 0.2;

/// An engine and the `docker` that speaks to it.
struct Side<'a> {
    socket: &'a Path,
    folder: &'a Path,
    docker: PathBuf,
    /// Everything that belongs to the engine, itself included.
    scope: Scope,
    samples: BTreeMap<Act, Samples>,
}

/// Measures both and returns the page.
pub(crate) fn measure(runs: u32, containers: u32) -> Result<String> {
    let folder = TempDir::new().context("make a folder")?;
    let socket = folder.path().join("docker.sock");
    let settings = format!("log.level = \"info\"\ndocker.listen = \"unix://{}\"\n", socket.display());
    let cleat = Cleat::builder().registry().settings(&settings).start()?;
    let dockerd = Dockerd::start(GATEWAY)?;
    let their_socket = dockerd.socket();
    let daemon = cleat.pid().context("cleatd runs")?;
    let mut sides = [
        Side::new(&socket, folder.path(), cleat.scope(), daemon)?,
        Side::new(&their_socket, dockerd.folder(), dockerd.scope(), dockerd.pid())?,
    ];
    for side in &sides {
        side.prepare().with_context(|| format!("prepare {}", side.socket.display()))?;
    }
    for run in 0..runs {
        sides.iter_mut().try_for_each(|side| side.live(&format!("run-{run}")))?;
    }
    for run in 0..LOG_RUNS {
        sides.iter_mut().try_for_each(|side| {
            side.docker_timed(Act::Logs, &["logs", "log"]).with_context(|| format!("log {run}"))
        })?;
    }
    for number in 0..containers {
        let name = format!("crowd-{number}");
        sides
            .iter()
            .try_for_each(|side| side.docker(&["run", "-d", "--name", &name, "busybox", "sleep", "1000"]))?;
    }
    for _ in 0..runs {
        sides.iter_mut().try_for_each(|side| side.lists(containers))?;
    }
    let memory = [sides[0].memory_kb()?, sides[1].memory_kb()?];
    sides.iter().try_for_each(Side::clear)?;
    Ok(page(&sides, memory, runs, containers))
}

impl<'a> Side<'a> {
    fn new(socket: &'a Path, folder: &'a Path, mut scope: Scope, daemon: u32) -> Result<Self> {
        scope.known.retain(|known| *known != daemon);
        Ok(Self { socket, folder, docker: tool("docker")?, scope, samples: Default::default() })
    }

    /// Runs `docker ARGUMENTS...` and drops what it says.
    fn docker(&self, arguments: &[&str]) -> Result<()> {
        let mut command = Command::new(&self.docker);
        command.args(arguments).env_remove("DOCKER_CONTEXT");
        command.env("DOCKER_HOST", format!("unix://{}", self.socket.display()));
        command.env("DOCKER_CONFIG", self.folder.join("config"));
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let status = command.status().context("run docker")?;
        ensure!(status.success(), "docker {arguments:?}: {status}");
        Ok(())
    }

    fn docker_timed(&mut self, act: Act, arguments: &[&str]) -> Result<()> {
        let begun = Instant::now();
        self.docker(arguments)?;
        self.add(act, begun);
        Ok(())
    }

    fn add(&mut self, act: Act, begun: Instant) {
        self.samples.entry(act).or_default().add(begun.elapsed());
    }

    /// The list of containers, by the command line and without it; there are at least as many as these.
    fn lists(&mut self, containers: u32) -> Result<()> {
        self.docker_timed(Act::List, &["ps"])?;
        self.docker_timed(Act::Alone, &["--version"])?;
        let begun = Instant::now();
        let mut stream = UnixStream::connect(self.socket).context("connect to the engine")?;
        let request = "GET /v1.41/containers/json HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).context("ask for the list")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).context("read the list")?;
        self.add(Act::Answer, begun);
        let told = answer.matches("\"Names\":").count();
        ensure!(told >= usize::try_from(containers)?, "the engine lists {told} containers");
        Ok(())
    }

    /// The image, a container to execute in, the long log; and one container that is not counted.
    fn prepare(&self) -> Result<()> {
        let image = format!("127.0.0.1:{REGISTRY_PORT}/cleat-test/busybox:1");
        self.docker(&["pull", "-q", &image])?;
        self.docker(&["tag", &image, "busybox"])?;
        self.docker(&["run", "--rm", "busybox", "true"])?;
        self.docker(&["run", "-d", "--name", "rests", "busybox", "sleep", "1000"])?;
        let script = format!("yes {} | head -c {LOG_BYTES}", "x".repeat(99));
        self.docker(&["run", "-d", "--name", "log", "busybox", "sh", "-c", &script])?;
        self.docker(&["wait", "log"])
    }

    fn live(&mut self, name: &str) -> Result<()> {
        self.docker_timed(Act::Run, &["run", "--rm", "busybox", "true"])?;
        self.docker_timed(Act::RunDetached, &["run", "-d", "--name", name, "busybox", "sleep", "1000"])?;
        self.docker_timed(Act::Remove, &["rm", "-f", name])?;
        self.docker_timed(Act::Exec, &["exec", "rests", "true"])
    }

    /// What the engine's processes take, without the containers' own.
    fn memory_kb(&self) -> Result<u64> {
        let pids = self.scope.processes()?;
        let is_engine = |pid: &&u32| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).trim_end_matches('\0').replace('\0', " ") != RESTS
        };
        pids.iter().filter(is_engine).map(|pid| pss_kb(*pid)).sum()
    }

    /// Removes every container, so that the engine has nothing to stop when it ends.
    fn clear(&self) -> Result<()> {
        let mut command = Command::new("sh");
        command.args(["-c", "\"$0\" ps -aq | xargs \"$0\" rm -f >/dev/null"]).arg(&self.docker);
        command.env("DOCKER_HOST", format!("unix://{}", self.socket.display()));
        let status = command.status().context("remove all containers")?;
        ensure!(status.success(), "removing all containers: {status}");
        Ok(())
    }
}

fn page(sides: &[Side<'_>; 2], memory_kb: [u64; 2], runs: u32, containers: u32) -> String {
    let mut page = format!(
        "The `docker` command line on Cleat and on Debian's dockerd, in turn: medians / 95th percentiles over {runs} runs \
         ({LOG_RUNS} of the log), {containers} containers where all are meant.\n\n\
         | | Cleat | dockerd | ratio | at most |\n|---|---|---|---|---|\n"
    );
    let ms = |samples: &Samples| samples.percentile(50).max(Duration::from_micros(1)).as_secs_f64();
    for act in Act::ALL {
        let [Some(ours), Some(theirs)] = [0, 1].map(|side: usize| sides[side].samples.get(&act)) else {
            continue;
        };
        let (name, most) = act.row();
        let most = most.map(|most| most.to_string()).unwrap_or_default();
        let ratio = ms(ours) / ms(theirs);
        page.push_str(&format!("| {name} | {} | {} | {ratio:.2} | {most} |\n", ours.told(), theirs.told()));
    }
    let [ours, theirs] = memory_kb.map(|kb| kb as f64 / 1024.0);
    page.push_str(&format!(
        "| all processes of the engine with all containers, PSS, MB | {ours:.1} | {theirs:.1} | {:.2} | {MEMORY_MOST} |\n",
        ours / theirs
    ));
    page
}
