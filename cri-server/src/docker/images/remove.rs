//! Removing images and names of images.

use std::sync::Arc;

use cleat_image::{Image, Reference, Removed, StoreError};
use hyper::StatusCode;
use serde_json::{Value, json};

use super::progress::short;
use super::{chosen, find, noted, on_store};
use crate::docker::Door;
use crate::docker::dispatch::Ask;
use crate::docker::refusal::{Answer, Refusal};
use crate::docker::wire::{Filters, familiar, json as in_json};

/// What prunes are filtered by.
const KNOWN: &[&str] = &["dangling", "label", "label!", "until"];

/// What to do with an image that is to be removed.
#[derive(Debug, PartialEq, Eq)]
enum Plan {
    /// Take this name from it.
    Untag(Reference),
    /// Remove it with all its names.
    Delete,
}

/// A container that uses an image.
struct User {
    id: String,
    runs: bool,
}

/// `DELETE /images/{name}`.
pub(in crate::docker) async fn remove(door: &Door, name: &str, ask: &Ask) -> Answer {
    let image = find(door, name)?;
    let containers = door.engine.image_users(&image.id);
    let users = containers.iter().map(|one| User { id: one.id.to_string(), runs: one.state.pid().is_some() });
    let users: Vec<User> = users.collect();
    let done = match plan(&image, name, &users, ask.query.is_on("force"))? {
        Plan::Untag(reference) => {
            let names = with_digests(&image, reference);
            on_store(door, move |store| names.iter().map(|name| store.remove_name(name)).collect()).await?
        }
        Plan::Delete => {
            let id = image.id.clone();
            on_store(door, move |store| store.remove(&id).map(|done| vec![done])).await?
        }
    };
    done.iter().for_each(|taken| noted::removed(door, &image, taken));
    let lines: Vec<Value> = done.into_iter().flat_map(told).collect();
    Ok(in_json(StatusCode::OK, &lines))
}

/// Docker's rules: a name is taken from an image that has others; an image goes with its last name, unless a container
/// uses it; force goes before both, but not before a container that runs.
fn plan(image: &Image, name: &str, users: &[User], force: bool) -> Result<Plan, Refusal> {
    let written = Reference::parse(name).ok();
    let named = written.filter(|written| image.names.contains(written) || image.digests.contains(written));
    let short_id = short(&image.id);
    if let Some(named) = &named {
        let is_last = image.names.iter().all(|other| other == named);
        if !is_last {
            return Ok(Plan::Untag(named.clone()));
        }
    } else if image.names.len() > 1 && !force {
        return Err(Refusal::conflict(format!(
            "conflict: unable to delete {short_id} (must be forced) - image is referenced in multiple repositories"
        )));
    }
    let short_user = |user: &User| user.id.chars().take(12).collect::<String>();
    if let Some(user) = users.iter().find(|user| user.runs) {
        let user = short_user(user);
        return Err(Refusal::conflict(match (&named, force) {
            (Some(_), false) => in_use(name, &user, &short_id),
            _ => format!(
                "conflict: unable to delete {short_id} (cannot be forced) - image is being used by running container {user}"
            ),
        }));
    }
    match users.first() {
        Some(user) if !force => Err(Refusal::conflict(match named {
            Some(_) => in_use(name, &short_user(user), &short_id),
            None => format!(
                "conflict: unable to delete {short_id} (must be forced) - image is being used by stopped container {}",
                short_user(user)
            ),
        })),
        _ => Ok(Plan::Delete),
    }
}

/// The name, and if it is the image's last one in its repository, what the image is known by there.
fn with_digests(image: &Image, name: Reference) -> Vec<Reference> {
    let is_beside =
        |other: &&Reference| (other.registry(), other.repository()) == (name.registry(), name.repository());
    let is_last = image.names.iter().filter(is_beside).count() == 1 && name.digest().is_none();
    let digests: Vec<Reference> = image.digests.iter().filter(is_beside).cloned().collect();
    let digests = if is_last { digests } else { Vec::new() };
    std::iter::once(name).chain(digests).collect()
}

fn in_use(name: &str, user: &str, id: &str) -> String {
    format!(
        "conflict: unable to remove repository reference \"{name}\" (must force) - container {user} is using its referenced image {id}"
    )
}

