//! `ps`: the processes of a container, as ps(1) of the host shows them, or their ids as JSON.

use std::process::{Command, Stdio};

use super::arguments::{Arguments, Global};
use super::store::Folder;
use super::{CommandError, list};

/// What ps(1) gets unless told otherwise.
const DEFAULT_OPTIONS: &str = "-ef";

/// `ps`.
pub(super) fn command(arguments: &mut Arguments, global: &Global) -> Result<(), CommandError> {
    let mut json = false;
    let mut positional = arguments.each(Some(0), |mut option| match option.name {
        "format" | "f" => {
            json = list::is_json(&option.value()?)?;
            Ok(true)
        }
        _ => Ok(false),
    })?;
    if positional.is_empty() {
        return Err(CommandError::Usage("a container id is missing".into()));
    }
    let id = positional.remove(0);
    let record = Folder::open(&global.root, &id)?.read()?;
    let processes = record.census()?.processes()?;
    if json {
        return list::print_json(&processes);
    }
    if positional.is_empty() {
        positional.push(DEFAULT_OPTIONS.into());
    }
    let failed = |error| CommandError::System("run ps of the host", error);
    let shown = Command::new("ps").args(&positional).stderr(Stdio::inherit()).output().map_err(failed)?;
    if !shown.status.success() {
        return Err(failed(std::io::Error::other(shown.status.to_string())));
    }
    let table = String::from_utf8_lossy(&shown.stdout);
    let chosen = choose(&table, &processes)
        .ok_or_else(|| CommandError::Usage("the ps options leave out the column PID".into()))?;
    list::print(&chosen)
}

/// The heading and the lines of `processes`; none when there is no column PID.
fn choose(table: &str, processes: &[i32]) -> Option<String> {
    let heading = table.lines().next()?;
    let column = heading.split_whitespace().position(|name| name == "PID")?;
    let is_chosen = |line: &str| {
        let pid = line.split_whitespace().nth(column).and_then(|pid| pid.parse().ok());
        pid.is_some_and(|pid| processes.contains(&pid))
    };
    let lines = table.lines().skip(1).filter(|line| is_chosen(line));
    Some(std::iter::once(heading).chain(lines).flat_map(|line| [line, "\n"]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_chosen_by_the_column_that_the_heading_names() {
        let table = "UID  PID PPID CMD\nroot   7    1 a 8\nroot   8    7 b\n";
        assert_eq!(choose(table, &[8]).unwrap(), "UID  PID PPID CMD\nroot   8    7 b\n");
        assert_eq!(choose("CMD\na\n", &[8]), None);
    }
}
