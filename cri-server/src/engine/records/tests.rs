//! The records against a real database file.

use super::*;
use crate::engine::model::Resources;
use crate::engine::pod::{PodState, sample};

fn pod() -> Pod {
    sample(&Id::random().unwrap(), PodState::Creating)
}

#[test]
fn an_open_operation_is_found_after_reopening_and_gone_after_its_commit() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("records.db");
    let mut pod = pod();
    Records::open(&file).unwrap().begin_pod(&pod, Operation::RunPod).unwrap();

    let records = Records::open(&file).unwrap();
    let found = records.load().unwrap();
    assert_eq!(found.pods, [pod.clone()]);
    assert_eq!(found.open.get(pod.id.as_str()), Some(&Operation::RunPod));

    pod.resized.overhead = Some(Resources::default());
    records.note_pod(&pod).unwrap();
    let found = records.load().unwrap();
    assert_eq!((found.pods, found.open.len()), (vec![pod.clone()], 1));

    pod.state = PodState::Ready { pause_pid: Some(7) };
    records.commit_pod(&pod).unwrap();
    let found = records.load().unwrap();
    assert_eq!(found.pods, [pod.clone()]);
    assert!(found.open.is_empty());

    records.forget_pod(&pod.id).unwrap();
    assert!(records.load().unwrap().pods.is_empty());
}

#[test]
fn an_address_is_never_handed_out_twice_and_comes_back_late() {
    let folder = tempfile::tempdir().unwrap();
    let records = Records::open(&folder.path().join("records.db")).unwrap();
    let subnets = ["10.9.0.0/29".parse().unwrap()];
    let pods: Vec<_> = (0..5).map(|_| pod()).collect();
    let mut seen = std::collections::BTreeSet::new();
    for pod in &pods {
        assert!(seen.insert(records.reserve_addresses(&pod.id, &subnets).unwrap()[0]));
    }
    let refused = records.reserve_addresses(&Id::random().unwrap(), &subnets);
    assert!(matches!(refused, Err(RecordsError::Exhausted(_))), "{refused:?}");

    records.release_network(&pods[2].id).unwrap();
    let again = records.reserve_addresses(&Id::random().unwrap(), &subnets).unwrap();
    assert!(seen.contains(&again[0]));
}

#[test]
fn a_newer_schema_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("records.db");
    drop(Records::open(&file).unwrap());
    Connection::open(&file).unwrap().pragma_update(None, "user_version", 999).unwrap();
    assert!(matches!(Records::open(&file), Err(RecordsError::TooNew { found: 999, .. })));
}
