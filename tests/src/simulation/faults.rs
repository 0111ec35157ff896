//! What goes wrong in a run, and when.

use rand::RngExt;
use rand::rngs::SmallRng;

use super::stage::{LEASE, MS, SECOND};
use super::world::{CALLEES, NODES, ROUTERS};

/// One thing that goes wrong, or is put right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A program ends; if silently, nobody is told, as when its machine loses power.
    KillNode {
        node: usize,
        silent: bool,
    },
    StartNode {
        node: usize,
    },
    /// A program stands still, as under a debugger or when its machine swaps.
    Pause {
        node: usize,
        until: u64,
    },
    Resume {
        node: usize,
    },
    /// A program leaves as programs should: it gives its ids up, then finishes what it has.
    DrainNode {
        node: usize,
    },
    Part {
        node: usize,
        router: usize,
    },
    Join {
        node: usize,
        router: usize,
    },
    /// A connection is cut.
    Reset {
        node: usize,
        router: usize,
    },
    Delay {
        node: usize,
        router: usize,
        delay: u64,
    },
    KillRouter {
        router: usize,
        silent: bool,
    },
    StartRouter {
        router: usize,
    },
    /// A router asks its nodes to go, and ends.
    DrainRouter {
        router: usize,
    },
    /// Everything is put right.
    HealAll,
}

/// Which faults a run has, so that more can be asked of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weather {
    /// Nodes die, stand still and are cut off from everything at once; the routers stay.
    Nodes,
    /// Routers die and leave, one at a time; nodes die.
    Routers,
    /// Nothing but planned leaving, one at a time.
    Rolling,
    /// Everything at once, some nodes cut off from some routers.
    Storm,
}

impl Weather {
    /// Every one.
    pub const ALL: [Self; 4] = [Self::Nodes, Self::Routers, Self::Rolling, Self::Storm];

    /// How long two nodes may hold one office: while the news of a hand-over is on its way. A lower id
    /// takes an office at once where that is the policy, and if who had it hears nothing, its lease has
    /// to end. None where nodes may see different routers, which do not know of each other.
    pub fn longest_overlap(self, sticky: bool) -> Option<u64> {
        let most = if sticky { 4 * LONG_DELAY } else { LEASE + 4 * LONG_DELAY };
        (self != Self::Storm).then_some(most)
    }

    /// The faults of `length`, with about one in each `pace`.
    pub fn faults(self, rng: &mut SmallRng, length: u64, pace: u64) -> Vec<(u64, Fault)> {
        let mut faults = Vec::new();
        let mut at = SECOND;
        while at < length {
            let (for_, fault) =
                (rng.random_range(200 * MS..3 * SECOND), self.draw(rng, at, length));
            let put_right = at + for_;
            faults.extend(fault.iter().map(|fault| (at, *fault)));
            match fault.as_slice() {
                [Fault::KillNode { node, .. } | Fault::DrainNode { node }] => {
                    faults.push((put_right, Fault::StartNode { node: *node }));
                }
                [Fault::Pause { node, until }] => {
                    faults.push((*until, Fault::Resume { node: *node }));
                }
                [Fault::KillRouter { router, .. }] => {
                    faults.push((put_right, Fault::StartRouter { router: *router }));
                }
                [Fault::DrainRouter { router }] => {
                    let end = at + ROUTER_DRAIN;
                    faults.push((end, Fault::KillRouter { router: *router, silent: false }));
                    faults.push((end + for_ / 4, Fault::StartRouter { router: *router }));
                }
                several => {
                    for fault in several {
                        match *fault {
                            Fault::Part { node, router } => {
                                faults.push((put_right, Fault::Join { node, router }));
                            }
                            Fault::Delay { node, router, .. } => {
                                let delay = super::network::DELAY;
                                faults.push((put_right, Fault::Delay { node, router, delay }));
                            }
                            _ => {}
                        }
                    }
                }
            }
            // Where one router is to be left at any time, the next one waits until all are back.
            let gap = match self {
                Self::Routers | Self::Rolling => 5 * SECOND,
                Self::Nodes | Self::Storm => 0,
            };
            at += rng.random_range(pace / 4..2 * pace).max(gap);
        }
        faults
    }

    fn draw(self, rng: &mut SmallRng, at: u64, length: u64) -> Vec<Fault> {
        let (node, router) = (rng.random_range(0..NODES), rng.random_range(0..ROUTERS));
        let callee = rng.random_range(0..CALLEES);
        let silent = rng.random_range(0..3) == 0;
        let kill =
            Fault::KillNode { node: if self == Self::Storm { node } else { callee }, silent };
        let delay = match self {
            Self::Storm => rng.random_range(MS..150 * MS),
            _ => rng.random_range(MS..LONG_DELAY),
        };
        let until = length.min(at + rng.random_range(100 * MS..4 * SECOND));
        let whole = |fault: fn(usize, usize) -> Fault| -> Vec<Fault> {
            (0..ROUTERS).map(|router| fault(node, router)).collect()
        };
        match (self, rng.random_range(0..8)) {
            (Self::Nodes | Self::Storm, 0..2) => vec![kill],
            (Self::Nodes, 2..4) | (Self::Storm, 2) => {
                whole(|node, router| Fault::Part { node, router })
            }
            (Self::Nodes, 4) | (Self::Storm, 3) => vec![Fault::Pause { node, until }],
            (Self::Nodes, 5) | (Self::Storm, 4) => vec![Fault::Delay { node, router, delay }],
            (Self::Nodes, 6) => vec![Fault::DrainNode { node: callee }],
            (Self::Nodes, _) => vec![Fault::KillNode { node, silent: false }],
            (Self::Routers, 0..3) => vec![Fault::KillRouter { router, silent }],
            (Self::Routers, 3..6) => vec![Fault::DrainRouter { router }],
            (Self::Routers, _) => vec![kill],
            (Self::Rolling, 0..5) => vec![Fault::DrainRouter { router }],
            (Self::Rolling, _) => vec![Fault::DrainNode { node: callee }],
            (Self::Storm, 5) => vec![Fault::Part { node, router }],
            (Self::Storm, 6) => vec![Fault::KillRouter { router, silent }],
            (Self::Storm, _) => match rng.random_range(0..4) {
                0 => vec![Fault::DrainRouter { router }],
                1 => (0..NODES).map(|node| Fault::Part { node, router }).collect(),
                2 => vec![Fault::DrainNode { node: callee }],
                _ => vec![Fault::Reset { node, router }],
            },
        }
    }
}

/// How long a router that leaves gives its nodes.
pub const ROUTER_DRAIN: u64 = 2 * SECOND;

/// The longest delay of a message, where offices are looked at.
pub const LONG_DELAY: u64 = 10 * MS;
