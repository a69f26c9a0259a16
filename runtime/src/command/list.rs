//! `list`.

use std::fs;
use std::io::{self, Write};

use serde::Serialize;

use super::CommandError;
use super::arguments::{Arguments, Global, set};
use super::store::{Folder, Record, Status};

/// `list`.
pub(super) fn command(arguments: &mut Arguments, global: &Global) -> Result<(), CommandError> {
    let (mut json, mut quiet) = (false, false);
    arguments.each(None, |mut option| match option.name {
        "format" | "f" => {
            json = is_json(&option.value()?)?;
            Ok(true)
        }
        "quiet" | "q" => set(&mut quiet),
        _ => Ok(false),
    })?;
    let records = records(global)?;
    if json {
        let states: Vec<_> = records.iter().map(|(record, status)| record.state(*status)).collect();
        return print_json(&states);
    }
    print(&if quiet { ids(&records) } else { table(&records) })
}

/// All containers by id. One whose record cannot be read (it is just being made or removed) is left out.
fn records(global: &Global) -> Result<Vec<(Record, Status)>, CommandError> {
    let entries = match fs::read_dir(&global.root) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(CommandError::file("read", &global.root))?,
    };
    let mut records: Vec<_> = entries
        .filter_map(|entry| {
            let folder = Folder::open(&global.root, entry.ok()?.file_name().to_str()?).ok()?;
            let record = folder.read().ok()?;
            let status = folder.status(&record);
            Some((record, status))
        })
        .collect();
    records.sort_by(|left, right| left.0.id.cmp(&right.0.id));
    Ok(records)
}

fn ids(records: &[(Record, Status)]) -> String {
    records.iter().map(|(record, _)| format!("{}\n", record.id)).collect()
}

fn table(records: &[(Record, Status)]) -> String {
    let width = records.iter().map(|(record, _)| record.id.len()).max().unwrap_or(0).max(10);
    let mut text = format!("{:width$}  {:>10}  {:8}  {:30}  BUNDLE\n", "ID", "PID", "STATUS", "CREATED");
    for (record, status) in records {
        let pid = if *status == Status::Stopped { 0 } else { record.pid };
        let (id, name, created) = (&record.id, status.name(), &record.created);
        text += &format!("{id:width$}  {pid:>10}  {name:8}  {created:30}  {}\n", record.bundle.display());
    }
    text
}

/// Whether a list is to be JSON.
pub(super) fn is_json(format: &str) -> Result<bool, CommandError> {
    match format {
        "json" => Ok(true),
        "table" => Ok(false),
        other => Err(CommandError::Usage(format!("unknown format {other:?}"))),
    }
}

/// Prints a value as indented JSON.
pub(super) fn print_json(value: &impl Serialize) -> Result<(), CommandError> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|source| CommandError::Json { path: "the answer".into(), source })?;
    print(&format!("{text}\n"))
}

pub(super) fn print(text: &str) -> Result<(), CommandError> {
    io::stdout().write_all(text.as_bytes()).map_err(|error| CommandError::System("print the answer", error))
}
