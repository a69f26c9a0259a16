//! The Docker door from outside. Each test has a daemon, a registry and namespaces of its own and ends with the leak
//! checker.
#![forbid(unsafe_code)]

mod compose;
mod containers;
mod copies;
mod disks;
mod doors;
mod events;
mod health;
mod http;
mod image_volumes;
mod images;
mod logs;
mod names;
mod networks;
mod options;
mod recovery;
mod restarts;
mod sdk;
mod sharing;
mod states;
mod streams;
mod system;
mod volumes;
