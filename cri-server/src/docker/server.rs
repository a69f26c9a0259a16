//! Connections: accepted, served by hyper, cut off at the end.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::wire::Body;
use super::{Door, dispatch};

/// How long a client may take to send the head of a request.
const HEAD_LIMIT: Duration = Duration::from_secs(30);

/// Largest head of a request in bytes: X-Registry-Config carries the logins of all of a user's registries.
const MAX_HEAD_BYTES: usize = 1 << 20;

/// How long to wait before accepting again when the process has no descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until `shutdown`.
pub(super) async fn serve(listener: UnixListener, door: Arc<Door>, shutdown: CancellationToken) {
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let (door, shutdown) = (door.clone(), shutdown.clone());
                connections.spawn(async move {
                    tokio::select! {
                        () = shutdown.cancelled() => {}
                        () = connection(stream, door) => {}
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "could not accept a connection of a Docker client");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    connections.close();
    connections.wait().await;
}

/// Serves one connection to its end. A client that hangs up ends the work of its request.
async fn connection(stream: UnixStream, door: Arc<Door>) {
    let service = service_fn(move |request| answer(door.clone(), request));
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_LIMIT)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await;
    if let Err(error) = served {
        // A client that hung up is no news: command lines do it all the time.
        tracing::debug!(%error, "a connection of a Docker client ended early");
    }
}

async fn answer(door: Arc<Door>, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    Ok(dispatch::answer(door, request).await)
}
