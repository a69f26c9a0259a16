//! A session over a WebSocket: the upgrade, then the channels of an exec or attach, a tunnel for a port forward, or the
//! two channels of each port that older clients of it use.

use std::io;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

use crate::connection::Connection;
use crate::head::Head;
use crate::presence::Presence;
use crate::remote::{self, Channels, Input};
use crate::session::{Context, PORT_FORWARD, race, refuse, start, wanted};
use crate::tokens::Request;
use crate::wire::{Framing, HEADROOM, Wire};
use crate::{forward, over_spdy, spdy, websocket};

/// What a key is hashed with, RFC 6455 section 1.3.
const KEY_SUFFIX: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// Bytes of a key, RFC 6455 section 4.1.
const KEY_BYTES: usize = 16;
/// Bytes between a tunnel's WebSocket and its SPDY side.
const TUNNEL_BYTES: usize = 64 * 1024;

/// A protocol that clients may ask for.
struct Protocol {
    name: &'static str,
    framing: Framing,
    /// Whether the end is told as a `metav1.Status`.
    structured: bool,
    /// Whether channel 255 ends another.
    can_close: bool,
}

const fn protocol(name: &'static str, framing: Framing, structured: bool, can_close: bool) -> Protocol {
    Protocol { name, framing, structured, can_close }
}

/// Those of exec and attach; the first one without a name is for clients that name none.
const REMOTE: &[Protocol] = &[
    protocol("v5.channel.k8s.io", Framing::Channels, true, true),
    protocol("v4.channel.k8s.io", Framing::Channels, true, false),
    protocol("v4.base64.channel.k8s.io", Framing::Base64, true, false),
    protocol("channel.k8s.io", Framing::Channels, false, false),
    protocol("base64.channel.k8s.io", Framing::Base64, false, false),
    protocol("", Framing::Channels, false, false),
];
/// Those of port forward.
const FORWARD: &[Protocol] = &[
    // SPDY as on a connection of its own, and what the first clients of it call it (kubectl 1.30).
    protocol("SPDY/3.1+portforward.k8s.io", Framing::Tunnel, false, false),
    protocol("v2.portforward.k8s.io", Framing::Tunnel, false, false),
    protocol("v4.channel.k8s.io", Framing::Channels, false, false),
    protocol("v4.base64.channel.k8s.io", Framing::Base64, false, false),
    protocol("", Framing::Channels, false, false),
];

/// Agrees on a protocol and serves the client.
pub(crate) async fn serve(
    mut client: Connection,
    head: &Head,
    request: Request,
    context: &Context,
) -> io::Result<()> {
    if head.value("sec-websocket-version") != Some("13") {
        let why = "only version 13 of the WebSocket protocol is known here";
        return refuse(client, "426 Upgrade Required", why, "Sec-WebSocket-Version: 13\r\n").await;
    }
    let key = head.value("sec-websocket-key").unwrap_or_default();
    if head.method != "GET" || STANDARD.decode(key).map_or(0, |key| key.len()) != KEY_BYTES {
        return refuse(client, "400 Bad Request", "no WebSocket request, or none with a key", "").await;
    }
    let ours = if matches!(request, Request::PortForward(_)) { FORWARD } else { REMOTE };
    let Some(protocol) = agree(ours, head) else {
        return refuse(client, "403 Forbidden", "no protocol of the client is known here", "").await;
    };
    client.sink.write_all(accept(key, protocol.name).as_bytes()).await?;
    let wire = Arc::new(Wire::new(client.sink, client.presence, protocol.framing));
    match request {
        Request::PortForward(request) if protocol.framing != Framing::Tunnel => {
            let (targets, inputs) = targets(protocol, forward::channel_count(&request.ports));
            let receiver = websocket::Receiver::new(client.reader, wire.clone(), targets);
            let session = forward::ports(context.backend.clone(), request, wire.clone(), inputs);
            race(session, receive(receiver), &wire, context.idle_limit).await
        }
        request @ Request::PortForward(_) => {
            let (targets, mut inputs) = targets(protocol, 1);
            let receiver = websocket::Receiver::new(client.reader, wire.clone(), targets);
            let Some(input) = inputs.pop() else { return Ok(()) };
            race(tunnel(request, input, &wire, context), receive(receiver), &wire, context.idle_limit).await
        }
        request => {
            let (targets, inputs) = targets(protocol, 5);
            let receiver = websocket::Receiver::new(client.reader, wire.clone(), targets);
            let session = remote(request, protocol.structured, inputs, &wire, context);
            race(session, receive(receiver), &wire, context.idle_limit).await
        }
    }
}

