//! How long requests take, by call and gRPC status: until the answer, or until the first message of one that streams.

use std::convert::Infallible;
use std::task::{Context, Poll};
use std::time::Instant;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::registry::{Registry, Unit};
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service, http};
use tonic::server::NamedService;
use tonic::{Code, Status};

use crate::engine::activity::{Durations, durations};

/// The durations of all requests. Clones count together.
#[derive(Clone)]
pub(crate) struct Requests(Durations<Answered>);

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Answered {
    method: String,
    code: String,
}

impl Default for Requests {
    fn default() -> Self {
        Self(durations())
    }
}

impl Requests {
    /// Has `registry` show them.
    pub(crate) fn register(&self, registry: &mut Registry) {
        let help = "Time until a request of the CRI was answered";
        registry.register_with_unit("cri_request_duration", help, Unit::Seconds, self.0.clone());
    }

    fn count(&self, path: &str, code: Code, since: Instant) {
        // A path that no service has would be a label for every client that invents one.
        let method =
            if code == Code::Unimplemented { "unknown" } else { path.rsplit('/').next().unwrap_or("") };
        let answered = Answered { method: method.to_owned(), code: format!("{code:?}") };
        self.0.get_or_create(&answered).observe(since.elapsed().as_secs_f64());
    }
}

/// A gRPC service whose requests are counted.
#[derive(Clone)]
pub(super) struct Measured<S>(pub(super) S, pub(super) Requests);

impl<S: NamedService> NamedService for Measured<S> {
    const NAME: &'static str = S::NAME;
}

impl<S, B> Service<http::Request<B>> for Measured<S>
where
    S: Service<http::Request<B>, Response = http::Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let (requests, since) = (self.1.clone(), Instant::now());
        let path = request.uri().path().to_owned();
        let answer = self.0.call(request);
        Box::pin(async move {
            let answered = answer.await?;
            // A refusal is told in the head; what succeeds tells so behind the message.
            let code = Status::from_header_map(answered.headers()).map_or(Code::Ok, |status| status.code());
            requests.count(&path, code, since);
            Ok(answered)
        })
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;
    use tonic::codegen::http::{Request, Response};

    use super::*;

    #[derive(Clone)]
    struct Answering(Option<Status>);

    impl Service<Request<()>> for Answering {
        type Response = Response<Body>;
        type Error = Infallible;
        type Future = BoxFuture<Self::Response, Infallible>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: Request<()>) -> Self::Future {
            let status = self.0.clone();
            Box::pin(async move { Ok(status.map_or_else(Response::default, Status::into_http)) })
        }
    }

    #[tokio::test]
    async fn requests_are_counted_by_call_and_status() {
        let requests = Requests::default();
        let mut registry = Registry::default();
        requests.register(&mut registry);
        for (path, status) in [
            ("/runtime.v1.RuntimeService/Version", None),
            ("/runtime.v1.RuntimeService/Version", Some(Status::not_found("x"))),
            ("/runtime.v1.RuntimeService/NoSuchThing", Some(Status::unimplemented("x"))),
        ] {
            let request = Request::builder().uri(path).body(()).unwrap();
            Measured(Answering(status), requests.clone()).call(request).await.unwrap();
        }
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        for line in [
            r#"cri_request_duration_seconds_count{method="Version",code="Ok"} 1"#,
            r#"cri_request_duration_seconds_count{method="Version",code="NotFound"} 1"#,
            r#"cri_request_duration_seconds_count{method="unknown",code="Unimplemented"} 1"#,
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
        assert!(!text.contains("NoSuchThing"));
    }
}
