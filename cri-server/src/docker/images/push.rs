//! Pushing.

use std::sync::Arc;

use cleat_image::{Credentials, Digest, Image, PushStep, Pushed, Reference};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::progress::{failure, short};
use super::{named, noted};
use crate::docker::Door;
use crate::docker::dispatch::Ask;
use crate::docker::refusal::{Answer, Refusal};
use crate::docker::wire::{Lines, credentials, familiar, lines};
use crate::engine::chain;

/// `POST /images/{name}/push`; without a tag all of the repository's.
pub(in crate::docker) async fn push(door: &Arc<Door>, name: &str, ask: &Ask) -> Answer {
    let credentials = credentials(&ask.headers)?;
    let tag = ask.query.get("tag");
    let reference = named(name, tag)?;
    let all_tags = tag.is_empty() && !name.rsplit('/').next().unwrap_or_default().contains([':', '@']);
    let targets = targets(&door.engine.images().list(), &reference, all_tags);
    if targets.is_empty() {
        let name = if all_tags { reference.name() } else { familiar(&reference) };
        return Err(Refusal::missing(format!("An image does not exist locally with the tag: {name}")));
    }
    let (lines, response) = lines();
    let pusher = door.clone();
    door.run(async move { push_all(&pusher, targets, credentials, lines).await });
    Ok(response)
}

/// The images to push with their names.
fn targets(images: &[Arc<Image>], reference: &Reference, all_tags: bool) -> Vec<(Arc<Image>, Reference)> {
    let wanted = |name: &Reference| {
        if all_tags { name.name() == reference.name() } else { name == reference }
    };
    let named = |image: &Arc<Image>| {
        let names = image.names.iter().filter(|name| wanted(name)).cloned();
        names.map(|name| (image.clone(), name)).collect::<Vec<_>>()
    };
    images.iter().flat_map(named).collect()
}

/// Pushes one after the other, until one fails or the client has gone, which breaks the push off.
async fn push_all(
    door: &Door,
    targets: Vec<(Arc<Image>, Reference)>,
    credentials: Option<Credentials>,
    mut lines: Lines,
) {
    for (image, reference) in targets {
        let refers = format!("The push refers to repository [{}]", reference.name());
        if !lines.send(&json!({"status": refers})).await {
            return;
        }
        let (sender, mut steps) = mpsc::unbounded_channel();
        let report = Arc::new(move |layer: &Digest, step: PushStep| {
            // Nobody follows any more: the push is about to be broken off.
            if sender.send((layer.clone(), step)).is_err() {
                tracing::trace!("a push goes on unfollowed");
            }
        });
        let work = door.engine.puller().push(&image, &reference, credentials.clone(), report);
        tokio::pin!(work);
        let ended = loop {
            tokio::select! {
                biased;
                Some((layer, step)) = steps.recv() => {
                    if !lines.send(&line(&layer, step)).await {
                        return;
                    }
                }
                ended = &mut work => break ended,
            }
        };
        while let Ok((layer, step)) = steps.try_recv() {
            if !lines.send(&line(&layer, step)).await {
                return;
            }
        }
        let (end, failed) = match ended {
            Ok(pushed) => {
                noted::transferred(door, "push", &image, &reference);
                (done(&reference, &pushed), false)
            }
            Err(error) => (vec![failure(&chain(&error))], true),
        };
        for line in end {
            if !lines.send(&line).await {
                return;
            }
        }
        if failed {
            return;
        }
    }
}

fn line(layer: &Digest, step: PushStep) -> Value {
    let id = short(layer);
    let status = match step {
        PushStep::Exists => "Layer already exists",
        PushStep::Mounted => "Mounted from another repository",
        PushStep::Pushed => "Pushed",
        PushStep::Uploading { done_bytes } => {
            return json!({"status": "Pushing", "progressDetail": {"current": done_bytes}, "id": id});
        }
    };
    json!({"status": status, "progressDetail": {}, "id": id})
}

fn done(reference: &Reference, pushed: &Pushed) -> Vec<Value> {
    let tag = reference.tag().unwrap_or_default();
    let status = format!("{tag}: digest: {} size: {}", pushed.digest, pushed.bytes);
    let aux = json!({"Tag": tag, "Digest": pushed.digest.to_string(), "Size": pushed.bytes});
    vec![json!({"status": status}), json!({"progressDetail": {}, "aux": aux})]
}

#[cfg(test)]
mod tests {
    use super::super::describe::tests::image;
    use super::*;

    #[test]
    fn one_tag_or_all_of_a_repository_are_pushed() {
        let images = [Arc::new(image(&["h:1/a:1", "h:1/a:2", "h:1/b:1"]))];
        let reference = Reference::parse("h:1/a:1").unwrap();
        assert_eq!(targets(&images, &reference, false).len(), 1);
        assert_eq!(targets(&images, &reference, true).len(), 2);
        assert!(targets(&images, &Reference::parse("h:1/c").unwrap(), true).is_empty());
    }

    #[test]
    fn the_end_tells_the_digest_to_people_and_programs() {
        let pushed = Pushed { digest: Digest::of(b"m"), bytes: 527 };
        let lines = done(&Reference::parse("h:1/a:1").unwrap(), &pushed);
        let status = lines[0]["status"].as_str().unwrap();
        assert!(status.starts_with("1: digest: sha256:") && status.ends_with(" size: 527"), "{status}");
        assert_eq!(lines[1]["aux"]["Tag"], "1");
    }
}
