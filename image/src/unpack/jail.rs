//! A layer is unpacked by a thread of its own that has given up what unpacking does not need.
//!
//! - Landlock (Linux 5.19, ABI 2, which has renames and links between folders): it can open, make, change and remove files
//!   in the layer's two folders and nowhere else, whatever path it is led to.
//! - seccomp: it can make no socket and no connection, start no program, mount nothing, change no namespace, and look into
//!   no other process.
//!
//! Both bind the calling thread only and cannot be taken back, so the thread ends with the layer; that costs a fraction of
//! a millisecond where a process would cost several. It is a second wall behind descriptors and `openat2`: against a
//! mistake in the handling of paths. It shares its memory with the daemon, so a decompressor that is subverted is hindered
//! by it, not contained.

use std::io::{self, BufRead};
use std::os::fd::BorrowedFd;
use std::sync::OnceLock;

use landlock::{
    ABI, Access, AccessFs, BitFlags, CompatLevel, Compatible, PathBeneath, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetError, RulesetStatus,
};
use nix::libc;

use super::{Destination, UnpackError, UnpackLimits, Unpacked, unpack_layer};
use crate::reference::Algorithm;

/// What confines unpacking on this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Confinement {
    /// Landlock keeps it in the layer's folders.
    pub files: bool,
    /// seccomp keeps it from networks, programs and mounts.
    pub calls: bool,
}

/// The interface with renames and links between folders.
const NEEDED: ABI = ABI::V2;

/// What the thread has no use for. Everything else that it could do needs one of these, or a file it cannot open.
const DENIED: [libc::c_long; 34] = [
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_sendmmsg,
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_io_uring_setup,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_pidfd_send_signal,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_open_by_handle_at,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_kexec_load,
    libc::SYS_userfaultfd,
];

/// What confines unpacking here: found out at the first call, on a thread of its own.
pub fn confinement() -> Confinement {
    static FOUND: OnceLock<Confinement> = OnceLock::new();
    *FOUND.get_or_init(|| {
        let tried = std::thread::spawn(|| {
            let calls = deny_calls().is_ok();
            let root = rustix::fs::open(".", rustix::fs::OFlags::PATH, rustix::fs::Mode::empty());
            let files = root.is_ok_and(|root| {
                use std::os::fd::AsFd;
                matches!(restrict_files(&[root.as_fd()]), Ok(true))
            });
            Confinement { files, calls }
        });
        tried.join().unwrap_or(Confinement { files: false, calls: false })
    })
}

/// [`unpack_layer`] on a confined thread; what this host cannot confine is left open, see [`confinement`]. A step of it
/// that fails where the host can is an error.
pub fn unpack_confined<'a>(
    source: impl BufRead + Send,
    compressed_bytes: u64,
    destination: impl Into<Destination<'a>>,
    algorithm: Algorithm,
    limits: &UnpackLimits,
) -> Result<Unpacked, UnpackError> {
    let destination: Destination<'_> = destination.into();
    let work = move || {
        confine(&destination).map_err(UnpackError::Confine)?;
        unpack_layer(source, compressed_bytes, destination, algorithm, limits)
    };
    std::thread::scope(|scope| {
        let builder = std::thread::Builder::new().name("unpack".to_owned());
        let thread = builder.spawn_scoped(scope, work).map_err(UnpackError::Confine)?;
        thread.join().unwrap_or(Err(UnpackError::Lost))
    })
}

fn confine(destination: &Destination<'_>) -> io::Result<()> {
    let can = confinement();
    if can.calls {
        deny_calls()?;
    }
    if can.files {
        let folders: Vec<_> = [Some(destination.tree), destination.kept].into_iter().flatten().collect();
        restrict_files(&folders).map_err(io::Error::other)?;
    }
    Ok(())
}

