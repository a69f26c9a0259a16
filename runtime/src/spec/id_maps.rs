//! Mappings of user and group ids.

use std::fmt::{Display, Formatter};

use oci_spec::runtime::LinuxIdMapping;

use super::SpecError;

/// The most lines the kernel takes (user_namespaces(7), Linux 4.15).
const MAX_LINES: usize = 340;

/// A mapping of users and one of groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IdMaps {
    pub(crate) users: IdMap,
    pub(crate) groups: IdMap,
}

/// A mapping of ids of one kind; as text in the form of `/proc/<pid>/uid_map` and `gid_map`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IdMap(Vec<Range>);

/// So many ids from `inside` on are those from `outside` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    inside: u32,
    outside: u32,
    size: u32,
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
                users: IdMap::new(&format!("{field}.uidMappings"), users)?,
                groups: IdMap::new(&format!("{field}.gidMappings"), groups)?,
            })),
            (true, false) => Err(SpecError::value(format!("{field}.uidMappings"), "none beside gidMappings")),
            (false, true) => Err(SpecError::value(format!("{field}.gidMappings"), "none beside uidMappings")),
        }
    }
}

impl IdMap {
    fn new(field: &str, mappings: &[LinuxIdMapping]) -> Result<Self, SpecError> {
        if mappings.len() > MAX_LINES {
            return Err(SpecError::value(field, format!("{} mappings", mappings.len())));
        }
        let range = |mapping: &LinuxIdMapping| {
            let (inside, outside, size) = (mapping.container_id(), mapping.host_id(), mapping.size());
            let fits = |first: u32| first.checked_add(size).is_some();
            if size == 0 || !fits(inside) || !fits(outside) {
                return Err(SpecError::value(field, format!("{inside} {outside} {size}")));
            }
            Ok(Range { inside, outside, size })
        };
        mappings.iter().map(range).collect::<Result<_, _>>().map(Self)
    }

    /// What `/proc/<pid>/uid_map` or `gid_map` says; none when that is no mapping.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let range = |line: &str| {
            let mut numbers = line.split_whitespace().map(str::parse);
            let mut number = || numbers.next()?.ok();
            Some(Range { inside: number()?, outside: number()?, size: number()? })
        };
        text.lines().map(range).collect::<Option<_>>().map(Self)
    }

    /// Whether this one id of the outside is all that is mapped.
    pub(crate) fn is_one_of(&self, id: u32) -> bool {
        matches!(self.0.as_slice(), [range] if (range.outside, range.size) == (id, 1))
    }

    /// The id outside of an id inside; none when it is mapped to nothing.
    pub(crate) fn outside(&self, id: u32) -> Option<u32> {
        self.0.iter().find_map(|range| {
            let offset = id.checked_sub(range.inside).filter(|offset| *offset < range.size)?;
            range.outside.checked_add(offset)
        })
    }
}

impl Display for IdMap {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> std::fmt::Result {
        self.0
            .iter()
            .try_for_each(|Range { inside, outside, size }| writeln!(formatter, "{inside} {outside} {size}"))
    }
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
    fn mappings_become_lines_and_lines_mappings() {
        let maps = map(ONE, ONE).unwrap().unwrap();
        assert_eq!(maps.users.to_string(), "0 1000 10\n10 5 1\n");
        assert_eq!(maps.groups, maps.users);
        assert_eq!(IdMap::parse("         0       1000         10\n        10 5 1\n"), Some(maps.users));
        assert_eq!(map("[]", "[]").unwrap(), None);
        assert_eq!(IdMap::parse("0 x 1"), None);
    }

    #[test]
    fn an_id_has_one_outside_or_none() {
        let users = map(ONE, ONE).unwrap().unwrap().users;
        let found: Vec<_> = [0, 9, 10, 11].map(|id| users.outside(id)).into();
        assert_eq!(found, [Some(1000), Some(1009), Some(5), None]);
        assert_eq!(IdMap::parse("0 0 4294967295\n").unwrap().outside(u32::MAX), None);
    }

    #[test]
    fn half_a_mapping_and_one_that_is_none_are_refused() {
        assert!(map(ONE, "[]").is_err());
        assert!(map("[]", ONE).is_err());
        assert!(map(r#"[{"containerID":0,"hostID":1,"size":0}]"#, ONE).is_err());
        assert!(map(r#"[{"containerID":0,"hostID":4294967295,"size":2}]"#, ONE).is_err());
    }
}
