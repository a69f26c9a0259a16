//! Images as lists and statuses show them.

use std::collections::HashMap;

use cleat_cri_api::v1::{self, FilesystemUsage, ImageSpec, Int64Value};
use cleat_image::{FsInfo, Image, Reference};
use serde_json::{Value, json};

use super::field::{filled, present};
use super::{mount, stats};
use crate::engine::{EngineError, Result};

/// The image that a request is about.
pub(in crate::cri) fn name(spec: Option<ImageSpec>) -> Result<String> {
    let spec = present("image", spec)?;
    filled("image.image", &spec.image)?;
    Ok(spec.image)
}

/// The image that a request wants to be pulled. Unlike one that is here already, it has to have a name.
pub(in crate::cri) fn name_to_pull(spec: Option<ImageSpec>) -> Result<String> {
    let name = name(spec)?;
    match Reference::parse(&name) {
        Ok(_) => Ok(name),
        Err(error) => Err(EngineError::invalid(format!("image.image {name:?}"), &error)),
    }
}

/// An image.
pub(in crate::cri) fn image(image: &Image) -> v1::Image {
    let written = image.config.config().as_ref().and_then(|config| config.user().as_deref());
    let (uid, username) = user(written.unwrap_or_default());
    v1::Image {
        id: image.id.to_string(),
        repo_tags: image.names.iter().map(ToString::to_string).collect(),
        repo_digests: image.digests.iter().map(ToString::to_string).collect(),
        size: image.size_bytes,
        uid,
        username,
        spec: Some(ImageSpec { image: image.id.to_string(), ..ImageSpec::default() }),
        pinned: image.pinned,
    }
}

/// What `crictl inspecti` shows besides. `config` is the image's configuration byte for byte: what its author wrote
/// there and the specification does not know is shown too.
pub(in crate::cri) fn info(image: &Image, config: &[u8]) -> HashMap<String, String> {
    let config: Value =
        serde_json::from_slice(config).unwrap_or_else(|error| json!({ "unreadable": error.to_string() }));
    let layers: Vec<_> = image.layers.iter().map(ToString::to_string).collect();
    let info = json!({ "imageSpec": config, "manifest": image.manifest.to_string(), "layers": layers });
    [("info".to_owned(), info.to_string())].into()
}

/// Space the images take.
pub(in crate::cri) fn filesystem(at_ns: i64, usage: &FsInfo) -> FilesystemUsage {
    stats::filesystem(at_ns, mount::text(&usage.mountpoint), usage.bytes, usage.inodes)
}

/// The `User` of an image's configuration, `user[:group]`. The kubelet takes an image without both for one that runs
/// as root, so a number that is no user id (CVE-2024-40635) is passed on as a name, which nobody can have.
fn user(written: &str) -> (Option<Int64Value>, String) {
    let user = written.split(':').next().unwrap_or_default();
    let digits = !user.is_empty() && user.bytes().all(|byte| byte.is_ascii_digit());
    let uid = user.parse::<u32>().ok().filter(|uid| digits && *uid != u32::MAX);
    match uid {
        Some(uid) => (Some(Int64Value { value: uid.into() }), String::new()),
        None => (None, user.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use cleat_image::Digest;
    use oci_spec::image::ImageConfiguration;

    use super::*;

    const CONFIG: &str = r#"{"architecture":"amd64","os":"linux","config":{"User":"1000:1000"},
        "rootfs":{"type":"layers","diff_ids":[]},"extra":1}"#;

    fn sample() -> Image {
        let digest = |digit: &str| Digest::parse(&format!("sha256:{}", digit.repeat(64))).unwrap();
        Image {
            id: digest("1"),
            names: vec![Reference::parse("busybox:1").unwrap()],
            digests: vec![Reference::parse(&format!("busybox@{}", digest("2"))).unwrap()],
            size_bytes: 12,
            config: ImageConfiguration::from_reader(CONFIG.as_bytes()).unwrap(),
            manifest: digest("3"),
            layers: vec![digest("4")],
            pinned: true,
        }
    }

    #[test]
    fn an_image_has_every_field() {
        let image = image(&sample());
        let id = format!("sha256:{}", "1".repeat(64));
        assert_eq!((&image.id, image.size, image.pinned), (&id, 12, true));
        assert_eq!(image.repo_tags, ["docker.io/library/busybox:1"]);
        assert_eq!(image.repo_digests, [format!("docker.io/library/busybox@sha256:{}", "2".repeat(64))]);
        assert_eq!((image.uid.unwrap().value, image.username.as_str()), (1000, ""));
        assert_eq!(image.spec.unwrap().image, id);
    }

    #[test]
    fn what_is_pulled_has_a_name() {
        let spec = |image: &str| Some(ImageSpec { image: image.into(), ..ImageSpec::default() });
        for (spec, is_name, can_be_pulled) in [
            (None, false, false),
            (spec(""), false, false),
            (spec("busybox"), true, true),
            (spec("localhost:5000/a/b:1"), true, true),
            (spec("Bad Name"), true, false),
            (spec("a@sha256:12"), true, false),
        ] {
            assert_eq!(name(spec.clone()).is_ok(), is_name, "{spec:?}");
            assert_eq!(name_to_pull(spec.clone()).is_ok(), can_be_pulled, "{spec:?}");
        }
    }

    #[test]
    fn users_are_numbers_or_names_and_never_root_by_accident() {
        for (written, uid, name) in [
            ("", None, ""),
            ("0", Some(0), ""),
            ("1000:2000", Some(1000), ""),
            ("0000", Some(0), ""),
            ("www:www", None, "www"),
            ("4294967294", Some(4_294_967_294), ""),
            ("4294967295", None, "4294967295"),
            ("4294967296", None, "4294967296"),
            ("99999999999999999999999", None, "99999999999999999999999"),
            ("+5", None, "+5"),
            ("-1", None, "-1"),
        ] {
            let found = user(written);
            assert_eq!((found.0.map(|uid| uid.value), found.1.as_str()), (uid, name), "{written}");
        }
    }

    #[test]
    fn the_configuration_is_shown_as_its_author_wrote_it() {
        let info: Value = serde_json::from_str(&info(&sample(), CONFIG.as_bytes())["info"]).unwrap();
        assert_eq!(info["imageSpec"]["config"]["User"], "1000:1000");
        assert_eq!(info["imageSpec"]["extra"], 1);
        assert_eq!(info["layers"].as_array().unwrap().len(), 1);
        let damaged: Value = serde_json::from_str(&super::info(&sample(), b"{")["info"]).unwrap();
        assert!(damaged["imageSpec"]["unreadable"].is_string());
    }

    #[test]
    fn space_taken() {
        let usage = FsInfo { mountpoint: "/var/lib/x".into(), bytes: 3, inodes: 4 };
        let usage = filesystem(9, &usage);
        assert_eq!((usage.timestamp, usage.used_bytes.unwrap().value), (9, 3));
        assert_eq!(
            (usage.inodes_used.unwrap().value, usage.fs_id.unwrap().mountpoint.as_str()),
            (4, "/var/lib/x")
        );
    }
}
