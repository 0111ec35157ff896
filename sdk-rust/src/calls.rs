//! Calls that wait for an answer, by call id, and what their callers hear.
//!
//! A call that is not repeated hears one thing. One that is repeated, or that several answer, stays
//! until its caller takes it back.

use std::sync::{Mutex, MutexGuard, PoisonError};

use ahash::AHashMap;
use bytes::Bytes;
use switchboard_protocol::{Class, Header, Kind, Mode, Reason, ServiceId};
use tokio::sync::{mpsc, oneshot};

/// What a caller hears of its call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum News {
    /// The answer.
    Answer { from: ServiceId, result: Result<Bytes, (String, String)> },
    /// A broadcast went to this many sessions.
    Spread(u32),
    /// A router could not deliver it.
    Bounced { slot: usize, reason: Reason },
    /// The link that it took is gone. It may have arrived.
    Lost { slot: usize },
    /// The link that it should have taken is gone, and it never left.
    Unsent { slot: usize },
    /// The link that it should have taken is gone, and it takes another.
    Moved { from: usize, to: usize },
    /// An instance died that may have had it.
    Shaken { slot: usize },
}

/// The calls that are open.
#[derive(Debug)]
pub(crate) struct Calls {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    next: u64,
    open: AHashMap<u64, Entry>,
}

#[derive(Debug)]
struct Entry {
    mode: Mode,
    target: u32,
    /// The router that it took last.
    slot: usize,
    waiter: Waiter,
}

#[derive(Debug)]
enum Waiter {
    Once(oneshot::Sender<News>),
    Often(mpsc::UnboundedSender<News>),
}

/// A caller's place. It is given up when it is dropped.
#[derive(Debug)]
pub(crate) struct Ticket<'a> {
    pub(crate) number: u64,
    calls: &'a Calls,
}

impl Calls {
    /// The calls of one incarnation. Its tag stands in the upper bits of every call id.
    pub(crate) fn new(incarnation: u64) -> Self {
        let next = (incarnation >> TAG_SHIFT) << COUNT_BITS;
        Self { state: Mutex::new(State { next, open: AHashMap::new() }) }
    }

    /// A call that hears one thing.
    pub(crate) fn open_once(&self, header: &Header) -> (Ticket<'_>, oneshot::Receiver<News>) {
        let (sender, receiver) = oneshot::channel();
        (self.open(header, Waiter::Once(sender)), receiver)
    }

    /// A call that hears of everything.
    pub(crate) fn open_often(
        &self,
        header: &Header,
    ) -> (Ticket<'_>, mpsc::UnboundedReceiver<News>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (self.open(header, Waiter::Often(sender)), receiver)
    }

    fn open(&self, header: &Header, waiter: Waiter) -> Ticket<'_> {
        let mode = match header.kind {
            Kind::Data(mode) => mode,
            // Only data frames are calls.
            _ => Mode::Direct,
        };
        let entry = Entry { mode, target: header.target, slot: usize::MAX, waiter };
        let mut state = self.lock();
        state.next += 1;
        let number = state.next;
        state.open.insert(number, entry);
        drop(state);
        Ticket { number, calls: self }
    }

    /// Notes which router a call takes, before it does. Answers whether anybody still waits for it.
    pub(crate) fn route(&self, number: u64, slot: usize) -> bool {
        match self.lock().open.get_mut(&number) {
            Some(entry) => {
                entry.slot = slot;
                true
            }
            None => false,
        }
    }

    /// Notes that a call which had not left takes another router.
    pub(crate) fn moved(&self, number: u64, from: usize, to: usize) {
        let mut state = self.lock();
        if let Some(entry) = state.open.get_mut(&number)
            && entry.slot == from
        {
            entry.slot = to;
        }
        drop(state);
        self.tell(number, News::Moved { from, to });
    }

    /// Tells a caller. One that is not there any more has been answered, or has stopped waiting.
    pub(crate) fn tell(&self, number: u64, news: News) {
        let mut state = self.lock();
        if let Some(Entry { waiter: Waiter::Often(sender), .. }) = state.open.get(&number) {
            // The receiver is given up together with the ticket.
            let _ = sender.send(news);
            return;
        }
        if matches!(news, News::Spread(_) | News::Shaken { .. } | News::Moved { .. }) {
            return;
        }
        let entry = state.open.remove(&number);
        drop(state);
        if let Some(Entry { waiter: Waiter::Once(sender), .. }) = entry {
            let _ = sender.send(news);
        }
    }

    /// A link is gone.
    pub(crate) fn lost(&self, slot: usize) {
        for number in self.numbers(|entry| entry.slot == slot) {
            self.tell(number, News::Lost { slot });
        }
    }

    /// An instance left a router's table without a word, and `master` if it was its class's. Calls
    /// that it may have had are told, where their callers may repeat them.
    pub(crate) fn shake(&self, slot: usize, class: Class, left: &[ServiceId], master: bool) {
        let may_have_had = |entry: &Entry| {
            entry.slot == slot
                && Class::of_target(entry.target) == Some(class)
                && match entry.mode {
                    Mode::Direct => left.iter().any(|id| id.raw() == entry.target),
                    Mode::Master => master,
                    // One of many, and most likely another.
                    Mode::Random | Mode::LeastLoaded => false,
                    _ => true,
                }
        };
        for number in self.numbers(may_have_had) {
            self.tell(number, News::Shaken { slot });
        }
    }

    /// Nobody is answered any more.
    pub(crate) fn close(&self) {
        self.lock().open.clear();
    }

    /// Whether no call is open that took this router last, or none at all.
    pub(crate) fn is_empty(&self, slot: Option<usize>) -> bool {
        match slot {
            None => self.lock().open.is_empty(),
            Some(slot) => !self.lock().open.values().any(|entry| entry.slot == slot),
        }
    }

    /// How many are open.
    pub(crate) fn len(&self) -> usize {
        self.lock().open.len()
    }

    fn numbers(&self, wanted: impl Fn(&Entry) -> bool) -> Vec<u64> {
        let state = self.lock();
        state.open.iter().filter(|(_, entry)| wanted(entry)).map(|(number, _)| *number).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.calls.lock().open.remove(&self.number);
    }
}

