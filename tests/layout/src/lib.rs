//! Rules about the source tree itself: who may import whom, and what every file has to have.
//!
//! They are the part of the design that a compiler does not check. A rule is changed here together with
//! ARCHITECTURE.md, never worked around.
#![forbid(unsafe_code)]

#[cfg(test)]
mod files;
#[cfg(test)]
mod imports;
#[cfg(test)]
mod named_tests;
#[cfg(test)]
mod workspace;
