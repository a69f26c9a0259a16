//! One client: its request, the protocol agreed on, and the session.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::backend::{Backend, Failure, Running};
use crate::head::Head;
use crate::remote::{self, Channels};
use crate::tokens::{Request, Tokens};
use crate::wire::{Framing, Io, Wire};
use crate::{forward, spdy, websocket};

/// How long a client may take for its request's head, and for the streams of an exec.
const OPEN_LIMIT: Duration = Duration::from_secs(30);
/// How long a client may take to close after the end: closing first, with its input unread, could destroy what it has
/// not read yet.
const LINGER: Duration = Duration::from_secs(5);
/// Protocols of exec and attach over SPDY, best first.
const SPDY_REMOTE: &[&str] =
    &["v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io"];
/// Protocols of exec and attach over WebSocket.
const WEBSOCKET_REMOTE: &[&str] = &["v5.channel.k8s.io", "v4.channel.k8s.io", "channel.k8s.io"];
const PORT_FORWARD: &str = "portforward.k8s.io";
const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";
/// What a WebSocket key is hashed with, RFC 6455 section 1.3.
const KEY_SUFFIX: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// Bytes between a tunnel's WebSocket and its SPDY side.
const TUNNEL_BYTES: usize = 64 * 1024;

type Reader = Box<dyn AsyncRead + Send + Unpin>;

/// Serves one client to its end.
pub(crate) async fn run(mut io: Box<dyn Io>, tokens: &Tokens, backend: Arc<dyn Backend>) -> io::Result<()> {
    let Ok(head) = timeout(OPEN_LIMIT, Head::read(&mut io)).await else { return Ok(()) };
    let Some((head, rest)) = head? else {
        return refuse(&mut io, "400 Bad Request", "no HTTP request", "").await;
    };
    if head.method != "GET" && head.method != "POST" {
        return refuse(&mut io, "405 Method Not Allowed", "405: Method Not Allowed", "").await;
    }
    let Some(request) = tokens.take(&head.path, Instant::now()) else {
        return refuse(&mut io, "404 Not Found", "404 page not found", "").await;
    };
    if head.upgrades_to("websocket") {
        over_websocket(io, head, rest, request, backend).await
    } else if head.upgrades_to("SPDY/3.1") {
        over_spdy(io, head, rest, request, backend).await
    } else {
        refuse(&mut io, "400 Bad Request", "unable to upgrade: missing upgrade headers in request", "").await
    }
}

async fn refuse(io: &mut Box<dyn Io>, status: &str, why: &str, headers: &str) -> io::Result<()> {
    let length = why.len() + 1;
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\n{headers}\
         Content-Length: {length}\r\nConnection: close\r\n\r\n{why}\n"
    );
    io.write_all(answer.as_bytes()).await?;
    io.shutdown().await
}

async fn over_spdy(
    mut io: Box<dyn Io>,
    head: Head,
    rest: Vec<u8>,
    request: Request,
    backend: Arc<dyn Backend>,
) -> io::Result<()> {
    let ours = if matches!(request, Request::PortForward(_)) { &[PORT_FORWARD] } else { SPDY_REMOTE };
    let Some(protocol) = head.list("x-stream-protocol-version").find(|theirs| ours.contains(theirs)) else {
        let accepted: String =
            ours.iter().map(|name| format!("X-Accepted-Stream-Protocol-Versions: {name}\r\n")).collect();
        let why = "unable to upgrade: unable to negotiate protocol";
        return refuse(&mut io, "403 Forbidden", why, &accepted).await;
    };
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\
         X-Stream-Protocol-Version: {protocol}\r\n\r\n"
    );
    io.write_all(answer.as_bytes()).await?;
    spdy_session(io, rest, request, protocol, backend).await
}

async fn spdy_session(
    io: Box<dyn Io>,
    rest: Vec<u8>,
    request: Request,
    protocol: &str,
    backend: Arc<dyn Backend>,
) -> io::Result<()> {
    let (reader, writer) = tokio::io::split(io);
    let reader: Reader = Box::new(BufReader::new(io::Cursor::new(rest).chain(reader)));
    let wire = Arc::new(Wire::new(writer, Framing::Spdy));
    let (opened, streams) = mpsc::channel(spdy::QUEUE);
    let receiver = spdy::Receiver::new(reader, wire.clone());
    let session = async {
        match request {
            Request::PortForward(request) => {
                forward::run(backend, request.pod_id, wire.clone(), streams).await;
                Ok(())
            }
            request => spdy_remote(&*backend, request, protocol, wire.clone(), streams).await,
        }
    };
    let receive = async { receiver.run(opened).await.map_err(|error| error.to_string()) };
    race(session, receive, &wire).await
}

/// Runs the session until it ends or the client does; a client that is still there is waited for.
async fn race(
    session: impl Future<Output = io::Result<()>>,
    receive: impl Future<Output = Result<(), String>>,
    wire: &Wire,
) -> io::Result<()> {
    tokio::pin!(receive);
    tokio::select! {
        ended = session => ended?,
        received = &mut receive => return received.map_err(io::Error::other),
    }
    wire.close().await?;
    match timeout(LINGER, receive).await {
        Ok(received) => received.map_err(io::Error::other),
        Err(_) => Ok(()),
    }
}

/// Which streams the request is for: stdin, stdout, stderr, terminal.
fn wanted(request: &Request) -> [bool; 4] {
    match request {
        Request::Exec(request) => [request.stdin, request.stdout, request.stderr, request.tty],
        Request::Attach(request) => [request.stdin, request.stdout, request.stderr, request.tty],
        Request::PortForward(_) => [false; 4],
    }
}

