//! Connections: accepted, answered by hyper, cut off at the end. Whoever reaches the address may read.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::CONTENT_TYPE;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Figures;

/// How long a client may take to send the head of a request, also to send the next one.
const HEAD_LIMIT: Duration = Duration::from_secs(30);

/// Largest head of a request in bytes.
const MAX_HEAD_BYTES: usize = 16 << 10;

/// Most connections at a time; others wait to be accepted. Scrapers have one.
const MAX_CONNECTIONS: usize = 16;

/// How long to wait before accepting again when the process has no descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Serves until `shutdown`.
pub(super) async fn serve(listener: TcpListener, figures: Arc<Figures>, shutdown: CancellationToken) {
    let connections = TaskTracker::new();
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    while let Some(accepted) = shutdown.run_until_cancelled(next(&listener, &places)).await {
        let (stream, place) = accepted;
        let (figures, shutdown) = (figures.clone(), shutdown.clone());
        connections.spawn(async move {
            shutdown.run_until_cancelled(connection(stream, figures)).await;
            drop(place);
        });
    }
    connections.close();
    connections.wait().await;
}

/// The next connection, and its place among those that there may be.
async fn next(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> (TcpStream, tokio::sync::OwnedSemaphorePermit) {
    let place = places.clone().acquire_owned().await.expect("nobody closes it");
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return (stream, place),
            Err(error) => {
                tracing::warn!(%error, "could not accept a connection of a reader of metrics");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, figures: Arc<Figures>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let answered = answer(request.method(), request.uri().path(), &figures);
        async move { Ok::<_, Infallible>(answered) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_LIMIT)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a connection of a reader of metrics ended early");
    }
}

fn answer(method: &Method, path: &str, figures: &Figures) -> Response<Full<Bytes>> {
    let refusal = |status, text: &'static str| {
        let mut response = Response::new(Full::from(text));
        *response.status_mut() = status;
        response
    };
    if path != "/metrics" {
        return refusal(StatusCode::NOT_FOUND, "there is nothing here but /metrics\n");
    }
    if method != Method::GET {
        return refusal(StatusCode::METHOD_NOT_ALLOWED, "metrics are read with GET\n");
    }
    let Ok(text) = figures.text() else {
        return refusal(StatusCode::INTERNAL_SERVER_ERROR, "the figures could not be written\n");
    };
    let mut response = Response::new(Full::from(text));
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(OPEN_METRICS));
    response
}
