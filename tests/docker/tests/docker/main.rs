//! The Docker door from outside. Each test has a daemon, a registry and namespaces of its own and ends with the leak
//! checker.
#![forbid(unsafe_code)]

mod containers;
mod doors;
mod http;
mod images;
mod recovery;
mod states;
mod streams;
mod system;
