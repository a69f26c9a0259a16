//! One client: its request, the protocol agreed on, and the session's end.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::timeout;

use crate::backend::{Backend, Failure, Running};
use crate::connection::Connection;
use crate::head::Head;
use crate::tokens::{Request, Tokens};
use crate::wire::Wire;
use crate::{over_spdy, over_websocket};

/// How long a client may take for TLS and its request's head, and for the streams of an exec.
pub(crate) const OPEN_LIMIT: Duration = Duration::from_secs(30);
/// How long saying goodbye may take when the client reads nothing.
const CLOSE_LIMIT: Duration = Duration::from_secs(5);
/// Protocol of port forward, over SPDY or in a tunnel of a WebSocket.
pub(crate) const PORT_FORWARD: &str = "portforward.k8s.io";

/// What all sessions have.
pub(crate) struct Context {
    pub backend: Arc<dyn Backend>,
    /// How long a session may be without a byte; for ever without one.
    pub idle_limit: Option<Duration>,
}

/// A client that has come for something.
pub(crate) struct Admitted {
    pub client: Connection,
    head: Head,
    request: Request,
}

/// Reads a client's request and finds what its token stands for. Who is refused has been told so.
pub(crate) async fn admit(mut client: Connection, tokens: &Tokens) -> io::Result<Option<Admitted>> {
    let Some(head) = Head::read(&mut client.reader).await? else {
        refuse(client, "400 Bad Request", "no HTTP request", "").await?;
        return Ok(None);
    };
    if head.method != "GET" && head.method != "POST" {
        refuse(client, "405 Method Not Allowed", "405: Method Not Allowed", "").await?;
        return Ok(None);
    }
    match tokens.take(&head.path, Instant::now()) {
        Some(request) => Ok(Some(Admitted { client, head, request })),
        None => refuse(client, "404 Not Found", "404 page not found", "").await.map(|()| None),
    }
}

/// Serves one client to its end.
pub(crate) async fn serve(admitted: Admitted, context: &Context) -> io::Result<()> {
    let Admitted { client, head, request } = admitted;
    if head.upgrades_to("websocket") {
        over_websocket::serve(client, &head, request, context).await
    } else if head.upgrades_to("SPDY/3.1") {
        over_spdy::serve(client, &head, request, context).await
    } else {
        let why = "unable to upgrade: missing upgrade headers in request";
        refuse(client, "400 Bad Request", why, "").await
    }
}

/// Answers with `status` and `why`, with further `headers`, each ended by a line break.
pub(crate) async fn refuse(mut client: Connection, status: &str, why: &str, headers: &str) -> io::Result<()> {
    let length = why.len() + 1;
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\n{headers}\
         Content-Length: {length}\r\nConnection: close\r\n\r\n{why}\n"
    );
    client.sink.write_all(answer.as_bytes()).await?;
    client.sink.shutdown().await
}

/// Runs the session until it ends or the client does.
///
/// A client that is still there after the end is waited for as long as an idle one: closing first could destroy what it
/// has not read yet, and a pager at its end may read for a long time.
pub(crate) async fn race(
    session: impl Future<Output = io::Result<()>>,
    receive: impl Future<Output = Result<(), String>>,
    wire: &Wire,
    idle_limit: Option<Duration>,
) -> io::Result<()> {
    tokio::pin!(receive);
    let is_idle = tokio::select! {
        ended = session => { ended?; false }
        received = &mut receive => return received.map_err(io::Error::other),
        error = wire.heartbeats() => return Err(error),
        () = wire.activity().idle(idle_limit) => true,
    };
    let farewell = timeout(CLOSE_LIMIT, wire.close());
    tokio::pin!(farewell);
    tokio::select! {
        said = &mut farewell => said.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?,
        received = &mut receive => {
            // It may have closed as soon as it had the status.
            received.map_err(io::Error::other)?;
            return farewell.await.unwrap_or(Ok(()));
        }
    }
    if is_idle {
        tracing::info!("a streaming session was idle for too long, and is closed");
        return Ok(());
    }
    tokio::select! {
        received = receive => received.map_err(io::Error::other),
        () = wire.activity().idle(idle_limit) => Ok(()),
    }
}

/// Which streams the request is for: stdin, stdout, stderr, terminal.
pub(crate) fn wanted(request: &Request) -> [bool; 4] {
    match request {
        Request::Exec(request) => [request.stdin, request.stdout, request.stderr, request.tty],
        Request::Attach(request) => [request.stdin, request.stdout, request.stderr, request.tty],
        Request::PortForward(_) => [false; 4],
    }
}

/// Starts what a request is for.
pub(crate) async fn start(backend: &dyn Backend, request: Request) -> Result<Running, Failure> {
    match request {
        Request::Exec(request) => backend.exec(request).await,
        Request::Attach(request) => backend.attach(request).await,
        Request::PortForward(_) => Err(Failure::new("a port forward has no process")),
    }
}