/// The first protocol of the client's that is one of ours.
fn agree<'p>(ours: &'p [Protocol], head: &Head) -> Option<&'p Protocol> {
    let mut theirs = head.list("sec-websocket-protocol").peekable();
    if theirs.peek().is_none() {
        return ours.iter().find(|ours| ours.name.is_empty());
    }
    theirs.find_map(|theirs| ours.iter().find(|ours| ours.name == theirs))
}

/// The answer that accepts a client.
fn accept(key: &str, protocol: &str) -> String {
    let hashed = format!("{key}{KEY_SUFFIX}");
    let digest = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, hashed.as_bytes());
    let named =
        if protocol.is_empty() { String::new() } else { format!("Sec-WebSocket-Protocol: {protocol}\r\n") };
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {}\r\n{named}\r\n",
        STANDARD.encode(digest)
    )
}

/// Where a client's messages go, one queue for each of `count` channels, and their far ends.
fn targets(protocol: &Protocol, count: usize) -> (websocket::Targets, Vec<Input>) {
    let (channels, inputs) =
        (0..count).map(|_| mpsc::channel(spdy::QUEUE)).map(|(near, far)| (Some(near), far)).unzip();
    let Protocol { framing, can_close, .. } = *protocol;
    (websocket::Targets { channels, framing, can_close }, inputs)
}

async fn receive(receiver: websocket::Receiver<crate::connection::Reader>) -> Result<(), String> {
    receiver.run().await.map_err(|error| error.to_string())
}

/// Runs an exec or an attach on its five channels.
async fn remote(
    request: Request,
    structured: bool,
    inputs: Vec<Input>,
    wire: &Arc<Wire>,
    context: &Context,
) -> io::Result<()> {
    let [has_stdin, stdout, stderr, tty] = wanted(&request);
    let mut inputs = inputs.into_iter();
    let (stdin, resize) = (inputs.next(), inputs.nth(3));
    let channels = Channels {
        wire: wire.clone(),
        stdin: stdin.filter(|_| has_stdin),
        resize: resize.filter(|_| tty),
        stdout: stdout.then_some(1),
        stderr: stderr.then_some(2),
        error: Some(3),
        structured,
    };
    // As with the kubelet, an empty message tells the client that the session is there.
    wire.tell(channels.stdout.or(channels.stderr).unwrap_or(3), b"").await?;
    remote::run(start(&*context.backend, request).await, channels).await
}

/// Runs a SPDY session inside a WebSocket's messages.
async fn tunnel(request: Request, mut input: Input, wire: &Wire, context: &Context) -> io::Result<()> {
    let (near, far) = tokio::io::duplex(TUNNEL_BYTES);
    let (mut from, mut into) = tokio::io::split(near);
    let upload = async {
        while let Some(chunk) = input.recv().await {
            into.write_all(&chunk).await?;
        }
        into.shutdown().await
    };
    let download = async {
        let mut buffer = vec![0; HEADROOM + TUNNEL_BYTES];
        loop {
            match from.read(&mut buffer[HEADROOM..]).await? {
                0 => return Ok(()),
                length => wire.send(0, &mut buffer[..HEADROOM + length]).await?,
            }
        }
    };
    let inner = Connection::inside(Box::new(far), Presence::unknown());
    let session = Box::pin(over_spdy::run(inner, request, PORT_FORWARD, context));
    tokio::try_join!(session, download, upload).map(|_| ())
}
