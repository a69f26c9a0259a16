//! When a container is started again by itself, as Docker writes it.

use serde_json::{Value, json};

use super::request::RestartPolicy as Wanted;
use crate::docker::refusal::Refusal;
use crate::engine::model::RestartPolicy;

/// The policy that is asked for; none where the request is silent.
pub(super) fn asked(wanted: &Wanted) -> Result<Option<RestartPolicy>, Refusal> {
    let most = wanted.maximum_retry_count;
    let invalid = |why: &str| Refusal::bad(format!("invalid restart policy: {why}"));
    let policy = match wanted.name.as_str() {
        "" if most == 0 => return Ok(None),
        "" | "no" => RestartPolicy::No,
        "always" => RestartPolicy::Always,
        "unless-stopped" => RestartPolicy::UnlessStopped,
        "on-failure" => {
            let most = u32::try_from(most).map_err(|_| invalid("maximum retry count cannot be negative"))?;
            return Ok(Some(RestartPolicy::OnFailure { most }));
        }
        other => {
            return Err(invalid(&format!(
                "unknown policy '{other}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
            )));
        }
    };
    if most != 0 {
        return Err(invalid("maximum retry count can only be used with 'on-failure'"));
    }
    Ok(Some(policy))
}

/// The policy as an inspection tells it.
pub(super) fn told(policy: RestartPolicy) -> Value {
    let (name, most) = match policy {
        RestartPolicy::No => ("no", 0),
        RestartPolicy::Always => ("always", 0),
        RestartPolicy::UnlessStopped => ("unless-stopped", 0),
        RestartPolicy::OnFailure { most } => ("on-failure", most),
    };
    json!({"Name": name, "MaximumRetryCount": most})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_dockers() {
        let asked = |name: &str, most| asked(&Wanted { name: name.into(), maximum_retry_count: most });
        assert_eq!(asked("", 0).unwrap(), None);
        for (name, most) in
            [("no", 0), ("always", 0), ("unless-stopped", 0), ("on-failure", 0), ("on-failure", 3)]
        {
            let policy = asked(name, most).unwrap().unwrap();
            assert_eq!(told(policy), json!({"Name": name, "MaximumRetryCount": most}));
        }
        for (name, most) in [("sometimes", 0), ("always", 1), ("on-failure", -1), ("", 1)] {
            assert_eq!(asked(name, most).unwrap_err().status().as_u16(), 400, "{name} {most}");
        }
    }
}