fn told(removed: Removed) -> Vec<Value> {
    match removed {
        Removed::Nothing => Vec::new(),
        Removed::Untagged(name) => vec![json!({"Untagged": familiar(&name)})],
        Removed::Deleted { id, names } => {
            let untagged = names.iter().map(|name| json!({"Untagged": familiar(name)}));
            untagged.chain([json!({"Deleted": id.to_string()})]).collect()
        }
    }
}

/// `POST /images/prune`: images without a tag, or with `dangling=false` all, that no container uses.
pub(in crate::docker) async fn prune(door: &Door, ask: &Ask) -> Answer {
    let filters = Filters::parse(ask.query.get("filters"), KNOWN)?;
    let also_named = filters.flag("dangling")? == Some(false);
    let fitting = chosen(door, &filters.without("dangling"))?;
    let unused = fitting.iter().filter(|image| {
        (also_named || image.names.is_empty())
            && !image.pinned
            && door.engine.image_users(&image.id).is_empty()
    });
    let doomed: Vec<Arc<Image>> = unused.cloned().collect();
    let (removed, freed_bytes) = on_store(door, move |store| -> Result<_, StoreError> {
        let before = store.usage().bytes;
        let mut removed = Vec::new();
        for image in doomed {
            match store.remove(&image.id) {
                Ok(done) => removed.push((image, done)),
                // Pinned since it was looked at.
                Err(StoreError::Pinned(_) | StoreError::ReadOnly { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok((removed, before.saturating_sub(store.usage().bytes)))
    })
    .await?;
    removed.iter().for_each(|(image, taken)| noted::removed(door, image, taken));
    noted::pruned(door, freed_bytes);
    let removed: Vec<Value> = removed.into_iter().flat_map(|(_, taken)| told(taken)).collect();
    let deleted = if removed.is_empty() { Value::Null } else { removed.into() };
    Ok(in_json(StatusCode::OK, &json!({"ImagesDeleted": deleted, "SpaceReclaimed": freed_bytes})))
}

#[cfg(test)]
mod tests {
    use super::super::describe::tests::image;
    use super::*;

    fn user(runs: bool) -> Vec<User> {
        vec![User { id: "c".repeat(64), runs }]
    }

    #[test]
    fn names_go_first_and_the_image_with_the_last() {
        let one = image(&["a:1"]);
        let two = image(&["a:1", "b:1"]);
        let id = two.id.to_string();
        assert_eq!(plan(&one, "a:1", &[], false), Ok(Plan::Delete));
        assert_eq!(plan(&two, "a:1", &[], false), Ok(Plan::Untag(Reference::parse("a:1").unwrap())));
        assert_eq!(plan(&two, "a:1", &user(true), false), Ok(Plan::Untag(Reference::parse("a:1").unwrap())));
        assert!(plan(&two, &id, &[], false).unwrap_err().message().contains("multiple repositories"));
        assert_eq!(plan(&two, &id, &[], true), Ok(Plan::Delete));
    }

    #[test]
    fn a_repositorys_last_name_takes_its_digests_along() {
        let name = |text: &str| Reference::parse(text).unwrap();
        let mut image = image(&["a:1", "b:1", "b:2"]);
        let digest = |repository: &str| name(&format!("{repository}@sha256:{}", "0".repeat(64)));
        image.digests = vec![digest("a"), digest("b")];
        assert_eq!(with_digests(&image, name("a:1")), [name("a:1"), digest("a")]);
        assert_eq!(with_digests(&image, name("b:1")), [name("b:1")]);
        assert_eq!(with_digests(&image, digest("a")), [digest("a")]);
    }

    #[test]
    fn an_image_in_use_stays_unless_forced_and_its_containers_have_ended() {
        let one = image(&["a:1"]);
        let id = one.id.to_string();
        for (name, runs, force, words) in [
            ("a:1", true, false, "(must force) - container cccccccccccc is using"),
            ("a:1", true, true, "(cannot be forced)"),
            (id.as_str(), true, false, "(cannot be forced)"),
            ("a:1", false, false, "(must force)"),
            (id.as_str(), false, false, "(must be forced) - image is being used by stopped"),
        ] {
            let refusal = plan(&one, name, &user(runs), force).unwrap_err();
            assert_eq!(refusal.status().as_u16(), 409);
            assert!(refusal.message().contains(words), "{}", refusal.message());
        }
        assert_eq!(plan(&one, "a:1", &user(false), true), Ok(Plan::Delete));
    }
}
