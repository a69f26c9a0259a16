//! Clients that have joined the container's standard streams.
//!
//! ```text
//! container ──▶ Stdio ──▶ log
//!                 └─────▶ Outputs ──▶ one pipe per client and stream
//! client's pipe ──▶ Inputs ──▶ the container's standard input
//! ```
//!
//! Nobody is waited for: what a pipe does not take is held, and while anything is held nothing more is read from where it
//! came. What is held is therefore bounded by one read for each pipe, and by what the kernel has when the container ends.

mod inputs;
mod outputs;

use std::os::fd::OwnedFd;
use std::time::Duration;

use cleat_conmon_proto::{self as proto, Failure};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

pub(crate) use inputs::Inputs;
pub(crate) use outputs::{Output, Outputs};

use crate::failure::{caused, refused};
use crate::log::StreamName;
use crate::monitor::Monitor;

/// Clients of one stream at a time.
const MAX_CLIENTS: usize = 16;

/// The descriptors that came with a request, by what they are for.
#[derive(Debug)]
struct Passed {
    stdin: Option<OwnedFd>,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
}

impl Monitor {
    /// Joins client `number` to the container's streams: to all it asks for, or to none.
    pub(crate) fn attach(
        &mut self,
        number: u32,
        asked: proto::Attach,
        descriptors: Vec<OwnedFd>,
    ) -> Result<(), Failure> {
        let passed = sort_out(asked, descriptors)?;
        if !self.container.is_alive() {
            return Err(refused("attach", "the container has ended"));
        }
        let joined = self.join(number, asked, passed);
        if joined.is_err() {
            self.inputs.disconnect(&self.poller, number);
            self.outputs.disconnect(&self.poller, number);
        }
        joined
    }

    fn join(&mut self, number: u32, asked: proto::Attach, passed: Passed) -> Result<(), Failure> {
        if self.inputs.has(number) || self.outputs.has(number) {
            return Err(refused("attach", "this connection is attached already"));
        }
        let stall_limit = asked.stall_limit_ms.map(|limit| Duration::from_millis(limit.into()));
        for (name, descriptor) in [(StreamName::Stdout, passed.stdout), (StreamName::Stderr, passed.stderr)] {
            let Some(descriptor) = descriptor else { continue };
            set_nonblocking(&descriptor)?;
            if self.stdio.is_open(name) {
                let output = Output::new(number, name, descriptor, stall_limit);
                self.outputs.add(&self.poller, output)?;
            }
        }
        if let Some(descriptor) = passed.stdin {
            set_nonblocking(&descriptor)?;
            self.inputs.add(&self.poller, number, descriptor)?;
        }
        Ok(())
    }
}

fn sort_out(asked: proto::Attach, descriptors: Vec<OwnedFd>) -> Result<Passed, Failure> {
    let step = "take descriptors of attach";
    let wanted = [asked.stdin, asked.stdout, asked.stderr];
    let count = wanted.into_iter().filter(|wanted| *wanted).count();
    if count == 0 {
        return Err(refused(step, "no stream is asked for"));
    }
    if descriptors.len() != count {
        return Err(refused(step, "not one for each stream came with it"));
    }
    let mut left = descriptors.into_iter();
    let [stdin, stdout, stderr] = wanted.map(|wanted| if wanted { left.next() } else { None });
    Ok(Passed { stdin, stdout, stderr })
}

/// The flag is the open file's: the client sees it too where it goes on using its copy.
fn set_nonblocking(descriptor: &OwnedFd) -> Result<(), Failure> {
    fcntl_getfl(descriptor)
        .and_then(|flags| fcntl_setfl(descriptor, flags | OFlags::NONBLOCK))
        .map_err(|errno| caused("take descriptors of attach", &std::io::Error::from(errno)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stream_asked_for_takes_one_descriptor_in_order() {
        let null = || OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        for bits in 0..8_u32 {
            let [stdin, stdout, stderr] = [1, 2, 4].map(|bit| bits & bit != 0);
            let asked = proto::Attach { stdin, stdout, stderr, stall_limit_ms: None };
            for count in 0..=4 {
                let sorted = sort_out(asked, (0..count).map(|_| null()).collect());
                assert_eq!(sorted.is_ok(), bits != 0 && count == bits.count_ones(), "{asked:?} {count}");
                if let Ok(passed) = sorted {
                    let given = [passed.stdin, passed.stdout, passed.stderr].map(|given| given.is_some());
                    assert_eq!(given, [stdin, stdout, stderr]);
                }
            }
        }
    }
}
