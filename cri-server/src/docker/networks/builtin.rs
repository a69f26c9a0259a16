//! The networks that every engine has.

use cleat_image::Digest;

use crate::docker::wire::Filters;

/// A network that is always there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Builtin {
    /// Its name.
    pub name: &'static str,
    /// What makes it.
    pub driver: &'static str,
}

/// All of them, the default one first.
pub(super) const BUILTIN: [Builtin; 3] = [
    Builtin { name: "bridge", driver: "bridge" },
    Builtin { name: "host", driver: "host" },
    Builtin { name: "none", driver: "null" },
];

impl Builtin {
    /// Its id: nothing but its name goes into it, so that it stays through restarts.
    pub(super) fn id(self) -> String {
        let digest = Digest::of(format!("network {}", self.name).as_bytes()).to_string();
        digest.strip_prefix("sha256:").unwrap_or(&digest).to_owned()
    }

    /// Whether a list that is filtered has it.
    pub(super) fn fits(self, filters: &Filters) -> bool {
        let any = |key: &str, fits: &dyn Fn(&str) -> bool| {
            filters.get(key).is_none_or(|values| values.iter().any(|value| fits(value)))
        };
        any("driver", &|value| value == self.driver)
            && any("name", &|value| self.name.contains(value))
            && any("id", &|value| self.id().starts_with(value))
            && any("scope", &|value| value == "local")
            && any("type", &|value| value == "builtin")
            && filters.fits_labels(|_| None)
    }
}

#[cfg(test)]
mod tests {
    use super::super::KNOWN;
    use super::*;

    #[test]
    fn filters_choose() {
        for (filters, names) in [
            ("", vec!["bridge", "host", "none"]),
            (r#"{"driver":["bridge"]}"#, vec!["bridge"]),
            (r#"{"name":["o"]}"#, vec!["host", "none"]),
            (r#"{"label":["a"]}"#, vec![]),
            (r#"{"type":["custom"]}"#, vec![]),
        ] {
            let filters = Filters::parse(filters, KNOWN).unwrap();
            let found: Vec<_> = BUILTIN.iter().filter(|one| one.fits(&filters)).map(|one| one.name).collect();
            assert_eq!(found, names, "{filters:?}");
        }
        assert_eq!(BUILTIN[0].id().len(), 64);
    }
}
