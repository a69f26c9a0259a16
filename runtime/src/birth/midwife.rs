//! Births in a user namespace.
//!
//! A process is born in the user namespace of whoever clones it, with pid and mount namespaces that this one owns; and
//! whoever has joined a user namespace has no privileges outside of it any more. So the builder splits: it joins the
//! namespace and clones init, whose parent is the caller because its own is; a child of it stays outside, waits for
//! init, runs hooks, undoes what failed and answers.
//!
//! ```text
//! caller        builder ──fork──▶ its heir, the builder from now on
//!   │              │ setns, clone3 ──────────▶ init
//!   │              │ Newborn ────▶ │ limits, hooks
//!   │              │ waits         │ ◀── Ready ──┘
//!   │◀─────────────┼────── Born ───┘ ends
//!   │              └ ends
//! ```

use std::os::fd::{AsFd, OwnedFd};

use cleat_sys::process::{Cloned, exit_now};
use serde::{Deserialize, Serialize};

use super::builder::Joined;
use super::channel::{Channel, Received, shortened};
use super::tie_to_caller;
use crate::Failure;
use crate::failure::Step;

/// What the midwife tells the builder.
#[derive(Debug, Serialize, Deserialize)]
enum Newborn {
    /// With its pidfd.
    Born {
        pid: i32,
    },
    Failed(Failure),
}

/// Who the calling process is after a birth.
#[derive(Debug)]
pub(super) enum Role {
    /// Init, with the namespaces that it has to join.
    Init(Joined),
    /// The builder.
    Builder { pid: i32, pidfd: OwnedFd },
    /// The midwife, with the builder as its child: to let go of everything, then [`see_out`].
    Midwife(OwnedFd),
}

/// Splits, and has `deliver` clone init in the half that may change its namespaces for good.
pub(super) fn deliver(
    caller: &Channel,
    deliver: impl FnOnce() -> Result<Role, Failure>,
) -> Result<Role, Failure> {
    let (ours, theirs) = Channel::pair().step(|| "connect with the builder")?;
    let builder = match cleat_sys::process::fork().step(|| "fork the builder")? {
        Cloned::Child => {
            drop(theirs);
            tie_to_caller(caller)?;
            return await_newborn(&ours);
        }
        Cloned::Parent { pidfd, .. } => pidfd,
    };
    drop(ours);
    // A builder that is gone has nobody to tell.
    match deliver() {
        Ok(Role::Builder { pid, pidfd }) => theirs.send(&Newborn::Born { pid }, &[pidfd.as_fd()]).ok(),
        Ok(role) => return Ok(role),
        Err(failure) => theirs.send(&Newborn::Failed(shortened(failure)), &[]).ok(),
    };
    Ok(Role::Midwife(builder))
}

fn await_newborn(midwife: &Channel) -> Result<Role, Failure> {
    let step = || "hear from the midwife";
    match midwife.receive().step(step)? {
        Received::Message(Newborn::Born { pid }, descriptors) => match descriptors.into_iter().next() {
            Some(pidfd) => Ok(Role::Builder { pid, pidfd }),
            None => Err(Failure::because(step(), "the newborn's descriptor is missing")),
        },
        Received::Message(Newborn::Failed(failure), _) => Err(failure),
        Received::Closed => Err(Failure::because(step(), "it ended without a word")),
    }
}

/// Waits for the end of the builder, whose answer is the caller's, and ends.
pub(super) fn see_out(builder: &OwnedFd) -> ! {
    exit_now(cleat_sys::process::reap(builder).is_err().into())
}
