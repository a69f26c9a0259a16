//! Names of images as Docker's users write and read them: without `docker.io/library/` and `docker.io/`.

use cleat_image::Reference;
use cleat_image::reference::{DEFAULT_REGISTRY, DEFAULT_TAG};

/// The short form of a name: `busybox:1`, `user/app:1`, `quay.io/a/b@sha256:...`.
pub(in crate::docker) fn familiar(reference: &Reference) -> String {
    let name = reference.to_string();
    let at_hub = name.strip_prefix(DEFAULT_REGISTRY).and_then(|rest| rest.strip_prefix('/'));
    match at_hub {
        Some(rest) => rest.strip_prefix("library/").unwrap_or(rest).to_owned(),
        None => name,
    }
}

/// `name` as written, with the tag that it means.
pub(in crate::docker) fn with_tag(name: &str) -> String {
    let last = name.rsplit('/').next().unwrap_or_default();
    if last.contains(':') || last.contains('@') { name.to_owned() } else { format!("{name}:{DEFAULT_TAG}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hubs_names_are_short() {
        for (written, expected) in [
            ("busybox", "busybox:latest"),
            ("docker.io/library/busybox:1", "busybox:1"),
            ("user/app", "user/app:latest"),
            ("localhost:5000/a", "localhost:5000/a:latest"),
            ("docker.io.example/library/a", "docker.io.example/library/a:latest"),
        ] {
            assert_eq!(familiar(&Reference::parse(written).unwrap()), expected, "{written}");
        }
    }

    #[test]
    fn a_tag_is_added_where_there_is_none() {
        for (name, expected) in
            [("a", "a:latest"), ("a:1", "a:1"), ("h:5000/a", "h:5000/a:latest"), ("a@sha256:0", "a@sha256:0")]
        {
            assert_eq!(with_tag(name), expected);
        }
    }
}
