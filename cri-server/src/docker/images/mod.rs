//! Images: lists, one image, names; what takes longer is in files of its own.

mod archive;
pub(super) mod changes;
mod describe;
mod login;
pub(super) mod noted;
mod progress;
mod pull;
mod push;
mod remove;

use std::sync::Arc;

use cleat_image::{Image, Reference, Store};
use hyper::StatusCode;
use serde_json::Value;

pub(super) use archive::{import, load, save};
pub(super) use login::auth;
pub(super) use pull::pull;
pub(super) use push::push;
pub(super) use remove::{prune, remove};

use super::Door;
use super::dispatch::Ask;
use super::refusal::{Answer, Refusal};
use super::version::ApiVersion;
use super::wire::{Filters, familiar, fits, from_rfc3339, json, seconds};

/// What lists of images are filtered by.
const KNOWN: &[&str] = &["before", "dangling", "label", "label!", "reference", "since", "until"];

/// From this version on an image without a name has an empty list of them.
const NO_NONE: ApiVersion = ApiVersion::v1(43);

/// The image that `name` means.
fn find(door: &Door, name: &str) -> Result<Arc<Image>, Refusal> {
    door.engine.images().resolve(name).ok_or_else(|| Refusal::no_image(name))
}

/// Work on the image store that blocks.
async fn on_store<T, E>(
    door: &Door,
    work: impl FnOnce(&Store) -> Result<T, E> + Send + 'static,
) -> Result<T, Refusal>
where
    T: Send + 'static,
    E: Into<Refusal> + Send + 'static,
{
    let store = door.engine.images().clone();
    let done = tokio::task::spawn_blocking(move || work(&store)).await;
    done.map_err(|error| Refusal::failed(format!("work on the image store broke: {error}")))?
        .map_err(Into::into)
}

/// When it was made, nanoseconds since the Unix epoch; 0 if its configuration does not tell.
fn created_ns(image: &Image) -> i64 {
    image.config.created().as_deref().and_then(from_rfc3339).unwrap_or_default()
}

/// How many containers use it.
fn users(door: &Door, image: &Image) -> usize {
    door.engine.image_users(&image.id).len()
}

/// `GET /images/json`.
pub(super) fn list(door: &Door, ask: &Ask) -> Answer {
    let filters = Filters::parse(ask.query.get("filters"), KNOWN)?;
    let mut images = chosen(door, &filters)?;
    images.sort_by_key(|image| std::cmp::Reverse(created_ns(image)));
    let row = |image: &Arc<Image>| describe::summary(&with_fitting_names(image, &filters), None);
    let mut list: Vec<Value> = images.iter().map(row).collect();
    if ask.version < NO_NONE {
        list.iter_mut().for_each(describe::name_the_nameless);
    }
    Ok(json(StatusCode::OK, &list))
}

/// All images with the number of containers that use each, for `system df`.
pub(super) fn summaries(door: &Door) -> Vec<Value> {
    let images = door.engine.images().list();
    images.iter().map(|image| describe::summary(image, Some(users(door, image)))).collect()
}

/// The images that fit.
fn chosen(door: &Door, filters: &Filters) -> Result<Vec<Arc<Image>>, Refusal> {
    let dangling = filters.flag("dangling")?;
    let moment = |key: &str| {
        let Some([name, ..]) = filters.get(key) else { return Ok(None) };
        find(door, name).map(|image| Some(created_ns(&image)))
    };
    let (before, since, until) = (moment("before")?, moment("since")?, until(filters)?);
    let images = door.engine.images().list();
    let fitting = images.iter().filter(|image| {
        let created = created_ns(image);
        dangling.is_none_or(|dangling| dangling == image.names.is_empty())
            && before.is_none_or(|before| created < before)
            && since.is_none_or(|since| created > since)
            && until.is_none_or(|until| created < until)
            && fits_labels(image, filters)
            && fits_reference(image, filters)
    });
    Ok(fitting.cloned().collect())
}

/// What was made before this moment, or, in Go's notation of durations, so long ago.
fn until(filters: &Filters) -> Result<Option<i64>, Refusal> {
    let Some([text, ..]) = filters.get("until") else { return Ok(None) };
    let moment = seconds(text).or_else(|| super::wire::ago(text));
    moment.map(Some).ok_or_else(|| Refusal::bad(format!("invalid filter 'until={text}'")))
}

