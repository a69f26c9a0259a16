//! Heaps of processes that live long and need little, or live milliseconds: the C library's, tuned, and one of our own
//! choice for the small programs.

use std::alloc::{GlobalAlloc, Layout};
use std::ptr;

use dlmalloc::GlobalDlmalloc;

/// From here on an allocation of [`Heap`] has pages of its own, which go back to the kernel when it is freed.
const LARGE_BYTES: usize = 64 << 10;

/// The heap of the small programs: what is small comes out of few large pieces, what is large is mapped by itself.
///
/// musl's own heap keeps nothing that it could give back. A process that ends after milliseconds pays for that with a
/// system call at every other step; and a monitor needs it for large messages only.
#[derive(Debug)]
pub struct Heap;

impl Heap {
    fn of(bytes: usize) -> &'static dyn GlobalAlloc {
        if bytes < LARGE_BYTES { &GlobalDlmalloc } else { &Pages }
    }
}

// SAFETY: an allocation is made, grown and freed by the heap that its own size names, so that each of the two heaps meets
// its own memory alone; both keep what GlobalAlloc promises.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise about the layout is passed on.
        unsafe { Self::of(layout.size()).alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as in `alloc`.
        unsafe { Self::of(layout.size()).alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: `memory` was allocated with this layout, so by this heap.
        unsafe { Self::of(layout.size()).dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        if (layout.size() < LARGE_BYTES) == (bytes < LARGE_BYTES) {
            // SAFETY: as in `dealloc`; before and after it is the same heap.
            return unsafe { Self::of(bytes).realloc(memory, layout, bytes) };
        }
        // SAFETY: the new layout is valid by the caller's promise. Both pieces are at least as long as what is copied, and
        // apart; the old one is freed only when there is a new one.
        unsafe {
            let moved = self.alloc(Layout::from_size_align_unchecked(bytes, layout.align()));
            if !moved.is_null() {
                moved.copy_from_nonoverlapping(memory, layout.size().min(bytes));
                self.dealloc(memory, layout);
            }
            moved
        }
    }
}

/// Allocations that are whole pages of the kernel's, each mapped by itself.
struct Pages;

// SAFETY: what is mapped is new memory of at least the wanted size, at the start of a page; nothing is aligned to more.
unsafe impl GlobalAlloc for Pages {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        const SMALLEST_PAGE: usize = 4096;
        if layout.align() > SMALLEST_PAGE {
            return ptr::null_mut();
        }
        let (protection, flags) =
            (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: new memory at an address of the kernel's choice.
        found(unsafe { libc::mmap(ptr::null_mut(), layout.size(), protection, flags, -1, 0) })
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise is passed on; the kernel's new pages are zeros.
        unsafe { self.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller gives up what `alloc` or `realloc` mapped, with its size. Nothing can be done about a refusal.
        unsafe { libc::munmap(memory.cast(), layout.size()) };
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        // SAFETY: as in `dealloc`; the kernel moves the pages, and leaves them where they are when it refuses.
        found(unsafe { libc::mremap(memory.cast(), layout.size(), bytes, libc::MREMAP_MAYMOVE) })
    }
}

/// A mapping as an allocator tells of it.
fn found(mapped: *mut libc::c_void) -> *mut u8 {
    if mapped == libc::MAP_FAILED { ptr::null_mut() } else { mapped.cast() }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_allocation_keeps_its_bytes_across_both_heaps() {
        let mut bytes = 1;
        let mut layout = Layout::from_size_align(bytes, 8).unwrap();
        // SAFETY: each layout is the one that the memory was allocated with last, and reads stay within it.
        unsafe {
            let mut memory = Heap.alloc_zeroed(layout);
            assert_eq!(memory.read(), 0);
            for wanted in
                [100, LARGE_BYTES - 1, LARGE_BYTES, 5 * LARGE_BYTES, LARGE_BYTES, LARGE_BYTES - 1, 100, 1]
            {
                for offset in 0..bytes {
                    memory.add(offset).write((offset % 251) as u8);
                }
                memory = Heap.realloc(memory, layout, wanted);
                layout = Layout::from_size_align(wanted, 8).unwrap();
                for offset in 0..bytes.min(wanted) {
                    assert_eq!(
                        memory.add(offset).read(),
                        (offset % 251) as u8,
                        "{offset} of {bytes} to {wanted}"
                    );
                }
                bytes = wanted;
            }
            Heap.dealloc(memory, layout);
        }
    }
}
