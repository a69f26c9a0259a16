//! A session over SPDY/3.1: the upgrade, then the streams of an exec or attach, or those of a port forward.

use std::io;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::backend::Backend;
use crate::connection::Connection;
use crate::head::Head;
use crate::remote::{self, Channels};
use crate::session::{Context, OPEN_LIMIT, PORT_FORWARD, race, refuse, start, wanted};
use crate::tokens::Request;
use crate::wire::{Framing, Wire};
use crate::{forward, spdy};

/// Protocols of exec and attach, best first.
const REMOTE: &[&str] = &["v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io"];

/// Agrees on a protocol and serves the client.
pub(crate) async fn serve(
    mut client: Connection,
    head: &Head,
    request: Request,
    context: &Context,
) -> io::Result<()> {
    let ours = if matches!(request, Request::PortForward(_)) { &[PORT_FORWARD] } else { REMOTE };
    let Some((protocol, named)) = agree(ours, head) else {
        let accepted: String =
            ours.iter().map(|name| format!("X-Accepted-Stream-Protocol-Versions: {name}\r\n")).collect();
        let why = "unable to upgrade: unable to negotiate protocol";
        return refuse(client, "403 Forbidden", why, &accepted).await;
    };
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n{named}\r\n"
    );
    client.sink.write_all(answer.as_bytes()).await?;
    run(client, request, protocol, context).await
}

/// The first protocol of the client's that is one of ours, and the header that says so. Clients that name none are older
/// than protocols with names: they speak the first one.
fn agree<'p>(ours: &[&'p str], head: &Head) -> Option<(&'p str, String)> {
    let mut theirs = head.list("x-stream-protocol-version").peekable();
    if theirs.peek().is_none() {
        return ours.last().map(|first| (*first, String::new()));
    }
    let protocol = theirs.find_map(|theirs| ours.iter().find(|ours| **ours == theirs))?;
    Some((protocol, format!("X-Stream-Protocol-Version: {protocol}\r\n")))
}

/// Runs a session on a connection that speaks SPDY already.
pub(crate) async fn run(
    client: Connection,
    request: Request,
    protocol: &str,
    context: &Context,
) -> io::Result<()> {
    let wire = Arc::new(Wire::new(client.sink, client.presence, Framing::Spdy));
    let (opened, streams) = mpsc::channel(spdy::QUEUE);
    let receiver = spdy::Receiver::new(client.reader, wire.clone());
    let session = async {
        match request {
            Request::PortForward(request) => {
                forward::run(context.backend.clone(), request.pod_id, wire.clone(), streams).await;
                Ok(())
            }
            request => remote(&*context.backend, request, protocol, wire.clone(), streams).await,
        }
    };
    let receive = async { receiver.run(opened).await.map_err(|error| error.to_string()) };
    race(session, receive, &wire, context.idle_limit).await
}

/// Waits for the streams that the request is for, and runs it.
async fn remote(
    backend: &dyn Backend,
    request: Request,
    protocol: &str,
    wire: Arc<Wire>,
    opened: mpsc::Receiver<spdy::Opened>,
) -> io::Result<()> {
    let [stdin, stdout, stderr, tty] = wanted(&request);
    let resizes = tty && matches!(protocol, "v3.channel.k8s.io" | "v4.channel.k8s.io");
    let expected = [true, stdin, stdout, stderr, resizes].into_iter().filter(|wanted| *wanted).count();
    let structured = protocol == "v4.channel.k8s.io";
    let channels =
        Channels { wire, stdin: None, resize: None, stdout: None, stderr: None, error: None, structured };
    match timeout(OPEN_LIMIT, collect(opened, expected, channels)).await {
        Ok(Some(channels)) => remote::run(start(backend, request).await, channels).await,
        _ => Err(io::Error::other("the client did not open the streams of its request")),
    }
}

/// Sorts the streams that the client opens, until there are as many as expected. More of them are refused afterwards,
/// because nobody waits for them.
async fn collect(
    mut opened: mpsc::Receiver<spdy::Opened>,
    expected: usize,
    mut channels: Channels,
) -> Option<Channels> {
    for _ in 0..expected {
        let stream = opened.recv().await?;
        match stream.headers.get("streamtype") {
            Some("error") => channels.error = Some(stream.id),
            Some("stdin") => channels.stdin = Some(stream.input),
            Some("stdout") => channels.stdout = Some(stream.id),
            Some("stderr") => channels.stderr = Some(stream.id),
            Some("resize") => channels.resize = Some(stream.input),
            _ => return None,
        }
    }
    channels.error.is_some().then_some(channels)
}
