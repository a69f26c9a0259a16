//! Who waits for something to happen to a container: its next end, its removal, or its program, to be attached to it from the
//! first byte. The driver tells them after the commit; nothing here is kept through a restart, as no client is.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::error::Result;
use super::model::Id;
use super::monitor::Process;
use super::session::{Session, Streams};

/// A client that came before the program.
pub(crate) struct Early {
    /// What it wants.
    pub streams: Streams,
    /// See [`super::Engine::attach`].
    pub stall_limit: Option<Duration>,
    /// Gets the session once the program is about to be executed; dropped when it will not be.
    pub reply: oneshot::Sender<Result<Session>>,
}

/// Everybody who waits, by container.
#[derive(Default)]
pub(crate) struct Waiting(Mutex<HashMap<Id, Expected>>);

/// What is waited for about one container. The numbers sent are exit codes.
#[derive(Default)]
struct Expected {
    ends: Vec<oneshot::Sender<i32>>,
    removals: Vec<oneshot::Sender<i32>>,
    clients: Vec<Early>,
    /// The program that the clients were taken for, until it has ended: who comes then has not to wait for the next one.
    made: Option<Arc<Process>>,
}

impl Waiting {
    /// Gets the exit code of the next end.
    pub(crate) fn next_end(&self, id: &Id) -> oneshot::Receiver<i32> {
        let (sender, receiver) = oneshot::channel();
        let mut all = self.lock();
        let ends = &mut all.entry(id.clone()).or_default().ends;
        ends.retain(|waiter| !waiter.is_closed());
        ends.push(sender);
        receiver
    }

    /// Gets the exit code of the last end, when the container is removed.
    pub(crate) fn removal(&self, id: &Id) -> oneshot::Receiver<i32> {
        let (sender, receiver) = oneshot::channel();
        let mut all = self.lock();
        let removals = &mut all.entry(id.clone()).or_default().removals;
        removals.retain(|waiter| !waiter.is_closed());
        removals.push(sender);
        receiver
    }

    /// Lets a client wait for the program; gives it back with the program that those who waited were taken for.
    pub(crate) fn client(&self, id: &Id, client: Early) -> Option<(Early, Arc<Process>)> {
        let mut all = self.lock();
        let expected = all.entry(id.clone()).or_default();
        if let Some(made) = &expected.made {
            return Some((client, made.clone()));
        }
        expected.clients.retain(|waiter| !waiter.reply.is_closed());
        expected.clients.push(client);
        None
    }

    /// The clients that wait for the program, which is about to be executed as `process`. Whoever comes from now on is told
    /// of that process.
    pub(crate) fn take_clients(&self, id: &Id, process: &Arc<Process>) -> Vec<Early> {
        let mut all = self.lock();
        let expected = all.entry(id.clone()).or_default();
        expected.made = Some(process.clone());
        std::mem::take(&mut expected.clients)
    }

    /// The program has ended, or could not be executed.
    pub(crate) fn ended(&self, id: &Id, code: i32) {
        let (ends, clients) = match self.lock().get_mut(id) {
            Some(expected) => {
                expected.made = None;
                (std::mem::take(&mut expected.ends), std::mem::take(&mut expected.clients))
            }
            None => return,
        };
        drop(clients);
        tell(ends, code);
    }

    /// The container is gone; `code` is how it last ended.
    pub(crate) fn removed(&self, id: &Id, code: i32) {
        if let Some(expected) = self.lock().remove(id) {
            tell(expected.ends, code);
            tell(expected.removals, code);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Id, Expected>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn tell(waiters: Vec<oneshot::Sender<i32>>, code: i32) {
    for waiter in waiters {
        if waiter.send(code).is_err() {
            tracing::trace!("who waited for a container has gone");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_told_what_it_waits_for() {
        let (waiting, id) = (Waiting::default(), Id::random().unwrap());
        let (mut end, mut removal) = (waiting.next_end(&id), waiting.removal(&id));
        waiting.ended(&id, 7);
        assert_eq!((end.try_recv(), removal.try_recv().is_err()), (Ok(7), true));
        let mut later = waiting.next_end(&id);
        waiting.removed(&id, 7);
        assert_eq!((later.try_recv(), removal.try_recv()), (Ok(7), Ok(7)));
    }

    #[test]
    fn a_client_waits_for_the_program_and_no_longer() {
        let (waiting, id) = (Waiting::default(), Id::random().unwrap());
        let early = |reply| Early { streams: Streams::default(), stall_limit: None, reply };
        let (reply, mut session) = oneshot::channel();
        assert!(waiting.client(&id, early(reply)).is_none());
        waiting.ended(&id, 127);
        assert!(matches!(session.try_recv(), Err(oneshot::error::TryRecvError::Closed)));
        let (reply, _gone) = oneshot::channel();
        assert!(waiting.client(&id, early(reply)).is_none());
        assert_eq!(waiting.take_clients(&id, &this_process()).len(), 1);
    }

    /// The process of the tests, which is nobody's container.
    fn this_process() -> Arc<Process> {
        let (own, parent) = (nix::unistd::getpid(), nix::unistd::getppid());
        Arc::new(Process::hold(own.as_raw(), parent.as_raw(), std::path::Path::new("/")).unwrap())
    }

    #[test]
    fn a_client_of_the_very_moment_of_a_start_does_not_wait_for_the_next_one() {
        let (waiting, id) = (Waiting::default(), Id::random().unwrap());
        let early = |reply| Early { streams: Streams::default(), stall_limit: None, reply };
        let process = this_process();
        // Nobody waits when the program is made, and its start is not told yet.
        assert!(waiting.take_clients(&id, &process).is_empty());
        let (reply, _session) = oneshot::channel();
        let told = waiting.client(&id, early(reply));
        assert!(told.is_some_and(|(_, told)| Arc::ptr_eq(&told, &process)));
        waiting.ended(&id, 0);
        let (reply, _session) = oneshot::channel();
        assert!(waiting.client(&id, early(reply)).is_none());
        assert_eq!(waiting.take_clients(&id, &process).len(), 1);
    }
}
