//! Fields that would have to change the container and cannot yet: a specification that uses one is refused, so that
//! nothing it asks for is silently left out.

use oci_spec::runtime::Spec;

use super::SpecError;

/// Refuses a specification with a field that is not supported.
pub(super) fn refuse(spec: &Spec) -> Result<(), SpecError> {
    if spec.vm().is_some() { Err(SpecError::Unsupported("vm".to_owned())) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_that_cannot_be_carried_out_is_refused_by_its_name() {
        let json = r#"{"ociVersion":"1.0.2","vm":{"kernel":{"path":"/x"}}}"#;
        let error = refuse(&serde_json::from_str(json).unwrap()).unwrap_err();
        assert_eq!(error, SpecError::Unsupported("vm".into()));
    }

    #[test]
    fn empty_fields_ask_for_nothing() {
        let json = r#"{"ociVersion":"1.0.2","linux":{"mountLabel":"","timeOffsets":{}}}"#;
        assert_eq!(refuse(&serde_json::from_str(json).unwrap()), Ok(()));
    }
}
