//! Messages over TCP: each behind its length in two bytes (RFC 1035, section 4.2.2).

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Reads a message of at most `limit` bytes; none where the other side has ended.
pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin), limit: usize) -> io::Result<Option<Vec<u8>>> {
    let length = match stream.read_u16().await {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        length => usize::from(length?),
    };
    if length > limit {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut message = vec![0; length];
    stream.read_exact(&mut message).await?;
    Ok(Some(message))
}

/// Writes a message.
pub(super) async fn write(stream: &mut (impl AsyncWrite + Unpin), message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(|_| io::ErrorKind::InvalidData)?;
    // At once: a length alone would be a packet of its own.
    stream.write_all(&[&length.to_be_bytes(), message].concat()).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_message_reads_back_and_one_that_is_too_long_or_half_does_not() {
        let mut written = Vec::new();
        write(&mut written, b"query").await.unwrap();
        assert_eq!(read(&mut written.as_slice(), 5).await.unwrap().unwrap(), b"query");
        assert!(read(&mut written.as_slice(), 4).await.is_err());
        assert!(read(&mut &written[..5], 5).await.is_err());
        assert!(read(&mut [].as_slice(), 5).await.unwrap().is_none());
        assert!(write(&mut Vec::new(), &[0; 65_536]).await.is_err());
    }
}
