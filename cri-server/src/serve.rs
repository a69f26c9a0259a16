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
use tokio::net::{TcpListener, UnixListener};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::config::{Config, LogLevel};
use crate::engine::Engine;
use crate::reload::Reload;
use crate::streams::Sessions;
use crate::{assemble, cri, docker, metrics};

/// How long operations may take to end after SIGTERM; the next start finishes or undoes what is still under way then.
const CLOSE_LIMIT: Duration = Duration::from_secs(10);

/// Worker threads: enough to use a small node, few enough to stay small on a large one (the work is elsewhere).
const WORKERS: usize = 2;

/// A blocking thread that has had nothing to do for this long ends, and gives its stack back.
const IDLE_THREAD: Duration = Duration::from_secs(5);

/// Serves until SIGTERM or SIGINT.
pub(crate) fn run(config: &Config, reload: Reload) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .thread_keep_alive(IDLE_THREAD)
        .thread_name("cleatd")
        .enable_all()
        .build()
        .context("start the async runtime")?;
    let served = runtime.block_on(serve(config, reload));
    // Not waited for: a thread that reads from a volume that does not answer would keep the daemon for ever.
    runtime.shutdown_background();
    served
}

async fn serve(config: &Config, reload: Reload) -> Result<()> {
    let parts = assemble::parts(config)?;
    let engine = Engine::open(parts).await.context("open the engine")?;
    // All others before the CRI's socket is there, by which the daemon counts as ready.
    let docker = serve_docker(config, &engine)?;
    let (streams, sessions) = serve_streams(config, &engine).await?;
    let requests = cri::Requests::default();
    let metrics = serve_metrics(config, &engine, &requests).await?;
    let listener = listen(&config.listen)?;
    let mut terminate = signal(SignalKind::terminate()).context("watch for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("watch for SIGINT")?;
    let hangup = signal(SignalKind::hangup()).context("watch for SIGHUP")?;
    let _reloads = AbortOnDropHandle::new(tokio::spawn(reload.at_each(hangup, engine.clone())));
    let end = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("ending; containers go on");
    };
    tracing::info!(socket = %config.listen.display(), "serving the CRI");
    notify_ready();
    let server =
        tonic::transport::Server::builder().add_routes(cri::router(engine.clone(), streams, &requests));
    let incoming = UnixListenerStream::new(listener);
    // Nearly all of the program is mapped after the start, and little of it is needed by a daemon that waits.
    cleat_sys::own_program::let_go_of_code();
    // Connections are not waited for: a client may keep one open for ever. What they asked for is finished below.
    tokio::select! {
        served = server.serve_with_incoming(incoming) => served.context("serve the CRI")?,
        () = end => {}
    }
    sessions.end().await;
    for door in docker.into_iter().chain(metrics) {
        door.end().await;
    }
    engine.close(CLOSE_LIMIT).await;
    config.docker_listen.iter().try_for_each(|path| remove_socket(path))?;
    remove_socket(&config.listen)
}

/// A task that serves clients.
struct ServeTask {
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl ServeTask {
    /// Ends the sessions: their clients are cut off, as by any end of the daemon.
    async fn end(self) {
        self.shutdown.cancel();
        if let Err(error) = self.task.await {
            tracing::warn!(%error, "a task that serves clients broke");
        }
    }
}

/// Serves the clients of exec, attach and port forward.
async fn serve_streams(config: &Config, engine: &Engine) -> Result<(Arc<Server>, ServeTask)> {
    let streaming = &config.streaming;
    let settings = cleat_streaming::Settings {
        address: streaming.address,
        idle_limit: streaming.idle_limit,
        tls: streaming.tls.clone(),
    };
    let server = Server::bind(settings, Arc::new(Sessions(engine.clone()))).await;
    let server = Arc::new(server.context("serve streams (section streaming of the settings)")?);
    let shutdown = CancellationToken::new();
    let task = tokio::spawn({
        let (server, shutdown) = (server.clone(), shutdown.clone());
        async move { server.serve(shutdown).await }
    });
    Ok((server, ServeTask { shutdown, task }))
}

/// Serves the Docker Engine API, where it is wanted.
fn serve_docker(config: &Config, engine: &Engine) -> Result<Option<ServeTask>> {
    let Some(path) = &config.docker_listen else { return Ok(None) };
    let listener = listen(path).context("serve the Docker Engine API (setting docker.listen)")?;
    tracing::info!(socket = %path.display(), "serving the Docker Engine API");
    let facts = docker::Facts {
        bridge: config.network.bridge.clone(),
        subnets: config.network.subnets.clone(),
        root: config.root.clone(),
        debug: matches!(config.log.level, LogLevel::Debug | LogLevel::Trace),
    };
    let shutdown = CancellationToken::new();
    let task = tokio::spawn(docker::serve(listener, engine.clone(), facts, shutdown.clone()));
    Ok(Some(ServeTask { shutdown, task }))
}

/// Serves figures of the daemon, where they are wanted.
async fn serve_metrics(
    config: &Config,
    engine: &Engine,
    requests: &cri::Requests,
) -> Result<Option<ServeTask>> {
    let Some(address) = config.metrics_listen else { return Ok(None) };
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("listen on {address} for readers of metrics (setting metrics.listen)"))?;
    let address = listener.local_addr().context("ask for the address of the metrics")?;
    tracing::info!(%address, "serving metrics");
    let figures = metrics::Figures::new(engine.clone(), requests);
    let shutdown = CancellationToken::new();
    let task = tokio::spawn(metrics::serve(listener, figures, shutdown.clone()));
    Ok(Some(ServeTask { shutdown, task }))
}

/// Listens on `path`, for root alone. A socket that nobody serves any more is replaced.
fn listen(path: &Path) -> Result<UnixListener> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(|| format!("make the folder {}", folder.display()))?;
    }
    if UnixStream::connect(path).is_ok() {
        bail!("another daemon serves {}; end it, or give this one another address", path.display());
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
