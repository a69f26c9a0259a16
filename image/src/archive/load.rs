//! Loading: the archive is read once. A layer is unpacked as it passes, before anything has told what it is; what turns
//! out to be nobody's layer is removed again.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read};
use std::sync::Arc;

use oci_spec::image::ImageConfiguration;

use super::documents::{plain_manifest, promised};
use super::plan::{Documents, Planned, plain, plan};
use super::{ArchiveError, LayerFault};
use crate::reference::{Algorithm, Digest, Hasher, Reference};
use crate::store::{Image, LayerLease, LayerStats, NewImage, NewLayer, StagedLayer, Store};
use crate::unpack::tar::{Archive, Kind};
use crate::unpack::{LayerStream, UnpackLimits, unpack_confined};

/// Largest description in bytes: as manifests and configurations in a registry.
const MAX_DOCUMENT_BYTES: u64 = 4 << 20;
/// All descriptions together in bytes.
const MAX_DOCUMENTS_BYTES: usize = 64 << 20;
/// Most files of an archive, layers and links among them.
const MAX_FILES: usize = 100_000;
/// Largest archive in bytes.
const MAX_ARCHIVE_BYTES: u64 = 1 << 40;
/// Links followed from a layer's name to its file.
const MAX_LINKS: usize = 4;

/// A layer that has passed.
enum Layer {
    Unpacked(StagedLayer),
    /// It was in the store already, and stays there.
    Known {
        diff_id: Digest,
        _lease: LayerLease,
    },
}

/// What has been read of an archive.
#[derive(Default)]
struct Contents {
    documents: Documents,
    documents_bytes: usize,
    layers: BTreeMap<String, Layer>,
    links: BTreeMap<String, String>,
    /// Why other files are no layers.
    refused: RefCell<BTreeMap<String, ArchiveError>>,
}

/// An image out of an archive.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The image as it is in the store, with all its names.
    pub image: Arc<Image>,
    /// The names that the archive gave it; none if it is known by its id alone.
    pub names: Vec<Reference>,
}

impl Store {
    /// Take in all images of a docker-archive or OCI layout, compressed or not, that are for this host, under the names it
    /// gives them. Nothing enters the store before everything is verified.
    pub fn load(&self, input: impl Read + Send, limits: &UnpackLimits) -> Result<Vec<Loaded>, ArchiveError> {
        let input = BufReader::with_capacity(256 << 10, input);
        let stream =
            LayerStream::new(input, Algorithm::Sha256, MAX_ARCHIVE_BYTES).map_err(ArchiveError::Begin)?;
        let mut archive = Archive::new(stream);
        let mut contents = Contents::default();
        let mut files = 0;
        while let Some(entry) = archive.next_entry().map_err(ArchiveError::Read)? {
            files += 1;
            if files > MAX_FILES {
                return Err(ArchiveError::TooMany { what: "files", limit: MAX_FILES });
            }
            let path = plain(&String::from_utf8_lossy(&entry.path))?;
            match entry.kind {
                Kind::File => contents.file(self, path, &mut Data(&mut archive), limits)?,
                Kind::Symlink(target) => contents.link(path, &target, true)?,
                Kind::HardLink(target) => contents.link(path, &target, false)?,
                _ => {}
            }
        }
        let planned = plan(&contents.documents)?;
        let ready = planned.iter().map(|image| contents.ready(self, image)).collect::<Result<Vec<_>, _>>()?;
        let published = ready.iter().map(|new| {
            let image = self.publish(new)?;
            Ok(Loaded { image, names: new.names.clone() })
        });
        published.collect()
    }
}

