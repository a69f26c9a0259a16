//! What is told of images in `/events`, with the ids and names that dockerd gives each.

use cleat_image::{Image, Reference, Removed};
use serde_json::json;

use crate::docker::Door;
use crate::docker::notices::Attributes;
use crate::docker::wire::familiar;

/// `image` was given `name`.
pub(in crate::docker) fn tagged(door: &Door, image: &Image, name: &Reference) {
    add(door, "tag", image, &image.id.to_string(), &familiar(name));
}

/// `action` was done to `image`, whatever it is called: loaded, saved, imported.
pub(super) fn done(door: &Door, action: &str, image: &Image) {
    let id = image.id.to_string();
    add(door, action, image, &id, &id);
}

/// `image` was pulled or pushed: the subject is its name.
pub(super) fn transferred(door: &Door, action: &str, image: &Image, name: &Reference) {
    let full = familiar(name);
    let tag = full.strip_suffix(name.tag().unwrap_or_default()).and_then(|rest| rest.strip_suffix(':'));
    add(door, action, image, &full, tag.unwrap_or(&full));
}

/// This was taken from what was `image`.
pub(super) fn removed(door: &Door, image: &Image, taken: &Removed) {
    for _ in 0..names_of(taken) {
        done(door, "untag", image);
    }
    if matches!(taken, Removed::Deleted { .. }) {
        done(door, "delete", image);
    }
}

/// How many names a removal took.
fn names_of(taken: &Removed) -> usize {
    match taken {
        Removed::Nothing => 0,
        Removed::Untagged(_) => 1,
        Removed::Deleted { names, .. } => names.len(),
    }
}

/// Unused images were removed.
pub(super) fn pruned(door: &Door, freed_bytes: u64) {
    let reclaimed = [("reclaimed".to_owned(), json!(freed_bytes.to_string()))];
    door.notices.add("image", "prune", "", reclaimed.into_iter().collect());
}

fn add(door: &Door, action: &str, image: &Image, id: &str, name: &str) {
    let labels = image.config.config().as_ref().and_then(|config| config.labels().as_ref());
    let mut attributes: Attributes =
        labels.into_iter().flatten().map(|(key, value)| (key.clone(), json!(value))).collect();
    attributes.insert("name".to_owned(), json!(name));
    door.notices.add("image", action, id, attributes);
}
