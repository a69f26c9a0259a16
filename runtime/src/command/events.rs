//! `events`: what a container uses, and kills for want of memory, as lines of JSON.

use std::time::{Duration, Instant};

use cleat_sys::cgroup::Cgroup;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::{Value, json};

use super::arguments::{Arguments, Global, one_id, set};
use super::oom::Kills;
use super::store::{Folder, Record};
use super::{CommandError, list};

/// How often the use is told.
const DEFAULT_INTERVAL: Duration = Duration::from_secs(5);

/// `events`.
pub(super) fn command(arguments: &mut Arguments, global: &Global) -> Result<(), CommandError> {
    let (mut once, mut interval) = (false, DEFAULT_INTERVAL);
    let positional = arguments.each(None, |mut option| match option.name {
        "stats" => set(&mut once),
        "interval" => {
            interval = parse_interval(&option.value()?)?;
            Ok(true)
        }
        _ => Ok(false),
    })?;
    let id = one_id(positional)?;
    let record = Folder::open(&global.root, &id)?.read()?;
    let Some(init) = record.init() else {
        return Err(CommandError::Status { id, status: "stopped", wanted: "created, running or paused" });
    };
    let cgroup = record.open_cgroup()?;
    if once {
        return tell(&record, "stats", stats(&cgroup)?);
    }
    follow(&record, &cgroup, &init, interval)
}

/// Tells events until the container has ended. A kill that ended it is told before.
fn follow(
    record: &Record,
    cgroup: &Cgroup,
    init: &std::os::fd::OwnedFd,
    interval: Duration,
) -> Result<(), CommandError> {
    let failed = |error| CommandError::System("wait for events", error);
    let mut kills = Kills::watch(cgroup)?;
    let mut next = Instant::now() + interval;
    loop {
        let left = kills.look_again().map_or(next, |again| again.min(next));
        let left = left.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).map_err(|error| failed(std::io::Error::other(error)))?;
        let watch = kills.descriptor();
        let mut ready = [PollFd::new(init, PollFlags::IN), PollFd::new(watch, watch.poll_flags())];
        match poll(&mut ready, Some(&timeout)) {
            Err(rustix::io::Errno::INTR) => continue,
            other => other.map_err(|errno| failed(errno.into()))?,
        };
        let [has_ended, is_reported] = ready.map(|fd| !fd.revents().is_empty());
        if kills.happened(is_reported, has_ended)? {
            tell(record, "oom", Value::Null)?;
        }
        if has_ended {
            return Ok(());
        }
        if Instant::now() >= next {
            tell(record, "stats", stats(cgroup)?)?;
            next = Instant::now() + interval;
        }
    }
}

fn tell(record: &Record, kind: &str, data: Value) -> Result<(), CommandError> {
    let mut event = json!({ "type": kind, "id": record.id });
    if !data.is_null() {
        event["data"] = data;
    }
    list::print(&format!("{event}\n"))
}

/// Seconds, or with a unit: `5s`, `500ms`, `1m`.
fn parse_interval(text: &str) -> Result<Duration, CommandError> {
    let digits = text.trim_end_matches(char::is_alphabetic);
    let milliseconds = match &text[digits.len()..] {
        "ms" => 1,
        "" | "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => 0,
    };
    let interval = digits.parse::<u64>().ok().and_then(|count| count.checked_mul(milliseconds));
    match interval {
        Some(milliseconds @ 1..) => Ok(Duration::from_millis(milliseconds)),
        _ => Err(CommandError::Usage(format!("--interval: {text:?} is no duration above zero"))),
    }
}

/// What the cgroup uses, in the form of runc's `events`. What the host's kernel does not count is left out.
fn stats(cgroup: &Cgroup) -> Result<Value, CommandError> {
    let v1 = |controller| cgroup.layout().is_v1(controller);
    let counters = Counters(cgroup);
    let cpu = if v1("cpuacct") { cpu_v1(&counters)? } else { cpu_v2(&counters)? };
    let memory = if v1("memory") { memory_v1(&counters)? } else { memory_v2(&counters)? };
    let pids = json!({
        "current": counters.number("pids", "pids.current")?,
        "limit": counters.number("pids", "pids.max")?.unwrap_or(0),
    });
    Ok(json!({ "cpu": cpu, "memory": memory, "pids": pids }))
}

