//! What a reset leaves of signal dispositions. In a program of its own: they belong to the whole process.
#![allow(unsafe_code)]

use std::fs;

/// Field `name` of our `/proc/self/status`, a mask in hexadecimal digits.
fn mask(name: &str) -> u64 {
    let text = fs::read_to_string("/proc/thread-self/status").expect("procfs is mounted");
    let field =
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).expect("the field is there");
    u64::from_str_radix(field.trim(), 16).expect("the field is a mask")
}

#[test]
fn what_was_ignored_is_reset_the_c_librarys_own_numbers_too() {
    let ignore = [libc::SIG_IGN as u64, 0, 0, 0];
    for number in [libc::SIGHUP, 32, 33, 34, 64] {
        // SAFETY: the array is as long as the kernel's struct sigaction, and no handler is installed.
        let result = unsafe {
            libc::syscall(libc::SYS_rt_sigaction, number, ignore.as_ptr(), std::ptr::null_mut::<u64>(), 8)
        };
        assert_eq!(result, 0, "signal {number}");
        assert_ne!(mask("SigIgn") & 1 << (number - 1), 0, "signal {number} is ignored");
    }
    cleat_sys::signal::reset().unwrap();
    assert_eq!((mask("SigIgn"), mask("SigBlk")), (0, 0));
}