impl Contents {
    /// A file of the archive: a description, a layer, or nothing that matters.
    fn file<R: BufRead + Send>(
        &mut self,
        store: &Store,
        path: String,
        data: &mut Data<'_, R>,
        limits: &UnpackLimits,
    ) -> Result<(), ArchiveError> {
        let size = data.0.remaining();
        let head = data.fill_buf().map_err(of_io)?;
        let is_text =
            head.iter().find(|byte| !byte.is_ascii_whitespace()).is_some_and(|byte| b"{[".contains(byte));
        if is_text {
            return if size <= MAX_DOCUMENT_BYTES { self.document(path, data) } else { Ok(()) };
        }
        // Layers had such names before they were blobs; anything else is a remark like VERSION.
        let is_layer = [".tar", ".tar.gz", ".tgz"].iter().any(|end| path.ends_with(end));
        if size > 0 && (is_layer || promised(&path).is_some()) {
            match layer(store, &path, data, limits) {
                Ok(layer) => drop(self.layers.insert(path, layer)),
                // It may be something else than a layer, which no image of the archive asks for.
                Err(error) => drop(self.refused.get_mut().insert(path, error)),
            }
        }
        Ok(())
    }

    fn document<R: BufRead + Send>(
        &mut self,
        path: String,
        data: &mut Data<'_, R>,
    ) -> Result<(), ArchiveError> {
        let mut text = Vec::new();
        data.read_to_end(&mut text).map_err(of_io)?;
        self.documents_bytes += text.len();
        if self.documents_bytes > MAX_DOCUMENTS_BYTES {
            return Err(ArchiveError::TooMany { what: "bytes of descriptions", limit: MAX_DOCUMENTS_BYTES });
        }
        if let Some(promised) = promised(&path) {
            check(&path, &promised, Digest::with(promised.algorithm(), &text))?;
        }
        self.documents.insert(path, text);
        Ok(())
    }

    fn link(&mut self, path: String, target: &[u8], relative: bool) -> Result<(), ArchiveError> {
        let target = String::from_utf8_lossy(target);
        let folder = path.rfind('/').filter(|_| relative).map_or("", |slash| &path[..slash]);
        let target = plain(&format!("{folder}/{target}"))?;
        self.links.insert(path, target);
        Ok(())
    }

    /// What is at `path` once links are followed.
    fn layer(&self, path: &str) -> Result<&Layer, ArchiveError> {
        let mut path = path;
        for _ in 0..MAX_LINKS {
            match self.links.get(path) {
                Some(target) => path = target,
                None => break,
            }
        }
        let refused = || self.refused.borrow_mut().remove(path);
        self.layers
            .get(path)
            .ok_or_else(|| refused().unwrap_or_else(|| ArchiveError::Missing(path.to_owned())))
    }

    /// An image with everything verified.
    fn ready(&self, store: &Store, planned: &Planned) -> Result<NewImage<'_>, ArchiveError> {
        let path = &planned.config;
        let config = self.documents.get(path).ok_or_else(|| ArchiveError::Missing(path.clone()))?;
        let parsed: ImageConfiguration = serde_json::from_slice(config)
            .map_err(|source| ArchiveError::Document { path: path.clone(), source })?;
        let diff_ids = parsed.rootfs().diff_ids().iter().map(|text| Digest::parse(text));
        let diff_ids = diff_ids.collect::<Result<Vec<_>, _>>();
        let diff_ids = diff_ids.map_err(|source| ArchiveError::BadDigest { path: path.clone(), source })?;
        let (listed, layers) = (diff_ids.len(), planned.layers.len());
        if listed != layers {
            return Err(ArchiveError::LayerCount { path: path.clone(), listed, layers });
        }
        let mut layers = Vec::new();
        for (diff_id, path) in diff_ids.into_iter().zip(&planned.layers) {
            layers.push(self.checked(diff_id, path)?);
        }
        let id = Digest::of(config);
        let manifest = self.manifest(store, &id, planned, &layers)?;
        let (config, names) = (config.clone(), planned.names.clone());
        Ok(NewImage { id, config, manifest_digest: Digest::of(&manifest), manifest, names, layers })
    }

    /// The layer at `path`, which has to be the one with `diff_id`.
    fn checked(&self, diff_id: Digest, path: &str) -> Result<NewLayer<'_>, ArchiveError> {
        let (actual, staged) = match self.layer(path)? {
            Layer::Unpacked(staged) => (&staged.diff_id, Some(staged)),
            Layer::Known { diff_id, .. } => (diff_id, None),
        };
        if *actual != diff_id {
            let source = LayerFault::DiffId { expected: diff_id, actual: actual.clone() };
            return Err(ArchiveError::Layer { path: path.to_owned(), source });
        }
        Ok(NewLayer { diff_id, staged })
    }

    /// The manifest the store has, so that an image it knows stays what it is; else the archive's; else one for plain
    /// layers.
    fn manifest(
        &self,
        store: &Store,
        id: &Digest,
        planned: &Planned,
        layers: &[NewLayer<'_>],
    ) -> Result<Vec<u8>, ArchiveError> {
        if let Some(known) = store.manifest_json(id)? {
            return Ok(known);
        }
        if let Some(given) = planned.manifest.as_ref().and_then(|path| self.documents.get(path)) {
            return Ok(given.clone());
        }
        let mut sizes = Vec::new();
        for NewLayer { diff_id, staged } in layers {
            let staged = staged.and_then(|staged| staged.stats.tar_bytes);
            let bytes = match staged {
                Some(bytes) => bytes,
                None => store.layer_tar(id, diff_id)?.bytes,
            };
            sizes.push((diff_id.clone(), bytes));
        }
        let config = self.documents.get(&planned.config).map(Vec::as_slice).unwrap_or_default();
        Ok(plain_manifest(config, &sizes))
    }
}

