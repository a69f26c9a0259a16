//! Crashes at chosen moments, and the witness that has to live through them.
//!
//! Nothing here is told where in the daemon a crash falls: a sweep spreads its crashes over the time the operation takes
//! and what is checked holds at any moment.
#![forbid(unsafe_code)]

mod crash;
mod verdict;
mod witness;

pub use crash::{Act, Sweep};
pub use witness::Witness;

use anyhow::{Context, Result};

/// How often each act of a sweep is interrupted, where `CLEAT_FAULT_ROUNDS` does not say otherwise.
const ROUNDS: u32 = 16;

/// How many rounds a sweep has for each act.
///
/// # Errors
/// Fails when `CLEAT_FAULT_ROUNDS` is no number.
pub fn rounds() -> Result<u32> {
    match std::env::var("CLEAT_FAULT_ROUNDS") {
        Ok(text) => text.parse().with_context(|| format!("CLEAT_FAULT_ROUNDS={text:?}")),
        Err(_) => Ok(ROUNDS),
    }
}
