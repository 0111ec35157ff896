//! The callee's memory of idempotent calls, so that a call which is sent twice runs once.
//!
//! What is finished is forgotten in the order in which it finished: when it is old, or when there is
//! no room for more. Of what is forgotten a floor remains, per source and tag: the highest count that
//! was forgotten. A call at or below it that the window does not know may have been run, so it is not
//! run. Floors are kept for longer than any call may be repeated, but they are bounded in number too:
//! with calls of very many sources in that time, the oldest floors go, and a late copy of a call under
//! such a floor would run again.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use ahash::AHashMap;
use bytes::Bytes;
use switchboard_protocol::ServiceId;

/// A call, as its callee knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key {
    source: ServiceId,
    tag: u32,
    count: u64,
}

/// What to do with a call that came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admission {
    /// Run it: it is in progress from now on.
    Run,
    /// It is in progress; its answer will go where this copy came from.
    Running,
    /// It was run. This is the answer.
    Answered(Reply),
    /// It may have been run, and is not run again.
    Outside,
}

/// What a call was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The payload of the reply.
    pub payload: Bytes,
    /// Whether the reply has the flag ERROR.
    pub is_error: bool,
}

/// How much is remembered of what is finished.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// At most so many calls.
    pub entries: usize,
    /// At most so many bytes of replies.
    pub bytes: usize,
    /// For so long since they finished.
    pub age: Duration,
}

/// The calls in progress, the answers of those that are finished, and floors. `R` is the route that
/// an answer takes.
#[derive(Debug)]
pub struct Window<R> {
    limits: Limits,
    calls: AHashMap<Key, State<R>>,
    /// What is finished and since when, the oldest first.
    finished: VecDeque<(Key, Instant)>,
    bytes: usize,
    floors: Floors,
}

#[derive(Debug)]
enum State<R> {
    Running { newest: R },
    Finished(Reply),
}

/// The highest forgotten count of each source and tag.
#[derive(Debug, Default)]
struct Floors {
    by_caller: AHashMap<Caller, Floor>,
    /// Who raised its floor, the longest ago first.
    by_age: BTreeMap<u64, (Caller, Instant)>,
    raises: u64,
}

/// One incarnation of a source.
type Caller = (ServiceId, u32);

#[derive(Debug, Clone, Copy)]
struct Floor {
    count: u64,
    /// Where it stands in `by_age`.
    place: u64,
}

impl Key {
    /// The key of a call: its source, and both parts of its call id.
    #[must_use]
    pub fn of(source: ServiceId, call_id: u64) -> Self {
        let tag = (call_id >> COUNT_BITS) as u32;
        Self { source, tag, count: call_id & ((1 << COUNT_BITS) - 1) }
    }

    fn caller(self) -> Caller {
        (self.source, self.tag)
    }
}

impl<R: Copy> Window<R> {
    /// A window that knows no call.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            calls: AHashMap::new(),
            finished: VecDeque::new(),
            bytes: 0,
            floors: Floors::default(),
        }
    }

    /// Takes in a copy of a call that came by `route`.
    pub fn admit(&mut self, key: Key, route: R, now: Instant) -> Admission {
        self.expire(now);
        match self.calls.get_mut(&key) {
            Some(State::Running { newest }) => {
                *newest = route;
                Admission::Running
            }
            Some(State::Finished(reply)) => Admission::Answered(reply.clone()),
            None if self.floors.covers(key) => Admission::Outside,
            None => {
                self.calls.insert(key, State::Running { newest: route });
                Admission::Run
            }
        }
    }

    /// Remembers the answer of a call in progress, and tells where to send it: where its last copy
    /// came from.
    pub fn finish(&mut self, key: Key, reply: Reply, now: Instant) -> Option<R> {
        let Some(State::Running { newest }) = self.calls.get(&key) else { return None };
        let route = *newest;
        let size = reply.payload.len();
        if size > self.limits.bytes {
            // It would drive out all others and then not fit itself.
            self.calls.remove(&key);
            self.raise(key, now);
        } else {
            self.calls.insert(key, State::Finished(reply));
            self.finished.push_back((key, now));
            self.bytes += size;
        }
        self.expire(now);
        Some(route)
    }

    /// Forgets a call in progress that was not begun after all: it may run later.
    pub fn forget(&mut self, key: Key) {
        if let Some(State::Running { .. }) = self.calls.get(&key) {
            self.calls.remove(&key);
        }
    }

    /// Forgets what is too old or too much. The other methods that take the time do so as well.
    pub fn expire(&mut self, now: Instant) {
        while let Some((key, since)) = self.finished.front().copied() {
            let old = now.saturating_duration_since(since) >= self.limits.age;
            let many = self.finished.len() > self.limits.entries;
            if !old && !many && self.bytes <= self.limits.bytes {
                break;
            }
            self.finished.pop_front();
            if let Some(State::Finished(reply)) = self.calls.remove(&key) {
                self.bytes -= reply.payload.len();
            }
            self.raise(key, now);
        }
        self.floors.expire(now);
    }

    /// How many calls it knows, in progress and finished.
    #[must_use]
    pub fn len(&self) -> usize {
        self.calls.len()
    }

    /// The bytes of all replies that it keeps.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many floors it keeps.
    #[must_use]
    pub fn floors(&self) -> usize {
        self.floors.by_caller.len()
    }

    /// Whether it knows no call.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    fn raise(&mut self, key: Key, now: Instant) {
        self.floors.raise(key, now);
        self.floors.bound(self.limits.entries.saturating_mul(FLOORS_PER_ENTRY));
    }
}

