//! Chance for the fuzz targets, which are beside the code that they try: a seed and the number of an execution name a
//! case, on every machine.
//!
//! An ordinary test run is short and the same each time; `CLEAT_FUZZ_EXECUTIONS` and `CLEAT_FUZZ_SEED` go further.
#![forbid(unsafe_code)]

/// How often a target is executed, and with what seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Campaign {
    /// How many cases there are.
    pub executions: u64,
    /// What tells this campaign's cases from another's.
    pub seed: u64,
}

impl Campaign {
    /// What the environment asks for, else these.
    ///
    /// # Panics
    /// When the environment has something else than a number.
    #[must_use]
    pub fn from_environment(executions: u64, seed: u64) -> Self {
        let number = |name: &str, otherwise| {
            std::env::var(name).map_or(otherwise, |text| text.parse().expect("it is a number"))
        };
        Self {
            executions: number("CLEAT_FUZZ_EXECUTIONS", executions),
            seed: number("CLEAT_FUZZ_SEED", seed),
        }
    }

    /// The cases: the number of each, and the dice that make it.
    pub fn cases(self) -> impl Iterator<Item = (u64, Dice)> {
        (0..self.executions).map(move |execution| (execution, Dice::of_case(self.seed, execution)))
    }
}

/// xorshift64*: small, and the same everywhere.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// Those of one execution.
    #[must_use]
    pub fn of_case(seed: u64, execution: u64) -> Self {
        // Never zero, from which there is no way on.
        Self(seed ^ execution.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `sides`; 0 when that is 0.
    pub fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16) % sides.max(1)
    }

    /// A place in something of this length; 0 when it is empty.
    pub fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.roll(length as u64)).unwrap_or(0)
    }

    /// Any byte.
    pub fn byte(&mut self) -> u8 {
        u8::try_from(self.roll(256)).unwrap_or(0)
    }

    /// One of a list.
    ///
    /// # Panics
    /// When the list is empty.
    pub fn one<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.index(list.len())]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_is_the_same_each_time_and_unlike_the_next() {
        let rolls = |seed, execution| {
            let mut dice = Dice::of_case(seed, execution);
            (0..8).map(|_| dice.roll(1000)).collect::<Vec<_>>()
        };
        assert_eq!(rolls(7, 3), rolls(7, 3));
        assert_ne!(rolls(7, 3), rolls(7, 4));
        assert_ne!(rolls(7, 3), rolls(8, 3));
    }

    #[test]
    fn every_side_comes_up_and_no_other() {
        let mut dice = Dice::of_case(0, 0);
        let mut seen = [0_u32; 6];
        (0..6000).for_each(|_| seen[dice.index(6)] += 1);
        assert!(seen.iter().all(|count| (800..1200).contains(count)), "{seen:?}");
        assert_eq!((dice.roll(0), dice.roll(1), dice.index(0)), (0, 0, 0));
    }
}
