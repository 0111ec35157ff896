//! What a seed decides before anything runs.

use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use switchboard_protocol::{Class, Instance, ServiceId};
use switchboard_router::Config;
use switchboard_router::policy::{ClassPolicy, HashPolicy, MasterPolicy, Overflow};

/// One run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Where all chance comes from.
    pub seed: u64,
    /// What happens to connections.
    pub weather: Weather,
    /// How many threads forward.
    pub shards: usize,
    /// The policies of the classes that there are nodes of.
    pub classes: Vec<(Class, ClassPolicy)>,
    /// Who takes part.
    pub nodes: Vec<NodePlan>,
    /// Whether every frame asks to be reported.
    pub all_report: bool,
}

/// What happens to connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weather {
    /// They are slow, but nobody leaves: every frame arrives or is reported.
    Calm,
    /// They end in every way, and nodes come back.
    Rough,
}

/// A node, by all its lives.
#[derive(Debug, Clone)]
pub struct NodePlan {
    /// Its id.
    pub id: ServiceId,
    /// Whether it connects over a Unix socket.
    pub unix: bool,
    /// When it first comes.
    pub comes_after: Duration,
    /// What it does each time.
    pub lives: Vec<LifePlan>,
}

/// One connection of a node.
#[derive(Debug, Clone, Copy)]
pub struct LifePlan {
    /// How many frames it sends.
    pub frames: u32,
    /// How it ends.
    pub end: End,
    /// The size of its receive buffer, over TCP; the system doubles it.
    pub receive_buffer: u32,
    /// That of its send buffer.
    pub send_buffer: u32,
    /// After one of how many reads it rests; 0: never.
    pub rests: u32,
    /// For how long, at most.
    pub rest: Duration,
}

/// How a life ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// When everybody goes.
    Stays,
    /// It closes its writing side, and reads to the end.
    HalfClosed,
    /// It closes, whatever it has not read.
    Dropped,
    /// It closes with a reset.
    Reset,
    /// The next life takes its id while it is there.
    Usurped,
    /// It stops reading, and closes when it must have been cut off.
    Deaf,
}

impl Plan {
    /// That of a seed.
    #[must_use]
    pub fn of(seed: u64) -> Self {
        let rng = &mut SmallRng::seed_from_u64(seed);
        let weather = if rng.random_ratio(2, 5) { Weather::Calm } else { Weather::Rough };
        let classes = (5..8).map(|class| (Class::of(class), policy(weather, rng))).collect();
        let mut nodes = Vec::new();
        for (class, most) in [(5, 3), (6, 2), (7, 2)] {
            for number in 1..=rng.random_range(1..=most) {
                nodes.push(NodePlan::of(Class::of(class), number, weather, rng));
            }
        }
        let (shards, all_report) = (rng.random_range(1..=3), rng.random_ratio(1, 3));
        Self { seed, weather, shards, classes, nodes, all_report }
    }

    /// The router's settings, but for where it listens.
    #[must_use]
    pub fn config(&self) -> Config {
        let mut config = Config { shards: self.shards, ..Config::local() };
        config.limits.max_frame_bytes = MAX_FRAME;
        let named = |config: Config, (class, policy): &(Class, ClassPolicy)| {
            config.with_policy(&format!("class{class}"), class.raw(), policy.clone())
        };
        self.classes.iter().fold(config, named)
    }

    /// The policy of a class.
    #[must_use]
    pub fn policy(&self, class: Class) -> Option<&ClassPolicy> {
        self.classes.iter().find(|(known, _)| *known == class).map(|(_, policy)| policy)
    }

    /// Whether the router may close who reads too slowly.
    #[must_use]
    pub fn may_cut_off(&self) -> bool {
        self.weather == Weather::Rough
    }
}

fn policy(weather: Weather, rng: &mut SmallRng) -> ClassPolicy {
    let pick = rng.random_range(0..8);
    let overflow = match (pick, weather) {
        (0, Weather::Rough) => Overflow::Disconnect,
        (1 | 2, _) => Overflow::DropNew,
        (3 | 4, _) => Overflow::DropOld,
        _ => Overflow::Pause,
    };
    ClassPolicy {
        overflow,
        hash: [HashPolicy::Fixed, HashPolicy::Rendezvous, HashPolicy::Modulo]
            [rng.random_range(0..3_usize)],
        slots: rng.random_range(0..=3),
        walk: rng.random_ratio(1, 4),
        master: [MasterPolicy::LowestId, MasterPolicy::Sticky][rng.random_range(0..2_usize)],
        high_water_bytes: [4 << 10, 20 << 10, 100 << 10, 1 << 20][rng.random_range(0..4_usize)],
        // Nobody stalls for so long in calm weather, so a sender that is not woken again is found out.
        stall_timeout_ms: match weather {
            Weather::Calm => 60_000,
            Weather::Rough => [100, 300, 60_000][rng.random_range(0..3_usize)],
        },
        park_ms: [0, 0, 20, 1_000][rng.random_range(0..4_usize)],
        park_bytes: [4 << 10, 1 << 20][rng.random_range(0..2_usize)],
        ..ClassPolicy::default()
    }
}

impl NodePlan {
    fn of(class: Class, number: u32, weather: Weather, rng: &mut SmallRng) -> Self {
        let instance = Instance::new(number).expect("a small number that is not 0");
        let comes_after = match class.raw() {
            // Until then its frames wait, or bounce.
            7 => Duration::from_millis(rng.random_range(0..8)),
            _ => Duration::ZERO,
        };
        let lives = match weather {
            Weather::Calm => 1,
            Weather::Rough => rng.random_range(1..=4),
        };
        let life = |at| LifePlan::of(at + 1 == lives, rng);
        let lives = (0..lives).map(life).collect();
        let unix = rng.random_ratio(1, 3);
        Self { id: ServiceId::new(class, instance), unix, comes_after, lives }
    }
}

impl LifePlan {
    fn of(last: bool, rng: &mut SmallRng) -> Self {
        let end = match rng.random_range(0..10) {
            _ if last => End::Stays,
            0..3 => End::Dropped,
            3..5 => End::Reset,
            5..7 => End::HalfClosed,
            7..9 => End::Usurped,
            _ => End::Deaf,
        };
        Self {
            frames: rng.random_range(0..300),
            end,
            receive_buffer: rng.random_range(2 << 10..64 << 10),
            send_buffer: rng.random_range(4 << 10..128 << 10),
            rests: [0, 4, 16, 64][rng.random_range(0..4_usize)],
            rest: Duration::from_millis(rng.random_range(1..4)),
        }
    }
}

/// The longest frame that the router takes.
pub const MAX_FRAME: u32 = 640 << 10;