impl Floors {
    fn covers(&self, key: Key) -> bool {
        self.by_caller.get(&key.caller()).is_some_and(|floor| key.count <= floor.count)
    }

    fn raise(&mut self, key: Key, now: Instant) {
        let place = self.raises;
        self.raises += 1;
        let floor = self.by_caller.entry(key.caller()).or_insert(Floor { count: key.count, place });
        self.by_age.remove(&floor.place);
        *floor = Floor { count: floor.count.max(key.count), place };
        self.by_age.insert(place, (key.caller(), now));
    }

    fn expire(&mut self, now: Instant) {
        let old =
            |(_, raised): &(Caller, Instant)| now.saturating_duration_since(*raised) >= KEEP_FLOOR;
        while self.by_age.first_key_value().is_some_and(|(_, floor)| old(floor)) {
            self.drop_oldest();
        }
    }

    fn bound(&mut self, most: usize) {
        while self.by_caller.len() > most {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        if let Some((_, (caller, _))) = self.by_age.pop_first() {
            self.by_caller.remove(&caller);
        }
    }
}

/// The lower bits of a call id: the count. Those above are the tag.
const COUNT_BITS: u32 = 40;

/// How long a floor is kept after it was last raised: the longest ttl that a header can say is
/// 655.35 s, and no copy of a call is on its way for longer.
const KEEP_FLOOR: Duration = Duration::from_secs(11 * 60);

/// How many floors are kept for each call that is.
const FLOORS_PER_ENTRY: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { entries: 3, bytes: 100, age: Duration::from_secs(60) };

    fn source(instance: u32) -> ServiceId {
        ServiceId::from_raw(5 << 24 | instance).unwrap()
    }

    fn key(count: u64) -> Key {
        Key::of(source(1), 7 << 40 | count)
    }

    fn reply(size: usize) -> Reply {
        Reply { payload: vec![b'x'; size].into(), is_error: false }
    }

    /// A window, and the time at which it starts.
    fn window(limits: Limits) -> (Window<char>, Instant) {
        (Window::new(limits), Instant::now())
    }

    fn run(window: &mut Window<char>, key: Key, size: usize, now: Instant) {
        assert_eq!(window.admit(key, 'a', now), Admission::Run);
        assert_eq!(window.finish(key, reply(size), now), Some('a'));
    }

    #[test]
    fn a_call_runs_once_and_its_answer_is_given_again() {
        let (mut window, now) = window(LIMITS);
        run(&mut window, key(1), 10, now);
        assert_eq!(window.admit(key(1), 'b', now), Admission::Answered(reply(10)));
        assert_eq!(window.finish(key(1), reply(9), now), None);
        assert_eq!((window.len(), window.bytes()), (1, 10));
    }

    #[test]
    fn the_answer_goes_where_the_last_copy_came_from() {
        let (mut window, now) = window(LIMITS);
        assert_eq!(window.admit(key(1), 'a', now), Admission::Run);
        assert_eq!(window.admit(key(1), 'b', now), Admission::Running);
        assert_eq!(window.finish(key(1), reply(1), now), Some('b'));
    }

    #[test]
    fn a_call_that_was_not_begun_may_run_later() {
        let (mut window, now) = window(LIMITS);
        assert_eq!(window.admit(key(1), 'a', now), Admission::Run);
        window.forget(key(1));
        assert!(window.is_empty());
        run(&mut window, key(1), 1, now);
        window.forget(key(1));
        assert_eq!(window.admit(key(1), 'a', now), Admission::Answered(reply(1)));
    }

