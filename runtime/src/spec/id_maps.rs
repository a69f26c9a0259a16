//! Mappings of user and group ids.

use std::fmt::Write;

use oci_spec::runtime::LinuxIdMapping;

use super::SpecError;

/// The most lines the kernel takes (user_namespaces(7), Linux 4.15).
const MAX_LINES: usize = 340;

/// Mappings in the form of `/proc/<pid>/uid_map` and `gid_map`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IdMaps {
    pub(crate) users: String,
    pub(crate) groups: String,
}

impl IdMaps {
    /// The mappings of `field`; none when neither is there. Both are needed, or ids of one kind would be nobody's.
    pub(super) fn new(
        field: &str,
        users: Option<&[LinuxIdMapping]>,
        groups: Option<&[LinuxIdMapping]>,
    ) -> Result<Option<Self>, SpecError> {
        let (users, groups) = (users.unwrap_or_default(), groups.unwrap_or_default());
        match (users.is_empty(), groups.is_empty()) {
            (true, true) => Ok(None),
            (false, false) => Ok(Some(Self {
                users: lines(&format!("{field}.uidMappings"), users)?,
                groups: lines(&format!("{field}.gidMappings"), groups)?,
            })),
            (true, false) => Err(SpecError::value(format!("{field}.uidMappings"), "none beside gidMappings")),
            (false, true) => Err(SpecError::value(format!("{field}.gidMappings"), "none beside uidMappings")),
        }
    }
}

fn lines(field: &str, mappings: &[LinuxIdMapping]) -> Result<String, SpecError> {
    if mappings.len() > MAX_LINES {
        return Err(SpecError::value(field, format!("{} mappings", mappings.len())));
    }
    mappings.iter().try_fold(String::new(), |mut text, mapping| {
        let (inside, outside, size) = (mapping.container_id(), mapping.host_id(), mapping.size());
        let fits = |first: u32| first.checked_add(size).is_some();
        if size == 0 || !fits(inside) || !fits(outside) {
            return Err(SpecError::value(field, format!("{inside} {outside} {size}")));
        }
        writeln!(text, "{inside} {outside} {size}").map_err(|_| SpecError::value(field, size))?;
        Ok(text)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(users: &str, groups: &str) -> Result<Option<IdMaps>, SpecError> {
        let parse = |text| serde_json::from_str::<Vec<LinuxIdMapping>>(text).unwrap();
        IdMaps::new("mounts[/x]", Some(&parse(users)), Some(&parse(groups)))
    }

    const ONE: &str = r#"[{"containerID":0,"hostID":1000,"size":10},{"containerID":10,"hostID":5,"size":1}]"#;

    #[test]
    fn mappings_become_lines() {
        let maps = map(ONE, ONE).unwrap().unwrap();
        assert_eq!(
            (maps.users.as_str(), maps.groups.as_str()),
            ("0 1000 10\n10 5 1\n", "0 1000 10\n10 5 1\n")
        );
        assert_eq!(map("[]", "[]").unwrap(), None);
    }

    #[test]
    fn half_a_mapping_and_one_that_is_none_are_refused() {
        assert!(map(ONE, "[]").is_err());
        assert!(map("[]", ONE).is_err());
        assert!(map(r#"[{"containerID":0,"hostID":1,"size":0}]"#, ONE).is_err());
        assert!(map(r#"[{"containerID":0,"hostID":4294967295,"size":2}]"#, ONE).is_err());
    }
}
