//! Which of several routers the frames to a class take. All of them take the same one for as long as
//! it is there, so that their order holds; which one that is, is a matter of names, so that the
//! classes spread over the routers, and callers of one class meet at the same.

use ahash::AHashMap;
use switchboard_protocol::{Class, key};

/// How much a router is to be relied on, the best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// It had been up for some seconds when this node met it, so others have met it too.
    Settled,
    /// It had not.
    Young,
    /// It asked this node to go.
    Leaving,
}

/// The routers that are up, and those chosen for classes.
#[derive(Debug, Default)]
pub struct Choice {
    /// By slot.
    routers: Vec<Option<Router>>,
    chosen: AHashMap<Class, usize>,
}

#[derive(Debug)]
struct Router {
    name: String,
    standing: Standing,
}

impl Choice {
    /// No router is up.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A router is up.
    pub fn up(&mut self, slot: usize, name: &str, standing: Standing) {
        if self.routers.len() <= slot {
            self.routers.resize_with(slot + 1, || None);
        }
        self.routers[slot] = Some(Router { name: name.to_owned(), standing });
    }

    /// A router asked this node to go.
    pub fn leaving(&mut self, slot: usize) {
        if let Some(Some(router)) = self.routers.get_mut(slot) {
            router.standing = Standing::Leaving;
        }
    }

    /// A router is gone.
    pub fn down(&mut self, slot: usize) {
        if let Some(router) = self.routers.get_mut(slot) {
            *router = None;
        }
        self.chosen.retain(|_, chosen| *chosen != slot);
    }

    /// The router for the frames to a class: the one chosen before, while that is up and stays.
    pub fn pick(&mut self, class: Class) -> Option<usize> {
        if let Some(chosen) = self.chosen.get(&class).filter(|slot| self.stays(**slot)) {
            return Some(*chosen);
        }
        let best = self.next(class, &[])?;
        self.chosen.insert(class, best);
        Some(best)
    }

    /// Another router for a call that those tried could not deliver. It changes nothing for other
    /// frames.
    #[must_use]
    pub fn next(&self, class: Class, tried: &[usize]) -> Option<usize> {
        let up = self.routers.iter().enumerate().filter_map(|(slot, router)| {
            router.as_ref().filter(|_| !tried.contains(&slot)).map(|router| (slot, router))
        });
        up.min_by_key(|(slot, router)| (router.standing, !router.score(class), *slot))
            .map(|(slot, _)| slot)
    }

    /// Whether a router is up.
    #[must_use]
    pub fn is_up(&self, slot: usize) -> bool {
        self.routers.get(slot).is_some_and(Option::is_some)
    }

    /// Whether a router other than this one is up and stays.
    #[must_use]
    pub fn others(&self, slot: usize) -> bool {
        (0..self.routers.len()).any(|other| other != slot && self.stays(other))
    }

    fn stays(&self, slot: usize) -> bool {
        let router = self.routers.get(slot).and_then(Option::as_ref);
        router.is_some_and(|router| router.standing != Standing::Leaving)
    }
}

