//! One value and one origin for each setting: the outcome of all sources.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::fault::{Complaint, Fault};
use super::files::Found;
use super::origin::Origin;
use super::settings::{self, Fallback, SETTINGS, Setting};
use super::value::Value;

/// The settings in force.
#[derive(Debug)]
pub(crate) struct Effective(BTreeMap<&'static str, (Value, Origin)>);

impl Effective {
    /// Lays `found`, in the order of precedence, over the defaults. `program` finds helper programs. Values that are not
    /// of their setting's kind, and settings that contradict each other, become `faults`.
    pub(crate) fn merge(
        found: Vec<Found>,
        program: &dyn Fn(&str) -> PathBuf,
        faults: &mut Vec<Fault>,
    ) -> Self {
        let defaults =
            SETTINGS.iter().filter_map(|setting| Some((setting.key, default(&setting.fallback, program)?)));
        let mut values: BTreeMap<_, _> =
            defaults.map(|(key, value)| (key, (value, Origin::Default))).collect();
        for Found { key, value, origin } in found {
            let checked = settings::find(key).map_or(Ok(()), |setting| setting.kind.check(&value));
            match checked {
                Ok(()) => drop(values.insert(key, (value, origin))),
                Err(Complaint { wrong, right }) => {
                    faults.push(Fault::new(origin, Complaint::new(format!("{key}: {wrong}"), right)));
                }
            }
        }
        let effective = Self(values);
        faults.extend([effective.nested_folders(), effective.half_of_tls()].into_iter().flatten());
        effective
    }

    /// The value of the setting `key`; none where it is not set.
    pub(crate) fn value(&self, key: &str) -> Option<&Value> {
        self.0.get(key).map(|(value, _)| value)
    }

    /// Where the value of the setting `key` comes from.
    pub(crate) fn origin(&self, key: &str) -> &Origin {
        self.0.get(key).map_or(&Origin::Default, |(_, origin)| origin)
    }

    /// The settings that have another value than in `other`, or one where that has none.
    pub(crate) fn differing<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = &'static Setting> + 'a {
        SETTINGS.iter().filter(|setting| self.value(setting.key) != other.value(setting.key))
    }

    /// Folders that are right one by one and wrong together.
    fn nested_folders(&self) -> Option<Fault> {
        let (Some(Value::Text(root)), Some(Value::Text(state))) = (self.value("root"), self.value("state"))
        else {
            return None;
        };
        let (root, state) = (Path::new(root), Path::new(state));
        if !root.starts_with(state) && !state.starts_with(root) {
            return None;
        }
        // The later of the two sources is the one to correct.
        let key = if *self.origin("state") == Origin::Default { "root" } else { "state" };
        let wrong = format!("root {} and state {} lie in one another", root.display(), state.display());
        let right = "choose folders apart: a reboot may empty state and never root";
        Some(Fault::new(self.origin(key), Complaint::new(wrong, right)))
    }

    /// TLS without its certificate or without the key of it. Serving without TLS instead is not what was meant.
    fn half_of_tls(&self) -> Option<Fault> {
        let [cert, key, ca] = ["streaming.tls_cert", "streaming.tls_key", "streaming.tls_ca"];
        let is_set = |key: &&str| self.value(key).is_some();
        let missing = [cert, key].into_iter().find(|key| !is_set(key))?;
        let lonely = [cert, key, ca].into_iter().find(is_set)?;
        let wrong = format!("{lonely} is set and {missing} is not");
        let right = "set both the certificate and its key, or none of TLS";
        Some(Fault::new(self.origin(lonely), Complaint::new(wrong, right)))
    }
}

fn default(fallback: &Fallback, program: &dyn Fn(&str) -> PathBuf) -> Option<Value> {
    match fallback {
        Fallback::Text(text) => Some(Value::Text((*text).to_owned())),
        Fallback::Integer(number) => Some(Value::Integer(*number)),
        Fallback::Switch(on) => Some(Value::Switch(*on)),
        Fallback::List(items) => Some(Value::List(items.iter().map(|&item| item.to_owned()).collect())),
        Fallback::Program(name) => Some(Value::Text(program(name).to_string_lossy().into_owned())),
        Fallback::Unset => None,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The effective settings of `found`, each `(key, value, line of a file f)`, and their faults as lines.
    pub(crate) fn merged(found: &[(&'static str, Value, usize)]) -> (Effective, Vec<String>) {
        let found = found.iter().map(|(key, value, line)| Found {
            key,
            value: value.clone(),
            origin: Origin::File { path: PathBuf::from("f"), line: *line },
        });
        let mut faults = Vec::new();
        let effective =
            Effective::merge(found.collect(), &|name| Path::new("/programs").join(name), &mut faults);
        (effective, faults.iter().map(ToString::to_string).collect())
    }

    fn text(text: &str) -> Value {
        Value::Text(text.to_owned())
    }

    #[test]
    fn the_defaults_are_right() {
        let (effective, faults) = merged(&[]);
        assert_eq!(faults, Vec::<String>::new());
        for setting in SETTINGS {
            let value = effective.value(setting.key);
            assert!(value.is_none_or(|value| setting.kind.check(value).is_ok()), "{}", setting.key);
            assert_eq!(*effective.origin(setting.key), Origin::Default);
        }
    }

    #[test]
    fn the_last_source_wins_key_by_key() {
        let (effective, faults) =
            merged(&[("root", text("/a"), 1), ("log.level", text("debug"), 2), ("root", text("/b"), 3)]);
        assert_eq!(faults, Vec::<String>::new());
        assert_eq!(effective.value("root"), Some(&text("/b")));
        assert_eq!(effective.origin("root").to_string(), "f:3");
        assert_eq!(effective.value("log.level"), Some(&text("debug")));
    }

    #[test]
    fn settings_differ_by_value_and_not_by_origin() {
        let (before, _) = merged(&[("root", text("/a"), 1), ("metrics.listen", text("127.0.0.1:1"), 2)]);
        let (after, _) = merged(&[("root", text("/a"), 9), ("log.level", text("debug"), 2)]);
        let differing: Vec<_> = after.differing(&before).map(|setting| setting.key).collect();
        assert_eq!(differing, ["log.level", "metrics.listen"]);
    }

    #[test]
    fn a_wrong_value_is_a_fault_even_when_a_later_one_is_right() {
        let (_, faults) =
            merged(&[("root", text("a"), 1), ("root", text("/b"), 2), ("log.level", text("x"), 3)]);
        assert_eq!(faults.len(), 2, "{faults:?}");
        assert!(
            faults.iter().any(|fault| fault.starts_with("f:1: root: \"a\" is not absolute")),
            "{faults:?}"
        );
        assert!(faults.iter().any(|fault| fault.starts_with("f:3: log.level:")), "{faults:?}");
    }

    #[test]
    fn tls_has_a_certificate_and_its_key_or_nothing() {
        for (keys, faulty) in [
            (&[][..], None),
            (&["cert"], Some("f:0: streaming.tls_cert is set and streaming.tls_key is not")),
            (&["key"], Some("f:0: streaming.tls_key is set and streaming.tls_cert is not")),
            (&["ca"], Some("f:0: streaming.tls_ca is set and streaming.tls_cert is not")),
            (&["cert", "key"], None),
            (&["cert", "key", "ca"], None),
        ] {
            let name = |key: &&str| settings::find(&format!("streaming.tls_{key}")).unwrap().key;
            let found: Vec<_> =
                keys.iter().enumerate().map(|(at, key)| (name(key), text("/f"), at)).collect();
            let (_, faults) = merged(&found);
            assert_eq!(faults.len(), usize::from(faulty.is_some()), "{faults:?}");
            assert!(faults.iter().all(|fault| fault.starts_with(faulty.unwrap())), "{faults:?}");
        }
    }

    #[test]
    fn root_and_state_lie_apart() {
        for (root, state, faulty) in [
            ("/a", "/a", true),
            ("/a", "/a/b", true),
            ("/a/b", "/a", true),
            ("/a/", "/a", true),
            ("/a", "/ab", false),
        ] {
            let (_, faults) = merged(&[("root", text(root), 1), ("state", text(state), 2)]);
            assert_eq!(!faults.is_empty(), faulty, "{root} {state} {faults:?}");
            assert!(faults.iter().all(|fault| fault.starts_with("f:2:")), "{faults:?}");
        }
    }
}
