//! From the first frame to a created container.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

use cleat_conmon_proto::{self as proto, Failure, Launch, Log, Message, Stdin, VERSION};
use cleat_runtime::{Create, CreateOptions, Created, Foreign, Gate, Rootfs};
use rustix::fs::{Mode, OFlags, open};

use crate::attach::{Inputs, Outputs};
use crate::children::ChildSignals;
use crate::complaint::{best_effort, complain};
use crate::connection::{Connections, Inbox, Listener, Outbox, Received};
use crate::container::{Container, Stage};
use crate::exec::Execs;
use crate::failure::{caused, failed, refused};
use crate::hooks::{self, Hooks};
use crate::log::LogFile;
use crate::monitor::Monitor;
use crate::oom::OomKills;
use crate::pace::Pace;
use crate::poller::{Interest, Poller, Source};
use crate::stdio::{InitEnds, Stdio, for_init};

/// The longest launch frame, in bytes: room for an overlay of 500 layers in deep folders. Less than any other frame's
/// bound, since it comes before there is anything to serve.
const MAX_LAUNCH_BYTES: usize = 1 << 20;

/// The folder, in the container's own, in which another runtime keeps its state.
const FOREIGN_STATE: &str = "runtime";

/// A container, and who made it.
struct Made {
    foreign: Option<Foreign>,
    created: Created,
}

/// What exists before the container does.
struct Base {
    poller: Poller,
    signals: ChildSignals,
    listener: Listener,
    folder: OwnedFd,
}

/// Reads what to do from `connection`, does it, and says how it went. None when it failed; nothing is left behind then.
pub(crate) fn launch(connection: UnixStream) -> Option<Monitor> {
    match receive(&connection).and_then(|launch| create(&launch)) {
        Ok(mut monitor) => {
            greet(&mut monitor, connection);
            Some(monitor)
        }
        Err(failure) => {
            let mut outbox = Outbox::default();
            let sent = outbox.push(&Message::Failed(failure), None).and_then(|()| outbox.flush(&connection));
            best_effort("answer the launch", sent);
            None
        }
    }
}

/// Says that the container exists, and goes on serving the connection.
fn greet(monitor: &mut Monitor, connection: UnixStream) {
    let ready =
        connection.set_nonblocking(true).and_then(|()| monitor.connections.add(&monitor.poller, connection));
    if let Some(Some(number)) = best_effort("serve the launch connection", ready) {
        if let Some(connection) = monitor.connections.get_mut(number) {
            connection.watches = true;
        }
        let created = Message::Created { pid: monitor.container.pid };
        monitor.connections.send(&monitor.poller, number, &created, None);
    }
    monitor.end_if_forsaken();
}

fn receive(connection: &UnixStream) -> Result<Launch, Failure> {
    let step = "receive launch";
    match Inbox::with_limit(MAX_LAUNCH_BYTES).receive(connection) {
        Ok(Received::Frame(frame)) => {
            let launch: Launch =
                serde_json::from_slice(&frame.payload).map_err(|error| Failure::new(step, &error, None))?;
            check(&launch)?;
            Ok(launch)
        }
        Ok(Received::Nothing | Received::Closed) => Err(refused(step, "the connection ended before it")),
        Err(error) => Err(caused(step, &error)),
    }
}

fn check(launch: &Launch) -> Result<(), Failure> {
    if launch.version != VERSION {
        return Err(Failure {
            step: "check launch".into(),
            reason: format!("protocol version {} asked for, this monitor speaks {VERSION}", launch.version),
            errno: None,
        });
    }
    let log = launch.log.as_ref().map(|Log::Cri { path, .. }| path.as_path());
    let runtime = launch.runtime.as_deref();
    let paths = [Some(launch.bundle.as_path()), Some(launch.state_dir.as_path()), log, runtime];
    match paths.into_iter().flatten().find(|path| !path.is_absolute()) {
        Some(path) => Err(refused("check launch", &format!("path {} is not absolute", path.display()))),
        None => Ok(()),
    }
}

fn create(launch: &Launch) -> Result<Monitor, Failure> {
    let base = lay_base(&launch.state_dir)?;
    let open = |Log::Cri { path, rotation }: &Log| LogFile::open(path.clone(), *rotation);
    let log = launch.log.as_ref().map(open).transpose();
    let log = log.map_err(|error| caused("open log", &error))?;
    let (stdio, ends) = if launch.terminal {
        (Stdio::with_terminal(log), None)
    } else {
        let made = Stdio::with_pipes(launch, log).map_err(|error| caused("create pipes", &error))?;
        (made.0, Some(made.1))
    };
    let foreign = foreign(launch);
    let mut created = run_runtime(launch, foreign.as_ref(), ends.as_ref())?;
    drop(ends);
    let console = created.console.take();
    let mut monitor = assemble(launch, base, stdio, Made { foreign, created });
    match connect_streams(&mut monitor, launch, console) {
        Ok(()) => Ok(monitor),
        Err(failure) => {
            best_effort("kill container", monitor.container.target.kill_all());
            monitor.container.dissolve();
            if monitor.container.hooks.is_some() {
                hooks::run_stop_hooks(&launch.id, &launch.bundle);
            }
            Err(failure)
        }
    }
}

