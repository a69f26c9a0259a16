//! Every limit a pull obeys, with its default and the reason for it.

use std::time::Duration;

use crate::registries::Source;
use crate::registry::RegistryError;
use crate::unpack::UnpackLimits;

/// Limits of a [`super::Puller`].
#[derive(Clone, Debug)]
pub struct Limits {
    /// Layers transferred and unpacked at once over all pulls. More than the cores that unpack them gains nothing on a
    /// fast network and hides latency on a slow one: 6.
    pub parallel_layers: usize,
    /// Longest wait for a connection (name, TCP and TLS): 15 s.
    pub connect_timeout: Duration,
    /// Longest wait for the head of an answer: 30 s.
    pub response_timeout: Duration,
    /// A transfer that moves fewer than [`Limits::stall_bytes`] in this time has stalled and is begun anew: 20 s.
    pub stall_window: Duration,
    /// See [`Limits::stall_window`]: 20 KiB, which is 1 KiB/s.
    pub stall_bytes: u64,
    /// Attempts at a registry that bring nothing further before it counts as failed: 4. A mirror has one, since there is
    /// somebody else to ask.
    pub attempts: u32,
    /// Wait before the second attempt; doubled before each further one: 200 ms.
    pub backoff: Duration,
    /// Limits of what a layer may unpack to.
    pub unpack: UnpackLimits,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            parallel_layers: 6,
            connect_timeout: Duration::from_secs(15),
            response_timeout: Duration::from_secs(30),
            stall_window: Duration::from_secs(20),
            stall_bytes: 20 << 10,
            attempts: 4,
            backoff: Duration::from_millis(200),
            unpack: UnpackLimits::default(),
        }
    }
}

impl Limits {
    /// How often to try `source`.
    pub(super) fn attempts_at(&self, source: &Source) -> u32 {
        if source.mirror { 1 } else { self.attempts }
    }

    /// Ask `source` once more while its answer is a transient failure, up to [`Limits::attempts_at`] times in all.
    pub(super) async fn retry<T, F>(&self, source: &Source, ask: impl Fn() -> F) -> Result<T, RegistryError>
    where
        F: Future<Output = Result<T, RegistryError>>,
    {
        let mut fruitless = 1;
        loop {
            match ask().await {
                Err(error) if error.is_transient() && fruitless < self.attempts_at(source) => {
                    tracing::debug!(%error, "asking again");
                    tokio::time::sleep(self.wait_after(&error, fruitless)).await;
                    fruitless += 1;
                }
                result => return result,
            }
        }
    }

    /// How long to wait after `error`, which came after so many fruitless attempts in a row: as long as the registry asks,
    /// within reason.
    pub(super) fn wait_after(&self, error: &RegistryError, fruitless: u32) -> Duration {
        /// No registry is waited for longer: rate limits of minutes are the kubelet's to wait for.
        const LONGEST_ASKED: Duration = Duration::from_secs(60);
        let asked = error.retry_after().unwrap_or_default().min(LONGEST_ASKED);
        self.backoff_before(fruitless).max(asked)
    }

    /// How long to wait after so many fruitless attempts in a row.
    pub(super) fn backoff_before(&self, fruitless: u32) -> Duration {
        /// No wait is longer: a registry that restarts is back within seconds.
        const LONGEST: Duration = Duration::from_secs(10);
        let factor = 1_u32.checked_shl(fruitless.saturating_sub(1)).unwrap_or(u32::MAX);
        self.backoff.saturating_mul(factor).min(LONGEST)
    }
}
