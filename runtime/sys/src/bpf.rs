//! Device programs of cgroup v2 (`BPF_PROG_TYPE_CGROUP_DEVICE`, Linux 4.15).

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use crate::checked;

/// `BPF_PROG_LOAD` of bpf(2).
const PROG_LOAD: libc::c_int = 5;
/// `BPF_PROG_ATTACH` of bpf(2).
const PROG_ATTACH: libc::c_int = 8;
/// `BPF_PROG_TYPE_CGROUP_DEVICE`.
const TYPE_CGROUP_DEVICE: u32 = 15;
/// `BPF_CGROUP_DEVICE`.
const ATTACH_CGROUP_DEVICE: u32 = 6;
/// `BPF_F_ALLOW_MULTI`: the programs of all ancestors have to agree.
const ALLOW_MULTI: u32 = 2;
/// Bytes of one instruction (`struct bpf_insn`).
const INSTRUCTION_BYTES: usize = 8;

/// The leading fields of `union bpf_attr` for `BPF_PROG_LOAD`.
#[repr(C)]
struct Load {
    kind: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
}

/// The leading fields of `union bpf_attr` for `BPF_PROG_ATTACH`.
#[repr(C)]
struct Attach {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
}

/// Checks and loads a device program (an array of `struct bpf_insn` as bytes).
pub fn load_device_program(program: &[u8]) -> io::Result<OwnedFd> {
    let request = Load {
        kind: TYPE_CGROUP_DEVICE,
        instruction_count: u32::try_from(program.len() / INSTRUCTION_BYTES).map_err(io::Error::other)?,
        instructions: program.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
    };
    // SAFETY: the kernel reads `instruction_count` instructions within `program` and the static license string.
    let fd = unsafe { call(PROG_LOAD, &request) }?;
    let raw = i32::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: BPF_PROG_LOAD gives a new close-on-exec descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// Attaches a device program to a cgroup v2 folder; it stays as long as the cgroup does.
pub fn attach_device_program(cgroup: &impl AsFd, program: &impl AsFd) -> io::Result<()> {
    let number = |fd: &dyn AsRawFd| u32::try_from(fd.as_raw_fd()).map_err(io::Error::other);
    let request = Attach {
        target: number(&cgroup.as_fd())?,
        program: number(&program.as_fd())?,
        kind: ATTACH_CGROUP_DEVICE,
        flags: ALLOW_MULTI,
    };
    // SAFETY: the request holds no pointer.
    unsafe { call(PROG_ATTACH, &request) }.map(|_| ())
}

/// # Safety
/// `request` has to be the leading part of `union bpf_attr` for `command`, and every pointer in it valid.
unsafe fn call<T>(command: libc::c_int, request: &T) -> io::Result<libc::c_long> {
    // SAFETY: the size says how much of the union is there; the kernel takes the rest as zero. See above.
    checked(unsafe {
        libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(request), std::mem::size_of::<T>())
    })
}
