//! The memory that the running program's own file is mapped into: what of it stays, and which mount it comes from.
//!
//! [`run_from`] has it run on from another mount, without executing it anew (prctl(2), PR_SET_MM_MAP, Linux 3.18). What
//! `/proc/<pid>/exe` of a process leads to is the file by the mount that it was executed through. The kernel changes that for
//! a process that maps nothing through the old mount any more, so its segments are replaced first:
//!
//! ```text
//! code, constants    mapped anew, from the same file at the same place
//! data               copied into memory of no file, which then takes the place of the original
//! ```
//! Each replacement is one system call of the only thread, which finds the same bytes at the same addresses after it. A
//! new execution would cost a program's start once more, from its new address space to the C library's beginning.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::MetadataExt;

use crate::checked;
use crate::process::require_single_thread;

/// The prctl that describes a process's memory, and its command for all of it at once (linux/prctl.h).
const SET_MEMORY: libc::c_int = 35;
const WHOLE_MAP: libc::c_ulong = 14;

/// `struct prctl_mm_map`.
#[derive(Debug)]
#[repr(C)]
struct MemoryMap {
    code: [u64; 2],
    data: [u64; 2],
    heap: [u64; 2],
    stack: u64,
    arguments: [u64; 2],
    environment: [u64; 2],
    auxiliary: u64,
    /// None: it stays as it is.
    auxiliary_bytes: u32,
    program: u32,
}

/// Whole pages of a segment that come from the program's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Segment {
    start: usize,
    length: usize,
    offset: i64,
    flags: u32,
}

/// What the caller's memory has of its program.
#[derive(Debug, Default, PartialEq, Eq)]
struct Image {
    segments: Vec<Segment>,
    /// Pages of data that are read-only since the program's start.
    constant_data: Option<(usize, usize)>,
}

/// Has the caller run from `program`, a descriptor for reading of the very file that it runs from. Its
/// `/proc/<pid>/exe` is that descriptor's file from then on, in its children too.
///
/// Needs CAP_SYS_ADMIN or CAP_CHECKPOINT_RESTORE in the caller's user namespace (`EPERM`), a kernel with
/// CONFIG_CHECKPOINT_RESTORE (`EINVAL`) and a caller with one thread (`EBUSY`). On failure the caller runs on as before.
pub fn run_from(program: &impl AsFd) -> io::Result<()> {
    require_single_thread()?;
    let (wanted, own) = (rustix::fs::fstat(program)?, fs::metadata("/proc/self/exe")?);
    if (wanted.st_dev, wanted.st_ino) != (own.dev(), own.ino()) {
        return Err(io::Error::from_raw_os_error(libc::EXDEV));
    }
    let invalid = || io::Error::from(io::ErrorKind::InvalidData);
    let mut map = memory_map(&fs::read_to_string("/proc/self/stat")?).ok_or_else(invalid)?;
    map.program = u32::try_from(program.as_fd().as_raw_fd()).map_err(io::Error::other)?;
    let image = own_image();
    for segment in &image.segments {
        if segment.flags & libc::PF_W == 0 {
            map_anew(segment, program)?;
        } else {
            move_out_of_file(segment)?;
        }
    }
    if let Some((start, length)) = image.constant_data {
        // SAFETY: the C library had made these pages read-only, so nothing writes to them.
        checked(unsafe { libc::mprotect(start as *mut libc::c_void, length, libc::PROT_READ) }.into())?;
    }
    // From here to the end nothing may allocate: the heap's end that the kernel is told has to be the present one.
    // SAFETY: brk(2) with an address below the heap changes nothing and gives its end.
    map.heap[1] = unsafe { libc::syscall(libc::SYS_brk, 0) }.cast_unsigned();
    let bytes = std::mem::size_of::<MemoryMap>();
    // SAFETY: `map` has the layout and the length of struct prctl_mm_map and outlives the call; what it says of the
    // memory is what the kernel has just told.
    checked(unsafe { libc::prctl(SET_MEMORY, WHOLE_MAP, &raw const map, bytes, 0) }.into()).map(drop)
}

/// Lets go of the caller's code and constants that have been mapped so far; what is needed comes back out of the page cache.
///
/// For each page that is touched the kernel maps what lies around it, too (64 KiB; mm/memory.c, `do_fault_around`), so that
/// after its start a program has nearly all of itself mapped, while it goes on with little of it. To be called once that
/// start is over: each 64 KiB that is used again costs a page fault without I/O.
pub fn let_go_of_code() {
    for segment in own_image().segments.iter().filter(|segment| segment.flags & libc::PF_W == 0) {
        // SAFETY: the pages are mapped from the program's file and were never written to: what is dropped is read again
        // from the file, byte for byte the same. A refusal changes nothing.
        unsafe { libc::madvise(segment.start as *mut libc::c_void, segment.length, libc::MADV_DONTNEED) };
    }
}

