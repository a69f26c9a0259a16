//! Attacks that need a moment: paths that change while mounts are made, programs that are written to while they run, and
//! what an exec'd process could get hold of.
#![forbid(unsafe_code)]

use std::fs;
use std::hash::{DefaultHasher, Hasher};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use cleat_tests_runtime::{Bundle, Container, runtime, text};
use rustix::fs::{CWD, RenameFlags};
use serde_json::json;

/// Containers that are made while a path changes; each with as many mounts through it as below.
const ROUNDS: u32 = 40;
/// See [`ROUNDS`].
const MOUNTS: u32 = 16;
/// Processes that are exec'd while others try to write to their program.
const EXECS: u32 = 60;

/// Exchanges two paths, over and over, until it is dropped.
struct Racer {
    stop: Arc<AtomicBool>,
    exchanges: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Racer {
    fn start(one: PathBuf, other: PathBuf) -> Self {
        let (stop, exchanges) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, counted) = (stop.clone(), exchanges.clone());
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                rustix::fs::renameat_with(CWD, &one, CWD, &other, RenameFlags::EXCHANGE)
                    .expect("paths can be exchanged");
                counted.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self { stop, exchanges, thread: Some(thread) }
    }
}

impl Drop for Racer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking(), "the racer ends");
        }
    }
}

/// A folder of the host's with one file, which nobody may change.
struct Canary(tempfile::TempDir);

impl Canary {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder can be made");
        fs::write(folder.path().join("file"), "host's\n").expect("a file can be written");
        Self(folder)
    }

    /// As links in an image name it: from the root, and upwards, further than any folder in the image is deep.
    fn links(&self) -> [String; 2] {
        let path = self.0.path().display();
        [path.to_string(), format!("../../../../../../../..{path}")]
    }

    fn assert_untouched(&self, after: &str) {
        let names: Vec<_> = fs::read_dir(self.0.path()).expect("it is there").flatten().collect();
        assert_eq!(names.len(), 1, "after {after} it has {names:?}");
        let content = fs::read_to_string(self.0.path().join("file")).expect("its file is there");
        assert_eq!(content, "host's\n", "after {after}");
    }
}

/// CVE-2021-30465: a volume's folder becomes a link between the look and the mount.
#[test]
fn privileged_a_race_between_a_folder_and_a_link_leads_no_mount_out() {
    for kind in [0, 1] {
        let canary = Canary::new();
        race(&canary, &canary.links()[kind]);
    }
}

fn race(canary: &Canary, link: &str) {
    let mut bundle = Bundle::script("cat /volume/swap/mount-0/inside 2>/dev/null; true");
    let source = tempfile::tempdir().expect("a folder can be made");
    fs::write(source.path().join("inside"), "x").expect("a file can be written");
    let volume = bundle.rootfs("volume");
    fs::create_dir_all(volume.join("swap")).expect("a folder can be made");
    symlink(link, volume.join("link")).expect("a link can be made");
    for number in 0..MOUNTS {
        // Every other target is a file: both kinds are made where they are missing.
        let from = if number % 2 == 0 { source.path().to_owned() } else { source.path().join("inside") };
        bundle.mount(json!({
            "destination": format!("/volume/swap/mount-{number}"), "type": "bind", "source": from, "options": ["bind"],
        }));
    }
    let racer = Racer::start(volume.join("swap"), volume.join("link"));
    let mut created = 0;
    for round in 0..ROUNDS {
        // Made or refused, as the race goes; never outside.
        let output = Container::new(&mut bundle).run();
        created += u32::from(output.status.success());
        canary.assert_untouched(&format!("round {round}: {}", text(&output)));
    }
    let exchanges = racer.exchanges.load(Ordering::Relaxed);
    drop(racer);
    assert!(exchanges > u64::from(ROUNDS), "{exchanges} exchanges are no race");
    println!("{created} of {ROUNDS} containers were made during {exchanges} exchanges");
}

