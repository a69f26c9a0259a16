//! `docker stats`: a container's figures, each with those of a second before, since the client shows the difference.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use hyper::StatusCode;
use serde_json::{Map, Value, json};

use crate::docker::Door;
use crate::docker::dispatch::Ask;
use crate::docker::refusal::{Answer, Refusal};
use crate::docker::wire::{json as in_json, lines, memory_bytes, rfc3339};
use crate::engine::One;
use crate::engine::stats::{ContainerStats, Interface};

/// Between two samples: what the command line's percentages are made for.
const INTERVAL: Duration = Duration::from_secs(1);

/// Nanoseconds of a clock tick in proc(5).
const NS_PER_TICK: u64 = 10_000_000;

/// One look at a container.
#[derive(Clone, Debug, Default)]
struct Sample {
    figures: ContainerStats,
    interfaces: Vec<Interface>,
    /// Time all processors have spent since boot, nanoseconds.
    system_ns: u64,
}

/// `GET /containers/{id}/stats`.
pub(super) async fn stats(door: &Arc<Door>, one: One, ask: &Ask) -> Answer {
    let first = sample(door, &one).await?;
    let streams = ask.query.get("stream").is_empty() || ask.query.is_on("stream");
    if !streams {
        if ask.query.is_on("one-shot") {
            return Ok(in_json(StatusCode::OK, &told(&one, &Sample::default(), &first)));
        }
        tokio::time::sleep(INTERVAL).await;
        let second = sample(door, &one).await?;
        return Ok(in_json(StatusCode::OK, &told(&one, &first, &second)));
    }
    let (mut to, response) = lines();
    let sampler = door.clone();
    door.run(async move {
        let mut before = first;
        loop {
            tokio::select! {
                () = tokio::time::sleep(INTERVAL) => {}
                () = to.closed() => return,
            }
            let now = match sample(&sampler, &one).await {
                Ok(now) => now,
                // Most often it was removed.
                Err(refusal) => return tracing::debug!("figures end: {}", refusal.message()),
            };
            if !to.send(&told(&one, &before, &now)).await {
                return;
            }
            before = now;
        }
    });
    Ok(response)
}

async fn sample(door: &Door, one: &One) -> Result<Sample, Refusal> {
    let one = door.engine.one(one.container.id.as_str())?;
    let (figures, interfaces) = match one.container.state.pid() {
        Some(_) => {
            let group = door.engine.pod_stats(&one.group).await?;
            let own = group.containers.into_iter().next().map(|(_, figures)| figures);
            (own.unwrap_or_default(), group.interfaces)
        }
        None => (door.engine.container_stats(&one.container).await?, Vec::new()),
    };
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    Ok(Sample { figures, interfaces, system_ns: system_ns(&stat) })
}

/// The first line of proc_stat(5), without guests' time, which is in users' already.
fn system_ns(stat: &str) -> u64 {
    let line = stat.lines().next().unwrap_or_default();
    let ticks = line.split_whitespace().skip(1).take(8).filter_map(|field| field.parse::<u64>().ok());
    ticks.sum::<u64>() * NS_PER_TICK
}

fn told(one: &One, before: &Sample, now: &Sample) -> Value {
    let figures = &now.figures;
    let memory = figures.memory.as_ref().map(|memory| {
        let inactive = memory.usage_bytes.saturating_sub(memory.working_set_bytes);
        let limit = memory.available_bytes.map_or_else(memory_bytes, |left| left + memory.working_set_bytes);
        json!({
            "usage": memory.usage_bytes, "limit": limit,
            "stats": {"inactive_file": inactive, "total_inactive_file": inactive},
        })
    });
    let networks = now.interfaces.iter().map(|interface| {
        let counters = json!({
            "rx_bytes": interface.rx_bytes, "rx_packets": 0, "rx_errors": interface.rx_errors, "rx_dropped": 0,
            "tx_bytes": interface.tx_bytes, "tx_packets": 0, "tx_errors": interface.tx_errors, "tx_dropped": 0,
        });
        (interface.name.clone(), counters)
    });
    json!({
        "id": one.container.id.to_string(), "name": format!("/{}", one.name()),
        "read": rfc3339(figures.at_ns), "preread": rfc3339(before.figures.at_ns),
        "cpu_stats": processor(now), "precpu_stats": processor(before),
        "memory_stats": memory.unwrap_or_else(|| json!({})),
        "pids_stats": figures.pids.map_or_else(|| json!({}), |count| json!({"current": count})),
        "blkio_stats": {"io_service_bytes_recursive": null, "io_serviced_recursive": null},
        "networks": networks.collect::<Map<_, _>>(), "num_procs": 0, "storage_stats": {},
    })
}

fn processor(sample: &Sample) -> Value {
    let used = sample.figures.cpu.as_ref().map_or(0, |cpu| cpu.usage_ns);
    json!({
        "cpu_usage": {"total_usage": used, "usage_in_kernelmode": 0, "usage_in_usermode": 0},
        "system_cpu_usage": sample.system_ns,
        "online_cpus": std::thread::available_parallelism().map_or(1, usize::from),
        "throttling_data": {"periods": 0, "throttled_periods": 0, "throttled_time": 0},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guests_time_is_not_counted_twice() {
        assert_eq!(system_ns("cpu  1 2 3 4 5 6 7 8 100 100\ncpu0 9\n"), 36 * NS_PER_TICK);
        assert_eq!(system_ns(""), 0);
    }
}