async fn start(backend: &dyn Backend, request: Request) -> Result<Running, Failure> {
    match request {
        Request::Exec(request) => backend.exec(request).await,
        Request::Attach(request) => backend.attach(request).await,
        Request::PortForward(_) => Err(Failure::new("a port forward has no process")),
    }
}

async fn spdy_remote(
    backend: &dyn Backend,
    request: Request,
    protocol: &str,
    wire: Arc<Wire>,
    mut opened: mpsc::Receiver<spdy::Opened>,
) -> io::Result<()> {
    let [stdin, stdout, stderr, tty] = wanted(&request);
    let resizes = tty && matches!(protocol, "v3.channel.k8s.io" | "v4.channel.k8s.io");
    let expected = [true, stdin, stdout, stderr, resizes].into_iter().filter(|wanted| *wanted).count();
    let structured = protocol == "v4.channel.k8s.io";
    let (mut error, mut channels) = (
        None,
        Channels { wire, stdin: None, resize: None, stdout: None, stderr: None, error: 0, structured },
    );
    let collect = async {
        for _ in 0..expected {
            let Some(stream) = opened.recv().await else { return };
            match stream.headers.get("streamtype") {
                Some("error") => error = Some(stream.id),
                Some("stdin") => channels.stdin = Some(stream.input),
                Some("stdout") => channels.stdout = Some(stream.id),
                Some("stderr") => channels.stderr = Some(stream.id),
                Some("resize") => channels.resize = Some(stream.input),
                _ => return,
            }
        }
    };
    let collected = timeout(OPEN_LIMIT, collect).await;
    let (Ok(()), Some(error)) = (collected, error) else {
        return Err(io::Error::other("the client did not open the streams of its request"));
    };
    channels.error = error;
    remote::run(start(backend, request).await, channels).await
}

async fn over_websocket(
    mut io: Box<dyn Io>,
    head: Head,
    rest: Vec<u8>,
    request: Request,
    backend: Arc<dyn Backend>,
) -> io::Result<()> {
    let forwards = matches!(request, Request::PortForward(_));
    let ours = if forwards { &[TUNNEL] } else { WEBSOCKET_REMOTE };
    let protocol = head.list("sec-websocket-protocol").find(|theirs| ours.contains(theirs));
    let (Some(protocol), Some(key)) = (protocol, head.list("sec-websocket-key").next()) else {
        return refuse(&mut io, "403 Forbidden", "no protocol of the client is known here", "").await;
    };
    let accept = ring::digest::digest(
        &ring::digest::SHA1_FOR_LEGACY_USE_ONLY,
        format!("{key}{KEY_SUFFIX}").as_bytes(),
    );
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {}\r\nSec-WebSocket-Protocol: {protocol}\r\n\r\n",
        STANDARD.encode(accept)
    );
    io.write_all(answer.as_bytes()).await?;
    let (reader, writer) = tokio::io::split(io);
    let reader: Reader = Box::new(BufReader::new(io::Cursor::new(rest).chain(reader)));
    let framing = if forwards { Framing::Tunnel } else { Framing::Channels };
    let wire = Arc::new(Wire::new(writer, framing));
    let (targets, stdin, resize) = targets(protocol);
    let receiver = websocket::Receiver::new(reader, wire.clone(), targets);
    let receive = async { receiver.run().await.map_err(|error| error.to_string()) };
    if forwards {
        return race(tunnel(request, stdin, &wire, backend), receive, &wire).await;
    }
    let [has_stdin, stdout, stderr, tty] = wanted(&request);
    let channels = Channels {
        wire: wire.clone(),
        stdin: has_stdin.then_some(stdin),
        resize: tty.then_some(resize),
        stdout: stdout.then_some(1),
        stderr: stderr.then_some(2),
        error: 3,
        structured: protocol != "channel.k8s.io",
    };
    // As with the kubelet, an empty message tells the client that the session is there.
    let first = channels.stdout.or(channels.stderr).unwrap_or(channels.error);
    wire.send(first, &mut [0; crate::wire::HEADROOM], false).await?;
    let session = async { remote::run(start(&*backend, request).await, channels).await };
    race(session, receive, &wire).await
}

/// Where a client's messages go, and their far ends: input and terminal sizes.
fn targets(protocol: &str) -> (websocket::Targets, remote::Input, remote::Input) {
    let (stdin, stdin_far) = mpsc::channel(spdy::QUEUE);
    let (resize, resize_far) = mpsc::channel(spdy::QUEUE);
    let targets = websocket::Targets {
        channels: vec![Some(stdin), None, None, None, Some(resize)],
        numbered: protocol != TUNNEL,
        can_close: protocol == "v5.channel.k8s.io",
    };
    (targets, stdin_far, resize_far)
}

/// Runs a SPDY session inside a WebSocket's messages.
async fn tunnel(
    request: Request,
    mut input: remote::Input,
    wire: &Wire,
    backend: Arc<dyn Backend>,
) -> io::Result<()> {
    let (near, far) = tokio::io::duplex(TUNNEL_BYTES);
    let (mut from, mut into) = tokio::io::split(near);
    let upload = async {
        while let Some(chunk) = input.recv().await {
            into.write_all(&chunk).await?;
        }
        into.shutdown().await
    };
    let download = async {
        let mut buffer = vec![0; crate::wire::HEADROOM + TUNNEL_BYTES];
        loop {
            match from.read(&mut buffer[crate::wire::HEADROOM..]).await? {
                0 => return Ok(()),
                length => wire.send(0, &mut buffer[..crate::wire::HEADROOM + length], false).await?,
            }
        }
    };
    let session = Box::pin(spdy_session(Box::new(far), Vec::new(), request, PORT_FORWARD, backend));
    tokio::try_join!(session, download, upload).map(|_| ())
}
