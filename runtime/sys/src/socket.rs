//! How much of what was written to a Unix socket waits to be read.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use crate::checked;

/// Bytes of memory that what `socket` sent takes until its peer has read it (`SIOCOUTQ`, unix(7)); 0 when all of it is read.
/// It is the kernel's own bookkeeping: more than the bytes sent, by hundreds for each write.
pub fn unread_bytes(socket: &impl AsFd) -> io::Result<u32> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: for this request, which is a socket's name of TIOCOUTQ, the kernel writes one int through the pointer, which is
    // that of a local variable.
    checked(unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) }.into())?;
    Ok(u32::try_from(bytes).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn what_is_not_read_is_counted() {
        let (mut near, mut far) = UnixStream::pair().unwrap();
        assert_eq!(unread_bytes(&near).unwrap(), 0);
        near.write_all(b"head").unwrap();
        assert!(unread_bytes(&near).unwrap() > 4);
        far.read_exact(&mut [0; 3]).unwrap();
        assert!(unread_bytes(&near).unwrap() > 4);
        far.read_exact(&mut [0; 1]).unwrap();
        assert_eq!(unread_bytes(&near).unwrap(), 0);
    }
}
