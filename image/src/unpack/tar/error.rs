//! Why a tar stream was refused.

/// Why a tar stream was refused.
#[derive(Debug, thiserror::Error)]
pub enum TarError {
    /// The stream below failed: network, decompression, or a size limit.
    #[error("read the layer's stream")]
    Read(#[source] std::io::Error),
    /// What is not data could not be kept.
    #[error("record the archive's headers")]
    Record(#[source] std::io::Error),
    /// It ends in the middle.
    #[error("the archive ends in the middle of an entry")]
    Truncated,
    /// A header's checksum is wrong.
    #[error("a header's checksum is {found}, computed {computed}")]
    Checksum {
        /// As written.
        found: u64,
        /// As it should be.
        computed: u64,
    },
    /// A number that is not one, or not in the range of its field.
    #[error("the field {0} holds no valid number")]
    Number(&'static str),
    /// A name or header beyond its limit.
    #[error("{what} of {bytes} bytes, at most {limit} are accepted")]
    TooLong {
        /// What is too long.
        what: &'static str,
        /// Its length.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// A PAX header that is not a list of records.
    #[error("a PAX header is malformed: {0}")]
    Pax(&'static str),
    /// A name with a NUL byte, or an empty one.
    #[error("{0} is empty or holds a NUL byte")]
    Name(&'static str),
    /// A type of entry that layers do not have.
    #[error("entry {path:?} has the type {flag:?}, which layers do not have")]
    Type {
        /// The type flag.
        flag: char,
        /// The entry's path.
        path: String,
    },
    /// A sparse file whose map is wrong.
    #[error("a sparse file is malformed: {0}")]
    Sparse(&'static str),
}
