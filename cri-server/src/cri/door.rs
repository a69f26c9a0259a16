//! What every RPC does besides its work: a span while it runs, one log line if it is refused, and the gRPC status.

use std::future::Future;

use tonic::{Response, Status};
use tracing::Instrument as _;

use super::error::{Blame, blame, status};
use crate::engine::{self, EngineError};

/// What an RPC answers.
pub(super) type Answer<T> = std::result::Result<Response<T>, Status>;

/// Carries out the RPC called `rpc` on `object` (an id, a name, or nothing).
pub(super) async fn answer<T>(
    rpc: &'static str,
    object: String,
    work: impl Future<Output = engine::Result<T>>,
) -> Answer<T> {
    let span = tracing::debug_span!("rpc", name = rpc, object);
    async {
        match work.await {
            Ok(message) => {
                tracing::debug!("answered");
                Ok(Response::new(message))
            }
            Err(error) => Err(refuse(rpc, &object, &error)),
        }
    }
    .instrument(span)
    .await
}

/// Logs a refusal, here and nowhere else: what the caller can cure is news, what this node's operator has to look at
/// is a warning.
fn refuse(rpc: &'static str, object: &str, error: &EngineError) -> Status {
    let status = status(error);
    match blame(error) {
        Blame::Caller => tracing::info!(rpc, object, code = ?status.code(), "refused: {}", status.message()),
        Blame::Node => tracing::warn!(rpc, object, code = ?status.code(), "failed: {}", status.message()),
    }
    status
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    #[tokio::test]
    async fn what_is_done_is_answered_and_what_fails_is_a_status() {
        let done = answer("Version", String::new(), async { Ok(7) }).await;
        assert_eq!(done.unwrap().into_inner(), 7);
        let lost = EngineError::NotFound { kind: "pod", name: "x".into(), list: "pods" };
        let failed = answer::<()>("StopPodSandbox", "x".into(), async { Err(lost) }).await.unwrap_err();
        assert_eq!(failed.code(), Code::NotFound);
        assert!(failed.message().starts_with("no pod has the id or name \"x\""), "{failed:?}");
    }
}
