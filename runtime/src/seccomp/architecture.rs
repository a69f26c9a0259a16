//! The architectures whose programs a filter can judge, and their names for system calls.

use oci_spec::runtime::Arch;

use super::numbers::{ABSENT, NUMBERS};

/// The bit by which x32 calls differ from x86-64 ones, made for the same architecture as far as seccomp can tell.
pub(super) const X32_BIT: u32 = 0x4000_0000;

/// Where the private calls of 32-bit Arm start, far above all others (`__ARM_NR_BASE`).
pub(super) const ARM_PRIVATE_BASE: u32 = 0xf_0000;

/// Private calls of 32-bit Arm.
const ARM_PRIVATE: [(&str, u32); 6] = [
    ("breakpoint", 0xf_0001),
    ("cacheflush", 0xf_0002),
    ("usr26", 0xf_0003),
    ("usr32", 0xf_0004),
    ("set_tls", 0xf_0005),
    ("get_tls", 0xf_0006),
];

/// An architecture; the discriminant is its column in the table of numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Architecture {
    X86_64 = 0,
    X86 = 1,
    X32 = 2,
    Aarch64 = 3,
    Arm = 4,
}

/// A call's row in the table, for one lookup by name and many by architecture.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call<'a> {
    pub(super) name: &'a str,
    row: Option<&'static [u16; 5]>,
}

impl Architecture {
    /// The one this program runs on.
    pub(super) fn native() -> Option<Self> {
        match std::env::consts::ARCH {
            "x86_64" => Some(Self::X86_64),
            "x86" => Some(Self::X86),
            "aarch64" => Some(Self::Aarch64),
            "arm" => Some(Self::Arm),
            _ => None,
        }
    }

    /// The architecture of a specification; `None` for those without a table, whose programs no machine with a table
    /// can run.
    pub(super) fn from_oci(arch: Arch, native: Self) -> Option<Self> {
        match arch {
            Arch::ScmpArchNative => Some(native),
            Arch::ScmpArchX86_64 => Some(Self::X86_64),
            Arch::ScmpArchX86 => Some(Self::X86),
            Arch::ScmpArchX32 => Some(Self::X32),
            Arch::ScmpArchAarch64 => Some(Self::Aarch64),
            Arch::ScmpArchArm => Some(Self::Arm),
            _ => None,
        }
    }

    /// The value of `seccomp_data.arch` (`AUDIT_ARCH_*`).
    pub(super) fn token(self) -> u32 {
        match self {
            Self::X86_64 | Self::X32 => 0xc000_003e,
            Self::X86 => 0x4000_0003,
            Self::Aarch64 => 0xc000_00b7,
            Self::Arm => 0x4000_0028,
        }
    }

    /// Whether arguments have 32 bits. x32 passes 64-bit registers, of which its kernel side takes what the call needs.
    pub(super) fn is_32_bit(self) -> bool {
        matches!(self, Self::X86 | Self::X32 | Self::Arm)
    }

    /// What all numbers of the architecture have set.
    pub(super) fn base(self) -> u32 {
        if self == Self::X32 { X32_BIT } else { 0 }
    }
}

impl<'a> Call<'a> {
    /// Looks a name up.
    pub(super) fn named(name: &'a str) -> Self {
        let row = NUMBERS.binary_search_by_key(&name, |(known, _)| known).ok().map(|index| &NUMBERS[index].1);
        Self { name, row }
    }

    /// Its number on an architecture, if it has one there.
    pub(super) fn number(self, architecture: Architecture) -> Option<u32> {
        let in_table = self.row.map(|row| row[architecture as usize]).filter(|&number| number != ABSENT);
        match in_table {
            Some(number) => Some(u32::from(number) | architecture.base()),
            None if architecture == Architecture::Arm => self.private_number(),
            None => None,
        }
    }

    fn private_number(self) -> Option<u32> {
        ARM_PRIVATE.iter().find(|(known, _)| *known == self.name).map(|(_, number)| *number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted() {
        assert!(NUMBERS.is_sorted_by(|(one, _), (other, _)| one < other));
    }

    #[test]
    fn calls_have_their_numbers() {
        use Architecture::{Aarch64, Arm, X32, X86, X86_64};
        for (name, architecture, expected) in [
            ("read", X86_64, Some(0)),
            ("read", X86, Some(3)),
            ("read", X32, Some(X32_BIT)),
            ("read", Aarch64, Some(63)),
            ("read", Arm, Some(3)),
            ("execve", X32, Some(X32_BIT | 520)),
            ("open", Aarch64, None),
            ("clone3", Arm, Some(435)),
            ("cachestat", X86_64, Some(451)),
            ("mseal", X86, Some(462)),
            ("setxattrat", Aarch64, Some(463)),
            ("removexattrat", Arm, Some(466)),
            ("open_tree_attr", X86_64, Some(467)),
            ("file_setattr", X32, Some(X32_BIT | 469)),
            ("set_tls", Arm, Some(0xf_0005)),
            ("set_tls", X86, None),
            ("nonsense", X86_64, None),
        ] {
            assert_eq!(Call::named(name).number(architecture), expected, "{name} {architecture:?}");
        }
    }
}
