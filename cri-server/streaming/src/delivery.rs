//! Handing what a client sends to whoever takes it, while the client may vanish and the taker may stop.
//!
//! The clients' SPDY library knows no windows and WebSocket has none: a sender is held back by not reading. So a taker
//! that is slow slows its client's whole connection down; meanwhile the client is watched, and kept from taking us for dead.

use std::io;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use crate::wire::Wire;

/// How long a taker may be busy before anything is made of it. A process that reads in bursts is nothing special.
const BUSY: Duration = Duration::from_millis(500);

/// What became of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// It is where it belongs.
    Taken,
    /// Nobody takes anything from this channel any more.
    Unwanted,
    /// Nothing was taken for longer than the patience lasts.
    Stalled,
}

/// Hands on `chunk`. Without a `patience` it may take for ever.
///
/// # Errors
/// When the client is gone.
pub(crate) async fn deliver(
    wire: &Wire,
    to: &mpsc::Sender<Vec<u8>>,
    chunk: Vec<u8>,
    patience: Option<Duration>,
) -> io::Result<Delivery> {
    let chunk = match to.try_send(chunk) {
        Ok(()) => return Ok(Delivery::Taken),
        Err(mpsc::error::TrySendError::Closed(_)) => return Ok(Delivery::Unwanted),
        Err(mpsc::error::TrySendError::Full(chunk)) => chunk,
    };
    let sending = async {
        match to.send(chunk).await {
            Ok(()) => Delivery::Taken,
            Err(_) => Delivery::Unwanted,
        }
    };
    tokio::pin!(sending);
    if let Ok(delivery) = timeout(BUSY, &mut sending).await {
        return Ok(delivery);
    }
    let _held = wire.hold();
    let out_of_patience = async {
        match patience {
            Some(patience) => sleep(patience).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        delivery = sending => Ok(delivery),
        () = wire.presence().gone() => Err(io::ErrorKind::ConnectionReset.into()),
        () = out_of_patience => Ok(Delivery::Stalled),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Framing;

    #[tokio::test(start_paused = true)]
    async fn who_takes_nothing_is_waited_for_as_long_as_patience_lasts() {
        let wire = Wire::nowhere(Framing::Spdy);
        let (to, mut from) = mpsc::channel(1);
        let patience = Some(Duration::from_secs(10));
        assert_eq!(deliver(&wire, &to, vec![1], patience).await.unwrap(), Delivery::Taken);
        assert_eq!(deliver(&wire, &to, vec![2], patience).await.unwrap(), Delivery::Stalled);
        let (slow, taken) = tokio::join!(
            async {
                sleep(Duration::from_secs(3600)).await;
                from.recv().await
            },
            deliver(&wire, &to, vec![3], None)
        );
        assert_eq!((slow, taken.unwrap()), (Some(vec![1]), Delivery::Taken));
        drop(from);
        assert_eq!(deliver(&wire, &to, vec![4], patience).await.unwrap(), Delivery::Unwanted);
    }
}
