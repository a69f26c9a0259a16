//! Port forward: over SPDY a pair of streams (error, data) for each connection; over the older WebSocket protocol a pair
//! of channels for each port.
//!
//! Whatever becomes of one connection, the others and the session go on. What a connection waits for is dropped when it
//! breaks, but never while it sends: half a frame would break all of them.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::backend::{Backend, PortForwardRequest};
use crate::remote::Input;
use crate::spdy::Opened;
use crate::wire::{HEADROOM, Reset, Wire};

/// How long the first stream of a pair waits for the second, as with the kubelet.
const PAIR_LIMIT: Duration = Duration::from_secs(30);
/// Streams that wait for their second. A client that opens pairs one after the other has one.
const WAITING: usize = 64;
/// Connections of one session at a time; more are refused.
const CONNECTIONS: usize = 512;
/// Most bytes read from a pod's connection at once.
const CHUNK_BYTES: usize = 64 * 1024;
/// Most ports of a session whose channels are numbered by a byte, two for each.
const PORTS: usize = 127;

/// Forwards connections until the client opens no more.
pub(crate) async fn run(
    backend: Arc<dyn Backend>,
    pod_id: String,
    wire: Arc<Wire>,
    mut opened: mpsc::Receiver<Opened>,
) {
    let mut pairs = Pairs::default();
    let mut connections = JoinSet::new();
    loop {
        let received = match pairs.limit() {
            Some(limit) => timeout_at(limit, opened.recv()).await,
            None => Ok(opened.recv().await),
        };
        while connections.try_join_next().is_some() {}
        let is_full = connections.len() >= CONNECTIONS;
        let step = match received {
            Ok(None) => break,
            Ok(Some(stream)) if is_full => Step::Refuse(vec![stream.id]),
            Ok(Some(stream)) => pairs.add(stream),
            Err(_) => pairs.expire(),
        };
        match step {
            Step::Wait => {}
            Step::Connect(data, error) => {
                connections.spawn(connection(backend.clone(), pod_id.clone(), wire.clone(), data, error));
            }
            Step::Refuse(ids) => {
                for id in ids {
                    told(wire.reset(id, Reset::Refused).await);
                }
            }
        }
    }
}

/// What to do about a stream.
enum Step {
    Wait,
    /// A pair is complete: the data stream, and the number of the error stream.
    Connect(Box<Opened>, u32),
    Refuse(Vec<u32>),
}

/// Streams that wait for the other one of their pair.
#[derive(Default)]
struct Pairs(HashMap<String, (Instant, Opened)>);

impl Pairs {
    /// When the oldest one has waited for long enough.
    fn limit(&self) -> Option<Instant> {
        self.0.values().map(|(end, _)| *end).min()
    }

    fn add(&mut self, stream: Opened) -> Step {
        let is_data = |stream: &Opened| stream.headers.get("streamtype") == Some("data");
        let is_known = matches!(stream.headers.get("streamtype"), Some("data" | "error"));
        if !is_known || port(&stream).is_none() {
            return Step::Refuse(vec![stream.id]);
        }
        let key = request_id(&stream);
        let Some((_, first)) = self.0.remove(&key) else {
            if self.0.len() >= WAITING {
                return Step::Refuse(vec![stream.id]);
            }
            self.0.insert(key, (Instant::now() + PAIR_LIMIT, stream));
            return Step::Wait;
        };
        match (is_data(&first), is_data(&stream)) {
            (true, false) => Step::Connect(Box::new(first), stream.id),
            (false, true) => Step::Connect(Box::new(stream), first.id),
            _ => Step::Refuse(vec![first.id, stream.id]),
        }
    }