/// Maps a segment without data from `program`.
fn map_anew(segment: &Segment, program: &impl AsFd) -> io::Result<()> {
    let bit = |flag: u32, protection| if segment.flags & flag == 0 { 0 } else { protection };
    let protection = bit(libc::PF_R, libc::PROT_READ) | bit(libc::PF_X, libc::PROT_EXEC);
    // SAFETY: the pages are the caller's own, nothing writes to them, and the kernel replaces them at once by the same
    // pages of the same file, which nobody can write to while it is executed.
    let mapped = unsafe {
        libc::mmap(
            segment.start as *mut libc::c_void,
            segment.length,
            protection,
            libc::MAP_PRIVATE | libc::MAP_FIXED,
            program.as_fd().as_raw_fd(),
            segment.offset,
        )
    };
    if mapped == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Puts a copy in memory in the place of a segment of data.
fn move_out_of_file(segment: &Segment) -> io::Result<()> {
    let original = segment.start as *mut libc::c_void;
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: new memory at an address of the kernel's choice.
    let copy = unsafe { libc::mmap(std::ptr::null_mut(), segment.length, protection, flags, -1, 0) };
    if copy == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: both ranges are mapped, as long as said and apart. The caller's only thread is here and changes no static
    // between the copy and its move: the kernel replaces the pages at once by others with the same bytes.
    let moved = unsafe {
        std::ptr::copy_nonoverlapping(original.cast::<u8>(), copy.cast::<u8>(), segment.length);
        let how = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
        libc::mremap(copy, segment.length, segment.length, how, original)
    };
    if moved == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The segments of the running program, by the headers that the kernel has told it of.
fn own_image() -> Image {
    // SAFETY: getauxval takes a number; the kernel gives the place and the count of the program's headers, which are
    // mapped for its whole life.
    let (headers, page_bytes) = unsafe {
        let first = libc::getauxval(libc::AT_PHDR) as *const libc::Elf64_Phdr;
        let count = libc::getauxval(libc::AT_PHNUM) as usize;
        let headers: &[libc::Elf64_Phdr] =
            if first.is_null() { &[] } else { std::slice::from_raw_parts(first, count) };
        (headers, libc::getauxval(libc::AT_PAGESZ) as usize)
    };
    image(headers, headers.as_ptr() as usize, page_bytes)
}

/// Decides about segments; `at` is where the headers are in memory.
fn image(headers: &[libc::Elf64_Phdr], at: usize, page_bytes: usize) -> Image {
    let of_headers = headers.iter().find(|header| header.p_type == libc::PT_PHDR);
    // A position-independent program is anywhere.
    let base = of_headers.map_or(0, |header| at.wrapping_sub(header.p_vaddr as usize));
    let down = |address: usize| address & !(page_bytes - 1);
    let mut image = Image::default();
    for header in headers {
        let address = base.wrapping_add(header.p_vaddr as usize);
        match header.p_type {
            libc::PT_LOAD if header.p_filesz > 0 => {
                let start = down(address);
                let end = (address + header.p_filesz as usize).next_multiple_of(page_bytes);
                let offset = (down(header.p_offset as usize) as u64).cast_signed();
                image.segments.push(Segment { start, length: end - start, offset, flags: header.p_flags });
            }
            libc::PT_GNU_RELRO => {
                let (start, end) = (down(address), down(address + header.p_memsz as usize));
                image.constant_data = (end > start).then_some((start, end - start));
            }
            _ => {}
        }
    }
    image
}

/// What `/proc/self/stat` tells of the caller's memory (proc_pid_stat(5)), without the heap's end.
fn memory_map(stat: &str) -> Option<MemoryMap> {
    // Fields are counted from behind the program's name, which may hold anything; the first there is number 3.
    let fields: Vec<u64> =
        stat.rsplit_once(')')?.1.split_whitespace().map(|field| field.parse().unwrap_or(0)).collect();
    let field = |number: usize| fields.get(number - 3).copied();
    Some(MemoryMap {
        code: [field(26)?, field(27)?],
        stack: field(28)?,
        data: [field(45)?, field(46)?],
        heap: [field(47)?, 0],
        arguments: [field(48)?, field(49)?],
        environment: [field(50)?, field(51)?],
        auxiliary: 0,
        auxiliary_bytes: 0,
        program: 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(p_type: u32, p_flags: u32, place: [u64; 3], p_memsz: u64) -> libc::Elf64_Phdr {
        let [p_offset, p_vaddr, p_filesz] = place;
        libc::Elf64_Phdr { p_type, p_flags, p_offset, p_vaddr, p_paddr: 0, p_filesz, p_memsz, p_align: 4096 }
    }

    #[test]
    fn segments_are_whole_pages_of_the_file_wherever_the_program_is() {
        let (code, data) = (libc::PF_R | libc::PF_X, libc::PF_R | libc::PF_W);
        let headers = [
            header(libc::PT_PHDR, libc::PF_R, [0x40, 0x20_0040, 0x230], 0x230),
            header(libc::PT_LOAD, code, [0xf_1040, 0x2f_2040, 0x1fc0], 0x1fc0),
            header(libc::PT_LOAD, data, [0x38_0690, 0x58_2690, 0x3c78], 0x4970),
            header(libc::PT_LOAD, data, [0, 0x60_0000, 0], 0x1000),
            header(libc::PT_GNU_RELRO, libc::PF_R, [0x38_0690, 0x58_2690, 0x3c78], 0x4970),
        ];
        for base in [0, 0x7000_0000] {
            let expected = Image {
                segments: vec![
                    Segment { start: base + 0x2f_2000, length: 0x2000, offset: 0xf_1000, flags: code },
                    Segment { start: base + 0x58_2000, length: 0x5000, offset: 0x38_0000, flags: data },
                ],
                constant_data: Some((base + 0x58_2000, 0x5000)),
            };
            assert_eq!(image(&headers, base + 0x20_0040, 4096), expected);
        }
    }

    #[test]
    fn memory_is_found_behind_any_name() {
        let numbers: Vec<String> = (4..=52).map(|number: u32| number.to_string()).collect();
        let map = memory_map(&format!("7 (a) b) S {}", numbers.join(" "))).unwrap();
        assert_eq!((map.code, map.data, map.heap), ([26, 27], [45, 46], [47, 0]));
        assert_eq!((map.stack, map.arguments, map.environment), (28, [48, 49], [50, 51]));
        assert!(memory_map("7 (a) S 1 2").is_none());
    }

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
