//! Port forward over SPDY: a pair of streams (error, data) for each connection.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use crate::backend::Backend;
use crate::spdy::Opened;
use crate::wire::{HEADROOM, Wire};

/// How long the first stream of a pair waits for the second, as with the kubelet.
const PAIR_LIMIT: Duration = Duration::from_secs(30);
/// Most bytes read from a pod's connection at once.
const CHUNK_BYTES: usize = 64 * 1024;

/// Forwards connections until the client opens no more.
pub(crate) async fn run(
    backend: Arc<dyn Backend>,
    pod_id: String,
    wire: Arc<Wire>,
    mut opened: mpsc::Receiver<Opened>,
) {
    let mut waiting: HashMap<String, (Instant, Opened)> = HashMap::new();
    let mut connections = JoinSet::new();
    loop {
        let oldest = waiting.values().map(|(end, _)| *end).min();
        let limit = oldest.unwrap_or_else(|| Instant::now() + PAIR_LIMIT);
        let stream = match timeout_at(limit, opened.recv()).await {
            Ok(Some(stream)) => stream,
            Ok(None) => break,
            Err(_) => {
                waiting.retain(|_, (end, _)| *end > Instant::now());
                continue;
            }
        };
        while connections.try_join_next().is_some() {}
        let key = request_id(&stream);
        let Some((_, first)) = waiting.remove(&key) else {
            waiting.insert(key, (Instant::now() + PAIR_LIMIT, stream));
            continue;
        };
        let is_data = |stream: &Opened| stream.headers.get("streamtype") == Some("data");
        let (data, error) = if is_data(&first) { (first, stream) } else { (stream, first) };
        connections.spawn(connection(backend.clone(), pod_id.clone(), wire.clone(), data, error.id));
    }
}

/// What pairs streams. Clients older than the header open the error stream first and the data stream right after.
fn request_id(stream: &Opened) -> String {
    if let Some(id) = stream.headers.get("requestid") {
        return id.to_owned();
    }
    let is_data = stream.headers.get("streamtype") == Some("data");
    let error = if is_data { stream.id.saturating_sub(2) } else { stream.id };
    format!("stream {error}")
}

/// Serves one connection; whatever becomes of it, the session goes on. That is why a connection that fails is reset and
/// not explained: kubectl and crictl end the whole session, with every other connection, at the first byte on an error
/// stream.
async fn connection(backend: Arc<dyn Backend>, pod_id: String, wire: Arc<Wire>, data: Opened, error: u32) {
    let id = data.id;
    let ended = match forward(&*backend, &pod_id, &wire, data).await {
        Ok(()) => wire.finish(id).await,
        Err(reason) => {
            tracing::info!(pod = pod_id, reason, "a forwarded connection failed");
            wire.reset(id).await
        }
    };
    told(ended);
    told(wire.finish(error).await);
}

/// A client that is gone ends the session elsewhere.
fn told(result: std::io::Result<()>) {
    if let Err(error) = result {
        tracing::debug!(%error, "a port forward client is gone");
    }
}

async fn forward(backend: &dyn Backend, pod_id: &str, wire: &Wire, data: Opened) -> Result<(), String> {
    let port = data.headers.get("port").unwrap_or_default();
    let Some(port) = port.parse::<u16>().ok().filter(|port| *port > 0) else {
        return Err(format!("{port:?} is no port"));
    };
    let failed =
        |error: &dyn std::fmt::Display| format!("error forwarding port {port} to pod {pod_id}: {error}");
    let mut stream = backend.connect(pod_id, port).await.map_err(|error| failed(&error))?;
    let (mut reader, mut writer) = stream.split();
    let (id, mut input) = (data.id, data.input);
    let upload = async {
        while let Some(chunk) = input.recv().await {
            writer.write_all(&chunk).await?;
        }
        writer.shutdown().await
    };
    let download = async {
        let mut buffer = vec![0; HEADROOM + CHUNK_BYTES];
        loop {
            match reader.read(&mut buffer[HEADROOM..]).await? {
                0 => return wire.finish(id).await,
                length => wire.send(id, &mut buffer[..HEADROOM + length], false).await?,
            }
        }
    };
    tokio::try_join!(upload, download).map(|_| ()).map_err(|error| failed(&error))
}
