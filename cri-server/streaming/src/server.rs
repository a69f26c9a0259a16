//! The listener: accepts connections, finds what each one's token stands for, and owns the sessions until shutdown.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::backend::{AttachRequest, Backend, ExecRequest, PortForwardRequest};
use crate::connection::{self, Connection};
use crate::session::{self, Context};
use crate::tokens::{Request, Tokens, TooMany};

/// Most clients at a time; more wait to be accepted.
const CONNECTIONS: usize = 1024;
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
}

impl Default for Settings {
    fn default() -> Self {
        Self { address: SocketAddr::from(([127, 0, 0, 1], 0)), idle_limit: Some(IDLE_LIMIT) }
    }
}

/// The server cannot listen.
#[derive(Debug, thiserror::Error)]
#[error("listen for streaming clients on {address}")]
pub struct BindError {
    address: SocketAddr,
    #[source]
    source: io::Error,
}

/// The streaming server.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    shared: Arc<Shared>,
}

/// What the sessions share.
struct Shared {
    tokens: Tokens,
    context: Context,
}

impl Server {
    /// Listens. Connections wait until [`Server::serve`] runs.
    ///
    /// # Errors
    /// When the address cannot be listened on.
    pub async fn bind(settings: Settings, backend: Arc<dyn Backend>) -> Result<Self, BindError> {
        let failed = |source| BindError { address: settings.address, source };
        let listener = TcpListener::bind(settings.address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let context = Context { backend, idle_limit: settings.idle_limit };
        Ok(Self { listener, address, shared: Arc::new(Shared { tokens: Tokens::default(), context }) })
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
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        let mut sessions = JoinSet::new();
        loop {
            let next = async {
                let place = places.clone().acquire_owned().await;
                (place, self.listener.accept().await)
            };
            let (place, accepted) = tokio::select! {
                () = shutdown.cancelled() => break,
                next = next => next,
            };
            while sessions.try_join_next().is_some() {}
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
            sessions.spawn(async move {
                let _place = place;
                if let Err(error) = serve_client(stream, &shared).await {
                    tracing::debug!(%error, "a streaming session broke");
                }
            });
        }
        sessions.shutdown().await;
    }

    fn url(&self, request: Request) -> Result<String, TooMany> {
        let path = self.shared.tokens.insert(request, Instant::now())?;
        Ok(format!("http://{}{path}", self.address))
    }
}

async fn serve_client(stream: TcpStream, shared: &Shared) -> io::Result<()> {
    connection::prepare(&stream)?;
    session::run(Connection::tcp(stream)?, &shared.tokens, &shared.context).await
}