/// CVE-2025-31133 and -52565: the places that the runtime writes to, replaced by links in the image.
#[test]
fn privileged_links_in_place_of_devices_lead_nowhere() {
    for name in ["null", "zero", "full", "tty", "ptmx", "fd", "stdin", "console", "pts", "shm", "mqueue"] {
        for (kind, to_file) in [(0, true), (0, false), (1, true), (1, false)] {
            let canary = Canary::new();
            let link = &canary.links()[kind];
            let mut bundle = Bundle::script("echo x > /dev/null; echo x > /dev/console; true");
            // The image's own /dev, in which it could have put anything.
            let mounts = bundle.spec["mounts"].as_array_mut().unwrap();
            mounts.retain(|mount| mount["destination"] != "/dev");
            let target = if to_file { format!("{link}/file") } else { link.clone() };
            symlink(target, bundle.rootfs("dev").join(name)).unwrap();
            if name == "console" {
                bundle.spec["process"]["terminal"] = true.into();
            }
            let socket = bundle.path().join("console.sock");
            let listener = UnixListener::bind(&socket).unwrap();
            let container = Container::new(&mut bundle);
            let mut create = container.command("create");
            create.arg("--bundle").arg(bundle.path());
            if name == "console" {
                create.arg("--console-socket").arg(&socket);
            }
            // Init would keep a pipe open.
            create.arg(&container.id).stdout(Stdio::null()).stderr(Stdio::null());
            let is_created = create.status().unwrap().success();
            if is_created {
                assert!(container.simple("start").status.success());
                container.await_status("stopped");
            }
            drop(listener);
            canary.assert_untouched(&format!("/dev/{name} (made: {is_created})"));
        }
    }
}

/// CVE-2019-5736: while the runtime's processes come and go in the container, it tries to write to their program.
#[test]
fn privileged_the_runtimes_program_cannot_be_written_to_by_the_container() {
    let before = hash(&runtime());
    let mut bundle = Bundle::script(
        "echo ready; while true; do for exe in /proc/[0-9]*/exe; do
           case $(readlink $exe) in /bin/busybox) ;; *) { echo broken > $exe; } 2>/dev/null && echo written;; esac
         done; done",
    );
    symlink("/proc/self/exe", bundle.rootfs("bin/runtime")).unwrap();
    let container = Container::new(&mut bundle);
    container.start();
    container.await_output("ready");
    for _ in 0..EXECS {
        // By its own link the runtime would execute itself, and stay.
        let program = container.exec(&[], &["/bin/runtime", "--version"]);
        let echoed = container.exec(&[], &["echo", "fine"]);
        assert!(echoed.status.success(), "{}{}", text(&program), text(&echoed));
    }
    assert_eq!(hash(&runtime()), before, "the program has changed");
    assert!(!container.output().contains("written"), "{}", container.output());
}

fn hash(path: &Path) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(&fs::read(path).expect("the program can be read"));
    hasher.finish()
}

/// CVE-2024-21626's other half, and CVE-2022-29162: what an exec'd process is born with.
#[test]
fn privileged_an_execd_process_inherits_no_descriptor_and_no_capability() {
    let mut bundle = Bundle::script("exec sleep 100");
    let container = Container::new(&mut bundle);
    container.start();
    let output = container.exec(&[], &["sh", "-c", "for fd in /proc/self/fd/*; do echo ${fd##*/}; done"]);
    let all = text(&output);
    let numbers: Vec<u32> = all.lines().map(|number| number.parse().unwrap()).collect();
    // The shell's own descriptor of the folder it lists may follow.
    assert!(numbers.starts_with(&[0, 1, 2]) && numbers.len() <= 4, "{numbers:?}");
    for options in [&[][..], &["--user", "1000:1000"], &["--cap", "CAP_KILL"]] {
        let output = container.exec(options, &["grep", "-E", "CapInh|CapAmb", "/proc/self/status"]);
        let all = text(&output);
        assert!(all.contains("CapInh:\t0000000000000000"), "{options:?}: {all}");
        assert!(all.contains("CapAmb:\t0000000000000000"), "{options:?}: {all}");
    }
}
