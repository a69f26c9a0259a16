//! Taking something down: every step is tried, every failure is told.

use crate::engine::error::{EngineError, Result, chain};

/// The failures of one take-down so far.
#[derive(Debug)]
pub(super) struct Cleanup {
    object: String,
    failures: Vec<String>,
}

impl Cleanup {
    /// Begins to take `object` (kind and id) down.
    pub(super) fn of(object: String) -> Self {
        Self { object, failures: Vec::new() }
    }

    /// Notes the outcome of one step; the next one is tried in any case.
    pub(super) fn step<E: std::error::Error + 'static>(
        &mut self,
        name: &str,
        outcome: std::result::Result<(), E>,
    ) -> &mut Self {
        if let Err(error) = outcome {
            self.failures.push(format!("{name}: {}", chain(&error)));
        }
        self
    }

    /// All failures as one error.
    pub(super) fn finish(self) -> Result<()> {
        if self.failures.is_empty() {
            return Ok(());
        }
        Err(EngineError::Step {
            step: "take down",
            object: self.object,
            reason: self.failures.join("; "),
            errno: None,
        })
    }
}

/// `Ok` when what was to be removed is not there.
pub(super) fn absent_is_fine(result: std::io::Result<()>) -> std::io::Result<()> {
    match result {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failure_is_told() {
        let mut cleanup = Cleanup::of("pod x".into());
        let fail = |text: &str| Err::<(), _>(std::io::Error::other(text.to_owned()));
        cleanup
            .step("first", fail("a"))
            .step("second", Ok::<(), std::io::Error>(()))
            .step("third", fail("b"));
        let text = cleanup.finish().unwrap_err().to_string();
        assert_eq!(text, "take down of pod x: first: a; third: b");
    }
}
