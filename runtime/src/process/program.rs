//! Finding and executing the program.

use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{Access, AtFlags, CWD, FileType};
use rustix::io::Errno;

use super::{Prepared, load_filter};
use crate::Failure;
use crate::failure::Step;
use crate::spec::ProcessPlan;

/// Where programs are looked for when the environment does not say.
const DEFAULT_PATH: &[u8] = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Where the plan's program is, in the caller's root and as the caller's user: as it stands where it has a slash, else
/// in the folders of PATH.
pub(super) fn find(plan: &ProcessPlan) -> Result<CString, Failure> {
    let name = &plan.arguments[0];
    let step = || format!("execute {}", name.to_string_lossy());
    if name.as_bytes().contains(&b'/') {
        return check(name).map(|()| name.clone()).step(step);
    }
    let path = plan.variable("PATH").filter(|path| !path.is_empty()).unwrap_or(DEFAULT_PATH);
    let mut outcome = Errno::NOENT;
    for folder in path.split(|byte| *byte == b':') {
        // An empty entry means the working folder, a well-known trap: it is passed over.
        if folder.is_empty() {
            continue;
        }
        let candidate = Path::new(OsStr::from_bytes(folder)).join(OsStr::from_bytes(name.as_bytes()));
        let candidate = CString::new(candidate.as_os_str().as_bytes()).step(step)?;
        match check(&candidate) {
            Ok(()) => return Ok(candidate),
            Err(Errno::ACCESS) => outcome = Errno::ACCESS,
            Err(_) => {}
        }
    }
    Err(outcome).step(step)
}

/// Whether the file is there and may be executed.
fn check(path: &CString) -> Result<(), Errno> {
    rustix::fs::accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS)?;
    let mode = rustix::fs::stat(path)?.st_mode;
    if FileType::from_raw_mode(mode) == FileType::RegularFile { Ok(()) } else { Err(Errno::ACCESS) }
}

/// Executes the program. Returns on failure only.
pub(crate) fn execute(prepared: Prepared) -> Failure {
    let program = match prepared.program {
        Ok(program) => program,
        Err(failure) => return failure,
    };
    if let Some(Err(failure)) = prepared.late_filter.as_ref().map(load_filter) {
        return failure;
    }
    let error = cleat_sys::process::execute(&program, &prepared.arguments, &prepared.environment);
    Failure::new(format!("execute {}", program.to_string_lossy()), &error)
}
