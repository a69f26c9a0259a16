//! Answers in many messages: lists in parts, each item once, and events for as long as the caller listens.

use std::pin::Pin;

use tokio_stream::{Iter, Stream, StreamExt as _};
use tonic::Status;

use super::translate::event;
use crate::engine::Subscription;
use cleat_cri_api::v1::ContainerEventResponse;

/// Most items in a message. The annotations of one may have 256 KiB (Kubernetes allows no more); clients accept 16 MiB.
const PART: usize = 16;

/// A list in parts.
pub(super) type Parts<T> = Iter<std::vec::IntoIter<Result<T, Status>>>;

/// Splits `items` into messages that `wrap` makes; none for an empty list.
pub(super) fn parts<I, T>(items: Vec<I>, wrap: impl Fn(Vec<I>) -> T) -> Parts<T> {
    let mut items = items.into_iter();
    let next = || Some(items.by_ref().take(PART).collect::<Vec<_>>()).filter(|part| !part.is_empty());
    let messages: Vec<_> = std::iter::from_fn(next).map(|part| Ok(wrap(part))).collect();
    tokio_stream::iter(messages)
}

/// Events until the caller hangs up.
pub(super) type Events = Pin<Box<dyn Stream<Item = Result<ContainerEventResponse, Status>> + Send>>;

/// What `subscription` gives. A caller that reads too slowly gets `DATA_LOSS` and no more: it has to list anew.
pub(super) fn events(subscription: Subscription) -> Events {
    // Containers without a pod are another door's.
    let ours = subscription.filter(|next| !next.as_ref().is_ok_and(|event| event.pod.config.kind.is_one()));
    Box::pin(ours.filter_map(|next| match next {
        Ok(happened) => {
            tracing::trace!(happened.sequence, subject = %happened.subject, "an event is told");
            event::event(&happened).map(Ok)
        }
        Err(missed) => {
            tracing::warn!("a reader of container events is too slow: {missed}");
            Some(Err(Status::data_loss(missed.to_string())))
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn split(count: usize) -> Vec<Vec<usize>> {
        parts((0..count).collect(), |part| part).map(|part| part.unwrap()).collect().await
    }

    #[tokio::test]
    async fn every_item_is_in_one_part() {
        assert!(split(0).await.is_empty());
        assert_eq!(split(3).await, [[0, 1, 2]]);
        let many = split(2 * PART + 1).await;
        assert_eq!(many.iter().map(Vec::len).collect::<Vec<_>>(), [PART, PART, 1]);
        assert_eq!(many.concat(), (0..2 * PART + 1).collect::<Vec<_>>());
    }
}
