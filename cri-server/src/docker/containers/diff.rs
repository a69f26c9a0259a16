//! `docker diff`: what a container has changed of its image.

use cleat_image::ChangeKind;
use hyper::StatusCode;
use serde_json::{Value, json};

use crate::docker::Door;
use crate::docker::refusal::Answer;
use crate::docker::wire::json as in_json;
use crate::engine::One;

/// `GET /containers/{id}/changes`; null where there are none.
pub(super) async fn changes(door: &Door, one: &One) -> Answer {
    let changes = door.engine.changes_of(one).await?;
    let rows: Vec<Value> = changes.iter().map(|(path, kind)| row(path, *kind)).collect();
    Ok(in_json(StatusCode::OK, &if rows.is_empty() { Value::Null } else { json!(rows) }))
}

fn row(path: &[u8], kind: ChangeKind) -> Value {
    let number = match kind {
        ChangeKind::Modified => 0,
        ChangeKind::Added => 1,
        ChangeKind::Deleted => 2,
    };
    json!({"Path": String::from_utf8_lossy(path), "Kind": number})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_dockers_numbers() {
        assert_eq!(row(b"/a", ChangeKind::Modified), json!({"Path": "/a", "Kind": 0}));
        assert_eq!(row(b"/a", ChangeKind::Deleted)["Kind"], 2);
    }
}
