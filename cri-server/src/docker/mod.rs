//! The Docker front door: the Docker Engine API over the engine, for the `docker` command line and the SDKs.
//!
//! ```text
//!  docker, SDKs ──▶ server        connections on one Unix socket, HTTP/1.1 (hyper)
//!                     │ version    /v1.44/images/json ──▶ 1.44, /images/json
//!                     │ route      method and path ──▶ Route      (pure; what is not built is known by name here)
//!                     ▼
//!                   dispatch       one short function per endpoint: parse, ask the engine, answer
//!                     │ images/, system, networks ...             (engine's objects ──▶ JSON: pure)
//!                     ▼
//!                   refusal        one function from the engine's errors to HTTP statuses and `{"message": ...}`
//! ```
//!
//! `wire/` holds what HTTP and Docker's own conventions need: queries, filters, bodies both ways, times, credentials.
//!
//! Nothing here decides what happens to an image or a container: a behaviour that exists in this folder only is in the
//! wrong room. What is not built answers 501 with its name, never a success; Swarm's endpoints answer 503, as those of
//! any engine that is in no swarm.

mod containers;
mod dispatch;
mod events;
mod happenings;
mod healthcheck;
mod images;
mod networks;
mod notices;
mod refusal;
mod route;
mod server;
mod system;
mod version;
mod volumes;
mod wire;

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;

use ipnet::IpNet;
use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::engine::Engine;

/// What the door tells of the daemon's configuration.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    /// Name of the built-in network's bridge.
    pub bridge: String,
    /// Its address ranges.
    pub subnets: Vec<IpNet>,
    /// Folder of what survives a reboot.
    pub root: PathBuf,
    /// Whether the daemon logs debugging messages.
    pub debug: bool,
}

impl Facts {
    /// Where a volume's data is.
    fn volume(&self, name: &str) -> PathBuf {
        self.root.join("volumes").join(name).join("_data")
    }
}

/// The door: what every request gets.
struct Door {
    engine: Engine,
    facts: Facts,
    execs: containers::Execs,
    notices: notices::Notices,
    /// Work that goes on behind an answer's head.
    tasks: TaskTracker,
    shutdown: CancellationToken,
}

impl Door {
    /// Goes on with `work` while its client reads the answer; ends it with the daemon.
    fn run(&self, work: impl Future<Output = ()> + Send + 'static) {
        let shutdown = self.shutdown.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = work => {}
            }
        });
    }

    /// The same for work that blocks: it ends when its client has gone, and the daemon cuts all clients off.
    fn run_blocking(&self, work: impl FnOnce() + Send + 'static) {
        self.tasks.spawn_blocking(work);
    }
}

/// Serves the Docker Engine API on `listener` until `shutdown`; then clients are cut off, as by any end of the daemon.
pub(crate) async fn serve(listener: UnixListener, engine: Engine, facts: Facts, shutdown: CancellationToken) {
    let (tasks, end) = (TaskTracker::new(), shutdown.clone());
    let door = Arc::new(Door {
        engine,
        facts,
        execs: Default::default(),
        notices: Default::default(),
        tasks: tasks.clone(),
        shutdown,
    });
    server::serve(listener, door, end).await;
    tasks.close();
    tasks.wait().await;
}
