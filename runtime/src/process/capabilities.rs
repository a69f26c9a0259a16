//! The five capability sets (capabilities(7)).

use rustix::io::Errno;
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set,
    configure_capability_in_ambient_set, remove_capability_from_bounding_set, set_capabilities,
};

use crate::spec::{Capabilities, ProcessPlan};

/// Drops what the plan does not name from the bounding set. Needs CAP_SETPCAP.
pub(super) fn drop_bounding(plan: &ProcessPlan) -> Result<(), Errno> {
    for capability in every_bit().filter(|bit| !plan.capabilities.bounding.contains(*bit)) {
        match remove_capability_from_bounding_set(capability) {
            // The numbers end here for this kernel.
            Err(Errno::INVAL) => return Ok(()),
            other => other?,
        }
    }
    Ok(())
}

/// Makes all that is permitted effective: a change of the user id cleared it.
pub(crate) fn raise_all() -> Result<(), Errno> {
    let own = capabilities(None)?;
    set_capabilities(None, CapabilitySets { effective: own.permitted, ..own })
}

/// Gives the calling thread its final sets; capabilities that it does not have itself are left out.
pub(super) fn set(plan: &ProcessPlan) -> Result<(), Errno> {
    let own = capabilities(None)?;
    let wanted = confine(&plan.capabilities, own.permitted);
    // Raised already where it was needed; the inheritable set is bound by the bounding set and the permitted one.
    clear_ambient_capability_set()?;
    set_capabilities(
        None,
        CapabilitySets {
            effective: wanted.effective,
            permitted: wanted.permitted,
            inheritable: wanted.inheritable,
        },
    )?;
    let ambient = every_bit().filter(|bit| wanted.ambient.contains(*bit));
    ambient.into_iter().try_for_each(|bit| configure_capability_in_ambient_set(bit, true))
}

/// The wanted sets without what is not `available`, and without what the kernel's rules exclude: the effective set lies
/// within the permitted one, the ambient set within the permitted and the inheritable one.
fn confine(wanted: &Capabilities, available: CapabilitySet) -> Capabilities {
    let bounding = wanted.bounding & available;
    let permitted = wanted.permitted & available;
    let inheritable = wanted.inheritable & available;
    Capabilities {
        bounding,
        permitted,
        effective: wanted.effective & permitted,
        inheritable,
        ambient: wanted.ambient & permitted & inheritable,
    }
}

fn every_bit() -> impl Iterator<Item = CapabilitySet> {
    (0..64).map(|number| CapabilitySet::from_bits_retain(1 << number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_available_or_not_allowed_is_left_out() {
        let of = CapabilitySet::from_bits_retain;
        let wanted = Capabilities {
            bounding: of(0b1111),
            permitted: of(0b0111),
            effective: of(0b1011),
            inheritable: of(0b0011),
            ambient: of(0b0110),
        };
        let sets = confine(&wanted, of(0b0110));
        assert_eq!(sets.permitted, of(0b0110));
        assert_eq!(sets.effective, of(0b0010));
        assert_eq!(sets.inheritable, of(0b0010));
        assert_eq!(sets.ambient, of(0b0010));
    }
}
