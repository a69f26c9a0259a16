//! The one epoll instance: what it waits for, and in which order what has happened is dealt with.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;

use crate::log::StreamName;

/// Events taken from the kernel at a time.
const EVENTS: usize = 64;

/// What an event belongs to. The order is the order within one turn:
///
/// - the runtime's answers first: an exec'd process may have ended already, and its id has to be known before it is
///   reaped;
/// - children before streams and connections: a process that has ended is reported as ended, even where its client
///   went away in the same moment;
/// - new connections last, so that a descriptor's number is not used again within a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The container's init executed its program, or could not.
    Start,
    /// The poststart hooks have ended.
    Hooks,
    /// The runtime's answer to the exec with this number.
    Exec(u32),
    /// The runtime's answer to new limits, asked for by the connection with this number.
    Update(u32),
    /// A child has ended.
    Children,
    /// The kernel may have killed for want of memory.
    Oom,
    /// Output of the container.
    Output(StreamName),
    /// Room for input of the container, or nobody who reads it.
    Input,
    /// Room for output to an attached client, or nobody who reads it.
    AttachedOutput(u32),
    /// Input from an attached client.
    AttachedInput(u32),
    /// Bytes from a client, or room for bytes to it.
    Connection(u32),
    /// A new client.
    Listener,
}

impl Source {
    /// Rank in the upper half, so that tokens sort by it; the number in the lower.
    fn token(self) -> u64 {
        let (rank, number) = match self {
            Self::Start => (0, 0),
            Self::Exec(number) => (1, number),
            Self::Update(number) => (2, number),
            Self::Children => (3, 0),
            Self::Oom => (4, 0),
            Self::Output(StreamName::Stdout) => (5, 0),
            Self::Output(StreamName::Stderr) => (6, 0),
            Self::Input => (7, 0),
            Self::AttachedOutput(number) => (8, number),
            Self::AttachedInput(number) => (9, number),
            Self::Connection(number) => (10, number),
            Self::Listener => (11, 0),
            Self::Hooks => (12, 0),
        };
        rank << 32 | u64::from(number)
    }

    fn from_token(token: u64) -> Self {
        let number = token as u32;
        match token >> 32 {
            0 => Self::Start,
            1 => Self::Exec(number),
            2 => Self::Update(number),
            3 => Self::Children,
            4 => Self::Oom,
            5 => Self::Output(StreamName::Stdout),
            6 => Self::Output(StreamName::Stderr),
            7 => Self::Input,
            8 => Self::AttachedOutput(number),
            9 => Self::AttachedInput(number),
            10 => Self::Connection(number),
            11 => Self::Listener,
            _ => Self::Hooks,
        }
    }
}

/// What is waited for on one descriptor; hang-ups and errors are always reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Interest {
    pub(crate) readable: bool,
    pub(crate) writable: bool,
    /// EPOLLPRI: a cgroup file has changed.
    pub(crate) urgent: bool,
    /// EPOLLET: also a hang-up is reported once, not for as long as it lasts.
    pub(crate) is_parked: bool,
}

impl Interest {
    pub(crate) const NOTHING: Self =
        Self { readable: false, writable: false, urgent: false, is_parked: false };
    pub(crate) const READABLE: Self = Self { readable: true, ..Self::NOTHING };
    pub(crate) const WRITABLE: Self = Self { writable: true, ..Self::NOTHING };
    /// Nothing, not even a hang-up that lasts; it is reported when something else is waited for again.
    pub(crate) const PARKED: Self = Self { is_parked: true, ..Self::NOTHING };
    /// Only changes of a file that is always readable.
    pub(crate) const URGENT: Self = Self { urgent: true, ..Self::NOTHING };

    fn flags(self) -> EventFlags {
        let mut flags = EventFlags::empty();
        flags.set(EventFlags::IN, self.readable);
        flags.set(EventFlags::OUT, self.writable);
        flags.set(EventFlags::PRI, self.urgent);
        flags.set(EventFlags::ET, self.is_parked);
        flags
    }
}

/// Something has happened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Happened {
    pub(crate) source: Source,
    /// The other side is gone altogether.
    pub(crate) hung_up: bool,
}

