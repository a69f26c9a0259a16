//! Bad input: each is refused with the code its clients act upon and a message that names operation, object and cause,
//! and leaves nothing behind.

mod containers;
mod ground;
mod limits;
mod objects;
mod pods;
mod programs;