    fn expire(&mut self) -> Step {
        let now = Instant::now();
        let expired = self.0.extract_if(|_, (end, _)| *end <= now);
        Step::Refuse(expired.map(|(_, (_, stream))| stream.id).collect())
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

fn port(stream: &Opened) -> Option<u16> {
    stream.headers.get("port")?.parse().ok().filter(|port| *port > 0)
}

/// Serves one connection. One that fails is reset and not explained: kubectl and crictl end the whole session, with every
/// other connection, at the first byte on an error stream.
async fn connection(
    backend: Arc<dyn Backend>,
    pod_id: String,
    wire: Arc<Wire>,
    data: Box<Opened>,
    error: u32,
) {
    let Some(port) = port(&data) else { return };
    let Opened { id, input, reset, .. } = *data;
    let ended = match backend.connect(&pod_id, port).await {
        Ok(stream) => Pipe { wire: &wire, channel: id, is_reset: reset }.run(stream, input).await,
        Err(failure) => Err(Break::Failed(failure.to_string())),
    };
    let told_so = match ended {
        // Its end is told already, or nobody listens any more.
        Ok(()) | Err(Break::Reset) => Ok(()),
        Err(Break::Failed(reason)) => {
            tracing::info!(pod = pod_id, port, reason, "a forwarded connection failed");
            wire.reset(id, Reset::Cancelled).await
        }
    };
    told(told_so);
    told(wire.finish(error).await);
}

/// A client that is gone ends the session elsewhere.
fn told(result: io::Result<()>) {
    if let Err(error) = result {
        tracing::debug!(%error, "a port forward client is gone");
    }
}

/// Why a connection did not end as it should.
enum Break {
    /// The client gave it up.
    Reset,
    Failed(String),
}

/// A client's side of one connection.
struct Pipe<'w> {
    wire: &'w Wire,
    channel: u32,
    is_reset: oneshot::Receiver<()>,
}

impl Pipe<'_> {
    /// Copies both ways until both have ended.
    async fn run(self, mut stream: TcpStream, input: Input) -> Result<(), Break> {
        let (reader, writer) = stream.split();
        let Self { wire, channel, is_reset } = self;
        let (over, broken) = (CancellationToken::new(), CancellationToken::new());
        let client = async {
            tokio::select! {
                // An error means that the session goes: the same.
                _ = is_reset => { broken.cancel(); true }
                () = over.cancelled() => false,
            }
        };
        let copies = async {
            let down = async {
                let downloaded = download(reader, wire, channel, &broken).await;
                if downloaded.is_err() {
                    broken.cancel();
                }
                downloaded
            };
            let up = async {
                tokio::select! {
                    uploaded = upload(writer, input) => uploaded,
                    () = broken.cancelled() => Ok(()),
                }
            };
            // What the pod still has to say is told, even if it takes nothing more.
            let (downloaded, uploaded) = tokio::join!(down, up);
            over.cancel();
            downloaded.and(uploaded)
        };
        match tokio::join!(client, copies) {
            (true, _) => Err(Break::Reset),
            (false, copied) => copied.map_err(|error| Break::Failed(error.to_string())),
        }
    }
}

async fn upload(mut writer: WriteHalf<'_>, mut input: Input) -> io::Result<()> {
    while let Some(chunk) = input.recv().await {
        writer.write_all(&chunk).await?;
    }
    match writer.shutdown().await {
        // The pod has closed already.
        Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
        ended => ended,
    }
}

async fn download(
    mut reader: ReadHalf<'_>,
    wire: &Wire,
    channel: u32,
    broken: &CancellationToken,
) -> io::Result<()> {
    let mut buffer = vec![0; HEADROOM + CHUNK_BYTES];
    loop {
        let length = tokio::select! {
            () = broken.cancelled() => return Ok(()),
            read = reader.read(&mut buffer[HEADROOM..]) => read?,
        };
        match length {
            0 => return wire.finish(channel).await,
            length => wire.send(channel, &mut buffer[..HEADROOM + length]).await?,
        }
    }
}

/// How many channels the ports of a session without streams take.
pub(crate) fn channel_count(ports: &[u16]) -> usize {
    2 * ports.len().min(PORTS)
}

/// Forwards one connection to each port that was asked for, on its pair of channels: data, then error. Each of them first
/// tells its port, in the kubelet's byte order, which is little-endian.
pub(crate) async fn ports(
    backend: Arc<dyn Backend>,
    request: PortForwardRequest,
    wire: Arc<Wire>,
    inputs: Vec<Input>,
) -> io::Result<()> {
    let mut connections = JoinSet::new();
    let data = inputs.into_iter().step_by(2).zip((0..).step_by(2));
    for (port, (input, channel)) in request.ports.into_iter().zip(data) {
        wire.tell(channel, &port.to_le_bytes()).await?;
        wire.tell(channel + 1, &port.to_le_bytes()).await?;
        let (backend, pod_id, wire) = (backend.clone(), request.pod_id.clone(), wire.clone());
        connections.spawn(async move {
            if let Err(reason) = one_port(&*backend, &pod_id, port, &wire, (channel, input)).await {
                let text = format!("error forwarding port {port} to pod {pod_id}: {reason}");
                told(wire.tell(channel + 1, text.as_bytes()).await);
            }
        });
    }
    while connections.join_next().await.is_some() {}
    Ok(())
}

async fn one_port(
    backend: &dyn Backend,
    pod_id: &str,
    port: u16,
    wire: &Wire,
    (channel, input): (u32, Input),
) -> Result<(), String> {
    // Channels cannot be reset.
    let (_never, is_reset) = oneshot::channel();
    let stream = backend.connect(pod_id, port).await.map_err(|failure| failure.to_string())?;
    match (Pipe { wire, channel, is_reset }).run(stream, input).await {
        Ok(()) | Err(Break::Reset) => Ok(()),
        Err(Break::Failed(reason)) => Err(reason),
    }
}
