//! One process as ps(1) shows it: proc(5) read once, and a column for each word that `ps -o` knows.

use std::collections::HashMap;
use std::fs;

use crate::docker::wire::{now_ns, rfc3339};

/// Clock ticks of a second in proc(5): fixed by the kernel's interface on every architecture Cleat runs on.
const TICKS: u64 = 100;

const NS_PER_SECOND: i64 = 1_000_000_000;
const DAY_SECONDS: u64 = 86_400;

/// A column: the words that ask for it, its title, and what it shows.
pub(super) struct Column {
    pub(super) names: &'static [&'static str],
    pub(super) title: &'static str,
    pub(super) show: fn(&Process, &Machine) -> String,
}

const fn column(
    names: &'static [&'static str],
    title: &'static str,
    show: fn(&Process, &Machine) -> String,
) -> Column {
    Column { names, title, show }
}

/// All that are known.
pub(super) static COLUMNS: &[Column] = &[
    column(&["pid", "tgid"], "PID", |one, _| one.pid.to_string()),
    column(&["ppid"], "PPID", |one, _| one.parent.to_string()),
    column(&["pgid", "pgrp"], "PGID", |one, _| one.group.to_string()),
    column(&["sid", "sess", "session"], "SID", |one, _| one.session.to_string()),
    column(&["user", "euser", "uname"], "USER", |one, machine| machine.user(&one.uid)),
    column(&["uid", "euid"], "UID", |one, _| one.uid.clone()),
    column(&["comm", "ucmd", "ucomm"], "COMMAND", |one, _| one.name.clone()),
    column(&["args", "command"], "COMMAND", |one, _| one.command.clone()),
    column(&["cmd"], "CMD", |one, _| one.command.clone()),
    column(&["stat", "state"], "STAT", |one, _| one.state.clone()),
    column(&["s"], "S", |one, _| one.state.chars().take(1).collect()),
    column(&["tty", "tt", "tname"], "TT", |one, _| one.terminal()),
    column(&["time", "cputime"], "TIME", |one, _| clock(one.used_ticks / TICKS, true)),
    column(&["bsdtime"], "TIME", |one, _| {
        let seconds = one.used_ticks / TICKS;
        format!("{}:{:02}", seconds / 60, seconds % 60)
    }),
    column(&["etime"], "ELAPSED", |one, machine| clock(machine.age_seconds(one), false)),
    column(&["etimes"], "ELAPSED", |one, machine| machine.age_seconds(one).to_string()),
    column(&["stime", "start_time"], "STIME", |one, machine| machine.started(one)),
    column(&["bsdstart"], "START", |one, machine| machine.started(one)),
    column(&["start"], "STARTED", |one, machine| machine.started(one)),
    column(&["pcpu", "%cpu"], "%CPU", |one, machine| {
        let per_mille = machine.share_per_mille(one);
        format!("{}.{}", per_mille / 10, per_mille % 10)
    }),
    column(&["c"], "C", |one, machine| (machine.share_per_mille(one) / 10).to_string()),
    column(&["pmem", "%mem"], "%MEM", |one, machine| {
        let per_mille = one.resident_kb * 1000 / machine.memory_kb.max(1);
        format!("{}.{}", per_mille / 10, per_mille % 10)
    }),
    column(&["vsz", "vsize"], "VSZ", |one, _| (one.virtual_bytes / 1024).to_string()),
    column(&["rss", "rssize", "rsz"], "RSS", |one, _| one.resident_kb.to_string()),
    column(&["ni", "nice"], "NI", |one, _| one.nice.to_string()),
    column(&["nlwp", "thcount"], "NLWP", |one, _| one.threads.to_string()),
];

/// What the kernel tells of a process.
pub(super) struct Process {
    pid: i32,
    parent: i64,
    group: i64,
    session: i64,
    uid: String,
    name: String,
    command: String,
    state: String,
    terminal: i64,
    used_ticks: u64,
    /// Since the machine's start.
    started_ticks: u64,
    nice: i64,
    threads: i64,
    virtual_bytes: u64,
    resident_kb: u64,
}

impl Process {
    /// None when it has ended.
    pub(super) fn read(pid: i32) -> Option<Self> {
        let read = |file: &str| fs::read(format!("/proc/{pid}/{file}")).ok();
        let text = |file: &str| Some(String::from_utf8_lossy(&read(file)?).into_owned());
        Self::parse(pid, &text("stat")?, &text("status")?, &text("cmdline")?)
    }

    fn parse(pid: i32, stat: &str, status: &str, cmdline: &str) -> Option<Self> {
        let field =
            |key: &str| status.lines().find_map(|line| line.strip_prefix(key)?.split_whitespace().next());
        // Behind the name, which may contain anything.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let number = |at: usize| fields.get(at)?.parse::<i64>().ok();
        let size = |at: usize| fields.get(at)?.parse::<u64>().ok();
        let (group, session, threads) = (number(2)?, number(3)?, number(17)?);
        let mut state = (*fields.first()?).to_owned();
        let marks = [(session == i64::from(pid), 's'), (threads > 1, 'l'), (number(5)? == group, '+')];
        state.extend(marks.iter().filter(|(holds, _)| *holds).map(|(_, mark)| mark));
        let name = field("Name:")?.to_owned();
        let line = cmdline.trim_end_matches('\0').replace('\0', " ");
        Some(Self {
            pid,
            parent: number(1)?,
            group,
            session,
            uid: field("Uid:")?.to_owned(),
            command: if line.is_empty() { format!("[{name}]") } else { line },
            name,
            state,
            terminal: number(4)?,
            used_ticks: size(11)? + size(12)?,
            started_ticks: size(19)?,
            nice: number(16)?,
            threads,
            virtual_bytes: size(20)?,
            resident_kb: field("VmRSS:").and_then(|kb| kb.parse().ok()).unwrap_or_default(),
        })
    }

