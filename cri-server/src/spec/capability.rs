//! Capabilities: all five sets of `capabilities(7)` from a default, additions and removals.
//!
//! Bounding, permitted and effective are the same set. Inheritable is empty unless ambient capabilities are asked for,
//! because a file with inheritable capabilities in the image would else hand them to a program that root execs
//! (CVE-2022-24769). A program that does not run as root loses permitted and effective capabilities at `execve(2)`, all
//! but the ambient ones: that is the kernel's doing and needs no second set here; the bounding set still says what a
//! setuid program can get.

use oci_spec::runtime::{Capabilities, Capability, LinuxCapabilities};

use super::{Host, SpecError};
use crate::engine::model::Security;

/// Everything, in an addition or removal.
const ALL: &str = "ALL";

/// The sets of a container. A privileged one gets the daemon's whole bounding set and no other change.
pub(super) fn sets(host: &Host, security: &Security) -> Result<LinuxCapabilities, SpecError> {
    if security.privileged {
        return Ok(linux_capabilities(host.bounding.clone(), Capabilities::new()));
    }
    let change = &security.capabilities;
    let mut held: Capabilities = host.default_capabilities.intersection(&host.bounding).copied().collect();
    if has_all(&change.drop) {
        held.clear();
    }
    if has_all(&change.add) {
        held.extend(&host.bounding);
    }
    for capability in named(&change.drop)? {
        held.remove(&capability);
    }
    let mut ambient = Capabilities::new();
    if has_all(&change.add_ambient) {
        ambient.extend(&host.bounding);
    }
    for capability in named(&change.add_ambient)? {
        ambient.insert(available(host, capability)?);
    }
    for capability in named(&change.add)? {
        held.insert(available(host, capability)?);
    }
    held.extend(&ambient);
    Ok(linux_capabilities(held, ambient))
}

/// The sets of a program that may do nothing special.
pub(super) fn none() -> LinuxCapabilities {
    linux_capabilities(Capabilities::new(), Capabilities::new())
}

fn linux_capabilities(held: Capabilities, ambient: Capabilities) -> LinuxCapabilities {
    let mut sets = LinuxCapabilities::default();
    sets.set_bounding(Some(held.clone()))
        .set_effective(Some(held.clone()))
        .set_permitted(Some(held))
        .set_inheritable(Some(ambient.clone()))
        .set_ambient(Some(ambient));
    sets
}

fn has_all(names: &[String]) -> bool {
    names.iter().any(|name| name.eq_ignore_ascii_case(ALL))
}

/// The capabilities named one by one.
fn named(names: &[String]) -> Result<Vec<Capability>, SpecError> {
    names.iter().filter(|name| !name.eq_ignore_ascii_case(ALL)).map(|name| parse(name)).collect()
}

/// A capability by its name, with or without `CAP_`, in any case.
pub(crate) fn parse(name: &str) -> Result<Capability, SpecError> {
    let upper = name.to_ascii_uppercase();
    let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
    bare.parse().map_err(|_| SpecError::UnknownCapability(name.to_owned()))
}