    #[test]
    fn source_tag_and_count_are_all_part_of_a_call() {
        let (mut window, now) = window(LIMITS);
        for key in [
            Key::of(source(1), 7 << 40 | 1),
            Key::of(source(2), 7 << 40 | 1),
            Key::of(source(1), 8 << 40 | 1),
            Key::of(source(1), 7 << 40 | 2),
            Key::of(source(1), 0xff_ffff << 40 | 0xff_ffff_ffff),
        ] {
            assert_eq!(window.admit(key, 'a', now), Admission::Run, "{key:?}");
        }
    }

    #[test]
    fn the_oldest_finished_goes_first_and_is_not_run_again() {
        let (mut window, now) = window(LIMITS);
        for count in [4, 1, 2, 3] {
            run(&mut window, key(count), 1, now);
        }
        assert_eq!(window.len(), 3);
        assert_eq!(window.admit(key(4), 'b', now), Admission::Outside);
        // What lies below the floor and is known is answered; what is not known is not run.
        assert_eq!(window.admit(key(1), 'b', now), Admission::Answered(reply(1)));
        assert_eq!(window.admit(key(0), 'b', now), Admission::Outside);
        assert_eq!(window.admit(key(5), 'b', now), Admission::Run);
        // Other callers have floors of their own.
        assert_eq!(window.admit(Key::of(source(2), 7 << 40), 'b', now), Admission::Run);
        assert_eq!(window.admit(Key::of(source(1), 8 << 40), 'b', now), Admission::Run);
    }

    #[test]
    fn a_floor_never_sinks() {
        let (mut window, now) = window(Limits { entries: 1, ..LIMITS });
        for count in [9, 3, 4] {
            assert_eq!(window.admit(key(count), 'a', now), Admission::Run);
        }
        for count in [9, 3, 4] {
            assert_eq!(window.finish(key(count), reply(0), now), Some('a'));
        }
        assert_eq!(window.admit(key(8), 'a', now), Admission::Outside);
        assert_eq!(window.floors(), 1);
    }

    #[test]
    fn replies_are_bounded_in_bytes() {
        let (mut window, now) = window(LIMITS);
        run(&mut window, key(1), 60, now);
        run(&mut window, key(2), 60, now);
        assert_eq!((window.len(), window.bytes()), (1, 60));
        assert_eq!(window.admit(key(1), 'b', now), Admission::Outside);
        // One that is too long on its own leaves the others in place.
        run(&mut window, key(3), 101, now);
        assert_eq!((window.len(), window.bytes()), (1, 60));
        assert_eq!(window.admit(key(3), 'b', now), Admission::Outside);
        assert_eq!(window.admit(key(2), 'b', now), Admission::Answered(reply(60)));
    }

    #[test]
    fn what_is_old_goes_and_what_runs_stays() {
        let (mut window, now) = window(LIMITS);
        assert_eq!(window.admit(key(2), 'a', now), Admission::Run);
        run(&mut window, key(3), 10, now);
        let later = now + LIMITS.age;
        assert_eq!(window.admit(key(3), 'b', later), Admission::Outside);
        assert_eq!((window.len(), window.bytes()), (1, 0));
        assert_eq!(window.admit(key(2), 'b', later), Admission::Running);
        assert_eq!(window.finish(key(2), reply(1), later), Some('b'));
        assert_eq!(window.admit(key(2), 'c', later), Admission::Answered(reply(1)));
    }

    #[test]
    fn a_floor_outlives_every_copy_and_then_goes() {
        let (mut window, now) = window(LIMITS);
        run(&mut window, key(1), 1, now);
        let forgotten = now + LIMITS.age;
        window.expire(forgotten);
        let longest_ttl = Duration::from_millis(655_350);
        assert_eq!(window.admit(key(1), 'b', forgotten + longest_ttl), Admission::Outside);
        window.expire(forgotten + KEEP_FLOOR);
        assert_eq!((window.len(), window.floors()), (0, 0));
    }

    #[test]
    fn floors_are_bounded_and_the_one_raised_longest_ago_goes_first() {
        let (mut window, now) = window(Limits { entries: 1, ..LIMITS });
        run(&mut window, key(0), 0, now);
        for instance in 2..=9 {
            run(&mut window, Key::of(source(instance), 0), 0, now);
        }
        assert_eq!(window.floors(), 8);
        // The first caller's floor is raised again, so that of the second is the oldest.
        run(&mut window, key(1), 0, now);
        for instance in 20..=22 {
            run(&mut window, Key::of(source(instance), 0), 0, now);
        }
        assert_eq!(window.floors(), 8);
        assert_eq!(window.admit(key(1), 'b', now), Admission::Outside);
        assert_eq!(window.admit(Key::of(source(2), 0), 'b', now), Admission::Run);
    }
}
