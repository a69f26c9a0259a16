//! Entry point and system calls of the pause program on 64-bit ARM.

/// System call numbers.
pub(crate) mod number {
    pub(crate) const EXIT_GROUP: usize = 94;
    pub(crate) const RT_SIGPROCMASK: usize = 135;
    pub(crate) const RT_SIGTIMEDWAIT: usize = 137;
    pub(crate) const WAIT4: usize = 260;
}

// The kernel enters with an aligned stack; frame pointer and link register end the call chain.
core::arch::global_asm!(
    ".section .text._start,\"ax\",%progbits",
    ".globl _start",
    "_start:",
    "mov x29, #0",
    "mov x30, #0",
    "bl {main}",
    "brk #1",
    ".text",
    main = sym crate::cleat_pause_main,
);

/// # Safety
/// The arguments have to be what the system call asks for.
pub(crate) unsafe fn system_call(number: usize, a: usize, b: usize, c: usize, d: usize) -> isize {
    let result: isize;
    // SAFETY: the caller vouches for the arguments; the kernel preserves every register but x0.
    unsafe {
        core::arch::asm!(
            "svc #0",
            in("x8") number,
            inlateout("x0") a => result,
            in("x1") b,
            in("x2") c,
            in("x3") d,
            options(nostack),
        );
    }
    result
}
