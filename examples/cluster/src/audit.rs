//! Gathers what the account needs: the senders' and handlers' reports, the match servers' journals,
//! the routers' counters.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::account::{Book, Killed, Outage};
use crate::crew::Story;
use crate::journal::{self, Record};
use crate::numbers::Numbers;
use crate::stream::{MATCHSVR, Stream};

/// A router's counts by class, mode and outcome.
pub type Counts = BTreeMap<(String, String, String), u64>;

/// A match server's journal.
#[derive(Debug)]
pub struct Life {
    pub instance: u32,
    pub records: Vec<Record>,
}

/// Puts the book together. What looks wrong already is in the second part of the answer, and how
/// many messages were overtaken on their way from one router to another in the third.
pub fn book(
    story: &Story,
    lives: &[Life],
    [router, dead_router]: [Counts; 2],
    outages: Vec<Outage>,
) -> (Book, Vec<String>, u64) {
    let mut problems = story.troubles.clone();
    let mut moved = 0;
    let mut book = Book { router, dead_router, outages, ..Book::default() };
    for (name, report) in &story.reports {
        let source = story.ready.get(name).copied().unwrap_or_default();
        for (stream, sent) in &report.sent {
            book.sent.insert((source, *stream), sent.clone());
        }
        // Between two routers there is no order. Otherwise there is.
        let may_move = |(stream, sent): &&(Stream, u64)| book.moves(*stream, *sent);
        let excused = report.overtaken.iter().filter(may_move).count();
        let disorder = report.overtaken.len() - excused;
        if disorder > 0 {
            problems.push(format!("{name}: {disorder} messages came out of order"));
        }
        moved += excused as u64;
        // The journals say it of all lives of the match servers, the killed one among them.
        for (source, stream, numbers) in &report.handled {
            if stream.class() != MATCHSVR {
                book.handled.entry((*source, *stream)).or_default().push(numbers.clone());
            }
        }
    }
    for life in lives {
        for (key, numbers) in life.numbers(&book, &mut problems) {
            book.handled.entry(key).or_default().push(numbers);
        }
    }
    for (class, fences) in story.stopped.values().flatten() {
        *book.fences.entry(class.clone()).or_default() += fences;
    }
    (book, problems, moved)
}

impl Book {
    /// Whether a message was on its way when its class moved to another router.
    fn moves(&self, stream: Stream, at: u64) -> bool {
        let mut outages = self.outages.iter().filter(|outage| outage.of == Killed::Router);
        outages.any(|outage| outage.covers(stream.class(), at, at))
    }
}

impl Life {
    /// Reads the journal of a match server's first, second, ... life.
    pub fn read(dir: &Path, instance: u32, life: u32) -> anyhow::Result<Self> {
        Ok(Self { instance, records: journal::read(&journal::path(dir, instance, life))? })
    }

    /// How many messages were handled under epochs from this one on, and before that one.
    pub fn handled_in(&self, epochs: std::ops::Range<u64>) -> u64 {
        self.records.iter().filter(|record| epochs.contains(&record.epoch)).count() as u64
    }

    fn numbers(&self, book: &Book, problems: &mut Vec<String>) -> BTreeMap<(u32, Stream), Numbers> {
        let mut handled: BTreeMap<(u32, Stream), Numbers> = BTreeMap::new();
        let mut last = BTreeMap::new();
        let mut epoch = 0;
        for record in &self.records {
            let key = (record.source, record.stream);
            handled.entry(key).or_default().insert(record.number);
            let before = last.insert(key, record.number).unwrap_or_default();
            let in_order = record.number > before || book.moves(record.stream, record.at);
            if record.stream == Stream::JoinMatch && !in_order {
                let Record { number, .. } = record;
                let who = format!("{MATCHSVR}.{}", self.instance);
                problems.push(format!("{who} handled {number} after {before}"));
            }
            if record.epoch != 0 && record.epoch < epoch {
                problems.push(format!("epoch {} came after {epoch}", record.epoch));
            }
            epoch = epoch.max(record.epoch);
        }
        handled
    }
}

/// A router's counters as they are.
pub async fn counts_now(admin: &str) -> anyhow::Result<Counts> {
    let page = timeout(PATIENCE, page(admin)).await.context("a router's counters")??;
    Ok(counts(&page))
}

/// A router's counters, once they stand still.
pub async fn final_counts(admin: &str) -> anyhow::Result<Counts> {
    let mut before = Counts::new();
    for _ in 0..ATTEMPTS {
        let counts = counts_now(admin).await?;
        if !counts.is_empty() && counts == before {
            return Ok(counts);
        }
        before = counts;
        sleep(PAUSE).await;
    }
    Ok(before)
}

/// The metrics page, with as much HTTP as that takes.
async fn page(admin: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(admin).await.with_context(|| admin.to_owned())?;
    let request = format!("GET /metrics HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut page = String::new();
    stream.read_to_string(&mut page).await?;
    ensure!(page.starts_with("HTTP/1.1 200 "), "{admin} answers {page}");
    Ok(page)
}

fn counts(page: &str) -> Counts {
    let lines = page.lines().filter_map(|line| {
        let (labels, value) = line.strip_prefix("switchboard_frames_total{")?.split_once("} ")?;
        let label = |name: &str| {
            let (_, rest) = labels.split_once(&format!("{name}=\""))?;
            rest.split_once('"').map(|(value, _)| value.to_owned())
        };
        Some(((label("class")?, label("mode")?, label("outcome")?), value.parse().ok()?))
    });
    lines.collect()
}

const ATTEMPTS: u32 = 20;
const PAUSE: Duration = Duration::from_millis(50);
const PATIENCE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_read_off_the_metrics_page() {
        let page = "# TYPE switchboard_frames_total counter\n\
            switchboard_frames_total{class=\"matchsvr\",mode=\"master\",outcome=\"delivered\"} 12\n\
            switchboard_frames_received_total{class=\"matchsvr\",mode=\"master\"} 13\n";
        let key = ("matchsvr".to_owned(), "master".to_owned(), "delivered".to_owned());
        assert_eq!(counts(page), Counts::from([(key, 12)]));
    }
}
