//! What each source asked for an object had to say, and what that makes of the pull.

use std::error::Error;
use std::fmt;

use super::PullFailure;
use super::error::of_unpack;
use crate::reference::Digest;
use crate::registries::Source;
use crate::registry::{ManifestError, RegistryError};
use crate::unpack::UnpackError;

/// Why one source's object is not to be had, or not to be used.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// It was not given.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// It is a layer that may not be unpacked.
    #[error("unpack")]
    Unpack(#[source] UnpackError),
    /// It is a layer that does not unpack to what the configuration says.
    #[error("it unpacks to {actual}, the image's configuration says {expected}")]
    DiffId {
        /// As configured.
        expected: Digest,
        /// As computed.
        actual: Digest,
    },
}

/// One source's refusal.
#[derive(Debug)]
pub struct Refusal {
    /// Who was asked.
    pub source: Source,
    /// The manifest asked for, if it was one that the image's index names.
    pub entry: Option<Digest>,
    /// What came of it.
    pub fault: Fault,
}

/// The refusals of all sources that were asked for one object, in the order they were asked.
#[derive(Debug, Default)]
pub struct Refusals(Vec<Refusal>);

impl Fault {
    fn failure(&self) -> PullFailure {
        match self {
            Self::Registry(error) => of_registry(error),
            Self::Unpack(error) => of_unpack(error),
            Self::DiffId { .. } => PullFailure::Invalid,
        }
    }
}

impl Refusals {
    /// Add one; what the same source said before is outdated by it.
    pub(super) fn record(&mut self, refusal: Refusal) {
        match self.0.iter_mut().find(|known| known.source == refusal.source) {
            Some(known) => *known = refusal,
            None => self.0.push(refusal),
        }
    }

