//! User namespaces and mappings of ids.

use cleat_cri_api::v1::{IdMapping, NamespaceMode, UserNamespace};

use super::field::{known, refused};
use crate::engine::Result;
use crate::engine::model::{IdRange, UserMapping, UserMode};

const MODE: &str = "namespace_options.userns_options.mode";
const UIDS: &str = "namespace_options.userns_options.uids";
const GIDS: &str = "namespace_options.userns_options.gids";

/// The user namespace asked for; none when nothing is said. As with the peers a pod's own has exactly one mapping of
/// users and one of groups, and both map id 0: the container's root, who owns what the runtime makes.
pub(super) fn mode(options: Option<UserNamespace>) -> Result<Option<UserMode>> {
    let Some(options) = options else { return Ok(None) };
    match known(MODE, options.mode)? {
        NamespaceMode::Node if options.uids.is_empty() && options.gids.is_empty() => Ok(Some(UserMode::Node)),
        NamespaceMode::Node => Err(refused(MODE, "NODE", "the host's user namespace takes no mappings")),
        NamespaceMode::Pod => {
            let mapping = UserMapping { users: only(UIDS, options.uids)?, groups: only(GIDS, options.gids)? };
            Ok(Some(UserMode::Pod(mapping)))
        }
        other => Err(refused(MODE, other.as_str_name(), "it is POD or NODE")),
    }
}

/// The user namespace as it was asked for, for a status.
pub(super) fn report(mode: &UserMode) -> Option<UserNamespace> {
    let UserMode::Pod(UserMapping { users, groups }) = mode else { return None };
    let options =
        UserNamespace { mode: NamespaceMode::Pod as i32, uids: vec![told(users)], gids: vec![told(groups)] };
    Some(options)
}

/// Mappings of a mount's owners.
pub(super) fn ranges(field: &str, mappings: Vec<IdMapping>) -> Result<Vec<IdRange>> {
    mappings.into_iter().map(|mapping| range(field, mapping)).collect()
}

/// A range as the CRI's message.
pub(super) fn told(range: &IdRange) -> IdMapping {
    IdMapping { host_id: range.host_id, container_id: range.container_id, length: range.length }
}

fn only(field: &str, mut mappings: Vec<IdMapping>) -> Result<IdRange> {
    let count = mappings.len();
    match mappings.pop() {
        Some(mapping) if count == 1 => {
            let range = range(field, mapping)?;
            if range.container_id == 0 {
                return Ok(range);
            }
            Err(refused(field, range.container_id, "container_id 0 has to be mapped"))
        }
        _ => Err(refused(field, format!("{count} mappings"), "exactly one mapping is expected")),
    }
}

fn range(field: &str, mapping: IdMapping) -> Result<IdRange> {
    let IdMapping { host_id, container_id, length } = mapping;
    let fits = |first: u32| first.checked_add(length).is_some();
    if length == 0 || !fits(host_id) || !fits(container_id) {
        let value = format!("{container_id} {host_id} {length}");
        return Err(refused(field, value, "a length of at least 1 and ids below 4294967295 are expected"));
    }
    Ok(IdRange { container_id, host_id, length })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::EngineError;

    const POD: i32 = NamespaceMode::Pod as i32;
    const NODE: i32 = NamespaceMode::Node as i32;

    fn mapping(container_id: u32, host_id: u32, length: u32) -> IdMapping {
        IdMapping { container_id, host_id, length }
    }

    fn asked(mode: i32, uids: &[IdMapping], gids: &[IdMapping]) -> UserNamespace {
        UserNamespace { mode, uids: uids.to_vec(), gids: gids.to_vec() }
    }

    #[test]
    fn what_was_asked_for_is_reported() {
        let own = asked(POD, &[mapping(0, 65_536, 65_536)], &[mapping(0, 131_072, 65_536)]);
        let kept = mode(Some(own.clone())).unwrap().unwrap();
        assert_eq!(report(&kept), Some(own));
        assert_eq!(mode(None).unwrap(), None);
        assert_eq!(mode(Some(asked(NODE, &[], &[]))).unwrap(), Some(UserMode::Node));
        assert_eq!(report(&UserMode::Node), None);
    }

    #[test]
    fn one_mapping_with_root_in_it_is_expected() {
        let good = [mapping(0, 65_536, 65_536)];
        for bad in [
            asked(POD, &[], &[]),
            asked(POD, &good, &[]),
            asked(POD, &[mapping(0, 1, 1), mapping(1, 5, 1)], &good),
            asked(POD, &good, &[mapping(1, 65_536, 65_536)]),
            asked(POD, &[mapping(0, 65_536, 0)], &good),
            asked(POD, &[mapping(0, u32::MAX, 2)], &good),
            asked(NODE, &good, &good),
            asked(NamespaceMode::Container as i32, &good, &good),
            asked(NamespaceMode::Target as i32, &good, &good),
            asked(7, &good, &good),
        ] {
            let error = mode(Some(bad.clone())).unwrap_err();
            assert!(matches!(error, EngineError::Invalid { .. }), "{bad:?}: {error}");
        }
    }
}