fn lay_base(state_dir: &Path) -> Result<Base, Failure> {
    let step = |what: &'static str| move |error: io::Error| caused(what, &error);
    let poller = Poller::new().map_err(step("create poller"))?;
    let signals = ChildSignals::new().map_err(step("listen to signals"))?;
    poller.add(&signals, Source::Children, Interest::READABLE).map_err(step("wait for signals"))?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder =
        open(state_dir, flags, Mode::empty()).map_err(io::Error::from).map_err(step("open state folder"))?;
    let own = folder.try_clone().map_err(step("open state folder"))?;
    let listener = Listener::bind(own).map_err(|error| caused("create socket", &error))?;
    poller.add(&listener, Source::Listener, Interest::READABLE).map_err(step("wait for clients"))?;
    Ok(Base { poller, signals, listener, folder })
}

/// The runtime that is to make the container, where it is not the built-in one.
fn foreign(launch: &Launch) -> Option<Foreign> {
    let program = launch.runtime.clone()?;
    Some(Foreign { program, state: launch.state_dir.join(FOREIGN_STATE) })
}

/// Waits for the runtime: before the container exists there is nobody else to serve.
fn run_runtime(
    launch: &Launch,
    foreign: Option<&Foreign>,
    ends: Option<&InitEnds>,
) -> Result<Created, Failure> {
    // A terminal's size comes with `process.consoleSize`, or later from whoever attaches.
    let stdio = ends.map_or(cleat_runtime::Stdio::Terminal { height: 0, width: 0 }, for_init);
    let rootfs = match &launch.rootfs {
        proto::Rootfs::Ready => Rootfs::Ready,
        proto::Rootfs::Overlay { lower, upper, work } => {
            Rootfs::Overlay { lower: lower.clone(), upper: upper.clone(), work: work.clone() }
        }
    };
    let options = CreateOptions::default();
    let request =
        Create { id: &launch.id, bundle: &launch.bundle, rootfs, stdio, gate: Gate::Caller, options };
    let pending = match foreign {
        Some(foreign) => foreign.spawn_create(&request),
        None => cleat_runtime::spawn_create(&request),
    };
    let created = pending.and_then(|pending| pending.finish()).map_err(|failure| {
        if foreign.is_none() {
            // Others may have been run by then.
            hooks::run_stop_hooks(&launch.id, &launch.bundle);
        }
        failed(failure)
    })?;
    for note in &created.notes {
        complain(format_args!("container {}: {note}", launch.id));
    }
    Ok(created)
}

fn assemble(launch: &Launch, base: Base, stdio: Stdio, made: Made) -> Monitor {
    let Made { foreign, created } = made;
    let Base { poller, signals, listener, folder } = base;
    let oom = OomKills::watch(&created.target, &poller);
    let stage = Stage::Created(created.start);
    let (id, pid) = (launch.id.clone(), created.pid);
    let hooks = created.later_hooks.then(|| Hooks { bundle: launch.bundle.clone(), at_start: None });
    let container = Container { id, pid, target: created.target, foreign, hooks, stage };
    let (connections, execs) = (Connections::default(), Execs::default());
    let pace = Pace::default();
    let (outputs, inputs) = (Outputs::default(), Inputs::default());
    Monitor {
        poller,
        signals,
        listener,
        folder,
        container,
        stdio,
        outputs,
        inputs,
        pace,
        oom,
        connections,
        execs,
    }
}

fn connect_streams(monitor: &mut Monitor, launch: &Launch, console: Option<OwnedFd>) -> Result<(), Failure> {
    if launch.terminal {
        let console = console.ok_or_else(|| refused("take terminal", "the runtime gave none"))?;
        monitor.stdio.set_console(console).map_err(|error| caused("take terminal", &error))?;
    }
    if let Some(input) = monitor.stdio.take_input() {
        // A terminal's input ends by a character, not by being closed.
        let is_once = launch.stdin == Stdin::Once && !launch.terminal;
        let taken = monitor.inputs.set_target(&monitor.poller, input, is_once);
        taken.map_err(|error| caused("wait for input", &error))?;
    }
    monitor.stdio.register(&monitor.poller).map_err(|error| caused("wait for output", &error))
}
