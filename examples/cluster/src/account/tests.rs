//! Honest books close; each kind of cooked one does not, and says why.

use super::*;
use crate::news::{Failure, Why};

const GAMESVR: u32 = 0x0300_0001;
const KILL: u64 = 50_000;
/// When a router is killed.
const BLACKOUT: u64 = 80_000;

/// One message a millisecond; all of them handled by one process.
fn sent(count: u64) -> Sent {
    let schedule = (1..=count).step_by(10).map(|number| (number, number * 1000)).collect();
    Sent { count, schedule, ..Sent::default() }
}

fn book(stream: Stream, sent: Sent, handled: impl IntoIterator<Item = u64>) -> Book {
    let mut book = Book::default();
    let key = (GAMESVR, stream);
    book.sent.insert(key, sent);
    book.handled.insert(key, vec![handled.into_iter().collect()]);
    book.outages = [(Killed::Master, "matchsvr", KILL), (Killed::Router, "dbagent", BLACKOUT)]
        .map(|(of, class, at)| {
            let classes = vec![class.to_owned()];
            Outage { of, classes, from: at - 10_000, to: at + 10_000 }
        })
        .to_vec();
    book
}

fn router_counts(stream: Stream, frames: u64) -> BTreeMap<(String, String, String), u64> {
    let key = (stream.class().to_owned(), stream.mode().to_owned(), "delivered".to_owned());
    BTreeMap::from([(key, frames)])
}

fn router(book: &mut Book, stream: Stream, outcome: &str, frames: u64) {
    let key = (stream.class().to_owned(), stream.mode().to_owned(), outcome.to_owned());
    book.router.insert(key, frames);
}

fn told(reason: &str, count: u64) -> BTreeMap<String, u64> {
    BTreeMap::from([(reason.to_owned(), count)])
}

#[track_caller]
fn complains(book: &Book, of: &str) {
    let account = book.close();
    let found = account.problems.iter().any(|problem| problem.contains(of));
    assert!(found, "no `{of}` in {:?}", account.problems);
    assert!(!account.closes());
}

#[test]
fn a_book_in_which_all_is_handled_closes() {
    let mut book = book(Stream::Save, sent(100), 1..=100);
    router(&mut book, Stream::Save, "delivered", 100);
    let account = book.close();
    assert_eq!(account.problems, [""; 0]);
    assert!(account.closes());
    assert_eq!((account.total.sent, account.total.delivered), (100, 100));
}

#[test]
fn a_message_that_nobody_handled_is_lost_and_named() {
    complains(
        &book(Stream::Save, sent(100), (1..=100).filter(|number| *number != 42)),
        "save from gamesvr.1: lost 1 without a word, among 42",
    );
}

#[test]
fn a_message_that_was_told_undeliverable_is_not_lost() {
    let missing = (1..=100).filter(|number| !(40..43).contains(number));
    let account = book(Stream::Mail, Sent { told: told("Full", 3), ..sent(100) }, missing).close();
    assert!(account.closes(), "{:?}", account.problems);
    assert_eq!((account.total.delivered, account.total.told()), (97, 3));
}

#[test]
fn around_the_kill_messages_are_gone_with_the_master() {
    let handled = (1..=100).filter(|number| !(48..=53).contains(number));
    let sent = Sent { told: told("TargetLost", 2), ..sent(100) };
    let mut book = book(Stream::JoinMatch, sent, handled);
    router(&mut book, Stream::JoinMatch, "delivered", 98);
    router(&mut book, Stream::JoinMatch, "target_lost", 2);
    let account = book.close();
    assert!(account.closes(), "{:?}", account.problems);
    assert_eq!((account.total.with_master, account.total.told(), account.total.lost), (4, 2, 0));
    assert_eq!(account.unhandled_by_router, 4);

    router(&mut book, Stream::JoinMatch, "delivered", 97);
    complains(&book, "the routers wrote 97, 94 were handled and 4 with who was killed");
}

#[test]
fn long_before_the_kill_nothing_is_gone() {
    let handled = (1..=100).filter(|number| *number != 5);
    complains(&book(Stream::JoinMatch, sent(100), handled), "lost 1 without a word, among 5");
}

#[test]
fn another_class_has_nothing_with_the_master() {
    let handled = (1..=100).filter(|number| *number != 50);
    complains(&book(Stream::Save, sent(100), handled), "lost 1 without a word, among 50");
}

#[test]
fn what_is_gone_with_the_master_is_one_stretch() {
    let handled = (1..=100).filter(|number| ![48, 49, 52].contains(number));
    complains(&book(Stream::JoinMatch, sent(100), handled), "of 48 to 52, 3 are missing");
}

