//! What a layer may cost, whatever its archive says.

/// Limits of one layer's unpacking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnpackLimits {
    /// Entries in the archive: 2 million.
    pub max_entries: u64,
    /// Bytes of the decompressed archive: 64 GiB.
    pub max_bytes: u64,
    /// A stream may decompress to this many times its compressed size, and [`UnpackLimits::ratio_slack_bytes`] more:
    /// 200. (gzip could reach 1,030 and zstd far more, but only for a bomb or for zeros.)
    pub max_ratio: u64,
    /// What [`UnpackLimits::max_ratio`] does not apply to: 8 GiB. Builds ship sparse files of gigabytes, such as the
    /// `lastlog` of a user with a large number, as zeros; those take no disk here.
    pub ratio_slack_bytes: u64,
}

impl Default for UnpackLimits {
    fn default() -> Self {
        Self { max_entries: 2_000_000, max_bytes: 64 << 30, max_ratio: 200, ratio_slack_bytes: 8 << 30 }
    }
}

impl UnpackLimits {
    /// How many bytes a stream of `compressed_bytes` may decompress to.
    #[must_use]
    pub fn stream_bytes(&self, compressed_bytes: u64) -> u64 {
        let by_ratio = compressed_bytes.saturating_mul(self.max_ratio).saturating_add(self.ratio_slack_bytes);
        self.max_bytes.min(by_ratio)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_blob_cannot_become_a_huge_layer() {
        let limits = UnpackLimits::default();
        assert_eq!(limits.stream_bytes(10 << 20), (2000 << 20) + (8 << 30));
        assert_eq!(limits.stream_bytes(u64::MAX), 64 << 30);
    }
}