impl Router {
    /// The highest one wins (rendezvous hashing): where a router goes, only its classes move.
    fn score(&self, class: Class) -> u64 {
        key::of_bytes(&[self.name.as_bytes(), &[class.raw()]].concat())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(raw: u8) -> Class {
        Class::new(raw).unwrap()
    }

    fn classes() -> impl Iterator<Item = Class> {
        (1..=255).map(class)
    }

    fn two(first: Standing, second: Standing) -> Choice {
        let mut choice = Choice::new();
        choice.up(0, "east", first);
        choice.up(1, "west", second);
        choice
    }

    #[test]
    fn classes_spread_and_nodes_agree_whatever_the_order_of_their_routers() {
        let mut choice = two(Standing::Settled, Standing::Settled);
        let mut mirror = Choice::new();
        mirror.up(0, "west", Standing::Settled);
        mirror.up(1, "east", Standing::Settled);
        let picked: Vec<usize> = classes().filter_map(|class| choice.pick(class)).collect();
        let mirrored: Vec<usize> = classes().filter_map(|class| mirror.pick(class)).collect();
        assert!(picked.iter().zip(&mirrored).all(|(one, other)| one + other == 1));
        let first = picked.iter().filter(|slot| **slot == 0).count();
        assert!((100..=155).contains(&first), "{first} of 255");
    }

    #[test]
    fn the_score_is_the_hash_of_name_and_class() {
        let choice = two(Standing::Settled, Standing::Settled);
        for class in classes() {
            let score = |name: &str| {
                let mut bytes = name.as_bytes().to_vec();
                bytes.push(class.raw());
                key::of_bytes(&bytes)
            };
            let best = usize::from(score("west") > score("east"));
            assert_eq!(choice.next(class, &[]), Some(best), "{class}");
        }
    }

    #[test]
    fn standing_goes_before_names() {
        for class in classes() {
            assert_eq!(two(Standing::Young, Standing::Settled).pick(class), Some(1));
            assert_eq!(two(Standing::Young, Standing::Leaving).pick(class), Some(0));
        }
    }

    #[test]
    fn a_class_stays_with_its_router_when_a_better_one_comes() {
        for class in classes() {
            let mut choice = Choice::new();
            choice.up(1, "west", Standing::Young);
            assert_eq!(choice.pick(class), Some(1));
            choice.up(0, "east", Standing::Settled);
            assert_eq!(choice.pick(class), Some(1));
        }
    }

    #[test]
    fn a_class_moves_when_its_router_leaves_or_goes_and_does_not_move_back() {
        for class in classes() {
            let mut choice = two(Standing::Settled, Standing::Settled);
            let first = choice.pick(class).unwrap();
            choice.leaving(first);
            assert_eq!(choice.pick(class), Some(1 - first));
            choice.down(first);
            choice.up(first, "back", Standing::Settled);
            assert_eq!(choice.pick(class), Some(1 - first));
            choice.down(1 - first);
            assert_eq!(choice.pick(class), Some(first));
        }
    }

    #[test]
    fn a_router_that_went_and_came_is_chosen_anew() {
        for class in classes() {
            let mut choice = two(Standing::Young, Standing::Leaving);
            assert_eq!(choice.pick(class), Some(0));
            choice.down(0);
            choice.up(1, "west", Standing::Settled);
            choice.up(0, "east", Standing::Young);
            assert_eq!(choice.pick(class), Some(1));
        }
    }

    #[test]
    fn a_leaving_router_is_used_while_there_is_no_other() {
        let mut choice = two(Standing::Settled, Standing::Settled);
        choice.down(0);
        choice.leaving(1);
        assert_eq!(choice.pick(class(5)), Some(1));
        choice.up(0, "east", Standing::Young);
        assert_eq!(choice.pick(class(5)), Some(0));
        choice.down(0);
        choice.down(1);
        assert_eq!(choice.pick(class(5)), None);
    }

    #[test]
    fn another_router_is_one_that_was_not_tried() {
        let mut choice = two(Standing::Settled, Standing::Settled);
        choice.up(4, "north", Standing::Young);
        let class = class(9);
        let first = choice.pick(class).unwrap();
        assert_eq!(choice.next(class, &[]), Some(first));
        assert_eq!(choice.next(class, &[first]), Some(1 - first));
        assert_eq!(choice.next(class, &[first, 1 - first]), Some(4));
        assert_eq!(choice.next(class, &[0, 1, 4]), None);
        assert_eq!(choice.pick(class), Some(first));
    }

    #[test]
    fn others_are_up_and_stay() {
        let mut choice = two(Standing::Settled, Standing::Young);
        assert!(choice.is_up(1) && !choice.is_up(2));
        assert!(choice.others(0) && choice.others(1));
        choice.leaving(1);
        assert!(choice.is_up(1) && !choice.others(0) && choice.others(1));
        choice.down(0);
        assert!(!choice.is_up(0) && !choice.others(1));
    }
}
