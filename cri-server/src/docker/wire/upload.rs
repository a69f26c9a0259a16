//! A request's body that is read as it comes.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Frame, Incoming};
use tokio::runtime::Handle;

/// How much of a body is read although nobody wants it.
const MAX_UNWANTED_BYTES: usize = 64 << 20;

/// How long a client may take to send that.
const PATIENCE: Duration = Duration::from_secs(10);

/// A body that is read as it comes. What its reader leaves of it is read all the same, up to a limit: a connection that is
/// closed while its client still writes breaks before the client has read why.
pub(in crate::docker) struct Upload(Option<Incoming>);

impl Upload {
    /// Of a request.
    pub(in crate::docker) fn new(body: Incoming) -> Self {
        Self(Some(body))
    }

    /// What comes next; none at the end.
    pub(in crate::docker) async fn frame(&mut self) -> Option<hyper::Result<Frame<Bytes>>> {
        self.0.as_mut()?.frame().await
    }

    /// The body, for who reads it to its end.
    pub(in crate::docker) fn into_inner(mut self) -> Option<Incoming> {
        self.0.take()
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let Some(body) = self.0.take().filter(|body| !body.is_end_stream()) else { return };
        // None: the daemon ends.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(tokio::time::timeout(PATIENCE, read_on(body)));
        }
    }
}

/// Reads a body to its end, its limit, or the end of its client.
async fn read_on(mut body: Incoming) {
    let mut left = MAX_UNWANTED_BYTES;
    while let Some(Ok(frame)) = body.frame().await {
        let bytes = frame.data_ref().map_or(0, Bytes::len);
        match left.checked_sub(bytes) {
            Some(less) => left = less,
            None => return,
        }
    }
}
