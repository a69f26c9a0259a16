//! `docker top`: the processes of a container as ps(1) would list them, read from proc(5).

use std::fs;

use hyper::StatusCode;
use serde_json::json;

use super::noted;
use super::process::{COLUMNS, Column, Machine, Process};
use crate::docker::Door;
use crate::docker::dispatch::Ask;
use crate::docker::refusal::{Answer, Refusal};
use crate::docker::wire::json as in_json;
use crate::engine::One;

/// What `ps -ef` shows, and what is shown where nothing is asked for.
const FULL: &str = "user=UID,pid,ppid,c,stime,tty=TTY,time,cmd";

/// What `ps aux` shows.
const BY_USER: &str = "user,pid,pcpu,pmem,vsz,rss,tty=TTY,stat,bsdstart,bsdtime,args";

/// `GET /containers/{id}/top`.
pub(super) async fn top(door: &Door, one: &One, ask: &Ask) -> Answer {
    let columns = columns(ask.query.get("ps_args"))?;
    let pids = door.engine.processes_of(one).await?;
    let machine = Machine::read(&fs::read_to_string("/etc/passwd").unwrap_or_default());
    // One that ended meanwhile is in no list.
    let processes = pids.into_iter().filter_map(Process::read);
    let rows: Vec<Vec<String>> = processes
        .map(|process| columns.iter().map(|(_, column)| (column.show)(&process, &machine)).collect())
        .collect();
    noted::done(door, one, "top", &[]);
    let titles: Vec<&str> = columns.iter().map(|(title, _)| title.as_str()).collect();
    Ok(in_json(StatusCode::OK, &json!({"Titles": titles, "Processes": rows})))
}

/// The columns that ps(1) would show for `arguments`, each with its title.
fn columns(arguments: &str) -> Result<Vec<(String, &'static Column)>, Refusal> {
    let words: Vec<&str> = arguments.split_whitespace().collect();
    match words[..] {
        [] | ["-ef" | "-fe" | "-f"] => list(FULL),
        ["aux" | "-aux" | "u" | "-u"] => list(BY_USER),
        ["-o" | "o" | "-eo" | "-ao" | "-axo" | "axo" | "--format", names] => with_pid(list(names)?),
        [one] if one.starts_with("-o") => with_pid(list(&one[2..])?),
        _ => Err(Refusal::not_built(format!("listing processes with the options {arguments:?} of ps"))),
    }
}

/// `name,name=Title,...`.
fn list(names: &str) -> Result<Vec<(String, &'static Column)>, Refusal> {
    let column = |name: &str| {
        let (name, title) = name.split_once('=').map_or((name, None), |(name, title)| (name, Some(title)));
        let column = COLUMNS.iter().find(|column| column.names.contains(&name));
        let column = column
            .ok_or_else(|| Refusal::not_built(format!("the column {name:?} of a list of processes")))?;
        Ok((title.unwrap_or(column.title).to_owned(), column))
    };
    names.split(',').map(column).collect()
}

/// dockerd finds a container's processes by this column, and clients expect its refusal.
fn with_pid(columns: Vec<(String, &'static Column)>) -> Result<Vec<(String, &'static Column)>, Refusal> {
    if columns.iter().any(|(title, _)| title == "PID") {
        return Ok(columns);
    }
    Err(Refusal::failed("Couldn't find PID field in ps output"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_ps_choose_columns() {
        for (arguments, titles) in [
            ("", "UID PID PPID C STIME TTY TIME CMD"),
            ("-ef", "UID PID PPID C STIME TTY TIME CMD"),
            ("aux", "USER PID %CPU %MEM VSZ RSS TTY STAT START TIME COMMAND"),
            ("-o pid,args", "PID COMMAND"),
            ("-o pid,comm=NAME", "PID NAME"),
            ("-opid,ppid", "PID PPID"),
        ] {
            let found: Vec<String> =
                columns(arguments).unwrap().into_iter().map(|(title, _)| title).collect();
            assert_eq!(found.join(" "), titles, "{arguments:?}");
        }
    }

    #[test]
    fn what_cannot_be_listed_is_refused() {
        for (arguments, status) in [("-o args", 500), ("-o pid,nosuch", 501), ("--forest", 501)] {
            assert_eq!(columns(arguments).err().unwrap().status().as_u16(), status, "{arguments:?}");
        }
    }
}
