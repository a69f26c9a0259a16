//! The frame around every message: a little-endian `u32` length, then the payload.

/// The longest payload either side accepts, in bytes: room for a process with the kernel's largest argument list.
pub const MAX_FRAME_BYTES: usize = 4 << 20;

/// A frame that must not be read further.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The peer announced more than [`MAX_FRAME_BYTES`].
    #[error("frame of {0} bytes announced, at most {MAX_FRAME_BYTES} are accepted")]
    TooLong(usize),
}

/// The header of a frame with a payload of `length` bytes.
pub fn encode_header(length: usize) -> Result<[u8; 4], FrameError> {
    match u32::try_from(length) {
        Ok(short) if length <= MAX_FRAME_BYTES => Ok(short.to_le_bytes()),
        _ => Err(FrameError::TooLong(length)),
    }
}

/// The payload's length in bytes that `header` announces.
pub fn frame_length(header: [u8; 4]) -> Result<usize, FrameError> {
    let length = u32::from_le_bytes(header) as usize;
    if length > MAX_FRAME_BYTES { Err(FrameError::TooLong(length)) } else { Ok(length) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_reads_back_as_its_length() {
        for length in [0, 1, 65_536, MAX_FRAME_BYTES] {
            assert_eq!(frame_length(encode_header(length).unwrap()), Ok(length));
        }
    }

    #[test]
    fn an_oversized_frame_is_refused_on_both_sides() {
        let over = MAX_FRAME_BYTES + 1;
        assert_eq!(encode_header(over), Err(FrameError::TooLong(over)));
        assert_eq!(frame_length(u32::try_from(over).unwrap().to_le_bytes()), Err(FrameError::TooLong(over)));
    }
}
