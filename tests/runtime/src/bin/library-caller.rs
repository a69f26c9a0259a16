//! A caller of the library, of one thread as it has to be: each scenario checks what the command line does not reach.
//! `library-caller SCENARIO BUNDLE ID` succeeds when the scenario holds; its files are those of the bundle.
#![forbid(unsafe_code)]

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use cleat_runtime::{Create, Created, Exec, Executed, Gate, Rootfs, Stdio, Target};
use cleat_sys::process::Ended;

/// The number of execs that are timed.
const TIMED_EXECS: usize = 200;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, scenario, bundle, id] = arguments.as_slice() else { bail!("SCENARIO BUNDLE ID expected") };
    let caller = Caller { bundle: bundle.into(), id: id.clone() };
    match scenario.as_str() {
        "start" => caller.start(),
        "kill-exec" => caller.kill_exec(),
        "update" => caller.update(),
        "overlay" => caller.overlay(),
        "children" => caller.children(),
        "dropped-gate" => caller.dropped_gate(),
        "failures" => caller.failures(),
        "timings" => caller.timings(),
        other => bail!("unknown scenario {other}"),
    }
}

struct Caller {
    bundle: PathBuf,
    id: String,
}

impl Caller {
    fn create(&self, rootfs: Rootfs) -> Result<Created> {
        let (null, output) = (File::open("/dev/null")?, File::create(self.bundle.join("output"))?);
        let stdio = Stdio::Descriptors([null.as_fd(), output.as_fd(), output.as_fd()]);
        let request = Create { id: &self.id, bundle: &self.bundle, rootfs, stdio, gate: Gate::Caller };
        Ok(cleat_runtime::spawn_create(&request)?.finish()?)
    }

    fn run(&self) -> Result<(Target, std::os::fd::OwnedFd)> {
        let created = self.create(Rootfs::Ready)?;
        created.start.release()?.finish()?;
        Ok((created.target, created.pidfd))
    }

    fn exec(&self, target: &Target, id: &str, script: &str) -> Result<Executed> {
        let null = File::options().read(true).write(true).open("/dev/null")?;
        let process = serde_json::json!({
            "user": { "uid": 0, "gid": 0 }, "cwd": "/", "env": ["PATH=/bin"], "args": ["sh", "-c", script],
        });
        let stdio = Stdio::Descriptors([null.as_fd(); 3]);
        let exec = Exec { id, process_json: &process.to_string(), stdio };
        Ok(cleat_runtime::spawn_exec(target, &exec)?.finish()?)
    }

    fn end(&self, target: &Target, init: &std::os::fd::OwnedFd) -> Result<()> {
        target.kill_all()?;
        cleat_sys::process::reap(init)?;
        ensure!(target.cgroup().wait_empty(Duration::from_secs(5))?, "processes are left");
        Ok(target.remove_cgroup()?)
    }

    /// Init waits, starts when let go, is our child and ends as its program does.
    fn start(&self) -> Result<()> {
        let created = self.create(Rootfs::Ready)?;
        ensure!(fs::read_to_string(self.bundle.join("output"))?.is_empty(), "it started by itself");
        ensure!(cleat_sys::process::try_reap(&created.pidfd)?.is_none(), "it has ended");
        created.start.release()?.finish()?;
        ensure!(cleat_sys::process::reap(&created.pidfd)? == Ended::Exited(7), "its code is 7");
        ensure!(fs::read_to_string(self.bundle.join("output"))? == "out\n", "its output is there");
        Ok(created.target.remove_cgroup()?)
    }

    /// A whole tree of processes ends, and nothing else.
    fn kill_exec(&self) -> Result<()> {
        let (target, init) = self.run()?;
        let tree = "for i in 1 2 3; do setsid sh -c 'sleep 100 & sleep 100 & wait' & done; sleep 100";
        let executed = self.exec(&target, "tree", tree)?;
        let child = target.cgroup().child("exec-tree")?;
        wait_until(|| Ok(child.processes()?.len() >= 10))?;
        target.kill_exec("tree")?;
        ensure!(cleat_sys::process::reap(&executed.pidfd)? == Ended::Signaled(9), "it was killed");
        ensure!(child.wait_empty(Duration::from_secs(5))?, "its tree is gone");
        target.remove_exec("tree")?;
        target.remove_exec("tree")?;
        ensure!(cleat_sys::process::try_reap(&init)?.is_none(), "init goes on");
        ensure!(self.exec(&target, "../x", "true").is_err(), "an id is a plain name");
        self.end(&target, &init)
    }

    /// All limits or none.
    fn update(&self) -> Result<()> {
        let (target, init) = self.run()?;
        let cgroup = target.cgroup();
        let limits = |pids: i64, memory: i64| {
            serde_json::json!({ "pids": { "limit": pids }, "memory": { "limit": memory } }).to_string()
        };
        cleat_runtime::spawn_update(cgroup, &limits(50, 64 << 20))?.finish()?;
        ensure!(cgroup.read("pids", "pids.max")?.trim() == "50", "it is set");
        // Less than what is in use cannot be; what was written before it is put back.
        let impossible =
            serde_json::json!({ "pids": { "limit": 51 }, "cpu": { "cpus": "4000" } }).to_string();
        ensure!(cleat_runtime::update(cgroup, &impossible).is_err(), "there is no such processor");
        ensure!(cgroup.read("pids", "pids.max")?.trim() == "50", "nothing has changed");
        ensure!(cleat_runtime::update(cgroup, &limits(-5, 0)).is_err(), "nonsense is refused");
        self.end(&target, &init)
    }

