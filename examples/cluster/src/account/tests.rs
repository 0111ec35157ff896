//! Honest books close; each kind of cooked one does not, and says why.

use super::*;
use crate::news::{Failure, Why};

const GAMESVR: u32 = 0x0300_0001;
const KILL: u64 = 50_000;

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
    book.outage = Some(Outage { from: KILL - 10_000, to: KILL + 10_000 });
    book
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
fn around_the_kill_messages_are_in_flight() {
    let handled = (1..=100).filter(|number| !(48..=53).contains(number));
    let sent = Sent { told: told("TargetLost", 2), ..sent(100) };
    let mut book = book(Stream::JoinMatch, sent, handled);
    router(&mut book, Stream::JoinMatch, "delivered", 98);
    router(&mut book, Stream::JoinMatch, "target_lost", 2);
    let account = book.close();
    assert!(account.closes(), "{:?}", account.problems);
    assert_eq!((account.total.in_flight, account.total.told(), account.total.lost), (4, 2, 0));
    assert_eq!(account.in_flight_by_router, 4);

    router(&mut book, Stream::JoinMatch, "delivered", 97);
    complains(&book, "the router wrote 97, 94 were handled and 4 in flight");
}

#[test]
fn long_before_the_kill_nothing_is_in_flight() {
    let handled = (1..=100).filter(|number| *number != 5);
    complains(&book(Stream::JoinMatch, sent(100), handled), "lost 1 without a word, among 5");
}

#[test]
fn another_class_has_nothing_in_flight() {
    let handled = (1..=100).filter(|number| *number != 50);
    complains(&book(Stream::Save, sent(100), handled), "lost 1 without a word, among 50");
}

#[test]
fn what_is_in_flight_is_one_stretch() {
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
    complains(&book, "the router could not deliver 2, and told of 1");
}

#[test]
fn a_call_is_answered_or_fails_and_a_late_one_only_around_the_kill() {
    let failed = |number, why| Failure { number, why, sent: number * 1000 };
    let failures = vec![
        failed(50, Why::Timeout),
        failed(51, Why::TargetLost),
        failed(52, Why::NoRoute),
        failed(99, Why::Remote("busy".to_owned())),
    ];
    let handled = || (1..=100).filter(|number| ![50, 51, 52, 99].contains(number));
    let calls = Sent { count: 100, failures, ..Sent::default() };
    let account = book(Stream::FindMatch, calls.clone(), handled()).close();
    assert!(account.closes(), "{:?}", account.problems);
    assert_eq!(account.total.delivered, 96);
    assert_eq!((account.total.told(), account.total.in_flight), (3, 1));

    assert_eq!(account.total.answers_in_flight, 0);
    let handled_too = (1..=100).filter(|number| ![51, 52, 99].contains(number));
    let account = book(Stream::FindMatch, calls.clone(), handled_too).close();
    assert_eq!((account.total.in_flight, account.total.answers_in_flight), (1, 1));

    complains(&book(Stream::Load, calls.clone(), handled()), "no answer to call 50");
    let late = Sent { failures: vec![failed(80, Why::Timeout)], ..calls.clone() };
    complains(&book(Stream::FindMatch, late, 1..=100), "no answer to call 80");
    let denied = Sent { failures: vec![failed(51, Why::NoRoute)], ..calls };
    complains(&book(Stream::FindMatch, denied, 1..=100), "51 was handled, and yet told: no_route");
}

#[test]
fn an_answer_without_a_handler_is_found() {
    let handled = (1..=100).filter(|number| *number != 30);
    complains(&book(Stream::Load, sent(100), handled), "answered but not handled: 30");
}
