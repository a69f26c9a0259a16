//! `docker top`: the processes of a container as `ps -ef` would list them, read from proc(5).

use std::collections::HashMap;
use std::fs;

use hyper::StatusCode;
use serde_json::json;

use crate::docker::Door;
use crate::docker::dispatch::Ask;
use crate::docker::refusal::{Answer, Refusal};
use crate::docker::wire::json as in_json;
use crate::engine::One;

const TITLES: [&str; 5] = ["UID", "PID", "PPID", "TIME", "CMD"];

/// Clock ticks of a second in proc(5): fixed by the kernel's interface on every architecture Cleat runs on.
const TICKS: u64 = 100;

/// `GET /containers/{id}/top`.
pub(super) async fn top(door: &Door, one: &One, ask: &Ask) -> Answer {
    if !matches!(ask.query.get("ps_args"), "" | "-ef") {
        return Err(Refusal::not_built("choosing the columns of `top`"));
    }
    let pids = door.engine.processes_of(one).await?;
    let users = users(&fs::read_to_string("/etc/passwd").unwrap_or_default());
    // One that ended meanwhile is in no list.
    let rows: Vec<_> = pids.into_iter().filter_map(|pid| row(pid, &users)).collect();
    Ok(in_json(StatusCode::OK, &json!({"Titles": TITLES, "Processes": rows})))
}

/// Names of users by their ids.
fn users(passwd: &str) -> HashMap<String, String> {
    let entry = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next()?.to_owned();
        Some((fields.nth(1)?.to_owned(), name))
    };
    passwd.lines().filter_map(entry).collect()
}

fn row(pid: i32, users: &HashMap<String, String>) -> Option<[String; 5]> {
    let read = |file: &str| fs::read(format!("/proc/{pid}/{file}")).ok();
    let status = String::from_utf8_lossy(&read("status")?).into_owned();
    let field = |key: &str| status.lines().find_map(|line| line.strip_prefix(key)?.split_whitespace().next());
    let uid = field("Uid:")?.to_owned();
    let ticks = ticks(&String::from_utf8_lossy(&read("stat")?))?;
    let seconds = ticks / TICKS;
    let time = format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    let arguments = read("cmdline")?;
    let line = String::from_utf8_lossy(&arguments).trim_end_matches('\0').replace('\0', " ");
    let command = if line.is_empty() { format!("[{}]", field("Name:")?) } else { line };
    let user = users.get(&uid).cloned().unwrap_or(uid);
    Some([user, pid.to_string(), field("PPid:")?.to_owned(), time, command])
}

/// The time a process has used; behind its name, which may contain anything.
fn ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let user: u64 = fields.nth(11)?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_read_from_proc() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let row = row(pid, &users("root:x:0:0::/:\n")).unwrap();
        assert_eq!(row[1], pid.to_string());
        assert!(!row[4].is_empty());
    }

    #[test]
    fn a_name_with_brackets_does_not_shift_fields() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 1 2 3 4 150 50 0 0 20 0 1 0";
        assert_eq!(ticks(stat), Some(200));
    }
}