#[test]
fn a_message_is_not_handled_twice() {
    let twice = (1..=100).chain([7]);
    complains(&book(Stream::Save, sent(100), twice), "1 were handled twice by one process");
    let mut book = book(Stream::Save, sent(100), 1..=100);
    book.handled.get_mut(&(GAMESVR, Stream::Save)).unwrap().push([8].into_iter().collect());
    complains(&book, "by two: 8");
}

#[test]
fn what_was_never_sent_is_not_handled() {
    complains(&book(Stream::Save, sent(100), 1..=101), "101 was handled, of 100 sent");
}

#[test]
fn what_was_handled_is_not_told_undeliverable() {
    let sent = Sent { told: told("Full", 1), ..sent(100) };
    complains(&book(Stream::Save, sent, 1..=100), "told undeliverable, and yet handled");
}

#[test]
fn a_router_that_kept_quiet_is_found() {
    let handled = (1..=100).filter(|number| *number != 9);
    let sent = Sent { told: told("Full", 1), ..sent(100) };
    let mut book = book(Stream::Save, sent, handled);
    router(&mut book, Stream::Save, "delivered", 99);
    router(&mut book, Stream::Save, "full", 2);
    complains(&book, "the routers could not deliver 2, and told of 1");
}

#[test]
fn around_its_kill_messages_are_gone_with_the_router() {
    let missing = |number: &u64| ![75, 77, 81].contains(number);
    let mut book = book(Stream::Save, sent(100), (1..=100).filter(missing));
    // The dead router's 60 are from shortly before its end, and the other one has written the rest.
    book.dead_router = router_counts(Stream::Save, 60);
    router(&mut book, Stream::Save, "delivered", 20);
    let account = book.close();
    assert!(account.closes(), "{:?}", account.problems);
    assert_eq!((account.total.with_router, account.total.delivered), (3, 97));

    router(&mut book, Stream::Save, "delivered", 41);
    complains(&book, "the routers wrote 101, 97 were handled and 3 with who was killed");
}

#[test]
fn a_call_under_way_in_a_killed_router_may_have_no_outcome_and_no_other_may() {
    let failed = |number, why| Failure { number, why, sent: number * 1000, at: number * 1000 + 9 };
    let calls =
        |why, number| Sent { count: 100, failures: vec![failed(number, why)], ..Sent::default() };
    // The call was handled, and its answer was lost.
    let account = book(Stream::Load, calls(Why::Unknown, 80), 1..=100).close();
    assert!(account.closes(), "{:?}", account.problems);
    assert_eq!((account.total.with_router, account.total.delivered), (1, 99));

    let early = book(Stream::Load, calls(Why::Unknown, 20), 1..=100);
    complains(&early, "call 20 failed: unknown");
    complains(&book(Stream::Load, calls(Why::Timeout, 80), 1..=100), "call 80 failed: timeout");
    let busy = Why::Remote("busy".to_owned());
    complains(&book(Stream::Load, calls(busy, 80), 1..=100), "call 80 failed: remote");
}

#[test]
fn an_idempotent_call_never_fails() {
    for (stream, at) in [(Stream::FindMatch, 50), (Stream::Query, 80)] {
        for why in [Why::Unknown, Why::Timeout, Why::TargetLost] {
            let failure = Failure { number: at, why, sent: at * 1000, at: at * 1000 };
            let calls = Sent { count: 100, failures: vec![failure], ..Sent::default() };
            complains(&book(stream, calls, 1..=100), &format!("call {at} failed"));
        }
    }
}

#[test]
fn an_idempotent_call_is_run_again_at_another_instance_and_not_at_the_same() {
    let calls = Sent { count: 100, ..Sent::default() };
    let mut book = book(Stream::FindMatch, calls, 1..=100);
    let handled = book.handled.get_mut(&(GAMESVR, Stream::FindMatch)).unwrap();
    handled.push([50, 51].into_iter().collect());
    // 102 were handled, and two more copies found that they had been.
    router(&mut book, Stream::FindMatch, "delivered", 104);
    router(&mut book, Stream::Chat, "delivered", 101);
    let account = book.close();
    assert!(account.closes(), "{:?}", account.problems);
    assert_eq!((account.total.delivered, account.total.again), (100, 2));
    router(&mut book, Stream::FindMatch, "delivered", 101);
    complains(&book, "the routers wrote 101, 102 were handled and 0 with who was killed");

    let handled = book.handled.get_mut(&(GAMESVR, Stream::FindMatch)).unwrap();
    handled.push([60, 60].into_iter().collect());
    complains(&book, "1 were handled twice by one process");
}

#[test]
fn an_answer_without_a_handler_is_found() {
    let handled = (1..=100).filter(|number| *number != 30);
    complains(&book(Stream::Load, sent(100), handled), "answered but not handled: 30");
}
