//! Fields that would have to change the container and cannot yet: a specification that uses one is refused, so that
//! nothing it asks for is silently left out.

use oci_spec::runtime::{Linux, Spec};

use super::SpecError;

/// Refuses a specification with a field that is not supported.
pub(super) fn refuse(spec: &Spec) -> Result<(), SpecError> {
    refuse_set(&[("vm", spec.vm().is_some())])?;
    spec.linux().as_ref().map_or(Ok(()), refuse_linux)
}

fn refuse_linux(linux: &Linux) -> Result<(), SpecError> {
    refuse_set(&[("linux.intelRdt", linux.intel_rdt().is_some())])
}

fn refuse_set(fields: &[(&str, bool)]) -> Result<(), SpecError> {
    match fields.iter().find(|(_, set)| *set) {
        Some((field, _)) => Err(SpecError::Unsupported((*field).to_owned())),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_that_cannot_be_carried_out_is_refused_by_its_name() {
        for (field, json) in [
            ("vm", r#"{"ociVersion":"1.0.2","vm":{"kernel":{"path":"/x"}}}"#),
            ("linux.intelRdt", r#"{"ociVersion":"1.0.2","linux":{"intelRdt":{}}}"#),
        ] {
            let error = refuse(&serde_json::from_str(json).unwrap()).unwrap_err();
            assert_eq!(error, SpecError::Unsupported(field.into()));
        }
    }

    #[test]
    fn empty_fields_ask_for_nothing() {
        let json = r#"{"ociVersion":"1.0.2","linux":{"mountLabel":"","timeOffsets":{}}}"#;
        assert_eq!(refuse(&serde_json::from_str(json).unwrap()), Ok(()));
    }
}