    /// Layers are stacked in the container's namespace only; 127 of them.
    fn overlay(&self) -> Result<()> {
        let base = tempfile::tempdir_in("/dev/shm")?;
        let make = |name: &str| -> Result<PathBuf> {
            let path = base.path().join(name);
            fs::create_dir(&path)?;
            Ok(path)
        };
        let mut lower: Vec<PathBuf> =
            (0..126).map(|number| make(&format!("layer:{number},x"))).collect::<Result<_>>()?;
        for (number, layer) in lower.iter().enumerate() {
            fs::write(layer.join("topmost"), number.to_string())?;
        }
        lower.push(self.bundle.join("rootfs"));
        let (upper, work) = (make("upper")?, make("work")?);
        let created = self.create(Rootfs::Overlay { lower, upper: upper.clone(), work })?;
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        ensure!(!mounts.contains(&*base.path().to_string_lossy()), "the host has no mount of it");
        created.start.release()?.finish()?;
        ensure!(cleat_sys::process::reap(&created.pidfd)? == Ended::Exited(0), "it has run");
        ensure!(fs::read_to_string(self.bundle.join("output"))? == "0", "the first layer is the topmost");
        ensure!(upper.join("written").exists(), "changes are in the upper folder");
        Ok(created.target.remove_cgroup()?)
    }

    /// Init and exec'd processes are our children, and nobody else is.
    fn children(&self) -> Result<()> {
        let (target, init) = self.run()?;
        let executed = self.exec(&target, "a", "exec sleep 100")?;
        let own = std::process::id();
        let children = fs::read_to_string(format!("/proc/{own}/task/{own}/children"))?;
        ensure!(children.split_whitespace().count() == 2, "two children, not {children:?}");
        ensure!(children.contains(&executed.pid.to_string()), "{children:?} has {}", executed.pid);
        target.kill_exec("a")?;
        cleat_sys::process::reap(&executed.pidfd)?;
        target.remove_exec("a")?;
        self.end(&target, &init)
    }

    /// Without anybody to let it go init ends.
    fn dropped_gate(&self) -> Result<()> {
        let created = self.create(Rootfs::Ready)?;
        drop(created.start);
        ensure!(cleat_sys::process::reap(&created.pidfd)? == Ended::Exited(1), "it ends by itself");
        Ok(created.target.remove_cgroup()?)
    }

    /// A failure has its error number, leaves no child and no cgroup; a second thread is refused.
    fn failures(&self) -> Result<()> {
        let missing =
            Rootfs::Overlay { lower: vec!["/no/such".into()], upper: "/x".into(), work: "/y".into() };
        let failure = self.create(missing).err().context("there is no such layer")?;
        let failure = failure.downcast::<cleat_runtime::Failure>()?;
        ensure!(failure.errno == Some(2), "{failure:?}");
        let own = std::process::id();
        ensure!(
            fs::read_to_string(format!("/proc/{own}/task/{own}/children"))?.is_empty(),
            "no child is left"
        );
        let (target, init) = self.run()?;
        let failure = self.exec(&target, "b", "true").map(|_| ());
        ensure!(failure.is_ok(), "it runs");
        cleat_sys::process::try_reap_any()?;
        let (stop, wait) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || wait.recv());
        let refused = self.create(Rootfs::Ready).err().context("two threads are refused")?;
        ensure!(refused.downcast::<cleat_runtime::Failure>()?.errno == Some(16), "EBUSY");
        drop(stop);
        ensure!(thread.join().is_ok(), "the thread ends");
        self.end(&target, &init)
    }

    /// Not a judgement, a measurement: prints medians.
    fn timings(&self) -> Result<()> {
        let mut creations = Vec::new();
        for _ in 0..30 {
            let begin = Instant::now();
            let created = self.create(Rootfs::Ready)?;
            created.start.release()?.finish()?;
            creations.push(begin.elapsed());
            self.end(&created.target, &created.pidfd)?;
        }
        let (target, init) = self.run()?;
        let (mut starts, mut wholes) = (Vec::new(), Vec::new());
        for _ in 0..TIMED_EXECS {
            let begin = Instant::now();
            let executed = self.exec(&target, "timed", "true")?;
            starts.push(begin.elapsed());
            cleat_sys::process::reap(&executed.pidfd)?;
            target.remove_exec("timed")?;
            wholes.push(begin.elapsed());
        }
        self.end(&target, &init)?;
        println!(
            "create and start {:?}, exec {:?}, exec to removal {:?}",
            median(creations),
            median(starts),
            median(wholes)
        );
        Ok(())
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn wait_until(reached: impl Fn() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(5);
    while !reached()? {
        ensure!(Instant::now() < deadline, "it took too long");
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}
