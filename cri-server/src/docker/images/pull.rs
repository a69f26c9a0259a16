//! Pulling.

use std::sync::Arc;

use cleat_image::{Digest, Image, PullError, PullFailure, PullHandle, PullProgress, PullWatch, Reference};
use hyper::Response;

use super::progress::{Told, failure, first, last};
use super::{named, noted};
use crate::docker::Door;
use crate::docker::dispatch::Ask;
use crate::docker::refusal::{Answer, Refusal};
use crate::docker::wire::{Body, Lines, credentials, familiar, lines};
use crate::engine::{EngineError, chain};

/// A pull that somebody follows.
struct Followed {
    reference: Reference,
    handle: PullHandle,
    watch: PullWatch,
    progress: PullProgress,
    /// The image that had the name before.
    before: Option<Arc<Image>>,
}

/// `POST /images/create?fromImage=...`. What fails before the manifest is known is a status; what fails later is a line.
pub(in crate::docker) async fn pull(door: &Arc<Door>, ask: &Ask) -> Answer {
    let (name, tag) = (ask.query.get("fromImage"), ask.query.get("tag"));
    let reference = named(name, tag)?;
    let last_part = name.rsplit('/').next().unwrap_or_default();
    if tag.is_empty() && !last_part.contains([':', '@']) {
        return Err(Refusal::not_built("pulling all tags of a repository"));
    }
    check_platform(ask.query.get("platform"))?;
    let handle = door.engine.puller().start(&reference, credentials(&ask.headers)?);
    let before = door.engine.images().find(&reference);
    let mut watch = handle.progress();
    loop {
        let progress = watch.now();
        if progress.target.is_some() {
            return Ok(follow(door, Followed { reference, handle, watch, progress, before }));
        }
        if !watch.changed().await {
            break;
        }
    }
    let progress = watch.now();
    let ended = door.engine.puller();
    if progress.target.is_none()
        && let Err(error) = handle.wait().await
    {
        return Err(refusal(&reference, error));
    }
    // It ended well between two looks: all there is to tell is the end.
    let handle = ended.start(&reference, credentials(&ask.headers)?);
    let watch = handle.progress();
    Ok(follow(door, Followed { reference, handle, watch, progress, before }))
}

/// Images of other platforms cannot run here.
fn check_platform(platform: &str) -> Result<(), Refusal> {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let mut parts = platform.split('/');
    let fits = match (parts.next(), parts.next()) {
        (Some("" | "linux"), None) => true,
        (Some("linux"), Some(wanted)) => wanted == architecture,
        _ => false,
    };
    if fits { Ok(()) } else { Err(Refusal::not_built(format!("pulling for the platform {platform}"))) }
}

/// Why a pull could not begin, in the words by which scripts tell a missing tag from a missing login.
fn refusal(reference: &Reference, error: Arc<PullError>) -> Refusal {
    let name = familiar(reference);
    let reason = chain(error.as_ref());
    match error.failure() {
        PullFailure::NotFound => {
            tracing::info!(image = %reference, "nothing to pull: {reason}");
            Refusal::missing(format!("manifest for {name} not found: manifest unknown: manifest unknown"))
        }
        PullFailure::Unauthorized => Refusal::missing(format!(
            "pull access denied for {name}, repository does not exist or may require 'docker login': {reason}"
        )),
        _ => EngineError::Pull(vec![error]).into(),
    }
}

fn follow(door: &Arc<Door>, pull: Followed) -> Response<Body> {
    let (lines, response) = lines();
    let follower = door.clone();
    door.run(async move { tell(&follower, pull, lines).await });
    response
}

/// Whether the image that has the name is the one behind `target`, what the registry has under it.
fn is_current(before: Option<&Image>, target: Option<&Digest>) -> bool {
    let known = |image: &Image| image.digests.iter().any(|one| one.digest() == target);
    target.is_some() && before.is_some_and(known)
}

/// Tells a pull to its end, or until the client has gone.
async fn tell(door: &Door, pull: Followed, mut lines: Lines) {
    let Followed { reference, handle, mut watch, mut progress, before } = pull;
    let mut told = Told::default();
    // Of an image that is what the registry has, no layer is told.
    let is_current = is_current(before.as_deref(), progress.target.as_ref());
    if !lines.send(&first(&reference)).await {
        return;
    }
    loop {
        for line in if is_current { Vec::new() } else { told.lines(&progress) } {
            if !lines.send(&line).await {
                return;
            }
        }
        let goes_on = watch.changed().await;
        progress = watch.now();
        if !goes_on {
            break;
        }
    }
    let ended = handle.wait().await;
    let end = match &ended {
        Ok(image) => {
            noted::transferred(door, "pull", image, &reference);
            let is_new = before.is_none_or(|before| before.id != image.id);
            let mut end = if is_current { Vec::new() } else { told.lines(&progress) };
            end.extend(last(&reference, progress.target.as_ref(), is_new));
            end
        }
        Err(error) => {
            let message = chain(error.as_ref());
            tracing::info!(image = %reference, "a pull for a Docker client failed: {message}");
            vec![failure(&message)]
        }
    };
    for line in end {
        if !lines.send(&line).await {
            return;
        }
    }
    // The image is there now, or it never will be; nothing of the door waits for it.
    drop(ended);
    tracing::debug!(images = door.engine.images().list().len(), "a pull was told to its end");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_hosts_platform_is_pulled() {
        for platform in ["", "linux"] {
            assert!(check_platform(platform).is_ok(), "{platform}");
        }
        for platform in ["windows/amd64", "linux/s390x", "/"] {
            assert_eq!(check_platform(platform).unwrap_err().status().as_u16(), 501, "{platform}");
        }
    }
}