/// Registered descriptors are owned by others, who remove them before they close them: a forked child may still hold a
/// copy, and the kernel would go on reporting what happens to it.
pub(crate) struct Poller {
    epoll: OwnedFd,
}

impl Poller {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { epoll: epoll::create(CreateFlags::CLOEXEC)? })
    }

    pub(crate) fn add(&self, descriptor: &impl AsFd, source: Source, interest: Interest) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, descriptor, EventData::new_u64(source.token()), interest.flags())?)
    }

    pub(crate) fn change(
        &self,
        descriptor: &impl AsFd,
        source: Source,
        interest: Interest,
    ) -> io::Result<()> {
        Ok(epoll::modify(&self.epoll, descriptor, EventData::new_u64(source.token()), interest.flags())?)
    }

    pub(crate) fn remove(&self, descriptor: &impl AsFd) -> io::Result<()> {
        Ok(epoll::delete(&self.epoll, descriptor)?)
    }

    /// Waits until something happens or `limit` has passed, and hands over what it was, in the order of [`Source`].
    pub(crate) fn wait(&self, limit: Option<Duration>) -> io::Result<Turn> {
        let limit = limit.map(|limit| Timespec {
            tv_sec: limit.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: limit.subsec_nanos().into(),
        });
        let mut space = [MaybeUninit::<Event>::uninit(); EVENTS];
        let happened = match epoll::wait(&self.epoll, &mut space, limit.as_ref()) {
            Ok((happened, _)) => happened,
            Err(Errno::INTR) => return Ok(Turn { events: [(0, false); EVENTS], next: 0, end: 0 }),
            Err(errno) => return Err(errno.into()),
        };
        let mut turn = Turn { events: [(0, false); EVENTS], next: 0, end: happened.len() };
        for (slot, event) in turn.events.iter_mut().zip(happened) {
            *slot = (event.data.u64(), { event.flags }.intersects(EventFlags::HUP | EventFlags::ERR));
        }
        turn.events[..turn.end].sort_unstable();
        Ok(turn)
    }
}

/// What happened in one turn of the loop.
pub(crate) struct Turn {
    events: [(u64, bool); EVENTS],
    next: usize,
    end: usize,
}

impl Iterator for Turn {
    type Item = Happened;

    fn next(&mut self) -> Option<Happened> {
        let (token, hung_up) = *self.events[..self.end].get(self.next)?;
        self.next += 1;
        Some(Happened { source: Source::from_token(token), hung_up })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    const IN_ORDER: [Source; 13] = [
        Source::Start,
        Source::Exec(7),
        Source::Update(u32::MAX),
        Source::Children,
        Source::Oom,
        Source::Output(StreamName::Stdout),
        Source::Output(StreamName::Stderr),
        Source::Input,
        Source::AttachedOutput(1),
        Source::AttachedInput(2),
        Source::Connection(0),
        Source::Connection(u32::MAX),
        Source::Listener,
    ];

    #[test]
    fn tokens_read_back_and_sort_by_rank() {
        for source in IN_ORDER {
            assert_eq!(Source::from_token(source.token()), source);
        }
        assert!(IN_ORDER.is_sorted_by_key(|source| source.token()));
    }

    #[test]
    fn a_turn_is_sorted_and_tells_hang_ups() {
        let poller = Poller::new().unwrap();
        let mut kept = Vec::new();
        for source in IN_ORDER.into_iter().rev() {
            let (ours, theirs) = UnixStream::pair().unwrap();
            poller.add(&ours, source, Interest::READABLE).unwrap();
            kept.push(ours);
            drop(theirs);
        }
        let turn: Vec<Happened> = poller.wait(Some(Duration::ZERO)).unwrap().collect();
        assert_eq!(turn.iter().map(|happened| happened.source).collect::<Vec<_>>(), IN_ORDER);
        assert!(turn.iter().all(|happened| happened.hung_up));
    }

    #[test]
    fn nothing_within_the_limit_is_an_empty_turn() {
        assert_eq!(Poller::new().unwrap().wait(Some(Duration::from_millis(1))).unwrap().count(), 0);
    }
}
