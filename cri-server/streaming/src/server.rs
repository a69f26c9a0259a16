//! The listener: accepts connections, finds what each one's token stands for, and owns the sessions until shutdown.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::backend::{AttachRequest, Backend, ExecRequest, PortForwardRequest};
use crate::connection::{self, Connection};
use crate::doorstep::Doorstep;
use crate::session::{self, Admitted, Context, OPEN_LIMIT};
use crate::tls::{Tls, TlsError, TlsFiles};
use crate::tokens::{Request, Tokens, TooMany};

/// Most sessions at a time; more are refused.
const SESSIONS: usize = 1024;
/// How long accepting rests after a failure.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the kubelet, containerd and CRI-O allow an idle session.
const IDLE_LIMIT: Duration = Duration::from_secs(4 * 60 * 60);

/// How the server listens, and what it allows.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where to listen; port 0 takes a free one.
    pub address: SocketAddr,
    /// How long a session may be without a byte in either direction before it is closed; for ever without one.
    pub idle_limit: Option<Duration>,
    /// What clients have to speak TLS with; without it none does.
    pub tls: Option<TlsFiles>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { address: SocketAddr::from(([127, 0, 0, 1], 0)), idle_limit: Some(IDLE_LIMIT), tls: None }
    }
}

/// The server cannot serve as it should.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// It cannot listen.
    #[error("listen for streaming clients on {address}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// It has no certificate that it could serve with.
    #[error("prepare TLS for streaming clients")]
    Tls(#[source] TlsError),
}

/// The streaming server.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    shared: Arc<Shared>,
}

/// What clients share.
struct Shared {
    doorstep: Doorstep,
    tls: Option<Tls>,
    tokens: Tokens,
    places: Semaphore,
    context: Context,
}

impl Server {
    /// Listens. Connections wait until [`Server::serve`] runs.
    ///
    /// # Errors
    /// When the address cannot be listened on, or the files of TLS are of no use.
    pub async fn bind(settings: Settings, backend: Arc<dyn Backend>) -> Result<Self, BindError> {
        let failed = |source| BindError::Listen { address: settings.address, source };
        let tls = settings.tls.map(Tls::new).transpose().map_err(BindError::Tls)?;
        let listener = TcpListener::bind(settings.address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let context = Context { backend, idle_limit: settings.idle_limit };
        let (doorstep, tokens, places) = (Doorstep::default(), Tokens::default(), Semaphore::new(SESSIONS));
        Ok(Self { listener, address, shared: Arc::new(Shared { doorstep, tls, tokens, places, context }) })
    }

    /// The URL under which one client may exec, once, within a minute.
    ///
    /// # Errors
    /// When too many clients are awaited already.
    pub fn exec_url(&self, request: ExecRequest) -> Result<String, TooMany> {
        self.url(Request::Exec(request))
    }

    /// The URL under which one client may attach, once, within a minute.
    ///
    /// # Errors
    /// When too many clients are awaited already.
    pub fn attach_url(&self, request: AttachRequest) -> Result<String, TooMany> {
        self.url(Request::Attach(request))
    }

    /// The URL under which one client may forward ports, once, within a minute.
    ///
    /// # Errors
    /// When too many clients are awaited already.
    pub fn port_forward_url(&self, request: PortForwardRequest) -> Result<String, TooMany> {
        self.url(Request::PortForward(request))
    }

    /// Serves clients until `shutdown`, then ends their sessions and returns.
    pub async fn serve(&self, shutdown: CancellationToken) {
        let mut clients = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                () = shutdown.cancelled() => break,
                accepted = self.listener.accept() => accepted,
            };
            while clients.try_join_next().is_some() {}
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a streaming client");
                    // Out of descriptors most likely: trying again at once would only burn the processor.
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let shared = self.shared.clone();
            clients.spawn(async move {
                if let Err(error) = serve_client(stream, &shared).await {
                    tracing::debug!(%error, "a streaming session broke");
                }
            });
        }
        clients.shutdown().await;
    }

    fn url(&self, request: Request) -> Result<String, TooMany> {
        let path = self.shared.tokens.insert(request, Instant::now())?;
        let scheme = if self.shared.tls.is_some() { "https" } else { "http" };
        Ok(format!("{scheme}://{}{path}", self.address))
    }
}

async fn serve_client(stream: TcpStream, shared: &Shared) -> io::Result<()> {
    connection::prepare(&stream)?;
    let stranger = shared.doorstep.enter();
    let admitted = tokio::select! {
        admitted = timeout(OPEN_LIMIT, admit(stream, shared)) => admitted.unwrap_or(Ok(None))?,
        () = stranger.sent_away() => None,
    };
    drop(stranger);
    let Some(admitted) = admitted else { return Ok(()) };
    match shared.places.try_acquire() {
        Ok(_place) => session::serve(admitted, &shared.context).await,
        Err(_) => session::refuse(admitted.client, "503 Service Unavailable", "too many sessions", "").await,
    }
}

/// Agrees on TLS where it is wanted, and finds what a client has come for.
async fn admit(stream: TcpStream, shared: &Shared) -> io::Result<Option<Admitted>> {
    let client = match &shared.tls {
        Some(tls) => Connection::tls(tls.accept(stream).await?)?,
        None => Connection::tcp(stream)?,
    };
    session::admit(client, &shared.tokens).await
}
