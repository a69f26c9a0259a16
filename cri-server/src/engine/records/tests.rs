//! The records against a real database file.

use cleat_network::Attached;

use super::*;
use crate::engine::model::{AddressRange, Resources};
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

    records.release_network(&pods[2].id, None).unwrap();
    let again = records.reserve_addresses(&Id::random().unwrap(), &subnets).unwrap();
    assert!(seen.contains(&again[0]));
}

#[test]
fn a_network_of_ones_own_hands_out_what_is_asked_for_or_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let records = Records::open(&folder.path().join("records.db")).unwrap();
    let network = Id::random().unwrap();
    let range = |within: Option<&str>| AddressRange {
        subnet: "10.8.0.0/24".parse().unwrap(),
        gateway: "10.8.0.1".parse().unwrap(),
        within: within.map(|text| text.parse().unwrap()),
        reserved: [("printer".to_owned(), "10.8.0.2".parse().unwrap())].into(),
    };
    let reserve = |pod: &Id, within: Option<&str>, wanted: &[&str]| {
        let wanted: Vec<_> = wanted.iter().map(|text| text.parse().unwrap()).collect();
        let reserved = records.reserve_of_ranges(pod, &network, &[range(within)], &wanted)?;
        Ok::<_, RecordsError>(reserved[0].to_string())
    };
    let pods: Vec<_> = (0..4).map(|_| pod().id).collect();
    assert_eq!(reserve(&pods[0], None, &[]).unwrap(), "10.8.0.3/24");
    assert_eq!(reserve(&pods[1], None, &["10.8.0.9"]).unwrap(), "10.8.0.9/24");
    assert_eq!(reserve(&pods[2], Some("10.8.0.128/25"), &[]).unwrap(), "10.8.0.128/24");
    for taken in ["10.8.0.1", "10.8.0.2", "10.8.0.9"] {
        let refused = reserve(&pods[3], None, &[taken]);
        assert!(matches!(refused, Err(RecordsError::AddressTaken { .. })), "{taken}: {refused:?}");
    }
    // On another network it keeps what it has.
    records.release_network(&pods[1], None).unwrap();
    assert!(reserve(&pods[3], None, &["10.8.0.9"]).is_err());
    records.release_network(&pods[1], Some(&network)).unwrap();
    assert_eq!(reserve(&pods[3], None, &["10.8.0.9"]).unwrap(), "10.8.0.9/24");
}

#[test]
fn what_is_owed_is_owed_to_each_network_alone_and_survives_the_new_schema() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("records.db");
    let attached = |interface: &str| Attached {
        interface: interface.to_owned(),
        mac: None,
        addresses: Vec::new(),
        gateways: Vec::new(),
        routes: Vec::new(),
        ports: Vec::new(),
        cni: None,
    };
    let (pod, network) = (pod().id, Id::random().unwrap());
    let old = Connection::open(&file).unwrap();
    old.execute_batch(schema::FIRST).unwrap();
    let row = params![pod.as_str(), serde_json::to_string(&attached("eth0")).unwrap()];
    old.execute("INSERT INTO attachments (pod, attached) VALUES (?1, ?2)", row).unwrap();
    old.pragma_update(None, "user_version", 1).unwrap();
    drop(old);

    let records = Records::open(&file).unwrap();
    records.put_attachment(&pod, Some(&network), &attached("eth1")).unwrap();
    let owed = || records.attachments(&pod).unwrap();
    assert_eq!(owed().len(), 2);
    assert_eq!(records.pods_on(Some(&network)).unwrap(), [pod.to_string()]);
    records.release_network(&pod, Some(&network)).unwrap();
    assert_eq!(owed(), [Owed { network: None, attached: attached("eth0") }]);
}

#[test]
fn a_newer_schema_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("records.db");
    drop(Records::open(&file).unwrap());
    Connection::open(&file).unwrap().pragma_update(None, "user_version", 999).unwrap();
    assert!(matches!(Records::open(&file), Err(RecordsError::TooNew { found: 999, .. })));
}
