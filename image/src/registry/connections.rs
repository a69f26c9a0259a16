//! HTTP clients, each made when the first request needs it: a daemon that pulls nothing, or from insecure registries
//! only, never holds the system's certificates.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustls::ClientConfig;
use tokio::sync::OnceCell;
use tokio_util::task::TaskTracker;

use super::error::RegistryError;
use super::tls;
use crate::registries::Trust;

const USER_AGENT: &str = concat!("cleat/", env!("CARGO_PKG_VERSION"));

/// Connections to registries, shared by all sessions.
pub(crate) struct Connections {
    verified: Lazy,
    unverified: Lazy,
    /// For hosts with certificates of their own, and whether they are insecure. As many as are configured.
    particular: Mutex<HashMap<(Trust, bool), reqwest::Client>>,
    connect_timeout: Duration,
    response_timeout: Duration,
    tracker: TaskTracker,
}

/// A client, once somebody has needed it.
struct Lazy {
    client: OnceCell<reqwest::Client>,
    tls: fn() -> Result<ClientConfig, rustls::Error>,
}

impl Lazy {
    const fn new(tls: fn() -> Result<ClientConfig, rustls::Error>) -> Self {
        Self { client: OnceCell::const_new(), tls }
    }
}

impl Connections {
    /// Reads nothing and makes nothing yet. Blocking threads are counted by `tracker`.
    pub(crate) fn new(connect_timeout: Duration, response_timeout: Duration, tracker: TaskTracker) -> Self {
        let (verified, unverified) = (Lazy::new(tls::verified), Lazy::new(tls::unverified));
        Self {
            verified,
            unverified,
            particular: Mutex::default(),
            connect_timeout,
            response_timeout,
            tracker,
        }
    }

    /// Longest wait for the head of an answer.
    pub(super) const fn response_timeout(&self) -> Duration {
        self.response_timeout
    }

    /// To registries that have to prove who they are.
    pub(super) async fn verified(&self) -> Result<&reqwest::Client, RegistryError> {
        self.client(&self.verified).await
    }

    /// To registries that the administrator has called insecure.
    pub(super) async fn unverified(&self) -> Result<&reqwest::Client, RegistryError> {
        self.client(&self.unverified).await
    }

    /// To a host with certificates of its own.
    pub(super) async fn trusting(
        &self,
        trust: &Trust,
        insecure: bool,
    ) -> Result<reqwest::Client, RegistryError> {
        let key = (trust.clone(), insecure);
        let known = |key| self.particular.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned();
        if let Some(client) = known(&key) {
            return Ok(client);
        }
        let (trust, connect_timeout) = (trust.clone(), self.connect_timeout);
        let make = move || build(tls::particular(&trust, insecure)?, connect_timeout);
        let client = self.tracker.spawn_blocking(make).await.map_err(RegistryError::SetUp)??;
        self.particular.lock().unwrap_or_else(PoisonError::into_inner).insert(key, client.clone());
        Ok(client)
    }

    /// Callers that come while a client is being made wait for it; if making it fails or its caller goes away, the next
    /// one tries again.
    async fn client<'a>(&self, lazy: &'a Lazy) -> Result<&'a reqwest::Client, RegistryError> {
        let make = async || {
            let (tls, connect_timeout) = (lazy.tls, self.connect_timeout);
            // Some hundred certificates are read from disk and parsed.
            let made = self.tracker.spawn_blocking(move || client(tls, connect_timeout)).await;
            made.map_err(RegistryError::SetUp)?
        };
        lazy.client.get_or_try_init(make).await
    }
}

fn client(
    tls: fn() -> Result<ClientConfig, rustls::Error>,
    connect_timeout: Duration,
) -> Result<reqwest::Client, RegistryError> {
    build(tls().map_err(RegistryError::Tls)?, connect_timeout)
}

fn build(tls: ClientConfig, connect_timeout: Duration) -> Result<reqwest::Client, RegistryError> {
    let builder = reqwest::Client::builder().tls_backend_preconfigured(tls).user_agent(USER_AGENT);
    let builder = builder.redirect(reqwest::redirect::Policy::none()).connect_timeout(connect_timeout);
    builder.build().map_err(RegistryError::Client)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn connections(tls: fn() -> Result<ClientConfig, rustls::Error>) -> Connections {
        let (second, tracker) = (Duration::from_secs(1), TaskTracker::new());
        let unverified = Lazy::new(tls);
        Connections { unverified, ..Connections::new(second, second, tracker) }
    }

    #[tokio::test]
    async fn a_client_is_made_once_and_only_if_it_is_needed() {
        static MADE: AtomicUsize = AtomicUsize::new(0);
        let connections = connections(|| {
            MADE.fetch_add(1, Ordering::SeqCst);
            tls::unverified()
        });
        assert!(connections.unverified.client.get().is_none());
        let needed = || connections.unverified();
        let (one, two, three) = tokio::join!(needed(), needed(), needed());
        assert!(std::ptr::eq(one.unwrap(), two.unwrap()) && three.is_ok());
        assert_eq!(MADE.load(Ordering::SeqCst), 1);
        assert!(connections.verified.client.get().is_none(), "the system's certificates are held in vain");
        connections.verified().await.unwrap();
        assert!(connections.verified.client.get().is_some());
    }

    #[tokio::test]
    async fn a_failure_is_not_kept() {
        static TRIES: AtomicUsize = AtomicUsize::new(0);
        let connections = connections(|| match TRIES.fetch_add(1, Ordering::SeqCst) {
            0 => Err(rustls::Error::FailedToGetCurrentTime),
            _ => tls::unverified(),
        });
        assert!(matches!(connections.unverified().await, Err(RegistryError::Tls(_))));
        assert!(connections.unverified().await.is_ok());
    }
}
