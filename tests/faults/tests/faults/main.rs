//! Daemons and monitors killed at any moment, and many pods at once. Each test ends with the leak checker.
#![forbid(unsafe_code)]

mod crashes;
mod downtime;
mod full_disk;
mod hung_volume;
mod monitors;
mod multitude;
