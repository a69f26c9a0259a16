//! The session keyring (keyctl(2)), which no namespace separates.

use std::io;

use crate::checked;

/// `KEYCTL_JOIN_SESSION_KEYRING` (linux/keyctl.h).
const JOIN_SESSION_KEYRING: libc::c_long = 1;

/// Gives the caller a new, empty session keyring in place of the inherited one. A kernel without keys has none to hide.
pub fn start_session() -> io::Result<()> {
    // SAFETY: a null name asks for an anonymous keyring; no other pointer is passed.
    let joined =
        unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, std::ptr::null::<libc::c_char>()) };
    match checked(joined) {
        Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => Ok(()),
        other => other.map(|_| ()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `KEYCTL_GET_KEYRING_ID` of `KEY_SPEC_SESSION_KEYRING`; none on a kernel without keys.
    fn session() -> Option<libc::c_long> {
        let (get_keyring_id, session_keyring): (libc::c_long, libc::c_long) = (0, -3);
        // SAFETY: numbers only.
        checked(unsafe { libc::syscall(libc::SYS_keyctl, get_keyring_id, session_keyring, 0) }).ok()
    }

    #[test]
    fn a_session_is_another_one_each_time() {
        // Keyrings are a thread's own.
        let sessions = std::thread::spawn(|| {
            let before = session();
            start_session().unwrap();
            let between = session();
            start_session().unwrap();
            [before, between, session()]
        });
        let [before, between, after] = sessions.join().unwrap();
        assert!(before.is_none() && after.is_none() || before != between && between != after);
    }
}
