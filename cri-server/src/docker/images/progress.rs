//! A pull as Docker's clients follow it: lines of JSON, those with the same id overwriting one row of the terminal.
//!
//! A layer is transferred, verified and unpacked at once here, while Docker's clients know these as steps of their own:
//! what has happened by the time a step is told has happened to the layer.

use std::collections::HashMap;

use cleat_image::pull::{LayerProgress, LayerState};
use cleat_image::{Digest, PullProgress, Reference};
use serde_json::{Value, json};

use crate::docker::wire::familiar;

/// What the client was told of each layer.
#[derive(Debug, Default)]
pub(super) struct Told(HashMap<Digest, Stage>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    /// It is one of the image's layers.
    Listed,
    /// So many bytes came.
    Downloading(u64),
    /// All came.
    Downloaded,
    /// It is in the store.
    Done,
}

impl Told {
    /// What there is to tell now.
    pub(super) fn lines(&mut self, progress: &PullProgress) -> Vec<Value> {
        let mut lines = Vec::new();
        for layer in &progress.layers {
            self.layer(layer, &mut lines);
        }
        lines
    }

    fn layer(&mut self, layer: &LayerProgress, lines: &mut Vec<Value>) {
        let id = short(&layer.blob);
        let plain = |status: &str| json!({"status": status, "progressDetail": {}, "id": id});
        let far = |status: &str, done: u64| {
            let total = layer.total_bytes;
            json!({"status": status, "progressDetail": {"current": done, "total": total}, "id": id})
        };
        let told = self.0.get(&layer.blob).copied();
        if told.is_none() {
            lines.push(plain(if layer.state == LayerState::Exists {
                "Already exists"
            } else {
                "Pulling fs layer"
            }));
        }
        let told = told.unwrap_or(Stage::Listed);
        let now = stage(layer);
        if let Stage::Downloading(done) = now
            && now > told
        {
            lines.push(far("Downloading", done));
        }
        if layer.state != LayerState::Exists {
            if now >= Stage::Downloaded && told < Stage::Downloaded {
                // However fast it came, whoever watches for it sees that it did.
                lines.extend([
                    far("Downloading", layer.total_bytes),
                    plain("Verifying Checksum"),
                    plain("Download complete"),
                    far("Extracting", layer.total_bytes),
                ]);
            }
            if now == Stage::Done && told < Stage::Done {
                lines.push(plain("Pull complete"));
            }
        }
        self.0.insert(layer.blob.clone(), now.max(told));
    }
}

fn stage(layer: &LayerProgress) -> Stage {
    match layer.state {
        LayerState::Waiting => Stage::Listed,
        LayerState::Pulling if layer.done_bytes >= layer.total_bytes => Stage::Downloaded,
        LayerState::Pulling if layer.done_bytes == 0 => Stage::Listed,
        LayerState::Pulling => Stage::Downloading(layer.done_bytes),
        LayerState::Done | LayerState::Exists => Stage::Done,
    }
}

/// The first line.
pub(super) fn first(reference: &Reference) -> Value {
    json!({"status": format!("Pulling from {}", reference.repository()), "id": reference.tag_or_digest()})
}

/// The last lines.
pub(super) fn last(reference: &Reference, digest: Option<&Digest>, is_new: bool) -> Vec<Value> {
    let what = if is_new { "Downloaded newer image for" } else { "Image is up to date for" };
    let status = json!({"status": format!("Status: {what} {}", familiar(reference))});
    let digest = digest.map(|digest| json!({"status": format!("Digest: {digest}")}));
    digest.into_iter().chain([status]).collect()
}

/// A failure after the first line: the status was sent long ago.
pub(in crate::docker) fn failure(message: &str) -> Value {
    json!({"errorDetail": {"message": message}, "error": message})
}

/// A digest as rows of a terminal have it: its first twelve digits.
pub(super) fn short(digest: &Digest) -> String {
    let text = digest.to_string();
    let digits = text.split_once(':').map_or(text.as_str(), |(_, digits)| digits);
    digits.chars().take(12).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(state: LayerState, done_bytes: u64) -> PullProgress {
        let layer = LayerProgress { blob: Digest::of(b"l"), done_bytes, total_bytes: 10, state };
        PullProgress { target: None, layers: vec![layer] }
    }

    fn statuses(lines: &[Value]) -> Vec<&str> {
        lines.iter().map(|line| line["status"].as_str().unwrap()).collect()
    }

    const COMPLETE: [&str; 4] = ["Downloading", "Verifying Checksum", "Download complete", "Extracting"];

    #[test]
    fn a_layer_goes_through_all_steps_once() {
        let mut told = Told::default();
        assert_eq!(statuses(&told.lines(&at(LayerState::Waiting, 0))), ["Pulling fs layer"]);
        let lines = told.lines(&at(LayerState::Pulling, 4));
        assert_eq!(statuses(&lines), ["Downloading"]);
        assert_eq!(lines[0]["progressDetail"], json!({"current": 4, "total": 10}));
        assert!(told.lines(&at(LayerState::Pulling, 4)).is_empty());
        assert_eq!(statuses(&told.lines(&at(LayerState::Pulling, 10))), COMPLETE);
        assert_eq!(statuses(&told.lines(&at(LayerState::Done, 10))), ["Pull complete"]);
        assert!(told.lines(&at(LayerState::Done, 10)).is_empty());
    }

    #[test]
    fn a_layer_that_came_between_two_looks_is_told_whole() {
        let lines = Told::default().lines(&at(LayerState::Done, 10));
        let expected: Vec<_> =
            ["Pulling fs layer"].into_iter().chain(COMPLETE).chain(["Pull complete"]).collect();
        assert_eq!(statuses(&lines), expected);
    }

    #[test]
    fn a_layer_that_begins_anew_is_not_told_backwards() {
        let mut told = Told::default();
        told.lines(&at(LayerState::Pulling, 6));
        assert!(told.lines(&at(LayerState::Pulling, 2)).is_empty());
        assert_eq!(statuses(&told.lines(&at(LayerState::Pulling, 7))), ["Downloading"]);
    }

    #[test]
    fn a_layer_that_was_there_is_one_line() {
        assert_eq!(statuses(&Told::default().lines(&at(LayerState::Exists, 0))), ["Already exists"]);
    }
}
