//! The C library's heap in a process that lives long and needs little.

/// Keeps what was freed from staying with the process. By default glibc raises its threshold for own pages up to 32 MiB
/// as large allocations are freed, and keeps twice that at the heap's end: a single large message would cost its size
/// for the rest of the process's life. To be called before the first large allocation; other C libraries need nothing.
///
/// Allocations of `large_bytes` and more get pages of their own, which go back to the kernel when they are freed; as much
/// free memory at the heap's end is given back too. Pages that come and go cost a fault each: what a process needs again and
/// again should be smaller than that.
pub fn keep_small(large_bytes: u32) {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt takes numbers only; the process has one thread or none that allocates yet. A parameter it
    // does not know is refused, which changes nothing.
    unsafe {
        let large = libc::c_int::try_from(large_bytes).unwrap_or(libc::c_int::MAX);
        libc::mallopt(libc::M_MMAP_THRESHOLD, large);
        libc::mallopt(libc::M_TRIM_THRESHOLD, large);
    }
    #[cfg(not(target_env = "gnu"))]
    let _: u32 = large_bytes;
}

/// Gives all pages back that hold nothing, wherever in the heap they are: after work that took much and is over. Takes time
/// by what is in the heap, milliseconds at worst, and may be called from any thread.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim takes a number only and locks what it looks at.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Has all threads share this many heaps. By default glibc gives every second thread one of its own, eight for each
/// processor, and what is free in one is of no use to the others. To be called before threads are started.
pub fn share(heaps: u16) {
    #[cfg(target_env = "gnu")]
    // SAFETY: as in `keep_small`.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, heaps.into());
    }
    #[cfg(not(target_env = "gnu"))]
    let _: u16 = heaps;
}
