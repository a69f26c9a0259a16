//! Which of a container's networks leads out of it. Pure.
//!
//! Docker's rule: of those that lead anywhere the one with the highest priority, and of several the one whose name comes
//! first. Each family has a way of its own; the ports of the host come by the same network.

use cleat_network::bridge::Leads;

/// A network that may lead out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Candidate<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its priority.
    pub priority: i32,
    /// The families that it leads out, if it is chosen.
    pub leads: Leads,
    /// Whether somebody else, a plugin, has it lead out whatever we think.
    pub is_settled: bool,
}

/// What leads out, as places in the list of the candidates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ways {
    /// For IPv4.
    pub v4: Option<usize>,
    /// For IPv6.
    pub v6: Option<usize>,
}

impl Ways {
    /// What the network at this place leads.
    pub(crate) fn of(self, index: usize) -> Leads {
        Leads { v4: self.v4 == Some(index), v6: self.v6 == Some(index) }
    }

    /// The network by which ports of the host come.
    pub(crate) fn publisher(self) -> Option<usize> {
        self.v4.or(self.v6)
    }
}

/// What leads out of a container on these networks.
pub(crate) fn ways(candidates: &[Candidate<'_>]) -> Ways {
    let best = |leads: fn(&Leads) -> bool| {
        let able = candidates.iter().enumerate().filter(|(_, candidate)| leads(&candidate.leads));
        let rank = |candidate: &Candidate<'_>| (!candidate.is_settled, -i64::from(candidate.priority));
        let chosen = able.min_by(|(_, a), (_, b)| rank(a).cmp(&rank(b)).then_with(|| a.name.cmp(b.name)));
        chosen.map(|(index, _)| index)
    };
    Ways { v4: best(|leads| leads.v4), v6: best(|leads| leads.v6) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(name: &str, priority: i32, v4: bool, v6: bool) -> Candidate<'_> {
        Candidate { name, priority, leads: Leads { v4, v6 }, is_settled: false }
    }

    #[test]
    fn priority_comes_first_and_then_the_name() {
        for (candidates, v4, v6) in [
            (vec![], None, None),
            (vec![candidate("b", 0, true, false)], Some(0), None),
            (vec![candidate("b", 0, true, false), candidate("a", 0, true, true)], Some(1), Some(1)),
            (vec![candidate("b", 1, true, false), candidate("a", 0, true, true)], Some(0), Some(1)),
            (vec![candidate("b", 0, true, false), candidate("a", -1, true, false)], Some(0), None),
            (vec![candidate("b", 0, true, true), candidate("a", 9, false, false)], Some(0), Some(0)),
            (vec![candidate("a", 0, false, false)], None, None),
        ] {
            assert_eq!(ways(&candidates), Ways { v4, v6 }, "{candidates:?}");
        }
        let settled = Candidate { is_settled: true, ..candidate("z", 0, true, true) };
        let ways = ways(&[candidate("a", 9, true, true), settled]);
        assert_eq!((ways.publisher(), ways.of(0)), (Some(1), Leads::NONE));
        assert_eq!(Ways { v4: None, v6: Some(3) }.publisher(), Some(3));
    }
}
