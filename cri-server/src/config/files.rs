//! Settings in files: the main file, then its drop-ins.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::fault::{Complaint, Fault};
use super::origin::Origin;
use super::settings::{self, SETTINGS};
use super::value::Value;

/// Longest file that is read, in bytes: a thousand times what a configuration needs.
const FILE_BYTES: u64 = 1 << 20;

/// A value that some source gives to a setting; the setting exists, the value is not yet checked against its kind.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// The setting's key.
    pub(crate) key: &'static str,
    /// The value.
    pub(crate) value: Value,
    /// Where it was given.
    pub(crate) origin: Origin,
}

/// Reads `main` and then `main.d/*.toml` in lexical order. `main` may be absent unless it is `required`.
pub(crate) fn read_all(main: &Path, required: bool, faults: &mut Vec<Fault>) -> Vec<Found> {
    let mut found = Vec::new();
    match read_text(main) {
        Ok(text) => found.extend(parse(main, &text, faults)),
        Err(error) if error.kind() == io::ErrorKind::NotFound && !required => {}
        Err(error) => faults.push(unreadable(main, &error)),
    }
    for path in drop_ins(main, faults) {
        match read_text(&path) {
            Ok(text) => found.extend(parse(&path, &text, faults)),
            Err(error) => faults.push(unreadable(&path, &error)),
        }
    }
    found
}

fn unreadable(path: &Path, error: &io::Error) -> Fault {
    let right = "give a readable TOML file or remove it from the configuration";
    Fault::new(path.display(), Complaint::new(format!("cannot be read: {error}"), right))
}

fn read_text(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(FILE_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > FILE_BYTES {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("more than {FILE_BYTES} bytes")));
    }
    Ok(text)
}

/// The drop-ins of `main`; the folder may be absent.
fn drop_ins(main: &Path, faults: &mut Vec<Fault>) -> Vec<PathBuf> {
    let mut folder = main.as_os_str().to_owned();
    folder.push(".d");
    let folder = PathBuf::from(folder);
    let listed = fs::read_dir(&folder).and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect());
    let mut paths: Vec<PathBuf> = match listed {
        Ok(paths) => paths,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => {
            faults.push(unreadable(&folder, &error));
            Vec::new()
        }
    };
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    paths.sort();
    paths
}

/// The settings in `text`, which was read from `path`.
fn parse(path: &Path, text: &str, faults: &mut Vec<Fault>) -> Vec<Found> {
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut reader = Reader { path, text, faults, found: Vec::new() };
    for error in errors {
        let offset = error.span().map_or(0, |span| span.start);
        let wrong = format!("not TOML: {}", error.message());
        reader.complain(offset, Complaint::new(wrong, "see https://toml.io for the syntax"));
    }
    reader.walk("", table.get_ref());
    reader.found
}

/// Walks through one file.
struct Reader<'a> {
    path: &'a Path,
    text: &'a str,
    faults: &'a mut Vec<Fault>,
    found: Vec<Found>,
}

impl Reader<'_> {
    fn origin(&self, offset: usize) -> Origin {
        let before = self.text.as_bytes().get(..offset).unwrap_or_default();
        let line = 1 + before.iter().filter(|&&byte| byte == b'\n').count();
        Origin::File { path: self.path.to_owned(), line }
    }

    fn complain(&mut self, offset: usize, complaint: Complaint) {
        let place = self.origin(offset);
        self.faults.push(Fault::new(place, complaint));
    }

    fn walk(&mut self, prefix: &str, table: &DeTable<'_>) {
        for (name, value) in table {
            let key = format!("{prefix}{}", name.get_ref());
            match (settings::find(&key), value.get_ref()) {
                (Some(setting), _) => self.take(setting.key, name.span().start, value),
                (None, DeValue::Table(inner)) if settings::is_section(&key) => {
                    self.walk(&format!("{key}."), inner)
                }
                (None, _) if settings::is_section(&key) => {
                    let wrong = format!("{key} is a section, not a value");
                    self.complain(name.span().start, Complaint::new(wrong, format!("begin it with [{key}]")));
                }
                (None, _) => self.complain(name.span().start, unknown(&key)),
            }
        }
    }

    fn take(&mut self, key: &'static str, offset: usize, value: &Spanned<DeValue<'_>>) {
        match convert(value.get_ref()) {
            Ok(value) => self.found.push(Found { key, value, origin: self.origin(offset) }),
            Err(wrong) => {
                let kind = settings::find(key).map(|setting| setting.kind.to_string()).unwrap_or_default();
                self.complain(offset, Complaint::new(format!("{key}: {wrong}"), format!("write {kind}")));
            }
        }
    }
}

