//! `cleat-runtime`: the OCI runtime's command line, compatible with runc's.
//!
//! Thin over the library: a command parses its arguments, finds or makes the container's state folder, and calls the
//! library. Errors end up here, on standard error and in the `--log` file.
#![forbid(unsafe_code)]

mod command;

use std::process::ExitCode;

#[global_allocator]
static HEAP: cleat_sys::heap::Heap = cleat_sys::heap::Heap;

fn main() -> ExitCode {
    command::main()
}
