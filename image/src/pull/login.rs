//! Whether a registry accepts a login, asked without pulling anything.

use super::Puller;
use crate::reference::{Reference, ReferenceError};
use crate::registries::{HostsError, SourceError};
use crate::registry::{Credentials, RegistryError, Session};

/// A login that was not accepted, or could not be tried: at which registry, and why.
#[derive(Debug, thiserror::Error)]
#[error("log in to {registry}")]
pub struct LoginError {
    /// The registry's host as it was given.
    pub registry: String,
    /// Why.
    #[source]
    pub cause: LoginCause,
}

/// Why a login was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum LoginCause {
    /// That is no host.
    #[error("it is no registry's host")]
    Host(#[source] ReferenceError),
    /// The configuration has no place for it.
    #[error("find the registry")]
    Source(#[source] SourceError),
    /// What this host says about the registry cannot be read.
    #[error("find the registry")]
    Hosts(#[source] HostsError),
    /// The configuration has nothing but mirrors for it.
    #[error("registries.conf has mirrors for it and no registry")]
    NoRegistry,
    /// The registry said no, or did not answer.
    #[error("ask it")]
    Registry(#[source] RegistryError),
}

impl LoginError {
    /// Whether the registry itself refused the credentials.
    #[must_use]
    pub fn is_denial(&self) -> bool {
        matches!(self.cause, LoginCause::Registry(RegistryError::Unauthorized { .. }))
    }
}

/// Sources are found by references; this stands for the repository of one.
const ANY_REPOSITORY: &str = "login";

impl Puller {
    /// Ask `registry` (`quay.io`, `localhost:5000`) itself, no mirror, whether it accepts `credentials`. Nothing is kept.
    /// Must be called on a tokio runtime.
    ///
    /// # Errors
    /// See [`LoginError`]; [`LoginError::is_denial`] tells a refusal from a registry that cannot be asked.
    pub async fn login(&self, registry: &str, credentials: Credentials) -> Result<(), LoginError> {
        let failed = |cause| LoginError { registry: registry.to_owned(), cause };
        let reference = Reference::parse(&format!("{registry}/{ANY_REPOSITORY}"))
            .map_err(|error| failed(LoginCause::Host(error)))?;
        let sources = self.engine.sources(&reference).map_err(|error| failed(LoginCause::Source(error)))?;
        let own = sources.into_iter().filter(|source| !source.mirror).collect();
        let found = self.engine.with_hosts(own).await.map_err(|error| failed(LoginCause::Hosts(error)))?;
        let source = found.into_iter().find(|source| !source.mirror);
        let source = source.ok_or_else(|| failed(LoginCause::NoRegistry))?;
        let session = Session::for_login(self.engine.connections(), source, Some(credentials));
        session.greet().await.map_err(|error| failed(LoginCause::Registry(error)))
    }
}
