//! Serving: sockets, readiness, the end.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use cleat_streaming::Server;
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::engine::Engine;
use crate::streams::Sessions;
use crate::{assemble, cri};

/// How long operations may take to end after SIGTERM; the next start finishes or undoes what is still under way then.
const CLOSE_LIMIT: Duration = Duration::from_secs(10);

/// Worker threads: enough to use a small node, few enough to stay small on a large one (the work is elsewhere).
const WORKERS: usize = 2;

/// A blocking thread that has had nothing to do for this long ends, and gives its stack back.
const IDLE_THREAD: Duration = Duration::from_secs(5);

/// Serves until SIGTERM or SIGINT.
pub(crate) fn run(config: &Config) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .thread_keep_alive(IDLE_THREAD)
        .thread_name("cleatd")
        .enable_all()
        .build()
        .context("start the async runtime")?;
    runtime.block_on(serve(config))
}

async fn serve(config: &Config) -> Result<()> {
    let parts = assemble::parts(config)?;
    let engine = Engine::open(parts).await.context("open the engine")?;
    let listener = listen(&config.listen)?;
    let mut terminate = signal(SignalKind::terminate()).context("watch for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("watch for SIGINT")?;
    let end = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("ending; containers go on");
    };
    tracing::info!(socket = %config.listen.display(), "serving the CRI");
    notify_ready();
    let (streams, sessions) = serve_streams(config, &engine).await?;
    let server = tonic::transport::Server::builder().add_routes(cri::router(engine.clone(), streams));
    let incoming = UnixListenerStream::new(listener);
    // Connections are not waited for: a client may keep one open for ever. What they asked for is finished below.
    tokio::select! {
        served = server.serve_with_incoming(incoming) => served.context("serve the CRI")?,
        () = end => {}
    }
    sessions.end().await;
    engine.close(CLOSE_LIMIT).await;
    remove_socket(&config.listen)
}

/// The task that serves streams.
struct StreamTask {
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl StreamTask {
    /// Ends the sessions: their clients are cut off, as by any end of the daemon.
    async fn end(self) {
        self.shutdown.cancel();
        if let Err(error) = self.task.await {
            tracing::warn!(%error, "the task that serves streams broke");
        }
    }
}

/// Serves the clients of exec, attach and port forward.
async fn serve_streams(config: &Config, engine: &Engine) -> Result<(Arc<Server>, StreamTask)> {
    let settings = cleat_streaming::Settings { address: config.streaming.address };
    let server = Server::bind(settings, Arc::new(Sessions(engine.clone()))).await;
    let server = Arc::new(server.context("serve streams (setting streaming.address)")?);
    let shutdown = CancellationToken::new();
    let task = tokio::spawn({
        let (server, shutdown) = (server.clone(), shutdown.clone());
        async move { server.serve(shutdown).await }
    });
    Ok((server, StreamTask { shutdown, task }))
}

/// Listens on `path`, for root alone. A socket that nobody serves any more is replaced.
fn listen(path: &Path) -> Result<UnixListener> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(|| format!("make the folder {}", folder.display()))?;
    }
    if UnixStream::connect(path).is_ok() {
        bail!("another daemon serves {}; end it, or give this one another --listen", path.display());
    }
    remove_socket(path)?;
    let listener = UnixListener::bind(path).with_context(|| format!("listen on {}", path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o660))
        .with_context(|| format!("restrict access to {}", path.display()))?;
    Ok(listener)
}

fn remove_socket(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove the socket {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Tells the service manager (`sd_notify(3)`), where there is one.
fn notify_ready() {
    if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Ready]) {
        tracing::warn!(%error, "could not tell the service manager that the daemon is ready");
    }
}
