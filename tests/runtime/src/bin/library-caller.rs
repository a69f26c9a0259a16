//! A caller of the library, of one thread as it has to be: each scenario checks what the command line does not reach.
//! `library-caller SCENARIO BUNDLE ID` succeeds when the scenario holds; its files are those of the bundle.
#![forbid(unsafe_code)]

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use cleat_runtime::{
    Create, CreateOptions, Created, Exec, Executed, Gate, PendingCreate, Rootfs, Stdio, Target,
};
use cleat_sys::cgroup::{Cgroup, Layout};
use cleat_sys::process::{Cloned, Ended};
use rustix::fs::{CWD, FileType, Mode, mknodat};

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
        "overlay-mapped" => caller.overlay_mapped(),
        "children" => caller.children(),
        "dropped-gate" => caller.dropped_gate(),
        "failures" => caller.failures(),
        "dead-caller" => caller.dead_caller(None),
        "dead-caller-of-init" => caller.dead_caller(Some("createContainer")),
        "given-up" => caller.given_up(None),
        "given-up-builders-hook" => caller.given_up(Some("createRuntime")),
        "given-up-init" => caller.given_up(Some("createContainer")),
        "seccomp-flags" => caller.seccomp_flags(),
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
        let options = CreateOptions::default();
        let request =
            Create { id: &self.id, bundle: &self.bundle, rootfs, stdio, gate: Gate::Caller, options };
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
        let exec = Exec { id, process_json: &process.to_string(), stdio, preserve_fds: 0, cgroups: &[] };
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

    /// On the disk everything belongs to whom the image says, inside to the same numbers, in between to others.
    fn overlay_mapped(&self) -> Result<()> {
        let folder = std::env::var_os("CLEAT_TEST_IDMAP_FOLDER").unwrap_or("/dev/shm".into());
        let base = tempfile::tempdir_in(folder)?;
        let layer = base.path().join("layer");
        copy_folder(&self.bundle.join("rootfs"), &layer)?;
        fs::write(layer.join("theirs"), "")?;
        std::os::unix::fs::chown(layer.join("theirs"), Some(7), Some(8))?;
        let (upper, work) = (base.path().join("upper"), base.path().join("work"));
        fs::create_dir(&upper)?;
        fs::create_dir(&work)?;
        self.change_spec(|spec| {
            let maps = serde_json::json!([{ "containerID": 0, "hostID": 200_000, "size": 65_536 }]);
            spec["linux"]["uidMappings"] = maps.clone();
            spec["linux"]["gidMappings"] = maps;
            if let Some(list) = spec["linux"]["namespaces"].as_array_mut() {
                list.push(serde_json::json!({ "type": "user" }));
            }
        })?;
        let rootfs = Rootfs::Overlay { lower: vec![layer], upper: upper.clone(), work };
        let created = self.create(rootfs)?;
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        ensure!(!mounts.contains(&*base.path().to_string_lossy()), "the host has no mount of it");
        created.start.release()?.finish()?;
        ensure!(cleat_sys::process::reap(&created.pidfd)? == Ended::Exited(0), "it has run");
        let output = fs::read_to_string(self.bundle.join("output"))?;
        ensure!(output == "0 0\n7 8\n0 0\n9 9\n", "{output}");
        for (name, owner) in [("written", 0), ("theirs", 9)] {
            let found = fs::metadata(upper.join(name))?.uid();
            ensure!(found == owner, "{name} belongs to {found} on the disk");
        }
        ensure!(own_children()?.is_empty(), "nobody is left: {}", own_children()?);
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
        let refused = self.exec(&target, "b", "exec /no/such");
        ensure!(refused.is_ok(), "the shell is executed, whatever becomes of it");
        // An init does not end before all processes of its pid namespace are reaped.
        cleat_sys::process::reap(&refused?.pidfd)?;
        target.remove_exec("b")?;
        let (stop, wait) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || wait.recv());
        let refused = self.create(Rootfs::Ready).err().context("two threads are refused")?;
        ensure!(refused.downcast::<cleat_runtime::Failure>()?.errno == Some(16), "EBUSY");
        drop(stop);
        ensure!(thread.join().is_ok(), "the thread ends");
        self.end(&target, &init)
    }

    /// A creation that hangs, in the builder itself (nobody writes the configuration) or at a hook.
    fn hang(&self, at: Option<&str>) -> Result<PendingCreate> {
        let (config, reached) = (self.bundle.join("config.json"), self.bundle.join("reached"));
        match at {
            None => {
                fs::remove_file(&config)?;
                mknodat(CWD, &config, FileType::Fifo, Mode::from_raw_mode(0o600), 0)?;
            }
            Some(point) => self.change_spec(|spec| {
                let script = format!("echo > {}; exec sleep 100", reached.display());
                spec["hooks"] =
                    serde_json::json!({ point: [{ "path": "/bin/busybox", "args": ["sh", "-c", script] }] });
            })?,
        }
        let null = File::options().read(true).write(true).open("/dev/null")?;
        let stdio = Stdio::Descriptors([null.as_fd(); 3]);
        let request = Create {
            id: &self.id,
            bundle: &self.bundle,
            rootfs: Rootfs::Ready,
            stdio,
            gate: Gate::Caller,
            options: CreateOptions::default(),
        };
        Ok(cleat_runtime::spawn_create(&request)?)
    }

    /// Waits until it hangs there. The builder is kept hanging by what is returned.
    fn await_hang(&self, at: Option<&str>) -> Result<Option<File>> {
        let mut held = None;
        wait_until(|| {
            if at.is_some() {
                return Ok(self.bundle.join("reached").exists());
            }
            // A FIFO can be opened like this once somebody reads it; the configuration is made by the child.
            let flags =
                rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::CLOEXEC;
            let path = self.bundle.join("config.json");
            let is_fifo = fs::metadata(&path).is_ok_and(|found| found.file_type().is_fifo());
            held = if is_fifo { rustix::fs::open(&path, flags, Mode::empty()).ok() } else { None };
            Ok(held.is_some())
        })?;
        Ok(held.map(File::from))
    }

    /// What hangs does not outlive its caller. The cgroup does: it is found by its name.
    fn dead_caller(&self, at: Option<&str>) -> Result<()> {
        cleat_sys::process::become_subreaper()?;
        let (mut told, tell) = std::io::pipe()?;
        let pidfd = match cleat_sys::process::fork()? {
            Cloned::Child => {
                drop(tell);
                let hung = self.hang(at);
                let waited = told.read_to_end(&mut Vec::new());
                // Ends as a crash would: nothing is dropped.
                cleat_sys::process::exit_now((hung.is_err() || waited.is_err()).into())
            }
            Cloned::Parent { pidfd, .. } => pidfd,
        };
        let held = self.await_hang(at)?;
        drop(tell);
        ensure!(cleat_sys::process::reap(&pidfd)? == Ended::Exited(0), "the caller has begun");
        // Its children have become ours.
        wait_until(|| {
            while cleat_sys::process::try_reap_any()?.is_some() {}
            Ok(own_children()?.is_empty())
        })?;
        drop(held);
        let cgroup = Cgroup::open(&Layout::detect()?, &format!("/{}", self.id))?;
        ensure!(cgroup.processes()?.is_empty(), "no process is left in the cgroup");
        Ok(cgroup.remove()?)
    }

    /// What hangs is undone by the caller that gives up.
    fn given_up(&self, at: Option<&str>) -> Result<()> {
        let pending = self.hang(at)?;
        let held = self.await_hang(at)?;
        drop(pending);
        drop(held);
        ensure!(own_children()?.is_empty(), "it is gone and reaped");
        Ok(())
    }

    /// The kernel is told the flags: a filter of the caller refuses to load one that wants its actions logged.
    fn seccomp_flags(&self) -> Result<()> {
        const LOG: u64 = 2;
        let outer: oci_spec::runtime::LinuxSeccomp = serde_json::from_value(serde_json::json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{ "names": ["seccomp"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95,
                           "args": [{ "index": 1, "value": LOG, "op": "SCMP_CMP_EQ" }] }],
        }))?;
        let outer = cleat_runtime::seccomp::compile(&outer)?;
        cleat_sys::seccomp::load(&outer.to_bytes(), 0)?;
        for (flags, refused) in [("SECCOMP_FILTER_FLAG_LOG", true), ("SECCOMP_FILTER_FLAG_SPEC_ALLOW", false)]
        {
            self.change_spec(|spec| {
                spec["linux"]["seccomp"] =
                    serde_json::json!({ "defaultAction": "SCMP_ACT_ALLOW", "flags": [flags] });
            })?;
            let created = self.create(Rootfs::Ready)?;
            let started = created.start.release()?.finish();
            let errno = started.err().and_then(|failure| failure.errno);
            ensure!(errno == refused.then_some(95), "{flags}: {errno:?}");
            self.end(&created.target, &created.pidfd)?;
        }
        Ok(())
    }

    fn change_spec(&self, change: impl FnOnce(&mut serde_json::Value)) -> Result<()> {
        let path = self.bundle.join("config.json");
        let mut spec = serde_json::from_slice(&fs::read(&path)?)?;
        change(&mut spec);
        Ok(fs::write(path, serde_json::to_vec(&spec)?)?)
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

/// Copies files, folders and links of a bundle.
fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (source, target, kind) = (entry.path(), to.join(entry.file_name()), entry.file_type()?);
        if kind.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(source)?, target)?;
        } else if kind.is_dir() {
            copy_folder(&source, &target)?;
        } else {
            fs::copy(source, target)?;
        }
    }
    Ok(())
}

/// The ids of our children.
fn own_children() -> Result<String> {
    let own = std::process::id();
    Ok(fs::read_to_string(format!("/proc/{own}/task/{own}/children"))?)
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn wait_until(mut reached: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(5);
    while !reached()? {
        ensure!(Instant::now() < deadline, "it took too long");
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}
