//! `docker` on our engine and on Debian's dockerd: the same command lines, one on the one after one on the other, each
//! engine in namespaces of its own.

use std::fs;
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

/// What is measured, with the share of dockerd's figure that ours may be at most; memory comes last.
const ROWS: [(&str, f64); 7] = [
    ("`docker run --rm busybox true`, ms", 0.4),
    ("`docker run -d`, ms", 0.4),
    ("`docker rm -f`, ms", 1.0),
    ("`docker exec rests true`, ms", 0.5),
    ("`docker ps` with all containers, ms", 0.3),
    ("`docker logs` of 100 MiB, ms", 0.3),
    ("all processes of the engine with all containers, PSS, MB", 0.2),
];

/// How many of the rows are times.
const TIMES: usize = ROWS.len() - 1;

/// An engine and the `docker` that speaks to it.
struct Side<'a> {
    socket: &'a Path,
    folder: &'a Path,
    docker: PathBuf,
    /// Everything that belongs to the engine, itself included.
    scope: Scope,
    samples: [Samples; TIMES],
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
        sides
            .iter_mut()
            .try_for_each(|side| side.time(5, &["logs", "log"]).with_context(|| format!("log {run}")))?;
    }
    for number in 0..containers {
        let name = format!("crowd-{number}");
        sides
            .iter()
            .try_for_each(|side| side.docker(&["run", "-d", "--name", &name, "busybox", "sleep", "1000"]))?;
    }
    for _ in 0..runs {
        sides.iter_mut().try_for_each(|side| side.time(4, &["ps"]))?;
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

    fn time(&mut self, row: usize, arguments: &[&str]) -> Result<()> {
        let begun = Instant::now();
        self.docker(arguments)?;
        self.samples[row].add(begun.elapsed());
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
        self.time(0, &["run", "--rm", "busybox", "true"])?;
        self.time(1, &["run", "-d", "--name", name, "busybox", "sleep", "1000"])?;
        self.time(2, &["rm", "-f", name])?;
        self.time(3, &["exec", "rests", "true"])
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

fn page(sides: &[Side<'_>; 2], memory: [u64; 2], runs: u32, containers: u32) -> String {
    let mut page = format!(
        "The `docker` command line on Cleat and on Debian's dockerd, in turn: medians / 95th percentiles over {runs} runs \
         ({LOG_RUNS} of the log), {containers} containers where all are meant.\n\n\
         | | Cleat | dockerd | ratio | at most |\n|---|---|---|---|---|\n"
    );
    let ms = |samples: &Samples| samples.percentile(50).max(Duration::from_micros(1)).as_secs_f64();
    let [ours, theirs] = sides;
    let times = ours.samples.iter().zip(&theirs.samples);
    let times = times.map(|(ours, theirs)| (ours.told(), theirs.told(), ms(ours) / ms(theirs)));
    let [our_mb, their_mb] = memory.map(|kb| kb as f64 / 1024.0);
    let memory = (format!("{our_mb:.1}"), format!("{their_mb:.1}"), our_mb / their_mb);
    for ((name, most), (ours, theirs, ratio)) in ROWS.iter().zip(times.chain([memory])) {
        page.push_str(&format!("| {name} | {ours} | {theirs} | {ratio:.2} | {most} |\n"));
    }
    page
}
