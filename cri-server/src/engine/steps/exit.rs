//! From what the monitor saw to what clients are told.

use cleat_conmon_proto::ExitRecord;

use crate::engine::container::{Exit, ExitReason};
use crate::engine::monitor::End;
use crate::time::now_ns;

/// Exit code of a container nobody saw ending: what a SIGKILL gives, since that is what such an end comes from.
const CODE_OF_THE_UNSEEN: i32 = 137;

/// How a container ended that ran since `started_at_ns`.
pub(crate) fn exit_of(end: &End, started_at_ns: i64) -> Exit {
    match end {
        End::Recorded(record) => recorded(record, started_at_ns),
        End::Lost => unseen(
            "nobody saw it end: the host was restarted or the container's monitor was killed",
            started_at_ns,
        ),
        End::Untold => unseen("its monitor, which was to tell how it ended, does not answer", started_at_ns),
    }
}

fn unseen(why: &str, started_at_ns: i64) -> Exit {
    Exit {
        code: CODE_OF_THE_UNSEEN,
        reason: ExitReason::Unknown,
        message: why.to_owned(),
        started_at_ns,
        finished_at_ns: now_ns(),
    }
}

fn recorded(record: &ExitRecord, started_at_ns: i64) -> Exit {
    let code = record.status.code();
    let reason = match code {
        _ if record.oom_killed => ExitReason::OomKilled,
        0 => ExitReason::Completed,
        _ => ExitReason::Error,
    };
    Exit { code, reason, message: String::new(), started_at_ns, finished_at_ns: record.finished_at_ns }
}

#[cfg(test)]
mod tests {
    use cleat_conmon_proto::ExitStatus;

    use super::*;

    fn exit(status: ExitStatus, oom_killed: bool) -> (i32, ExitReason) {
        let record = ExitRecord {
            version: 1,
            id: String::new(),
            pid: 1,
            status,
            oom_killed,
            started_at_ns: 1,
            finished_at_ns: 2,
        };
        let exit = exit_of(&End::Recorded(record), 1);
        (exit.code, exit.reason)
    }

    #[test]
    fn the_reason_follows_from_code_and_oom() {
        assert_eq!(exit(ExitStatus::Exited(0), false), (0, ExitReason::Completed));
        assert_eq!(exit(ExitStatus::Exited(3), false), (3, ExitReason::Error));
        assert_eq!(exit(ExitStatus::Signaled(9), true), (137, ExitReason::OomKilled));
        assert_eq!(exit_of(&End::Lost, 1).reason, ExitReason::Unknown);
        assert_eq!(exit_of(&End::Untold, 1).reason, ExitReason::Unknown);
    }
}
