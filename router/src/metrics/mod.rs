//! The metrics page. A scrape builds it from the threads' counters, the published table and /proc; between
//! scrapes nothing is kept, so what is gone, or has another name since a reload, is not on the next page.
//!
//! - [`names`]: every metric there is; [`series`]: the page and its samples;
//! - [`traffic`], [`sessions`], [`classes`], [`process`]: where their numbers come from.

mod classes;
mod names;
mod process;
mod series;
mod sessions;
mod traffic;

use self::series::Page;
use crate::counters::Counters;
use crate::shared::Shared;

/// The page in Prometheus' text format. With a million sessions it takes a while, in which only other operators
/// wait: it is built on the thread of the admin server.
pub(crate) fn page(shared: &Shared) -> Result<Vec<u8>, prometheus::Error> {
    let policies = shared.settings.load().policies.clone();
    let mut page = Page::default();
    traffic::add(&mut page, shared, &policies);
    sessions::add(&mut page, shared);
    classes::add(&mut page, shared, &policies);
    process::add(&mut page, shared);
    page.encode()
}

/// A counter of all threads.
fn total(shared: &Shared, read: impl Fn(&Counters) -> u64) -> u64 {
    shared.counters.iter().map(|counters| read(counters)).sum()
}
