//! Bytes with descriptors over a Unix socket (SCM_RIGHTS).

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recv, recvmsg, sendmsg, socketpair,
};

/// The most descriptors one message may carry here.
pub const MAX_DESCRIPTORS: usize = 8;

/// A connected pair that keeps message boundaries (SOCK_SEQPACKET).
pub fn message_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

/// Sends `bytes` and copies of `descriptors`; gives the number of bytes sent (all of them on a message socket).
/// A closed peer is `EPIPE` without a signal.
pub fn send(socket: &impl AsFd, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::from_raw_os_error(libc::E2BIG));
    }
    loop {
        match sendmsg(socket, &[IoSlice::new(bytes)], &mut ancillary, SendFlags::NOSIGNAL) {
            Err(rustix::io::Errno::INTR) => {}
            other => return Ok(other?),
        }
    }
}

/// The bytes of the next message, which stays where it is; 0 when the peer has closed. Waits for one.
pub fn next_length(socket: &impl AsFd) -> io::Result<usize> {
    loop {
        // MSG_TRUNC: the whole length, however little of it fits into the buffer (Linux 3.4 for Unix sockets).
        match recv(socket, &mut [0_u8; 0], RecvFlags::PEEK | RecvFlags::TRUNC) {
            Err(rustix::io::Errno::INTR) => {}
            other => return Ok(other?.1),
        }
    }
}

/// Receives into `buffer`: the number of bytes (0 when the peer has closed) and the descriptors that came along, close-on-exec.
/// A message longer than `buffer`, or with too many descriptors, is `EMSGSIZE`.
pub fn receive(socket: &impl AsFd, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let message = loop {
        match recvmsg(socket, &mut [IoSliceMut::new(buffer)], &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
            Err(rustix::io::Errno::INTR) => {}
            other => break other?,
        }
    };
    let mut descriptors = Vec::new();
    for part in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = part {
            descriptors.extend(received);
        }
    }
    if message.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        return Err(io::Error::from_raw_os_error(libc::EMSGSIZE));
    }
    Ok((message.bytes, descriptors))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_descriptors_arrive_together() {
        let (left, right) = message_pair().unwrap();
        let (_, passed) = message_pair().unwrap();
        send(&left, b"hello", &[passed.as_fd()]).unwrap();
        let mut buffer = [0; 16];
        let (length, descriptors) = receive(&right, &mut buffer).unwrap();
        assert_eq!((&buffer[..length], descriptors.len()), (&b"hello"[..], 1));
    }

    #[test]
    fn a_message_that_does_not_fit_is_an_error() {
        let (left, right) = message_pair().unwrap();
        send(&left, b"hello", &[]).unwrap();
        assert_eq!(receive(&right, &mut [0; 2]).unwrap_err().raw_os_error(), Some(libc::EMSGSIZE));
    }

    #[test]
    fn the_length_of_a_message_is_known_before_it_is_taken() {
        let (left, right) = message_pair().unwrap();
        send(&left, b"hello", &[left.as_fd()]).unwrap();
        assert_eq!((next_length(&right).unwrap(), next_length(&right).unwrap()), (5, 5));
        let mut buffer = [0; 5];
        let (length, descriptors) = receive(&right, &mut buffer).unwrap();
        assert_eq!((length, descriptors.len()), (5, 1));
        drop((left, descriptors));
        assert_eq!(next_length(&right).unwrap(), 0);
    }

    #[test]
    fn a_closed_peer_reads_as_nothing_and_refuses_bytes() {
        let (left, right) = message_pair().unwrap();
        drop(left);
        assert_eq!(receive(&right, &mut [0; 2]).unwrap().0, 0);
        assert_eq!(send(&right, b"x", &[]).unwrap_err().raw_os_error(), Some(libc::EPIPE));
    }
}
