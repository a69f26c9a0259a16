//! The memory that the running program's own file is mapped into.

use std::ffi::c_int;

/// Lets go of the program's code and constants that have been mapped so far; what is needed comes back out of the page cache.
///
/// For each page that is touched the kernel maps what lies around it, too (64 KiB; mm/memory.c, `do_fault_around`), so that
/// after its start a program has nearly all of itself mapped, while it goes on with little of it. To be called once that
/// start is over: each 64 KiB that is used again costs a page fault without I/O.
pub fn let_go_of_code() {
    // SAFETY: the callback only reads what it is given, and its data pointer is not used.
    unsafe { libc::dl_iterate_phdr(Some(let_go_of_object), std::ptr::null_mut()) };
}

/// Lets go of the first object, which is the program itself (dl_iterate_phdr(3)), and ends the iteration by answering 1.
unsafe extern "C" fn let_go_of_object(
    object: *mut libc::dl_phdr_info,
    _: libc::size_t,
    _: *mut libc::c_void,
) -> c_int {
    // SAFETY: the C library hands out a valid object, whose program headers stay where they are as long as it is loaded.
    let (base, headers) = unsafe {
        let object = &*object;
        (object.dlpi_addr, std::slice::from_raw_parts(object.dlpi_phdr, object.dlpi_phnum.into()))
    };
    for header in
        headers.iter().filter(|header| header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_W == 0)
    {
        let page = page_bytes();
        let start = (base + header.p_vaddr) & !(page - 1);
        let bytes = (base + header.p_vaddr + header.p_memsz).next_multiple_of(page) - start;
        // SAFETY: the range is a segment mapped from the program's file that was never written to: what is dropped is read
        // again from the file, byte for byte the same. A refusal changes nothing.
        unsafe { libc::madvise(start as *mut libc::c_void, bytes as usize, libc::MADV_DONTNEED) };
    }
    1
}

fn page_bytes() -> u64 {
    // SAFETY: sysconf takes a number and answers one.
    let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    u64::try_from(bytes).unwrap_or(4096)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// KB of the test program's own file that are mapped and present.
    fn present_kb() -> u64 {
        let program = std::env::current_exe().unwrap();
        let smaps = fs::read_to_string("/proc/self/smaps").unwrap();
        let mut own = false;
        let mut sum = 0;
        for line in smaps.lines() {
            match line.split_whitespace().collect::<Vec<_>>()[..] {
                ["Rss:", kb, "kB"] if own => sum += kb.parse::<u64>().unwrap(),
                [range, permissions, _, _, _, path] if range.contains('-') => {
                    own = program.to_str() == Some(path) && !permissions.contains('w');
                }
                [range, ..] if range.contains('-') && !range.ends_with(':') => own = false,
                _ => {}
            }
        }
        sum
    }

    #[test]
    fn code_goes_and_comes_back() {
        let before = present_kb();
        let_go_of_code();
        let after = present_kb();
        assert!(after < before, "{after} KB of {before} KB are present");
        // What constants and code say is the same as before.
        assert_eq!(format!("{:?}", "12".parse::<u8>()), "Ok(12)");
    }
}
