//! The listener: accepts connections, finds what each one's token stands for, and owns the sessions until shutdown.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::backend::{AttachRequest, Backend, ExecRequest, PortForwardRequest};
use crate::session;
use crate::tokens::{Request, Tokens, TooMany};

/// Most clients at a time; more wait to be accepted.
const CONNECTIONS: usize = 1024;
/// How long accepting rests after a failure.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How the server listens.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where to listen; port 0 takes a free one.
    pub address: SocketAddr,
}

impl Default for Settings {
    fn default() -> Self {
        Self { address: SocketAddr::from(([127, 0, 0, 1], 0)) }
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
    backend: Arc<dyn Backend>,
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
        Ok(Self { listener, address, shared: Arc::new(Shared { tokens: Tokens::default(), backend }) })
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
            let Ok(place) = places.clone().acquire_owned().await else { break };
            let accepted = tokio::select! {
                () = shutdown.cancelled() => break,
                accepted = self.listener.accept() => accepted,
            };
            while sessions.try_join_next().is_some() {}
            let stream = match accepted.and_then(|(stream, _)| stream.set_nodelay(true).map(|()| stream)) {
                Ok(stream) => stream,
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
                let ended = session::run(Box::new(stream), &shared.tokens, shared.backend.clone()).await;
                if let Err(error) = ended {
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
