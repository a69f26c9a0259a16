//! The query of a request's address.

/// Keys and values in the order given, decoded.
#[derive(Clone, Debug, Default)]
pub(in crate::docker) struct Query(Vec<(String, String)>);

impl Query {
    /// Of the text behind the question mark.
    pub(in crate::docker) fn parse(text: &str) -> Self {
        Self(form_urlencoded::parse(text.as_bytes()).into_owned().collect())
    }

    /// The first value of `key`; empty when it is absent.
    pub(in crate::docker) fn get(&self, key: &str) -> &str {
        self.0.iter().find(|(name, _)| name == key).map_or("", |(_, value)| value)
    }

    /// All values of `key`.
    pub(in crate::docker) fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// Whether `key` is switched on. Docker takes every word for yes that is not one of these.
    pub(in crate::docker) fn is_on(&self, key: &str) -> bool {
        let value = self.get(key).trim().to_ascii_lowercase();
        !matches!(value.as_str(), "" | "0" | "no" | "false" | "none")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_decoded_and_switches_understood() {
        let query =
            Query::parse("changes=CMD+%5B%22sh%22%5D&changes=ENV+A%3D1&all=1&quiet=False&x=&y=perhaps");
        assert_eq!(query.all("changes").collect::<Vec<_>>(), ["CMD [\"sh\"]", "ENV A=1"]);
        for (key, on) in [("all", true), ("quiet", false), ("x", false), ("y", true), ("z", false)] {
            assert_eq!(query.is_on(key), on, "{key}");
        }
    }
}