fn fits_labels(image: &Image, filters: &Filters) -> bool {
    let labels = image.config.config().as_ref().and_then(|config| config.labels().as_ref());
    filters.fits_labels(|key| labels.and_then(|labels| labels.get(key)).map(String::as_str))
}

fn fits_reference(image: &Image, filters: &Filters) -> bool {
    let Some(patterns) = filters.get("reference") else { return true };
    image.names.iter().any(|name| fits_patterns(name, patterns))
}

/// A pattern stands for a name with or without its tag, as users write either.
fn fits_patterns(name: &Reference, patterns: &[String]) -> bool {
    let full = familiar(name);
    let bare = full.strip_suffix(name.tag().unwrap_or_default()).and_then(|rest| rest.strip_suffix(':'));
    patterns.iter().any(|pattern| fits(pattern, &full) || bare.is_some_and(|bare| fits(pattern, bare)))
}

/// The image with those of its names alone that a list was asked for.
fn with_fitting_names(image: &Image, filters: &Filters) -> Image {
    let mut shown = image.clone();
    if let Some(patterns) = filters.get("reference") {
        shown.names.retain(|name| fits_patterns(name, patterns));
        let of_shown = |digest: &Reference| {
            let repository = |one: &Reference| (one.registry().to_owned(), one.repository().to_owned());
            shown.names.iter().any(|name| repository(name) == repository(digest))
        };
        shown.digests = image.digests.iter().filter(|digest| of_shown(digest)).cloned().collect();
    }
    shown
}

/// `GET /images/{name}/json`.
pub(super) async fn inspect(door: &Door, name: &str) -> Answer {
    let image = find(door, name)?;
    let written = written(door, &image).await?;
    Ok(json(StatusCode::OK, &describe::inspect(&image, written)))
}

/// An image's configuration as its author wrote it: Docker has more in it than OCI.
pub(super) async fn written(door: &Door, image: &Image) -> Result<Value, Refusal> {
    let id = image.id.clone();
    let config = on_store(door, move |store| store.config_json(&id)).await?;
    Ok(serde_json::from_slice(&config.unwrap_or_default()).unwrap_or_default())
}

/// `GET /images/{name}/history`.
pub(super) async fn history(door: &Door, name: &str) -> Answer {
    let image = find(door, name)?;
    let of = image.clone();
    let steps = on_store(door, move |store| store.history(&of)).await?;
    Ok(json(StatusCode::OK, &describe::history(&image, &steps)))
}

/// `POST /images/{name}/tag`.
pub(super) async fn tag(door: &Door, name: &str, ask: &Ask) -> Result<(), Refusal> {
    let image = find(door, name)?;
    let id = image.id.clone();
    let (repository, tag) = (ask.query.get("repo"), ask.query.get("tag"));
    let target = named(repository, tag)?;
    let given = target.clone();
    on_store(door, move |store| store.tag(&id, &given)).await?;
    noted::tagged(door, &image, &target);
    Ok(())
}

/// A name from a repository and a tag (or digest) beside it, which wins over the one in the name.
pub(super) fn named(repository: &str, tag: &str) -> Result<Reference, Refusal> {
    if tag.is_empty() {
        return Ok(Reference::parse(repository)?);
    }
    let last = repository.rfind('/').map_or(0, |slash| slash + 1);
    let bare = repository[last..].find([':', '@']).map_or(repository, |at| &repository[..last + at]);
    let separator = if tag.contains(':') { '@' } else { ':' };
    Ok(Reference::parse(&format!("{bare}{separator}{tag}"))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_beside_the_name_wins() {
        let digest = format!("sha256:{}", "0".repeat(64));
        for (repository, tag, expected) in [
            ("busybox", "", "docker.io/library/busybox:latest".to_owned()),
            ("busybox", "1", "docker.io/library/busybox:1".to_owned()),
            ("busybox:2", "1", "docker.io/library/busybox:1".to_owned()),
            ("127.0.0.1:5001/bb", "1", "127.0.0.1:5001/bb:1".to_owned()),
            ("busybox", digest.as_str(), format!("docker.io/library/busybox@{digest}")),
        ] {
            assert_eq!(named(repository, tag).unwrap().to_string(), expected);
        }
        assert_eq!(named("BAD", "").unwrap_err().status().as_u16(), 400);
    }
}
