//! On which NUMA nodes the calling thread takes memory (set_mempolicy(2)); inherited, and kept across an execve.

use std::io;

use crate::checked;

/// A policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryPolicy {
    /// `MPOL_*` with `MPOL_F_*`.
    pub mode: i32,
    /// A bit for each node; none for modes that take no nodes.
    pub nodes: [u64; Self::WORDS],
}

impl MemoryPolicy {
    /// Words of the node mask: as many nodes as a kernel can be built for (1024).
    pub const WORDS: usize = 16;

    /// Makes it the calling thread's.
    pub fn apply(&self) -> io::Result<()> {
        let has_nodes = self.nodes.iter().any(|word| *word != 0);
        let (mask, bits) = if has_nodes {
            // The kernel takes one bit less than it is told (set_mempolicy(2), "maxnode").
            (self.nodes.as_ptr(), Self::WORDS * 64 + 1)
        } else {
            (std::ptr::null(), 0)
        };
        // SAFETY: the kernel reads the bits of the mask, which is borrowed for the call, or none.
        checked(unsafe { libc::syscall(libc::SYS_set_mempolicy, self.mode, mask, bits) }).map(|_| ())
    }
}