fn unknown(key: &str) -> Complaint {
    let nearest = SETTINGS.iter().map(|setting| setting.key).max_by(|a, b| {
        let (a, b) = (strsim::jaro_winkler(a, key), strsim::jaro_winkler(b, key));
        a.total_cmp(&b)
    });
    let right = nearest.map_or_else(String::new, |nearest| format!("the nearest setting is {nearest}"));
    Complaint::new(format!("there is no setting {key}"), right)
}

/// The value in its plain form, or what is wrong with it.
fn convert(value: &DeValue<'_>) -> Result<Value, String> {
    match value {
        DeValue::String(text) => Ok(Value::Text(text.to_string())),
        DeValue::Boolean(on) => Ok(Value::Switch(*on)),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map(Value::Integer)
            .map_err(|_| format!("{number} is out of bounds")),
        DeValue::Array(items) => items
            .iter()
            .map(|item| match item.get_ref() {
                DeValue::String(text) => Ok(text.to_string()),
                other => Err(format!("the list holds a value of type {}", other.type_str())),
            })
            .collect::<Result<_, _>>()
            .map(Value::List),
        other => Err(format!("the value is of type {}", other.type_str())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> (Vec<String>, Vec<String>) {
        let mut faults = Vec::new();
        let found = parse(Path::new("f"), text, &mut faults);
        let found = found.iter().map(|each| format!("{}={} {}", each.key, each.value, each.origin)).collect();
        (found, faults.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn values_come_with_their_lines() {
        let (found, faults) =
            lines("root = '/a'\n\n[log]\nlevel = 'warn'\n[image]\nmax_parallel_layers = 0x10\n");
        assert_eq!(faults, Vec::<String>::new());
        assert_eq!(found, ["image.max_parallel_layers=16 f:6", "log.level=\"warn\" f:4", "root=\"/a\" f:1"]);
    }

    #[test]
    fn every_fault_is_told_with_its_line_and_what_is_right() {
        let cases = [
            ("\nrooot = '/a'", "f:2: there is no setting rooot; the nearest setting is root"),
            ("[log]\nlevle = 1", "f:2: there is no setting log.levle; the nearest setting is log.level"),
            ("[logs]\nlevel = 1", "f:1: there is no setting logs;"),
            ("log = 'debug'", "f:1: log is a section, not a value; begin it with [log]"),
            ("root = 1.5", "f:1: root: the value is of type float; write an absolute path"),
            ("[network]\nsubnets = ['a', 1]", "f:2: network.subnets: the list holds a value of type integer"),
            ("[api]\nexec_sync_output_bytes = 99999999999999999999", "f:2: api.exec_sync_output_bytes: 9999"),
            ("root = '/a'\nroot = '/b'", "f:2: not TOML: duplicate key"),
            ("root = ", "f:1: not TOML:"),
        ];
        for (text, expected) in cases {
            let (_, faults) = lines(text);
            assert!(faults.iter().any(|fault| fault.starts_with(expected)), "{text:?}: {faults:?}");
        }
    }

    #[test]
    fn faults_do_not_hide_each_other() {
        let (_, faults) = lines("a = 1\nroot = ]\nb = 2\n[c]\nd = 3\n");
        for line in ["f:1:", "f:2:", "f:3:", "f:4:"] {
            assert!(faults.iter().any(|fault| fault.starts_with(line)), "{line} {faults:?}");
        }
    }

    #[test]
    fn drop_ins_follow_in_lexical_order_and_other_files_are_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let main = folder.path().join("cleat.toml");
        let drop_ins = folder.path().join("cleat.toml.d");
        fs::create_dir(&drop_ins).unwrap();
        fs::write(&main, "root = '/1'").unwrap();
        fs::write(drop_ins.join("20.toml"), "root = '/3'").unwrap();
        fs::write(drop_ins.join("10.toml"), "root = '/2'").unwrap();
        fs::write(drop_ins.join("30.toml.bak"), "root = '/4'").unwrap();
        let mut faults = Vec::new();
        let values: Vec<_> = read_all(&main, true, &mut faults).into_iter().map(|each| each.value).collect();
        assert!(faults.is_empty());
        assert_eq!(values, ["/1", "/2", "/3"].map(|path| Value::Text(path.to_owned())));
    }

    #[test]
    fn only_a_file_that_was_asked_for_has_to_exist() {
        let folder = tempfile::tempdir().unwrap();
        let absent = folder.path().join("absent.toml");
        for (required, count) in [(false, 0), (true, 1)] {
            let mut faults = Vec::new();
            assert!(read_all(&absent, required, &mut faults).is_empty());
            assert_eq!(faults.len(), count);
        }
    }
}
