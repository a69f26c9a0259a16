//! Attaching to a container's own streams, before its program is there or while it runs.

use std::sync::Arc;

use super::pause::check_not_paused;
use super::streams::{Client, Pipes, content_type, switch};
use crate::docker::Door;
use crate::docker::dispatch::Ask;
use crate::docker::refusal::{Answer, Refusal};
use crate::engine::{Attachment, One, Session, Streams, chain};

/// `POST /containers/{id}/attach`.
pub(super) async fn attach(door: &Arc<Door>, one: One, ask: Ask) -> Answer {
    if ask.query.is_on("logs") {
        return Err(Refusal::not_built("attaching with what was written before"));
    }
    check_not_paused(&one, "attach")?;
    let is_terminal = one.container.config.tty;
    let streams = Streams {
        stdin: ask.query.is_on("stdin"),
        stdout: ask.query.is_on("stdout"),
        stderr: ask.query.is_on("stderr"),
    };
    let kind = content_type(ask.version, is_terminal);
    let (response, place) = switch(&ask.headers, ask.upgrade, kind, streams.stdin)?;
    // A client that reads nothing holds the container's output up, as with dockerd.
    let attachment = door.engine.attach_one(&one, streams, None).await?;
    door.run(async move {
        let mut client = match Client::new(place).await {
            Ok(client) => client,
            Err(error) => return tracing::debug!(%error, "a client left before it was attached"),
        };
        let session = match attachment {
            Attachment::Now(session) => session,
            Attachment::Later(session) => match session.await {
                Ok(Ok(session)) => session,
                Ok(Err(error)) => return tracing::info!("could not attach a client: {}", chain(&error)),
                // The program was not executed: there is nothing to say.
                Err(_) => return,
            },
        };
        // The connection to the monitor is in the ending: it lasts as long as the client.
        let Session { stdin, stdout, stderr, ending, resizer: _ } = session;
        let served = client.serve(Pipes { stdin, stdout, stderr, is_terminal }).await;
        drop(ending);
        if let Err(error) = served.and(client.end().await) {
            tracing::debug!(%error, "an attached client left");
        }
    });
    Ok(response)
}
