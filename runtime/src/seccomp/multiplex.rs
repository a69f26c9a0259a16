//! Calls that i386 programs can also make through `socketcall(2)` and `ipc(2)`: a rule on the one must hold for the
//! other, or it could be walked around.

use super::architecture::{Architecture, Call};
use super::condition::{Clause, Condition, Test};

/// A call by its detour: which multiplexer, and the value of its first argument.
type Detour = (&'static str, u64);

const SOCKETCALL: &str = "socketcall";
const IPC: &str = "ipc";

/// `ipc(2)` takes a version in the upper half of its first argument, which does not change what is called.
const IPC_CALL_MASK: u64 = 0xffff;

/// Names and their detours (`linux/net.h`, `linux/ipc.h`), sorted by name.
const DETOURS: [(&str, Detour); 33] = [
    ("accept", (SOCKETCALL, 5)),
    ("accept4", (SOCKETCALL, 18)),
    ("bind", (SOCKETCALL, 2)),
    ("connect", (SOCKETCALL, 3)),
    ("getpeername", (SOCKETCALL, 7)),
    ("getsockname", (SOCKETCALL, 6)),
    ("getsockopt", (SOCKETCALL, 15)),
    ("listen", (SOCKETCALL, 4)),
    ("msgctl", (IPC, 14)),
    ("msgget", (IPC, 13)),
    ("msgrcv", (IPC, 12)),
    ("msgsnd", (IPC, 11)),
    ("recv", (SOCKETCALL, 10)),
    ("recvfrom", (SOCKETCALL, 12)),
    ("recvmmsg", (SOCKETCALL, 19)),
    ("recvmmsg_time64", (SOCKETCALL, 19)),
    ("recvmsg", (SOCKETCALL, 17)),
    ("semctl", (IPC, 3)),
    ("semget", (IPC, 2)),
    ("semop", (IPC, 1)),
    ("semtimedop", (IPC, 4)),
    ("send", (SOCKETCALL, 9)),
    ("sendmmsg", (SOCKETCALL, 20)),
    ("sendmsg", (SOCKETCALL, 16)),
    ("sendto", (SOCKETCALL, 11)),
    ("setsockopt", (SOCKETCALL, 14)),
    ("shmat", (IPC, 21)),
    ("shmctl", (IPC, 24)),
    ("shmdt", (IPC, 22)),
    ("shmget", (IPC, 23)),
    ("shutdown", (SOCKETCALL, 13)),
    ("socket", (SOCKETCALL, 1)),
    ("socketpair", (SOCKETCALL, 8)),
];

/// The number of the multiplexer through which `call` can also be made, and the clause that holds there for `clause`.
///
/// A multiplexer's further arguments are a pointer, which no filter follows. A condition on them cannot be carried
/// over: a clause that refuses then refuses the detour altogether, one that permits does not open it (`permits`).
pub(super) fn detour(
    architecture: Architecture,
    call: Call<'_>,
    clause: &Clause,
    permits: bool,
) -> Option<(u32, Clause)> {
    if architecture != Architecture::X86 || (permits && !clause.conditions.is_empty()) {
        return None;
    }
    let found = DETOURS.binary_search_by_key(&call.name, |(name, _)| name).ok()?;
    let (_, (multiplexer, value)) = &DETOURS[found];
    let number = Call::named(multiplexer).number(architecture)?;
    let test = if *multiplexer == IPC { Test::Masked(IPC_CALL_MASK) } else { Test::Equal };
    let condition = Condition { argument: 0, test, value: *value, narrow: true };
    Some((number, Clause { conditions: vec![condition], verdict: clause.verdict }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clause(conditions: Vec<Condition>) -> Clause {
        Clause { conditions, verdict: 7 }
    }

    #[test]
    fn the_detours_are_sorted() {
        assert!(DETOURS.is_sorted_by(|(one, _), (other, _)| one < other));
    }

    #[test]
    fn only_i386_has_detours() {
        for architecture in
            [Architecture::X86_64, Architecture::X32, Architecture::Aarch64, Architecture::Arm]
        {
            assert_eq!(detour(architecture, Call::named("socket"), &clause(vec![]), false), None);
        }
        assert_eq!(detour(Architecture::X86, Call::named("read"), &clause(vec![]), false), None);
        for (name, number) in [("socket", 102), ("shmctl", 117)] {
            let found = detour(Architecture::X86, Call::named(name), &clause(vec![]), true).unwrap();
            assert_eq!((found.0, found.1.verdict, found.1.conditions.len()), (number, 7, 1), "{name}");
        }
    }

    #[test]
    fn a_condition_closes_a_detour_but_does_not_open_it() {
        let condition = Condition { argument: 0, test: Test::Equal, value: 38, narrow: true };
        let socket = Call::named("socket");
        let refusing = detour(Architecture::X86, socket, &clause(vec![condition]), false).unwrap().1;
        assert_eq!(refusing.conditions, [Condition { value: 1, ..condition }]);
        assert_eq!(detour(Architecture::X86, socket, &clause(vec![condition]), true), None);
    }
}