    /// Add all of `later`.
    pub(super) fn absorb(&mut self, later: Self) {
        later.0.into_iter().for_each(|refusal| self.record(refusal));
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &Refusal> {
        self.0.iter()
    }

    /// The kind of failure they amount to.
    ///
    /// The registry itself is the authority: what it says of an image counts. Only if it could not be reached do the
    /// mirrors count, and of what they say only that which another try will not mend: an object that is wrong, or access
    /// that is denied. A mirror that lacks the image proves nothing, as mirrors hold a part of what there is: to call
    /// that "not found" would have clients give up on an image that is there as soon as the registry is back, or the
    /// mirror filled. The message names every source in any case.
    #[must_use]
    pub fn failure(&self) -> PullFailure {
        use PullFailure::{Invalid, Local, NoSpace, NotFound, Unauthorized, Unreachable};
        let of_registry = self.iter().find(|refusal| !refusal.source.mirror);
        match of_registry.map(|refusal| refusal.fault.failure()) {
            Some(verdict) if verdict != Unreachable => verdict,
            _ => {
                let said = |kind: &PullFailure| self.iter().any(|refusal| refusal.fault.failure() == *kind);
                let telling = [Local, NoSpace, Invalid, Unauthorized, Unreachable, NotFound];
                // Without a source nobody was asked, which is this program's fault.
                telling.into_iter().find(said).unwrap_or(Local)
            }
        }
    }
}

/// `host: cause; host: cause`, each cause with its own causes: an error has one chain, and here are several.
impl fmt::Display for Refusals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, refusal) in self.iter().enumerate() {
            let separator = if at == 0 { "" } else { "; " };
            write!(f, "{separator}{refusal}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let role = if self.source.mirror { "mirror " } else { "" };
        let base = self.source.endpoint.as_ref().and_then(|endpoint| endpoint.base.as_deref());
        let host = base.unwrap_or_else(|| self.source.reference.registry());
        write!(f, "{role}{host}: ")?;
        if let Some(digest) = &self.entry {
            write!(f, "{digest} of its index: ")?;
        }
        write!(f, "{}", self.fault)?;
        let mut cause = self.fault.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

fn of_registry(error: &RegistryError) -> PullFailure {
    match error {
        RegistryError::NotFound | RegistryError::Manifest(ManifestError::NoPlatform { .. }) => {
            PullFailure::NotFound
        }
        RegistryError::Unauthorized { .. } | RegistryError::Unknown { .. } => PullFailure::Unauthorized,
        RegistryError::Tls(_)
        | RegistryError::TrustFile { .. }
        | RegistryError::Client(_)
        | RegistryError::SetUp(_) => PullFailure::Local,
        RegistryError::Unreachable { .. }
        | RegistryError::Untrusted { .. }
        | RegistryError::Timeout { .. }
        | RegistryError::Stalled { .. }
        | RegistryError::Range { .. }
        | RegistryError::Status { .. } => PullFailure::Unreachable,
        RegistryError::Redirect { .. }
        | RegistryError::Size { .. }
        | RegistryError::TooLarge { .. }
        | RegistryError::Digest { .. }
        | RegistryError::Promise { .. }
        | RegistryError::Malformed { .. }
        | RegistryError::Manifest(_) => PullFailure::Invalid,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::Reference;

    fn refusal(host: &str, mirror: bool, fault: impl Into<Fault>) -> Refusal {
        let reference = Reference::parse(&format!("{host}/app:1")).unwrap();
        let source = Source { reference, insecure: false, mirror, endpoint: None };
        Refusal { source, entry: None, fault: fault.into() }
    }

    fn refusals(mirrors: Vec<RegistryError>, registry: RegistryError) -> Refusals {
        let mut refusals = Refusals::default();
        for (at, error) in mirrors.into_iter().enumerate() {
            refusals.record(refusal(&format!("m{at}.example"), true, error));
        }
        refusals.record(refusal("r.example", false, registry));
        refusals
    }

    fn absent() -> RegistryError {
        RegistryError::NotFound
    }

    fn denied() -> RegistryError {
        RegistryError::Unauthorized { reason: "no".into() }
    }

    fn silent() -> RegistryError {
        RegistryError::Timeout { seconds: 30 }
    }

    fn wrong() -> RegistryError {
        RegistryError::Size { expected: 2, actual: 1 }
    }

    fn broken() -> RegistryError {
        RegistryError::Tls(rustls::Error::FailedToGetCurrentTime)
    }

    #[test]
    fn the_registry_decides_and_mirrors_only_in_its_absence() {
        use PullFailure::{Invalid, Local, NotFound, Unauthorized, Unreachable};
        let table = [
            (vec![], absent(), NotFound),
            (vec![], silent(), Unreachable),
            (vec![absent()], absent(), NotFound),
            (vec![wrong(), denied(), silent()], absent(), NotFound),
            (vec![wrong()], denied(), Unauthorized),
            (vec![denied()], wrong(), Invalid),
            (vec![absent()], silent(), Unreachable),
            (vec![silent()], silent(), Unreachable),
            (vec![absent(), denied()], silent(), Unauthorized),
            (vec![denied(), wrong(), absent()], silent(), Invalid),
            (vec![absent()], broken(), Local),
            (vec![broken(), wrong()], silent(), Local),
        ];
        for (mirrors, registry, expected) in table {
            let refusals = refusals(mirrors, registry);
            assert_eq!(refusals.failure(), expected, "{refusals}");
        }
    }

    #[test]
    fn every_source_is_named_once_with_its_causes() {
        let manifest = RegistryError::Manifest(ManifestError::Nested);
        let mut refusals = refusals(vec![silent(), manifest], absent());
        refusals.record(refusal("m0.example", true, Fault::Unpack(UnpackError::Escape("../x".into()))));
        let digest = Digest::of(b"entry");
        refusals.record(Refusal { entry: Some(digest.clone()), ..refusal("r.example", false, denied()) });
        let expected = format!(
            "mirror m0.example: unpack: entry \"../x\" points outside the layer; \
             mirror m1.example: it is refused: its indexes are nested too deeply; \
             r.example: {digest} of its index: access denied: no"
        );
        assert_eq!(refusals.to_string(), expected);
    }
}
