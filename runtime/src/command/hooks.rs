//! The hooks after a container's start and after its end, which are this command's to run.

use cleat_runtime::{HookPoint, Target};

use super::arguments::Global;
use super::store::Record;
use super::{CommandError, log};

/// Runs the poststart hooks. The first that fails ends the container, as the specification asks (runtime.md,
/// "Lifecycle").
pub(super) fn after_start(
    record: &Record,
    kill: impl FnOnce() -> Result<(), CommandError>,
) -> Result<(), CommandError> {
    let Err(failures) = record.run_hooks(HookPoint::Poststart) else { return Ok(()) };
    kill()?;
    failures.into_iter().next().map_or(Ok(()), |failure| Err(failure.into()))
}

/// Runs the poststop hooks, all of them: one that fails is noted and changes nothing.
pub(super) fn after_end(global: &Global, record: &Record) {
    if let Err(failures) = record.run_hooks(HookPoint::Poststop) {
        failures.iter().for_each(|failure| log::note(global, &failure.to_string()));
    }
}

/// Ends a container whose library handle is at hand.
pub(super) fn kill(target: &Target) -> Result<(), CommandError> {
    Ok(target.kill_all()?)
}
