//! How often a container's output is read.
//!
//! A program that writes line by line would have the monitor woken for every line, which costs more than the lines do.
//! Once that has gone on for a while, reading pauses for a moment and takes what has come in the meantime at once. Short
//! bursts, where the order of lines on the two streams tells something, are read as they come.

use std::time::{Duration, Instant};

use crate::stdio::PIPE_BYTES;

/// Reads that follow each other faster than this are a streak.
const QUICK: Duration = Duration::from_millis(2);

/// Quick small reads before the first pause.
const PATIENT_READS: u32 = 16;

/// Bytes from which on a read has paid for its wake-up: half of a pipe, beyond which a pause would stop the writer.
const PAID_BYTES: usize = PIPE_BYTES / 2;

/// How long reading pauses: no reader of logs sees it, and a pipe takes what is written at 500 MB/s meanwhile.
const PAUSE: Duration = Duration::from_micros(500);

/// The reading of one container's output.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    last_read: Option<Instant>,
    streak: u32,
    resume_at: Option<Instant>,
}

impl Pace {
    /// Takes note of a read at `now`; whether reading is to pause until [`Pace::resume_at`].
    pub(crate) fn note_read(&mut self, now: Instant, bytes: usize) -> bool {
        let quick = self.last_read.is_some_and(|last| now.saturating_duration_since(last) < QUICK);
        self.last_read = Some(now);
        if !quick {
            self.streak = 0;
        } else if bytes < PAID_BYTES {
            self.streak = self.streak.saturating_add(1);
        }
        if self.streak < PATIENT_READS || bytes >= PAID_BYTES {
            return false;
        }
        self.resume_at = Some(now + PAUSE);
        true
    }

    /// When reading goes on, while it pauses.
    pub(crate) fn resume_at(&self) -> Option<Instant> {
        self.resume_at
    }

    /// Ends the pause; whether there was one.
    pub(crate) fn resume(&mut self) -> bool {
        self.resume_at.take().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// After how many reads, `gap` apart and of `bytes` each, reading pauses first.
    fn first_pause(gap: Duration, bytes: usize) -> Option<u32> {
        let (mut pace, start) = (Pace::default(), Instant::now());
        (0..200).find(|number| pace.note_read(start + gap * *number, bytes))
    }

    #[test]
    fn only_a_streak_of_small_reads_pauses() {
        assert_eq!(first_pause(Duration::from_micros(50), 100), Some(PATIENT_READS));
        assert_eq!(first_pause(Duration::from_micros(50), PAID_BYTES), None);
        assert_eq!(first_pause(QUICK, 100), None);
    }

    #[test]
    fn a_streak_goes_on_over_pauses_and_large_reads_until_it_is_quiet() {
        let (mut pace, mut now) = (Pace::default(), Instant::now());
        for _ in 0..=PATIENT_READS {
            pace.note_read(now, 100);
        }
        assert_eq!(pace.resume_at(), Some(now + PAUSE));
        assert!(pace.resume() && !pace.resume());
        now += PAUSE;
        assert!(pace.note_read(now, 5_000), "the next small read pauses again");
        assert!(!pace.note_read(now, PAID_BYTES));
        assert!(pace.note_read(now, 5_000));
        assert!(!pace.note_read(now + QUICK, 5_000));
    }
}
