//! Images as files: saved, loaded, imported.

use std::io::Write as _;
use std::sync::Arc;

use cleat_image::unpack::UnpackLimits;
use cleat_image::{Image, Import, Loaded, Reference};
use hyper::StatusCode;
use serde_json::{Value, json};

use super::changes::{Settings, apply};
use super::{find, named, noted, on_store};
use crate::docker::Door;
use crate::docker::dispatch::Ask;
use crate::docker::refusal::{Answer, Refusal};
use crate::docker::wire::{BodyReader, archive, familiar, json as in_json, now_ns, rfc3339};
use crate::engine::chain;

/// Images with the names they are saved under.
type Chosen = Vec<(Arc<Image>, Vec<Reference>)>;

/// `GET /images/get` and `GET /images/{name}/get`.
pub(in crate::docker) async fn save(door: &Arc<Door>, names: impl Iterator<Item = &str>) -> Answer {
    let mut images: Chosen = Vec::new();
    for name in names {
        let image = find(door, name)?;
        let name = Reference::parse(name).ok().filter(|name| image.names.contains(name));
        match images.iter_mut().find(|(other, _)| other.id == image.id) {
            Some((_, names)) => names.extend(name),
            None => images.push((image, name.into_iter().collect())),
        }
    }
    if images.is_empty() {
        return Err(Refusal::bad("no images to save: name at least one"));
    }
    let (mut writer, response) = archive();
    let (store, teller) = (door.engine.images().clone(), door.clone());
    door.run_blocking(move || {
        let saved = store.save(&images, &mut writer).map_err(|error| chain(&error));
        let saved = saved.and_then(|()| writer.flush().map_err(|error| error.to_string()));
        if saved.is_ok() {
            images.iter().for_each(|(image, _)| noted::done(&teller, "save", image));
        }
        if let Err(reason) = saved {
            tracing::info!("saving images for a Docker client broke off: {reason}");
            writer.abort(std::io::Error::other(reason));
        }
    });
    Ok(response)
}

/// `POST /images/load`.
pub(in crate::docker) async fn load(door: &Door, ask: Ask) -> Answer {
    let input = BodyReader::new(ask.body);
    let images = on_store(door, move |store| store.load(input, &UnpackLimits::default())).await?;
    images.iter().for_each(|one| noted::done(door, "load", &one.image));
    let lines: Vec<Value> = images.iter().flat_map(loaded).collect();
    let text: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    Ok(crate::docker::wire::raw_json(text))
}

/// What the archive called an image, whatever else it is called.
fn loaded(one: &Loaded) -> Vec<Value> {
    if one.names.is_empty() {
        return vec![json!({"stream": format!("Loaded image ID: {}\n", one.image.id)})];
    }
    let names = one.names.iter();
    names.map(|name| json!({"stream": format!("Loaded image: {}\n", familiar(name))})).collect()
}

/// `POST /images/create?fromSrc=-`.
pub(in crate::docker) async fn import(door: &Door, ask: Ask) -> Answer {
    if ask.query.get("fromSrc") != "-" {
        return Err(Refusal::not_built("importing from an address"));
    }
    let repository = ask.query.get("repo");
    let name = if repository.is_empty() { None } else { Some(named(repository, ask.query.get("tag"))?) };
    let message = ask.query.get("message");
    let comment = if message.is_empty() { "Imported from -" } else { message };
    let created = rfc3339(now_ns());
    let import = Import {
        name,
        config: apply(Settings::new(), ask.query.all("changes"))?,
        created: Some(created),
        comment: comment.to_owned(),
    };
    let (input, given) = (BodyReader::new(ask.body), import.name.clone());
    let image = on_store(door, move |store| store.import(input, &import, &UnpackLimits::default())).await?;
    given.iter().for_each(|name| noted::tagged(door, &image, name));
    noted::done(door, "import", &image);
    Ok(in_json(StatusCode::OK, &json!({"status": image.id.to_string()})))
}

#[cfg(test)]
mod tests {
    use super::super::describe::tests::image;
    use super::*;

    #[test]
    fn loaded_images_are_told_by_name_or_id() {
        let of = |names: &[&str]| Loaded {
            image: Arc::new(image(&["a:1", "b:1"])),
            names: names.iter().map(|name| Reference::parse(name).unwrap()).collect(),
        };
        let named = loaded(&of(&["a:1"]));
        assert_eq!((named.len(), &named[0]["stream"]), (1, &json!("Loaded image: a:1\n")));
        let bare = loaded(&of(&[]));
        assert!(bare[0]["stream"].as_str().unwrap().starts_with("Loaded image ID: sha256:"));
    }
}