/// Unpack the layer at `path`, unless its name says that the store has it.
fn layer<R: BufRead + Send>(
    store: &Store,
    path: &str,
    data: &mut Data<'_, R>,
    limits: &UnpackLimits,
) -> Result<Layer, ArchiveError> {
    let promised = promised(path);
    if let Some(diff_id) = &promised {
        let lease = store.lease(std::slice::from_ref(diff_id))?;
        if lease.holds(diff_id) {
            return Ok(Layer::Known { diff_id: diff_id.clone(), _lease: lease });
        }
    }
    let staging = store.stage()?;
    let algorithm = promised.as_ref().map_or(Algorithm::Sha256, Digest::algorithm);
    let size = data.0.remaining();
    let mut digested = Digested { data, hasher: Hasher::new(algorithm) };
    let unpacked = unpack_confined(&mut digested, size, staging.destination(), Algorithm::Sha256, limits);
    let unpacked =
        unpacked.map_err(|error| ArchiveError::Layer { path: path.to_owned(), source: error.into() })?;
    io::copy(&mut digested, &mut io::sink()).map_err(of_io)?;
    if let Some(promised) = promised {
        check(path, &promised, digested.hasher.finish())?;
    }
    Ok(Layer::Unpacked(staging.complete(unpacked.diff_id.clone(), LayerStats::of(&unpacked))))
}

fn check(path: &str, promised: &Digest, actual: Digest) -> Result<(), ArchiveError> {
    if *promised == actual { Ok(()) } else { Err(ArchiveError::Digest { path: path.to_owned(), actual }) }
}

fn of_io(error: io::Error) -> ArchiveError {
    ArchiveError::Read(crate::unpack::tar::TarError::Read(error))
}

/// The data of the entry an archive stands at.
struct Data<'a, R>(&'a mut Archive<R>);

impl<R: BufRead> BufRead for Data<'_, R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.0.data().map_err(io::Error::other)
    }

    fn consume(&mut self, count: usize) {
        self.0.consume(count);
    }
}

impl<R: BufRead> Read for Data<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        read_buffered(self, buffer)
    }
}

/// Passes bytes on and digests them.
struct Digested<'a, B> {
    data: &'a mut B,
    hasher: Hasher,
}

impl<B: BufRead> BufRead for Digested<'_, B> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.data.fill_buf()
    }

    fn consume(&mut self, count: usize) {
        // The same bytes once more: consuming what was not looked at is a mistake of the caller's.
        if let Ok(buffer) = self.data.fill_buf() {
            self.hasher.update(&buffer[..count]);
        }
        self.data.consume(count);
    }
}

impl<B: BufRead> Read for Digested<'_, B> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        read_buffered(self, buffer)
    }
}

fn read_buffered(source: &mut impl BufRead, buffer: &mut [u8]) -> io::Result<usize> {
    let available = source.fill_buf()?;
    let count = available.len().min(buffer.len());
    buffer[..count].copy_from_slice(&available[..count]);
    source.consume(count);
    Ok(count)
}