/// Let the calling thread reach files in `folders` only; false if the kernel cannot.
fn restrict_files(folders: &[BorrowedFd<'_>]) -> Result<bool, RulesetError> {
    // Later kernels' rights are taken where they are there; those of the needed interface have to be.
    let needed: BitFlags<AccessFs> = AccessFs::from_all(NEEDED);
    let ruleset = Ruleset::default().set_compatibility(CompatLevel::HardRequirement).handle_access(needed);
    let Ok(ruleset) = ruleset else { return Ok(false) };
    let all = AccessFs::from_all(ABI::V5);
    let mut ruleset =
        ruleset.set_compatibility(CompatLevel::BestEffort).handle_access(all)?.create()?.no_new_privs(true);
    for folder in folders {
        ruleset = ruleset.add_rule(PathBeneath::new(folder, all))?;
    }
    Ok(ruleset.restrict_self()?.ruleset != RulesetStatus::NotEnforced)
}

/// Refuse [`DENIED`] to the calling thread, with EPERM.
fn deny_calls() -> io::Result<()> {
    if AUDIT_ARCH == 0 {
        return Err(io::ErrorKind::Unsupported.into());
    }
    nix::sys::prctl::set_no_new_privs()?;
    cleat_sys::seccomp::load(&filter(), 0).map(drop)
}

/// One instruction of classic BPF (`struct sock_filter`) in the host's byte order.
fn instruction(code: u32, (if_true, if_false): (u8, u8), operand: u32) -> [u8; 8] {
    let [c0, c1] = u16::try_from(code).unwrap_or(0).to_ne_bytes();
    let [k0, k1, k2, k3] = operand.to_ne_bytes();
    [c0, c1, if_true, if_false, k0, k1, k2, k3]
}

/// The filter: another architecture's calls and x32's are refused altogether, since their numbers mean other things.
fn filter() -> Vec<u8> {
    const LOAD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    const EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    const AT_LEAST: u32 = libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K;
    const RETURN: u32 = libc::BPF_RET | libc::BPF_K;
    /// Offsets in `struct seccomp_data`.
    const NUMBER: u32 = 0;
    const ARCHITECTURE: u32 = 4;
    /// Numbers of x32 begin here; no other architecture reaches them.
    const X32_BIT: u32 = 0x4000_0000;
    let refuse = libc::SECCOMP_RET_ERRNO | libc::EPERM.cast_unsigned();
    let count = u8::try_from(DENIED.len()).unwrap_or(u8::MAX);
    let mut program = vec![
        instruction(LOAD, (0, 0), ARCHITECTURE),
        // Jumps count from the next instruction: the refusal is the last one.
        instruction(EQUAL, (0, count + 3), AUDIT_ARCH),
        instruction(LOAD, (0, 0), NUMBER),
        instruction(AT_LEAST, (count + 1, 0), X32_BIT),
    ];
    for (at, call) in DENIED.iter().enumerate() {
        let left = count - u8::try_from(at).unwrap_or(0);
        program.push(instruction(EQUAL, (left, 0), u32::try_from(*call).unwrap_or(u32::MAX)));
    }
    program.push(instruction(RETURN, (0, 0), libc::SECCOMP_RET_ALLOW));
    program.push(instruction(RETURN, (0, 0), refuse));
    program.concat()
}

/// `AUDIT_ARCH_*` (linux/audit.h) of the architecture this program is built for; 0 if that is not known here.
const AUDIT_ARCH: u32 = if cfg!(target_arch = "x86_64") {
    0xc000_003e
} else if cfg!(target_arch = "aarch64") {
    0xc000_00b7
} else if cfg!(target_arch = "riscv64") {
    0xc000_00f3
} else {
    0
};

#[cfg(test)]
mod tests {
    use std::fs;
    use std::net::TcpListener;
    use std::os::fd::AsFd;
    use std::process::Command;

    use super::*;

    /// A thread that is confined to a folder, and what it then can do.
    fn confined<T: Send>(folder: &fs::File, work: impl FnOnce() -> T + Send) -> T {
        let destination = Destination::from(folder.as_fd());
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                confine(&destination).unwrap();
                work()
            });
            thread.join().unwrap()
        })
    }

    #[test]
    fn a_confined_thread_has_no_network_and_starts_nothing() {
        assert!(confinement().calls, "every kernel this runs on has seccomp");
        let base = tempfile::tempdir().unwrap();
        let folder = fs::File::open(base.path()).unwrap();
        let (listening, running) = confined(&folder, || {
            (TcpListener::bind("127.0.0.1:0").map(drop), Command::new("true").status().map(drop))
        });
        assert_eq!(listening.unwrap_err().raw_os_error(), Some(libc::EPERM));
        assert!(running.is_err());
        assert!(TcpListener::bind("127.0.0.1:0").is_ok(), "other threads are not confined");
    }

    #[test]
    fn a_confined_thread_reaches_its_folder_only() {
        let base = tempfile::tempdir().unwrap();
        let (inside, outside) = (base.path().join("inside"), base.path().join("outside"));
        fs::create_dir_all(inside.join("a")).unwrap();
        fs::create_dir(inside.join("b")).unwrap();
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("file"), "kept").unwrap();
        let folder = fs::File::open(&inside).unwrap();
        let (wrote, moved, linked, escaped, read) = confined(&folder, || {
            (
                fs::write(inside.join("a/file"), "x"),
                fs::rename(inside.join("a/file"), inside.join("b/file")),
                fs::hard_link(inside.join("b/file"), inside.join("a/link")),
                fs::write(outside.join("file"), "changed"),
                fs::read(outside.join("file")).map(drop),
            )
        });
        wrote.and(moved).and(linked).unwrap();
        if confinement().files {
            assert!(escaped.is_err() && read.is_err(), "Landlock is there and does not hold");
            assert_eq!(fs::read(outside.join("file")).unwrap(), b"kept");
        } else {
            // Nothing to hold it: the test says so by failing if a wall appears that is not reported.
            assert!(escaped.is_ok() && read.is_ok());
        }
    }
}
