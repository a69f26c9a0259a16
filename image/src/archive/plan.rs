//! Which images an archive holds, by its descriptions. Pure.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::ArchiveError;
use super::documents::{DOCKER, DockerImage, FULL_NAME, INDEX, REF_NAME, blob_path};
use crate::reference::{Digest, Reference};
use crate::registry::{Descriptor, Document, ManifestError, Platform, choose, parse_manifest};

/// Indexes in indexes that are followed.
const MAX_NESTING: usize = 2;

/// The descriptions of an archive: every small JSON file, by its path.
pub(super) type Documents = BTreeMap<String, Vec<u8>>;

/// One image of an archive. Files are named by their paths in it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Planned {
    pub(super) config: String,
    pub(super) layers: Vec<String>,
    pub(super) names: Vec<Reference>,
    /// The path of its manifest, if the archive has one.
    pub(super) manifest: Option<String>,
}

#[derive(Deserialize)]
struct Index {
    manifests: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    digest: String,
    annotations: Option<BTreeMap<String, String>>,
    platform: Option<Platform>,
}

/// The images to load. Docker's description counts where there is one, since it has the names; an OCI layout's gives the
/// manifests then.
pub(super) fn plan(documents: &Documents) -> Result<Vec<Planned>, ArchiveError> {
    let of_layout = if documents.contains_key(INDEX) { of_layout(documents)? } else { Vec::new() };
    let planned = match documents.get(DOCKER) {
        None => of_layout,
        Some(text) => of_docker(text, &of_layout)?,
    };
    if planned.is_empty() { Err(ArchiveError::Empty) } else { Ok(planned) }
}

fn of_docker(text: &[u8], of_layout: &[Planned]) -> Result<Vec<Planned>, ArchiveError> {
    let images: Vec<DockerImage> = read(DOCKER, text)?;
    let planned = images.into_iter().map(|image| {
        let DockerImage { config, repo_tags, layers } = image;
        let (config, layers) = (plain(&config)?, layers.unwrap_or_default());
        let layers = layers.iter().map(|path| plain(path)).collect::<Result<Vec<_>, _>>()?;
        let names = repo_tags.unwrap_or_default();
        let names = names.iter().map(|name| Reference::parse(name)).collect::<Result<_, _>>();
        let same = of_layout.iter().find(|other| other.config == config && other.layers == layers);
        let manifest = same.and_then(|same| same.manifest.clone());
        Ok(Planned { config, layers, names: names.map_err(ArchiveError::Name)?, manifest })
    });
    planned.collect()
}

fn of_layout(documents: &Documents) -> Result<Vec<Planned>, ArchiveError> {
    let index: Index = read(INDEX, documents.get(INDEX).map(Vec::as_slice).unwrap_or_default())?;
    let mut planned: Vec<Planned> = Vec::new();
    for entry in index.manifests {
        // One entry of several is for another machine; an archive of one image says so only by its index.
        if entry.platform.as_ref().is_some_and(|platform| !platform.runs_on(&Platform::host())) {
            continue;
        }
        let digest = digest(INDEX, &entry.digest)?;
        let Some((path, manifest)) = manifest(documents, &blob_path(&digest), MAX_NESTING)? else { continue };
        let names = name(entry.annotations.unwrap_or_default());
        match planned.iter_mut().find(|image| image.manifest.as_ref() == Some(&path)) {
            Some(known) => known.names.extend(names),
            None => planned.push(Planned {
                config: blob_path(&manifest.config.digest),
                layers: manifest.layers.iter().map(|layer| blob_path(&layer.digest)).collect(),
                names: names.into_iter().collect(),
                manifest: Some(path),
            }),
        }
    }
    Ok(planned)
}

