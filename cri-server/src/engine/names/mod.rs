//! The name servers of containers on networks of their users' own.
//!
//! Such a container asks 127.0.0.11, as with Docker: for who shares a network with it by name, for everything else by way
//! of the host's resolvers. Each has a server of its own, a task with two sockets in the container's namespace, from before
//! its program begins until it has ended; where there is no such container nothing runs. The sockets die with the daemon;
//! its successor opens others for what runs.
//!
//! ```text
//!  container ── 127.0.0.11:53 ──▶ server.rs ──▶ judge.rs ──▶ reply.rs     an answer of our own
//!                                                  │ asks
//!                                                  ▼           └──▶ upstream.rs  asked on the host's network
//!                                             directory.rs
//! ```
//!
//! | file | decides or does |
//! |---|---|
//! | `query.rs` | what a packet asks, if anything: the one place that reads what a container sent |
//! | `directory.rs` | what the server may know of the networks, and which of several meanings of a name holds |
//! | `neighbours.rs` | the directory of the engine's view |
//! | `judge.rs` | what becomes of a packet; pure |
//! | `reply.rs` | messages of our own |
//! | `upstream.rs` | asking somebody else's server |
//! | `server.rs` | sockets, limits, the task |
//! | `resolution.rs` | what the container's resolv.conf says, and whom its server asks |
//!
//! A container is hostile: queries are bounded in size, and those under way in number, in each container and in all.

mod directory;
mod judge;
mod neighbours;
mod query;
mod reply;
mod resolution;
mod server;
mod stream;
#[cfg(test)]
mod tests;
mod upstream;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cleat_network::names::NameSockets;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(super) use directory::Directory;
pub(super) use neighbours::Neighbours;
pub(super) use resolution::Resolution;
use server::Server;

use super::model::Id;

/// Most queries of all containers that wait for somebody else's server: each has a socket of the daemon's.
const OUTSIDE_LIMIT: usize = 1024;

/// The servers that run, by the groups they serve.
pub(crate) struct Names {
    serving: Mutex<HashMap<Id, Serving>>,
    outside: Arc<Semaphore>,
}

/// A server that runs.
struct Serving {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Default for Names {
    fn default() -> Self {
        Self { serving: Mutex::default(), outside: Arc::new(Semaphore::new(OUTSIDE_LIMIT)) }
    }
}

impl Names {
    /// Whether `group` has a server.
    pub(super) fn serves(&self, group: &Id) -> bool {
        self.lock().contains_key(group)
    }

    /// Has `group` served by `sockets` from now on. Called within the executor.
    ///
    /// # Errors
    /// When the executor cannot watch the sockets.
    pub(super) fn serve(
        &self,
        group: &Id,
        sockets: NameSockets,
        directory: Arc<dyn Directory>,
        resolution: &Resolution,
    ) -> std::io::Result<()> {
        let stop = CancellationToken::new();
        let server = Server::new(sockets, directory, resolution, self.outside.clone())?;
        let task = tokio::spawn(server.run(stop.clone()));
        if let Some(before) = self.lock().insert(group.clone(), Serving { stop, task }) {
            before.stop.cancel();
        }
        Ok(())
    }

    /// Ends the server of `group`, if it has one; afterwards its sockets hold the namespace no more. Called on a thread that
    /// may block, within the executor.
    pub(super) fn close(&self, group: &Id) {
        let found = self.lock().remove(group);
        if let Some(serving) = found {
            Handle::current().block_on(serving.end());
        }
    }

    /// Ends all servers.
    pub(super) async fn close_all(&self) {
        let all: Vec<_> = self.lock().drain().map(|(_, serving)| serving).collect();
        for serving in all {
            serving.end().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Id, Serving>> {
        self.serving.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Serving {
    async fn end(self) {
        self.stop.cancel();
        if let Err(error) = self.task.await {
            tracing::error!(%error, "a container's name server did not end by itself");
        }
    }
}
