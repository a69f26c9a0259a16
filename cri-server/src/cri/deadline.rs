//! The deadline that a caller sends with its request (gRPC over HTTP/2, `grpc-timeout`).
//!
//! tonic ends such a request by itself, with CANCELLED. The code for it is DEADLINE_EXCEEDED: Go clients take the other
//! one for their own doing, and which of the two they see would depend on whose clock is first. So this ends it here;
//! tonic asks what is inside before it looks at its own clock, which it has set later.
//!
//! What the request has started goes on in its driver, as when a caller hangs up.

use std::convert::Infallible;
use std::task::{Context, Poll};
use std::time::Duration;

use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service, http};
use tonic::server::NamedService;

/// A gRPC service that answers in time.
#[derive(Clone)]
pub(super) struct Deadline<S>(pub(super) S);

impl<S: NamedService> NamedService for Deadline<S> {
    const NAME: &'static str = S::NAME;
}

impl<S, B> Service<http::Request<B>> for Deadline<S>
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
        let limit = request.headers().get("grpc-timeout").and_then(|value| limit(value.as_bytes()));
        let Some(limit) = limit else { return Box::pin(self.0.call(request)) };
        let end = tokio::time::sleep(limit);
        let answer = self.0.call(request);
        Box::pin(async move {
            tokio::select! {
                biased;
                answered = answer => answered,
                () = end => Ok(expired(limit)),
            }
        })
    }
}

fn expired(limit: Duration) -> http::Response<Body> {
    tracing::debug!(?limit, "the caller's deadline has passed");
    Status::deadline_exceeded(format!("the caller's deadline of {limit:?} has passed")).into_http()
}

/// The time a `grpc-timeout` leaves: one to eight digits and a unit. Anything else is no deadline, as with tonic.
fn limit(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if !(1..=8).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(match unit {
        b'H' => Duration::from_secs(number * 60 * 60),
        b'M' => Duration::from_secs(number * 60),
        b'S' => Duration::from_secs(number),
        b'm' => Duration::from_millis(number),
        b'u' => Duration::from_micros(number),
        b'n' => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::future::{Pending, Ready, pending, ready};

    use tonic::Code;

    use super::*;

    #[test]
    fn limits_are_read_as_grpc_writes_them() {
        for (value, expected) in [
            ("2H", Some(Duration::from_secs(7200))),
            ("3M", Some(Duration::from_secs(180))),
            ("4S", Some(Duration::from_secs(4))),
            ("999m", Some(Duration::from_millis(999))),
            ("998765u", Some(Duration::from_micros(998_765))),
            ("99999999n", Some(Duration::from_nanos(99_999_999))),
            ("99999999H", Some(Duration::from_secs(99_999_999 * 3600))),
            ("0S", Some(Duration::ZERO)),
            ("", None),
            ("S", None),
            ("5", None),
            ("5s", None),
            ("+5S", None),
            ("-5S", None),
            ("1 S", None),
            ("123456789S", None),
        ] {
            assert_eq!(limit(value.as_bytes()), expected, "{value:?}");
        }
    }

    /// A service whose answers are what `A` makes of a request.
    struct Answers<A>(A);

    impl<F, A> Service<http::Request<()>> for Answers<A>
    where
        A: Fn() -> F,
        F: Future<Output = Result<http::Response<Body>, Infallible>>,
    {
        type Response = http::Response<Body>;
        type Error = Infallible;
        type Future = F;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: http::Request<()>) -> F {
            (self.0)()
        }
    }

    async fn code<S>(service: S, timeout: &str) -> Option<Code>
    where
        S: Service<http::Request<()>, Response = http::Response<Body>, Error = Infallible>,
        S::Future: Send + 'static,
    {
        let request = http::Request::builder().header("grpc-timeout", timeout).body(()).unwrap();
        let Ok(response) = Deadline(service).call(request).await;
        Status::from_header_map(response.headers()).map(|status| status.code())
    }

    #[tokio::test]
    async fn what_is_late_is_answered_by_the_right_code() {
        let never: fn() -> Pending<Result<http::Response<Body>, Infallible>> = pending;
        assert_eq!(code(Answers(never), "1m").await, Some(Code::DeadlineExceeded));
        assert_eq!(code(Answers(never), "0S").await, Some(Code::DeadlineExceeded));
        let at_once: fn() -> Ready<Result<http::Response<Body>, Infallible>> =
            || ready(Ok(Status::not_found("x").into_http()));
        assert_eq!(code(Answers(at_once), "0S").await, Some(Code::NotFound));
    }
}
