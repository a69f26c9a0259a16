//! The one-time tokens in the URLs: who holds one may do what it was made for, once, within a minute.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::backend::{AttachRequest, ExecRequest, PortForwardRequest};

/// Most tokens that wait for their client, as the kubelet's request cache allows.
const OUTSTANDING: usize = 1000;

/// How long a token waits, as in the kubelet's request cache.
const LIFE: Duration = Duration::from_secs(60);

/// No token can be given.
#[derive(Debug, thiserror::Error)]
pub enum TooMany {
    /// As many clients as can be waited for are awaited.
    #[error("{OUTSTANDING} streaming requests wait for their clients already; try again in a minute")]
    Outstanding,
    /// The kernel gives no random numbers.
    #[error("draw a streaming token")]
    Random(#[source] getrandom::Error),
}

/// What a token stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Request {
    /// `/exec/`
    Exec(ExecRequest),
    /// `/attach/`
    Attach(AttachRequest),
    /// `/portforward/`
    PortForward(PortForwardRequest),
}

impl Request {
    /// The first part of the URL's path.
    pub(crate) fn path(&self) -> &'static str {
        match self {
            Self::Exec(_) => "exec",
            Self::Attach(_) => "attach",
            Self::PortForward(_) => "portforward",
        }
    }
}

/// The tokens that wait for their clients.
#[derive(Default)]
pub(crate) struct Tokens {
    waiting: Mutex<HashMap<String, (Instant, Request)>>,
}

impl Tokens {
    /// Keeps `request` and gives the URL's path for it.
    pub(crate) fn insert(&self, request: Request, now: Instant) -> Result<String, TooMany> {
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(TooMany::Random)?;
        let token = format!("{:032x}", u128::from_ne_bytes(random));
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() >= OUTSTANDING {
            waiting.retain(|_, (end, _)| *end > now);
        }
        if waiting.len() >= OUTSTANDING {
            return Err(TooMany::Outstanding);
        }
        let path = format!("/{}/{token}", request.path());
        waiting.insert(token, (now + LIFE, request));
        Ok(path)
    }

    /// Takes what `path` stands for; nobody else gets it.
    pub(crate) fn take(&self, path: &str, now: Instant) -> Option<Request> {
        let (kind, token) = path.strip_prefix('/')?.split_once('/')?;
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.get(token)?.1.path() != kind {
            return None;
        }
        waiting.remove(token).filter(|(end, _)| *end > now).map(|(_, request)| request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> Request {
        Request::PortForward(PortForwardRequest { pod_id: "p".into(), ports: vec![] })
    }

    #[test]
    fn a_token_is_good_once_in_its_minute_and_for_its_path() {
        let (tokens, now) = (Tokens::default(), Instant::now());
        let path = tokens.insert(request(), now).unwrap();
        assert_eq!(tokens.take(&path.replace("portforward", "exec"), now), None);
        assert_eq!(tokens.take("/portforward/", now), None);
        assert_eq!(tokens.take(&path, now), Some(request()));
        assert_eq!(tokens.take(&path, now), None);
        let path = tokens.insert(request(), now).unwrap();
        assert_eq!(tokens.take(&path, now + LIFE), None);
    }

    #[test]
    fn more_tokens_than_allowed_are_refused_until_old_ones_expire() {
        let (tokens, now) = (Tokens::default(), Instant::now());
        for _ in 0..OUTSTANDING {
            tokens.insert(request(), now).unwrap();
        }
        assert!(matches!(tokens.insert(request(), now), Err(TooMany::Outstanding)));
        tokens.insert(request(), now + LIFE).unwrap();
    }
}
