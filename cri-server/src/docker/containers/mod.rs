//! Containers: each endpoint finds its container, asks the engine, and answers.

mod attach;
mod copy;
mod create;
mod defaults;
pub(super) mod describe;
mod devices;
mod diff;
mod endpoint;
mod exec;
mod group;
pub(super) mod health;
mod list;
mod log_files;
mod log_options;
mod logs;
pub(super) mod mounts;
mod noted;
mod others;
mod pause;
mod process;
mod refused;
mod remove;
mod rename;
mod request;
mod restart_policy;
mod row;
mod run;
mod security;
mod settled;
mod sources;
mod stats;
mod streams;
mod top;
mod update;
mod user;
mod wait;

use std::sync::Arc;

use hyper::StatusCode;

pub(super) use create::create;
pub(super) use endpoint::network_mode_of;
pub(super) use exec::{Execs, act as exec, action as exec_action};
pub(super) use list::list;
pub(super) use remove::prune;
pub(super) use request::{EndpointRequest, or_default};

use super::Door;
use super::dispatch::Ask;
use super::refusal::{Answer, Refusal};
use super::route::ContainerAct;
use super::wire::empty;
use crate::engine::{One, TerminalSize};

/// Carries out what is asked about the container called `name`.
pub(super) async fn act(door: &Arc<Door>, name: &str, act: ContainerAct, ask: Ask) -> Answer {
    let one = door.engine.one(name)?;
    match act {
        ContainerAct::Inspect => list::inspect(door, &one, &ask).await,
        ContainerAct::Start => run::start(door, &one).await,
        ContainerAct::Stop => run::stop(door, &one, &ask).await,
        ContainerAct::Restart => run::restart(door, &one, &ask).await,
        ContainerAct::Kill => run::kill(door, &one, &ask).await,
        ContainerAct::Pause => pause::pause(door, &one).await,
        ContainerAct::Resume => pause::resume(door, &one).await,
        ContainerAct::Rename => rename::rename(door, &one, &ask).await,
        ContainerAct::Wait => wait::wait(door, one, &ask),
        ContainerAct::Remove => remove::remove(door, &one, &ask).await,
        ContainerAct::Logs => logs::logs(door, &one, &ask).await,
        ContainerAct::Attach => attach::attach(door, one, ask).await,
        ContainerAct::Resize => resize(door, &one, &ask).await,
        ContainerAct::Stats => stats::stats(door, one, &ask).await,
        ContainerAct::Changes => diff::changes(door, &one).await,
        ContainerAct::Update => update::update(door, &one, ask).await,
        ContainerAct::Top => top::top(door, &one, &ask).await,
        ContainerAct::Exec => exec::create(door, &one, ask).await,
        ContainerAct::Look => copy::look(door, &one, &ask).await,
        ContainerAct::CopyOut => copy::out(door, &one, &ask).await,
        ContainerAct::CopyIn => copy::into(door, &one, ask).await,
        ContainerAct::Export => copy::export(door, &one).await,
        ContainerAct::Missing(what) => Err(Refusal::not_built(what)),
    }
}

async fn resize(door: &Door, one: &One, ask: &Ask) -> Answer {
    door.engine.resize_one(one, size(ask)?).await?;
    Ok(empty(StatusCode::OK))
}

/// The size of a terminal in a query.
fn size(ask: &Ask) -> Result<TerminalSize, Refusal> {
    let number = |key: &str| {
        let text = ask.query.get(key);
        text.parse()
            .map_err(|_| Refusal::bad(format!("invalid size {key}={text:?}: write a number up to 65535")))
    };
    Ok(TerminalSize { rows: number("h")?, columns: number("w")? })
}