    /// Its terminal's name: a pty's major numbers are 136 to 143 (the kernel's devices.txt).
    fn terminal(&self) -> String {
        let (major, minor) =
            ((self.terminal >> 8) & 0xfff, (self.terminal & 0xff) | (self.terminal >> 12 & 0xf_ff00));
        match major {
            136..=143 => format!("pts/{}", (major - 136) * 256 + minor),
            4 => format!("tty{minor}"),
            _ => "?".to_owned(),
        }
    }
}

/// What a column has to know of the machine.
pub(super) struct Machine {
    users: HashMap<String, String>,
    uptime_ticks: u64,
    memory_kb: u64,
}

impl Machine {
    /// Reads proc(5). `passwd` has the names of users.
    pub(super) fn read(passwd: &str) -> Self {
        let first = |file: &str| {
            let text = fs::read_to_string(file).unwrap_or_default();
            text.split_whitespace().find_map(|word| word.parse::<f64>().ok()).unwrap_or_default()
        };
        Self {
            users: users(passwd),
            // Both are finite and far below 2^64.
            uptime_ticks: (first("/proc/uptime") * TICKS as f64) as u64,
            memory_kb: first("/proc/meminfo") as u64,
        }
    }

    fn user(&self, uid: &str) -> String {
        self.users.get(uid).cloned().unwrap_or_else(|| uid.to_owned())
    }

    fn age_seconds(&self, process: &Process) -> u64 {
        self.uptime_ticks.saturating_sub(process.started_ticks) / TICKS
    }

    /// The share of one processor that it has used since it began.
    fn share_per_mille(&self, process: &Process) -> u64 {
        let age_ticks = self.uptime_ticks.saturating_sub(process.started_ticks);
        process.used_ticks * 1000 / age_ticks.max(1)
    }

    /// When it began, in UTC: the time of day, or the date if that was more than a day ago.
    fn started(&self, process: &Process) -> String {
        let age = self.age_seconds(process);
        let began = rfc3339(now_ns() - i64::try_from(age).unwrap_or_default() * NS_PER_SECOND);
        let part = if age < DAY_SECONDS { began.get(11..16) } else { began.get(..10) };
        part.unwrap_or_default().to_owned()
    }
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

/// `[days-]hours:minutes:seconds`; without the hours where there are none, unless `hours` are wanted.
fn clock(seconds: u64, hours: bool) -> String {
    let (days, rest) = (seconds / DAY_SECONDS, seconds % DAY_SECONDS);
    let short = format!("{:02}:{:02}", rest / 60 % 60, rest % 60);
    match (days, rest / 3600) {
        (0, 0) if !hours => short,
        (0, whole) => format!("{whole:02}:{short}"),
        (days, whole) => format!("{days}-{whole:02}:{short}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "7 (a) b (c) S 1 7 7 34816 7 4194560 1 2 3 4 150 50 0 0 20 0 1 0 500 4096 9";

    fn process() -> Process {
        Process::parse(7, STAT, "Name:\ta) b (c\nUid:\t0\t0\nVmRSS:\t8 kB\n", "sleep\x001\0").unwrap()
    }

    fn shown(name: &str) -> String {
        let machine = Machine { users: users("root:x:0:0::/:\n"), uptime_ticks: 1_500, memory_kb: 80 };
        let column = COLUMNS.iter().find(|column| column.names.contains(&name)).unwrap();
        (column.show)(&process(), &machine)
    }

    #[test]
    fn columns_show_what_the_kernel_told() {
        for (name, expected) in [
            ("pid", "7"),
            ("ppid", "1"),
            ("user", "root"),
            ("uid", "0"),
            ("args", "sleep 1"),
            ("stat", "Ss+"),
            ("s", "S"),
            ("tty", "pts/0"),
            ("time", "00:00:02"),
            ("bsdtime", "0:02"),
            ("etime", "00:10"),
            ("pcpu", "20.0"),
            ("c", "20"),
            ("pmem", "10.0"),
            ("vsz", "4"),
            ("rss", "8"),
        ] {
            assert_eq!(shown(name), expected, "{name}");
        }
    }

    #[test]
    fn this_process_is_read_from_proc() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let own = Process::read(pid).unwrap();
        assert!(own.pid == pid && own.resident_kb > 0 && !own.command.is_empty());
    }

    #[test]
    fn times_have_hours_and_days_when_there_are_any() {
        for (seconds, hours, expected) in [
            (59, false, "00:59"),
            (59, true, "00:00:59"),
            (3_600, false, "01:00:00"),
            (90_061, false, "1-01:01:01"),
        ] {
            assert_eq!(clock(seconds, hours), expected);
        }
    }
}