fn cpu_v1(counters: &Counters<'_>) -> Result<Value, CommandError> {
    let times = counters.table("cpuacct", "cpuacct.stat")?;
    let throttled = counters.table("cpu", "cpu.stat")?;
    // Hundredths of a second (USER_HZ, the same on every machine Linux shows it to).
    let nanoseconds = |name: &str| times[name].as_u64().unwrap_or(0) * 10_000_000;
    Ok(json!({
        "usage": {
            "total": counters.number("cpuacct", "cpuacct.usage")?,
            "kernel": nanoseconds("system"),
            "user": nanoseconds("user"),
        },
        "throttling": {
            "periods": throttled["nr_periods"],
            "throttledPeriods": throttled["nr_throttled"],
            "throttledTime": throttled["throttled_time"],
        },
    }))
}

fn cpu_v2(counters: &Counters<'_>) -> Result<Value, CommandError> {
    let times = counters.table("cpu", "cpu.stat")?;
    let nanoseconds = |name: &str| times[name].as_u64().map(|microseconds| microseconds * 1_000);
    Ok(json!({
        "usage": {
            "total": nanoseconds("usage_usec"),
            "kernel": nanoseconds("system_usec"),
            "user": nanoseconds("user_usec"),
        },
        "throttling": {
            "periods": times["nr_periods"],
            "throttledPeriods": times["nr_throttled"],
            "throttledTime": nanoseconds("throttled_usec"),
        },
    }))
}

fn memory_v1(counters: &Counters<'_>) -> Result<Value, CommandError> {
    let raw = counters.table("memory", "memory.stat")?;
    let use_of = |prefix: &str| -> Result<Value, CommandError> {
        let number = |name: &str| counters.number("memory", &format!("memory.{prefix}{name}"));
        Ok(json!({
            "limit": number("limit_in_bytes")?,
            "usage": number("usage_in_bytes")?,
            "max": number("max_usage_in_bytes")?,
            "failcnt": number("failcnt")?,
        }))
    };
    Ok(json!({
        "usage": use_of("")?, "swap": use_of("memsw.")?, "kernel": use_of("kmem.")?,
        "kernelTCP": use_of("kmem.tcp.")?, "cache": raw["cache"], "raw": raw,
    }))
}

fn memory_v2(counters: &Counters<'_>) -> Result<Value, CommandError> {
    let raw = counters.table("memory", "memory.stat")?;
    let number = |name: &str| counters.number("memory", name);
    let failures = &counters.table("memory", "memory.events")?["max"];
    Ok(json!({
        "usage": { "limit": number("memory.max")?, "usage": number("memory.current")?,
                   "max": number("memory.peak")?, "failcnt": failures },
        "swap": { "limit": number("memory.swap.max")?, "usage": number("memory.swap.current")? },
        "cache": raw["file"],
        "raw": raw,
    }))
}

/// The files of a cgroup that count something.
struct Counters<'a>(&'a Cgroup);

impl Counters<'_> {
    /// A file of one number; none when the kernel has no such file, or the number is no limit (`max`).
    fn number(&self, controller: &str, file: &str) -> Result<Option<u64>, CommandError> {
        Ok(self.read(controller, file)?.and_then(|text| text.trim().parse().ok()))
    }

    /// A file of names and numbers; empty when the kernel has no such file.
    fn table(&self, controller: &str, file: &str) -> Result<Value, CommandError> {
        let text = self.read(controller, file)?.unwrap_or_default();
        let pair = |line: &str| {
            let (name, number) = line.split_once(' ')?;
            Some((name.to_owned(), Value::from(number.trim().parse::<u64>().ok()?)))
        };
        Ok(Value::Object(text.lines().filter_map(pair).collect()))
    }

    fn read(&self, controller: &str, file: &str) -> Result<Option<String>, CommandError> {
        match self.0.read(controller, file) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.is_absence() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_have_units_and_are_not_zero() {
        for (text, milliseconds) in [("5s", 5_000), ("500ms", 500), ("2", 2_000), ("1m", 60_000)] {
            assert_eq!(parse_interval(text).unwrap(), Duration::from_millis(milliseconds));
        }
        for bad in ["", "0", "s", "1d", "-1s"] {
            assert!(parse_interval(bad).is_err(), "{bad:?}");
        }
    }
}