/// What the daemon lacks cannot be given: better a clear refusal than a container that fails later, elsewhere.
fn available(host: &Host, capability: Capability) -> Result<Capability, SpecError> {
    if host.bounding.contains(&capability) {
        Ok(capability)
    } else {
        Err(SpecError::UnavailableCapability(format!("CAP_{capability}")))
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{self, default_capabilities};
    use super::*;
    use crate::engine::model;

    fn strings(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn change(add: &[&str], drop: &[&str], ambient: &[&str]) -> Security {
        let capabilities =
            model::Capabilities { add: strings(add), drop: strings(drop), add_ambient: strings(ambient) };
        Security { capabilities, ..Security::default() }
    }

    fn defaults_and(more: &[Capability], less: &[Capability]) -> Capabilities {
        default_capabilities().into_iter().chain(more.iter().copied()).filter(|c| !less.contains(c)).collect()
    }

    #[test]
    fn additions_and_removals_combine() {
        let host = fixture::host();
        let none = Capabilities::new();
        let only = |capabilities: &[Capability]| capabilities.iter().copied().collect::<Capabilities>();
        for (asked, held) in [
            (change(&[], &[], &[]), default_capabilities()),
            (change(&["NET_ADMIN"], &[], &[]), defaults_and(&[Capability::NetAdmin], &[])),
            (
                change(&["CAP_NET_ADMIN"], &["cap_mknod"], &[]),
                defaults_and(&[Capability::NetAdmin], &[Capability::Mknod]),
            ),
            (change(&[], &["ALL"], &[]), none.clone()),
            (change(&["CHOWN"], &["ALL"], &[]), only(&[Capability::Chown])),
            (change(&["all"], &[], &[]), host.bounding.clone()),
            (change(&["ALL"], &["ALL"], &[]), host.bounding.clone()),
            (change(&["KILL"], &["KILL"], &[]), default_capabilities()),
        ] {
            let sets = sets(&host, &asked).unwrap();
            assert_eq!(sets.bounding(), &Some(held.clone()), "{asked:?}");
            assert_eq!(sets.effective(), &Some(held.clone()), "{asked:?}");
            assert_eq!(sets.permitted(), &Some(held), "{asked:?}");
            assert_eq!(
                (sets.inheritable(), sets.ambient()),
                (&Some(none.clone()), &Some(none.clone())),
                "{asked:?}"
            );
        }
        let all_but_one = sets(&host, &change(&["ALL"], &["MKNOD"], &[])).unwrap();
        assert!(!all_but_one.bounding().as_ref().unwrap().contains(&Capability::Mknod));
        assert_eq!(all_but_one.bounding().as_ref().unwrap().len(), host.bounding.len() - 1);
    }

    #[test]
    fn ambient_capabilities_are_in_every_set() {
        let sets = sets(&fixture::host(), &change(&[], &["ALL"], &["NET_BIND_SERVICE"])).unwrap();
        let expected = Some(Capabilities::from([Capability::NetBindService]));
        for set in [sets.bounding(), sets.effective(), sets.permitted(), sets.inheritable(), sets.ambient()] {
            assert_eq!(set, &expected);
        }
    }

    #[test]
    fn a_privileged_container_gets_what_the_daemon_has() {
        let host = fixture::host();
        let mut asked = change(&["SYS_RESOURCE"], &["ALL"], &[]);
        asked.privileged = true;
        let sets = sets(&host, &asked).unwrap();
        assert_eq!(sets.bounding(), &Some(host.bounding.clone()));
        assert_eq!(sets.inheritable(), &Some(Capabilities::new()));
    }

    #[test]
    fn the_unknown_and_the_unavailable_are_refused() {
        let host = fixture::host();
        for asked in [
            change(&["NONSENSE"], &[], &[]),
            change(&[], &["NONSENSE"], &[]),
            change(&[], &[], &["NONSENSE"]),
        ] {
            assert_eq!(sets(&host, &asked), Err(SpecError::UnknownCapability("NONSENSE".into())));
        }
        for asked in [change(&["SYS_RESOURCE"], &[], &[]), change(&[], &[], &["SYS_RESOURCE"])] {
            assert_eq!(sets(&host, &asked), Err(SpecError::UnavailableCapability("CAP_SYS_RESOURCE".into())));
        }
        assert!(sets(&host, &change(&[], &["SYS_RESOURCE"], &[])).is_ok());
    }

    #[test]
    fn defaults_outside_the_bounding_set_are_left_out() {
        let mut host = fixture::host();
        host.bounding.remove(&Capability::Mknod);
        let sets = sets(&host, &Security::default()).unwrap();
        assert_eq!(sets.bounding(), &Some(defaults_and(&[], &[Capability::Mknod])));
    }

    #[test]
    fn every_name_reads_back() {
        for capability in fixture::all_capabilities() {
            assert_eq!(parse(&format!("cap_{capability}")), Ok(capability));
            assert_eq!(parse(&capability.to_string().to_lowercase()), Ok(capability));
        }
    }
}
