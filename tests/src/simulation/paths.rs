//! Which callers have a healthy path to whom they call: a call that had one for long enough must not
//! fail.

use switchboard_protocol::Mode;

use super::callee::LONGEST_RUN;
use super::caller::{ATTEMPT, kind_of};
use super::message::{Parcel, What};
use super::stage::MS;
use super::world::{CALLER_NODES, HASH_SLOTS, HASHED, MASTERED, NODES, ROUTERS, World, id_of};

impl World {
    /// Notes for each caller and kind of call whether a path is healthy from now on.
    pub fn look_for_paths(&mut self) {
        let mut healthy = Vec::new();
        for caller in NODES - CALLER_NODES..NODES {
            for (mode, class, keys) in
                [(Mode::Master, MASTERED, 0..1), (Mode::Hash, HASHED, 0..u64::from(HASH_SLOTS))]
            {
                for key in keys {
                    let parcel = Parcel {
                        what: What::Call,
                        mode,
                        source: id_of(caller),
                        life: 0,
                        target: class.as_target(),
                        key,
                        ttl: 0,
                        call_id: 0,
                        body: 0,
                        moved: false,
                    };
                    if (0..ROUTERS).any(|router| self.is_healthy(caller, router, &parcel)) {
                        healthy.push((caller, kind_of(&parcel)));
                    }
                }
            }
        }
        self.stage.paths_changed(healthy);
    }

    fn is_healthy(&mut self, caller: usize, router: usize, parcel: &Parcel) -> bool {
        let linked = |world: &Self, node: usize, conn: Option<u64>| {
            let network = &world.stage.network;
            let (end, at) = (&world.nodes[node], &world.routers[router]);
            end.alive
                && !end.is_paused(world.stage.now)
                && !network.is_parted(node, router)
                && !network.is_slow(node, router)
                && end.conn(router).is_some_and(|held| {
                    at.sessions.contains_key(&held) && conn.is_none_or(|conn| conn == held)
                })
        };
        if !self.routers[router].up || !linked(self, caller, None) {
            return false;
        }
        let Ok(conn) = self.routers[router].target(&mut self.stage, parcel) else { return false };
        let Some((callee, _)) = self.stage.network.ends(conn) else { return false };
        linked(self, callee, Some(conn)) && !self.nodes[callee].draining
    }
}

/// How long a path has to be healthy for a call to have had a chance: time for a copy on each router
/// that finds silence, the longest delay, the longest run, and some for the way.
pub const ENOUGH: u64 = 2 * ATTEMPT.as_micros() as u64 + 100 * MS + LONGEST_RUN + 200 * MS;