/// The count of an incarnation's calls; above it stands the tag.
const COUNT_BITS: u32 = 40;

/// Incarnations are microseconds; their tags differ if they are a millisecond apart.
const TAG_SHIFT: u32 = 10;

#[cfg(test)]
mod tests {
    use super::*;
    use switchboard_protocol::Instance;

    const CLASS: Class = Class::of(5);

    fn to_class(mode: Mode) -> Header {
        Header::new(Kind::Data(mode), 0, CLASS.as_target())
    }

    fn answer(byte: u8) -> News {
        let from = ServiceId::new(CLASS, Instance::FIRST_ASSIGNED);
        News::Answer { from, result: Ok(Bytes::from(vec![byte])) }
    }

    #[test]
    fn a_call_hears_one_thing_and_a_repeated_one_everything() {
        let calls = Calls::new(1);
        let (once, mut one) = calls.open_once(&to_class(Mode::Random));
        let (often, mut many) = calls.open_often(&to_class(Mode::Random));
        for byte in [1, 2] {
            calls.tell(once.number, answer(byte));
            calls.tell(often.number, answer(byte));
        }
        assert_eq!(one.try_recv(), Ok(answer(1)));
        assert_eq!(many.try_recv(), Ok(answer(1)));
        assert_eq!(many.try_recv(), Ok(answer(2)));
        assert!(!calls.is_empty(None));
        drop(often);
        assert!(calls.is_empty(None));
    }

    #[test]
    fn a_lost_link_is_told_to_the_calls_that_took_it() {
        let calls = Calls::new(1);
        let (one, mut first) = calls.open_once(&to_class(Mode::Random));
        let (other, mut second) = calls.open_once(&to_class(Mode::Random));
        calls.route(one.number, 0);
        calls.route(other.number, 1);
        calls.lost(0);
        assert_eq!(first.try_recv(), Ok(News::Lost { slot: 0 }));
        assert!(second.try_recv().is_err());
        assert!(calls.is_empty(Some(0)) && !calls.is_empty(Some(1)));
    }

    #[test]
    fn a_death_shakes_the_calls_that_the_dead_may_have_had() {
        let calls = Calls::new(1);
        let dead = ServiceId::new(CLASS, Instance::FIRST_ASSIGNED);
        let direct = Header::new(Kind::Data(Mode::Direct), 0, dead.raw());
        let other_class = Header::new(Kind::Data(Mode::Random), 0, Class::of(6).as_target());
        let headers =
            [direct, to_class(Mode::Master), to_class(Mode::Hash), other_class].map(|header| {
                let (ticket, news) = calls.open_often(&header);
                calls.route(ticket.number, 0);
                (ticket, news)
            });
        calls.shake(0, CLASS, &[dead], false);
        calls.shake(1, CLASS, &[dead], true);
        let shaken = headers.map(|(_, mut news)| news.try_recv().is_ok());
        assert_eq!(shaken, [true, false, true, false]);
    }

    #[test]
    fn what_only_repeated_calls_hear_does_not_end_a_plain_one() {
        let calls = Calls::new(1);
        let (ticket, mut news) = calls.open_once(&to_class(Mode::Random));
        calls.route(ticket.number, 0);
        calls.shake(0, CLASS, &[], true);
        calls.tell(ticket.number, answer(7));
        assert_eq!(news.try_recv(), Ok(answer(7)));
    }

    #[test]
    fn call_ids_carry_their_incarnation_and_count_up() {
        let number = |incarnation| {
            let calls = Calls::new(incarnation);
            calls.open_once(&to_class(Mode::Random)).0.number
        };
        assert_eq!(number(0), 1);
        assert_eq!(number(5 << TAG_SHIFT), 5 << COUNT_BITS | 1);
        assert_ne!(number(1_767_225_600_000_000), number(1_767_225_600_002_000));
        let calls = Calls::new(0);
        let (one, _) = calls.open_once(&to_class(Mode::Random));
        let (two, _) = calls.open_once(&to_class(Mode::Random));
        assert_eq!(two.number, one.number + 1);
    }
}