/// The manifest at `path`, or this host's of the index there; none for what is no image (attestations, signatures).
fn manifest(
    documents: &Documents,
    path: &str,
    nesting: usize,
) -> Result<Option<(String, crate::registry::ImageManifest)>, ArchiveError> {
    let text = documents.get(path).ok_or_else(|| ArchiveError::Missing(path.to_owned()))?;
    let refused = |source| ArchiveError::Manifest { path: path.to_owned(), source };
    match parse_manifest(text, None) {
        Ok(Document::Image(manifest)) => Ok(Some((path.to_owned(), manifest))),
        Ok(Document::Index(_)) if nesting == 0 => Err(refused(ManifestError::Nested)),
        Ok(Document::Index(entries)) => match choose(&entries, &Platform::host()) {
            Some(Descriptor { digest, .. }) => manifest(documents, &blob_path(digest), nesting - 1),
            None => Ok(None),
        },
        Err(ManifestError::NotAnImage(_)) => Ok(None),
        Err(error) => Err(refused(error)),
    }
}

/// The name that an entry's annotations give: the full one, or what the layout has if that can be nothing else. A mere
/// tag names no image.
fn name(annotations: BTreeMap<String, String>) -> Option<Reference> {
    let full = annotations
        .get(FULL_NAME)
        .or_else(|| annotations.get(REF_NAME).filter(|name| Reference::names_registry(name)));
    full.and_then(|name| Reference::parse(name).ok())
}

fn digest(path: &str, text: &str) -> Result<Digest, ArchiveError> {
    Digest::parse(text).map_err(|source| ArchiveError::BadDigest { path: path.to_owned(), source })
}

fn read<T: for<'a> Deserialize<'a>>(path: &str, text: &[u8]) -> Result<T, ArchiveError> {
    serde_json::from_slice(text).map_err(|source| ArchiveError::Document { path: path.to_owned(), source })
}

/// A path without `.` and `..`.
pub(super) fn plain(path: &str) -> Result<String, ArchiveError> {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop().ok_or_else(|| ArchiveError::Escape(path.to_owned()))?),
            part => parts.push(part),
        }
    }
    Ok(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::documents;

    fn documents_of(files: &[(&str, &[u8])]) -> Documents {
        files.iter().map(|(path, text)| ((*path).to_owned(), text.to_vec())).collect()
    }

    #[test]
    fn both_descriptions_tell_the_same_image() {
        let layer = Digest::of(b"layer");
        let manifest = documents::plain_manifest(b"config", &[(layer.clone(), 5)]);
        let path = blob_path(&Digest::of(&manifest));
        let names = [Reference::parse("a.b/c:1").unwrap(), Reference::parse("d").unwrap()];
        let index = documents::index(&[(&manifest, &names)]);
        let docker = documents::docker(&[DockerImage {
            config: blob_path(&Digest::of(b"config")),
            repo_tags: Some(names.iter().map(ToString::to_string).collect()),
            layers: Some(vec![blob_path(&layer)]),
        }]);
        let oci = documents_of(&[(INDEX, &index), (&path, &manifest)]);
        let both = documents_of(&[(INDEX, &index), (&path, &manifest), (DOCKER, &docker)]);
        let planned = plan(&oci).unwrap();
        assert_eq!(planned, plan(&both).unwrap());
        assert_eq!((&planned[0].names[..], planned[0].manifest.as_ref()), (&names[..], Some(&path)));
        let alone = plan(&documents_of(&[(DOCKER, &docker)])).unwrap();
        assert_eq!(alone[0].manifest, None);
    }

    #[test]
    fn what_is_wrong_is_refused() {
        let absent = format!(r#"{{"manifests":[{{"digest":"{}"}}]}}"#, Digest::of(b"x"));
        for (path, text) in [
            (DOCKER, "{}"),
            (DOCKER, "[]"),
            (DOCKER, r#"[{"Config":"../config","Layers":[]}]"#),
            (DOCKER, r#"[{"Config":"c","RepoTags":["A B"],"Layers":[]}]"#),
            (INDEX, "[]"),
            (INDEX, &absent),
            (INDEX, r#"{"manifests":[{"digest":"sha256:../../x"}]}"#),
            ("other.json", "{}"),
        ] {
            assert!(plan(&documents_of(&[(path, text.as_bytes())])).is_err(), "{text}");
        }
    }
}
