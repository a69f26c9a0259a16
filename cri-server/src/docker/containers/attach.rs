//! Attaching to a container's own streams, before its program is there or while it runs.

use std::sync::Arc;

use super::logs::Earlier;
use super::noted;
use super::pause::check_not_paused;
use super::streams::{Client, Pipes, content_type, switch};
use crate::docker::Door;
use crate::docker::dispatch::Ask;
use crate::docker::refusal::Answer;
use crate::engine::{Attachment, One, Session, Streams, chain};

/// `POST /containers/{id}/attach`: what was written before (`logs`), then what comes (`stream`).
pub(super) async fn attach(door: &Arc<Door>, one: One, ask: Ask) -> Answer {
    check_not_paused(&one, "attach")?;
    let is_terminal = one.container.config.tty;
    let wants = |key: &str| ask.query.is_on(key);
    let streams = Streams { stdin: wants("stdin"), stdout: wants("stdout"), stderr: wants("stderr") };
    let earlier = wants("logs").then(|| Earlier::of(&one, streams)).transpose()?;
    let kind = content_type(ask.version, is_terminal);
    let (response, place) = switch(&ask.headers, ask.upgrade, kind, streams.stdin)?;
    // A client that reads nothing holds the container's output up, as with dockerd.
    let attachment = match ask.query.is_on("stream") {
        true => Some(door.engine.attach_one(&one, streams, None).await?),
        false => None,
    };
    // In this order nothing is missed in between; what is written just now may come twice.
    let earlier = earlier.map(Earlier::until_now);
    noted::done(door, &one, "attach", &[]);
    door.run(async move {
        let mut client = match Client::new(place).await {
            Ok(client) => client,
            Err(error) => return tracing::debug!(%error, "a client left before it was attached"),
        };
        let mut told = Ok(());
        if let Some(earlier) = earlier {
            told = client.replay(earlier).await;
        }
        if let (Ok(()), Some(attachment)) = (&told, attachment) {
            let Some(session) = session(attachment).await else { return };
            // The connection to the monitor is in the ending: it lasts as long as the client.
            let Session { stdin, stdout, stderr, ending, resizer: _ } = session;
            told = client.serve(Pipes { stdin, stdout, stderr, is_terminal }).await;
            drop(ending);
        }
        if let Err(error) = told.and(client.end().await) {
            tracing::debug!(%error, "an attached client left");
        }
    });
    Ok(response)
}

/// The session of a client that came after the program, or before it; none where the program was not executed.
async fn session(attachment: Attachment) -> Option<Session> {
    match attachment {
        Attachment::Now(session) => Some(session),
        Attachment::Later(session) => match session.await.ok()? {
            Ok(session) => Some(session),
            Err(error) => {
                tracing::info!("could not attach a client: {}", chain(&error));
                None
            }
        },
    }
}
