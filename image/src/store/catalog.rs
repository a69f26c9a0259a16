//! What the store knows, as an immutable value in memory: reads take no lock and no disk. Pure.

use std::collections::HashMap;
use std::sync::Arc;

use super::additional::merged;
use super::image::Image;
use crate::reference::{Digest, Reference};

/// All images at one moment.
#[derive(Default)]
pub(super) struct Catalog {
    /// All that are to be seen, sorted by id.
    images: Arc<[Arc<Image>]>,
    /// Those that the store itself has a record of, as it says.
    pub(super) own: Vec<Arc<Image>>,
    by_name: HashMap<String, Arc<Image>>,
    /// Bytes and inodes of all layers.
    pub(super) totals: (u64, u64),
}

impl Catalog {
    /// Of the store's own images and those of additional stores.
    pub(super) fn new<'a>(
        own: Vec<Arc<Image>>,
        additional: impl IntoIterator<Item = &'a Arc<Image>>,
        totals: (u64, u64),
    ) -> Self {
        let images = merged(&own, additional);
        let names = |image: &Arc<Image>| {
            let all = image.names.iter().chain(&image.digests);
            all.map(|name| (name.to_string(), Arc::clone(image))).collect::<Vec<_>>()
        };
        Self { by_name: images.iter().flat_map(names).collect(), images: images.into(), own, totals }
    }

    pub(super) fn list(&self) -> Arc<[Arc<Image>]> {
        Arc::clone(&self.images)
    }

    pub(super) fn get(&self, id: &Digest) -> Option<Arc<Image>> {
        self.images.binary_search_by(|image| image.id.cmp(id)).ok().map(|at| Arc::clone(&self.images[at]))
    }

    /// The store's own record of the image.
    pub(super) fn own(&self, id: &Digest) -> Option<Arc<Image>> {
        self.own.iter().find(|image| image.id == *id).cloned()
    }

    /// By tag, or by digest if the reference has one (its tag is a remark then).
    pub(super) fn find(&self, reference: &Reference) -> Option<Arc<Image>> {
        let key = match reference.digest() {
            Some(digest) => reference.at(digest.clone()).to_string(),
            None => reference.to_string(),
        };
        self.by_name.get(&key).cloned()
    }

    /// See [`super::Store::resolve`]. A name wins over a prefix of an id, as with Docker.
    pub(super) fn resolve(&self, text: &str) -> Option<Arc<Image>> {
        let full =
            if text.contains(':') { Digest::parse(text) } else { Digest::parse(&format!("sha256:{text}")) };
        if let Ok(id) = full {
            return self.get(&id);
        }
        let named = Reference::parse(text).ok().and_then(|reference| self.find(&reference));
        named.or_else(|| self.by_prefix(text.strip_prefix("sha256:").unwrap_or(text)))
    }

    fn by_prefix(&self, prefix: &str) -> Option<Arc<Image>> {
        let mut matching =
            self.images.iter().filter(|image| !prefix.is_empty() && image.id.hex().starts_with(prefix));
        match (matching.next(), matching.next()) {
            (Some(image), None) => Some(Arc::clone(image)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(hex: &str, names: &[&str], digests: &[&str]) -> Arc<Image> {
        let parse = |texts: &[&str]| texts.iter().map(|text| Reference::parse(text).unwrap()).collect();
        let id = Digest::parse(&format!("sha256:{hex:0<64}")).unwrap();
        Arc::new(Image {
            manifest: id.clone(),
            id,
            names: parse(names),
            digests: parse(digests),
            size_bytes: 1,
            config: oci_spec::image::ImageConfiguration::default(),
            layers: Vec::new(),
            pinned: false,
        })
    }

    #[test]
    fn an_image_is_found_by_all_it_is_called() {
        let digest = format!("sha256:{:1<64}", "");
        let at = |name: &str| format!("{name}@{digest}");
        let first = image("abc1", &["busybox:1", "quay.io/a/b"], &[&at("busybox")]);
        let second = image("abd2", &["abc"], &[]);
        let catalog = Catalog::new(vec![second.clone(), first.clone()], [], (0, 0));
        let cases = [
            ("busybox:1", Some(&first)),
            ("docker.io/library/busybox:1", Some(&first)),
            ("busybox", None),
            ("quay.io/a/b:latest", Some(&first)),
            (&at("busybox"), Some(&first)),
            (&at("busybox:other"), Some(&first)),
            (&at("other"), None),
            (&first.id.to_string(), Some(&first)),
            (first.id.hex(), Some(&first)),
            ("abc1", Some(&first)),
            ("sha256:abd", Some(&second)),
            ("abc", Some(&second)),
            ("ab", None),
            ("", None),
            ("sha256:", None),
            (&digest, None),
        ];
        for (text, expected) in cases {
            assert_eq!(catalog.resolve(text).as_ref(), expected, "{text}");
        }
        assert_eq!(catalog.list().len(), 2);
        assert_eq!(catalog.get(&second.id), Some(second));
    }
}
