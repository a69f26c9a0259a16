//! A kill for want of memory that the kernel has announced.

use std::time::{Duration, Instant};

/// How long the kernel may take from its report to the kill: it writes to its log in between, which a serial console
/// makes slow. Some reports are followed by none, because a process that is ending frees enough.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often to look for it meanwhile.
const INTERVAL: Duration = Duration::from_millis(10);

/// A kill that was reported and not seen yet.
///
/// cgroup v1 reports that memory is short, then chooses a process, then counts and kills it, and says nothing more: what
/// it reported is looked for until it is seen or has had its time. (v2 reports after it has counted a kill.)
#[derive(Debug, Default)]
pub struct AwaitedKill {
    until: Option<Instant>,
    next: Option<Instant>,
}

impl AwaitedKill {
    /// The kernel has reported that a kill may follow.
    pub fn reported(&mut self, now: Instant) {
        (self.until, self.next) = (Some(now + PATIENCE), Some(now + INTERVAL));
    }

    /// The count of kills was looked at; whether it `rose`.
    pub fn looked(&mut self, now: Instant, rose: bool) {
        if rose || self.until.is_some_and(|until| now >= until) {
            *self = Self::default();
        } else if self.next.is_some_and(|next| now >= next) {
            self.next = Some(now + INTERVAL);
        }
    }

    /// When to look at the count again, though nothing happens.
    #[must_use]
    pub fn look_at(&self) -> Option<Instant> {
        self.next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kill_is_looked_for_until_it_is_seen_or_has_had_its_time() {
        let (mut awaited, start) = (AwaitedKill::default(), Instant::now());
        assert_eq!(awaited.look_at(), None);
        awaited.looked(start, false);
        assert_eq!(awaited.look_at(), None, "nothing was reported");
        awaited.reported(start);
        assert_eq!(awaited.look_at(), Some(start + INTERVAL));
        awaited.looked(start, false);
        awaited.looked(start + INTERVAL, false);
        assert_eq!(awaited.look_at(), Some(start + 2 * INTERVAL));
        awaited.looked(start + 2 * INTERVAL, true);
        assert_eq!(awaited.look_at(), None, "it was seen");
        awaited.reported(start);
        awaited.looked(start + PATIENCE, false);
        assert_eq!(awaited.look_at(), None, "it never came");
    }
}
