//! A classic BPF machine, as much of it as filters use, to run compiled programs in tests.

use super::filter::Instruction;

/// What the kernel tells a filter: `struct seccomp_data`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Data {
    pub(super) number: u32,
    pub(super) architecture: u32,
    pub(super) instruction_pointer: u64,
    pub(super) arguments: [u64; 6],
}

impl Data {
    fn word(&self, offset: u32) -> u32 {
        let half = |value: u64, upper: bool| (if upper { value >> 32 } else { value & 0xffff_ffff }) as u32;
        match offset {
            0 => self.number,
            4 => self.architecture,
            8 | 12 => half(self.instruction_pointer, offset == 12),
            16..64 if offset.is_multiple_of(4) => {
                half(self.arguments[(offset as usize - 16) / 8], offset % 8 == 4)
            }
            _ => panic!("the kernel refuses a load at {offset}"),
        }
    }
}

/// Runs a program; it panics where the kernel would have refused to load it.
pub(super) fn run(program: &[Instruction], data: &Data) -> u32 {
    let (mut accumulator, mut at) = (0_u32, 0_usize);
    loop {
        let Instruction { code, jt, jf, k } = program[at];
        at += 1;
        let mut branch = |holds: bool| at += usize::from(if holds { jt } else { jf });
        match code {
            0x20 => accumulator = data.word(k),
            0x54 => accumulator &= k,
            0x05 => at += k as usize,
            0x15 => branch(accumulator == k),
            0x25 => branch(accumulator > k),
            0x35 => branch(accumulator >= k),
            0x45 => branch(accumulator & k != 0),
            0x06 => return k,
            other => panic!("instruction {other:#x} at {}", at - 1),
        }
    }
}
