//! Images as Docker's clients read them. Pure.

use cleat_image::{HistoryStep, Image, Reference};
use serde_json::{Value, json};

use super::created_ns;
use crate::docker::wire::{familiar, from_rfc3339, rfc3339};

const NS_PER_SECOND: i64 = 1_000_000_000;

fn names(references: &[Reference]) -> Vec<String> {
    references.iter().map(familiar).collect()
}

/// A row of a list; `containers` is how many use it, where that was counted.
pub(super) fn summary(image: &Image, containers: Option<usize>) -> Value {
    let labels = image.config.config().as_ref().and_then(|config| config.labels().clone());
    json!({
        "Id": image.id.to_string(), "ParentId": "",
        "RepoTags": names(&image.names), "RepoDigests": names(&image.digests),
        "Created": created_ns(image).div_euclid(NS_PER_SECOND),
        "Size": image.size_bytes, "VirtualSize": image.size_bytes, "SharedSize": -1,
        "Labels": labels, "Containers": containers.map_or(-1, |count| i64::try_from(count).unwrap_or(-1)),
    })
}

/// Gives a row without names the words that older clients expect in their place.
pub(super) fn name_the_nameless(row: &mut Value) {
    for (list, none) in [("RepoTags", "<none>:<none>"), ("RepoDigests", "<none>@<none>")] {
        if row[list].as_array().is_some_and(Vec::is_empty) {
            row[list] = json!([none]);
        }
    }
}

/// Everything about one. `written` is its configuration as its author wrote it: Docker's fields have the names of OCI's
/// there, and Docker has some more.
pub(super) fn inspect(image: &Image, mut written: Value) -> Value {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let comment =
        written["history"].as_array().and_then(|steps| steps.last()).map(|step| text(&step["comment"]));
    let created = created_ns(image);
    json!({
        "Id": image.id.to_string(), "RepoTags": names(&image.names), "RepoDigests": names(&image.digests),
        "Parent": "", "Comment": comment.unwrap_or_default(),
        "Created": if created == 0 { String::new() } else { rfc3339(created) },
        "DockerVersion": text(&written["docker_version"]), "Author": text(&written["author"]),
        "Config": written["config"].take(),
        "Architecture": image.config.architecture().to_string(), "Variant": text(&written["variant"]),
        "Os": image.config.os().to_string(),
        "Size": image.size_bytes, "VirtualSize": image.size_bytes,
        "GraphDriver": {"Name": "overlayfs", "Data": null},
        "RootFS": {"Type": "layers", "Layers": image.layers.iter().map(ToString::to_string).collect::<Vec<_>>()},
        "Metadata": {"LastTagTime": "0001-01-01T00:00:00Z"},
        "Descriptor": {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": image.manifest.to_string(), "size": 0},
    })
}

/// The steps of its making, the last one first, which is the image itself.
pub(super) fn history(image: &Image, steps: &[HistoryStep]) -> Vec<Value> {
    let newest_first = steps.iter().rev().enumerate();
    let told = newest_first.map(|(at, step)| {
        let created = from_rfc3339(&step.created).unwrap_or_default();
        json!({
            "Id": if at == 0 { image.id.to_string() } else { "<missing>".to_owned() },
            "Created": created.div_euclid(NS_PER_SECOND),
            "CreatedBy": step.created_by, "Comment": step.comment, "Size": step.bytes,
            "Tags": if at == 0 && !image.names.is_empty() { json!(names(&image.names)) } else { Value::Null },
        })
    });
    told.collect()
}

#[cfg(test)]
pub(super) mod tests {
    use cleat_image::Digest;

    use super::*;

    /// An image with these names.
    pub(in crate::docker::images) fn image(names: &[&str]) -> Image {
        let config = r#"{"architecture":"amd64","os":"linux","created":"1970-01-01T00:00:05Z","config":{"Cmd":["sh"],"Labels":{"a":"1"}},"rootfs":{"type":"layers","diff_ids":[]}}"#;
        Image {
            id: Digest::of(config.as_bytes()),
            names: names.iter().map(|name| Reference::parse(name).unwrap()).collect(),
            digests: Vec::new(),
            size_bytes: 7,
            config: serde_json::from_str(config).unwrap(),
            manifest: Digest::of(b"manifest"),
            layers: vec![Digest::of(b"layer")],
            pinned: false,
        }
    }

    #[test]
    fn a_row_has_short_names_and_seconds() {
        let row = summary(&image(&["busybox:1"]), None);
        assert_eq!(
            (&row["RepoTags"], &row["Created"], &row["Containers"]),
            (&json!(["busybox:1"]), &json!(5), &json!(-1))
        );
        let mut nameless = summary(&image(&[]), Some(2));
        assert_eq!(nameless["RepoTags"], json!([]));
        name_the_nameless(&mut nameless);
        assert_eq!(nameless["RepoTags"], json!(["<none>:<none>"]));
    }

    #[test]
    fn fields_that_only_docker_has_are_shown() {
        let written =
            json!({"docker_version": "20", "config": {"Cmd": ["sh"], "Healthcheck": {"Test": ["NONE"]}}});
        let shown = inspect(&image(&["busybox"]), written);
        assert_eq!(shown["Config"]["Healthcheck"]["Test"], json!(["NONE"]));
        assert_eq!(shown["DockerVersion"], "20");
        assert_eq!(shown["Created"], "1970-01-01T00:00:05.000000000Z");
        assert_eq!(inspect(&image(&[]), Value::Null)["Config"], Value::Null);
    }

    #[test]
    fn the_image_itself_comes_first_in_its_history() {
        let step = |by: &str| HistoryStep {
            created: "1970-01-01T00:00:05Z".into(),
            created_by: by.into(),
            comment: String::new(),
            layer: None,
            bytes: 0,
        };
        let told = history(&image(&["a"]), &[step("first"), step("last")]);
        assert_eq!((&told[0]["CreatedBy"], &told[1]["Id"]), (&json!("last"), &json!("<missing>")));
    }
}
