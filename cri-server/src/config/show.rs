//! `cleatd config`: the settings in force, as a file that says where each value comes from.

use std::fmt::Write as _;

use super::effective::Effective;
use super::settings::SETTINGS;

impl Effective {
    /// TOML that reads back as the same settings, each with its origin as a comment.
    pub(crate) fn to_toml(&self) -> String {
        let mut text = String::new();
        let mut section = None;
        for setting in SETTINGS {
            if setting.section() != section {
                section = setting.section();
                writeln!(text, "\n[{}]", section.unwrap_or_default()).expect(NO_LIMIT);
            }
            let line = match self.value(setting.key) {
                Some(value) => format!("{} = {value} # from {}", setting.name(), self.origin(setting.key)),
                None => format!("# {} is not set: {}", setting.name(), setting.doc),
            };
            writeln!(text, "{line}").expect(NO_LIMIT);
        }
        text
    }
}

/// Why writing cannot fail.
const NO_LIMIT: &str = "a String takes any text";

#[cfg(test)]
mod tests {
    use crate::config::effective::tests::merged;
    use crate::config::value::Value;

    #[test]
    fn it_reads_back_and_names_each_origin() {
        let (effective, _) = merged(&[("log.level", Value::Text("debug".to_owned()), 7)]);
        let shown = effective.to_toml();
        assert!(shown.contains("level = \"debug\" # from f:7\n"), "{shown}");
        assert!(shown.contains("root = \"/var/lib/cleat\" # from default\n"), "{shown}");
        assert!(shown.contains("# seccomp_profile is not set: A seccomp"), "{shown}");
        let read: toml::Table = shown.parse().unwrap();
        assert_eq!(read["log"]["level"].as_str(), Some("debug"));
        assert_eq!(read["runtime"]["conmon"].as_str(), Some("/programs/cleat-conmon"));
        assert_eq!(read["network"]["subnets"].as_array().map(Vec::len), Some(2));
    }
}
