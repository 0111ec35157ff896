//! What must add up when a run is over: what the nodes know against what the router counts.

use std::collections::BTreeMap;
use std::ops::AddAssign;

use anyhow::{Result, bail, ensure};
use switchboard_protocol::{Class, Flags, Kind, Mode};

use super::ledger::{Ledger, Life, Sent, is_broadcast};
use super::plan::{End, Plan, Weather};
use crate::metrics::Metrics;

/// What runs came to.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tally {
    /// Runs.
    pub runs: u64,
    /// Of them, those in which nobody left.
    pub calm: u64,
    /// Connections.
    pub lives: u64,
    /// Messages that were sent.
    pub sent: u64,
    /// Messages, and copies of broadcasts, that came.
    pub came: u64,
    /// Of which the sender was told that they did not come.
    pub reported: u64,
    /// That connections took which were closed before they were read.
    pub unread: u64,
    /// That the router says it lost.
    pub lost: u64,
    /// Times that a full mailbox stopped a sender.
    pub pauses: u64,
    /// Frames that waited for an instance.
    pub parked: u64,
}

/// What nodes know of the messages of one class and mode.
#[derive(Debug, Default)]
struct Books {
    /// What lives sent that stayed, so that the router has read all of it; and what others did.
    surely_sent: u64,
    perhaps_sent: u64,
    came: u64,
    /// By the reason's name.
    reported: BTreeMap<String, u64>,
    /// Messages that asked to be reported, and nobody heard of again.
    missing: u64,
}

/// What is on its way in the router, if anything is.
pub fn unsettled(metrics: &Metrics) -> Option<String> {
    for gauge in ["switchboard_parked_frames", "switchboard_mailbox_bytes"] {
        let held = metrics.sum(gauge, &[]);
        if held > 0 {
            return Some(format!("{gauge} is {held}"));
        }
    }
    let modes = Mode::ALL.into_iter().filter(|mode| *mode != Mode::Broadcast);
    let counts = |mode| (received(metrics, None, mode), ended(metrics, None, mode, None));
    modes.map(|mode| (mode, counts(mode))).find(|(_, (received, ended))| received != ended).map(
        |(mode, (received, ended))| format!("of {received} frames by {mode}, {ended} have ended"),
    )
}

/// Checks the books of a run that is over.
pub fn check(ledger: &Ledger, metrics: &Metrics, plan: &Plan) -> Result<Tally> {
    if let Some(open) = unsettled(metrics) {
        bail!("at the end {open}");
    }
    let paused = metrics.sum("switchboard_paused_sources", &[]);
    ensure!(paused == 0, "{paused} senders are not read at the end");
    // Who closes before it has read all does not know what came.
    let all_read = ledger.lives.iter().all(Life::reads_all);
    let all_stayed = ledger.lives.iter().all(Life::stayed);
    let mut tally =
        Tally { runs: 1, calm: u64::from(plan.weather == Weather::Calm), ..Tally::default() };
    for (class, _) in &plan.classes {
        for mode in Mode::ALL {
            let books = Books::of(ledger, *class, mode);
            books
                .check(metrics, *class, mode, all_read, all_stayed && plan.all_report)
                .map_err(|error| error.context(format!("{mode} to class {class}: {books:?}")))?;
            tally.came += books.came;
            tally.reported += books.reported.values().sum::<u64>();
            let delivered = ended(metrics, Some(*class), mode, Some("delivered"));
            tally.unread += delivered - books.came;
            tally.lost += ended(metrics, Some(*class), mode, None) - delivered;
        }
    }
    for life in ledger.lives.iter().filter(|life| life.stayed()) {
        life.check_broadcasts(all_read)?;
    }
    tally.lives = ledger.lives.len() as u64;
    tally.sent = ledger.lives.iter().map(|life| life.sent.len() as u64).sum();
    tally.pauses = metrics.sum("switchboard_source_pauses_total", &[]);
    tally.parked = metrics.sum("switchboard_parked_total", &[]);
    Ok(tally)
}

impl Books {
    fn of(ledger: &Ledger, class: Class, mode: Mode) -> Self {
        let mut books = Self::default();
        for life in &ledger.lives {
            let is_it = |sent: &&Sent| {
                let header = &sent.header;
                header.kind == Kind::Data(mode) && Class::of_target(header.target) == Some(class)
            };
            for sent in life.sent.iter().filter(is_it) {
                books.came += u64::from(sent.came);
                for reason in &sent.lost {
                    *books.reported.entry(reason.to_string()).or_default() += 1;
                }
                let heard_of = sent.came > 0 || !sent.lost.is_empty();
                if !life.stayed() {
                    books.perhaps_sent += 1;
                } else {
                    books.surely_sent += 1;
                    books.missing += u64::from(sent.asks() && !heard_of);
                }
            }
        }
        books
    }

    fn check(
        &self,
        metrics: &Metrics,
        class: Class,
        mode: Mode,
        all_read: bool,
        all_told: bool,
    ) -> Result<()> {
        let received = received(metrics, Some(class), mode);
        let (least, most) = (self.surely_sent, self.surely_sent + self.perhaps_sent);
        ensure!((least..=most).contains(&received), "the router received {received}");
        let delivered = ended(metrics, Some(class), mode, Some("delivered"));
        ensure!(delivered >= self.came, "the router delivered {delivered}");
        ensure!(delivered == self.came || !all_read, "the router delivered {delivered}");
        for (reason, reported) in &self.reported {
            let lost = ended(metrics, Some(class), mode, Some(reason));
            ensure!(lost >= *reported, "the router counts {lost} as {reason}");
            ensure!(lost == *reported || !all_told, "the router counts {lost} as {reason}");
        }
        if mode != Mode::Broadcast {
            // What was neither reported nor read lies in connections that were closed.
            ensure!(self.missing <= delivered - self.came, "{} are missing", self.missing);
            let all = ended(metrics, Some(class), mode, None);
            ensure!(all == received, "of {received}, {all} have ended");
            if all_told {
                let lost = all - delivered;
                let reported = self.reported.values().sum::<u64>();
                ensure!(lost == reported, "{lost} were lost, and {reported} reported");
            }
        }
        Ok(())
    }
}

impl Life {
    /// Whether the router has read all that it sent.
    fn stayed(&self) -> bool {
        self.end == End::Stays && !self.cut_off
    }

    /// Whether it read all that the router wrote.
    fn reads_all(&self) -> bool {
        matches!(self.end, End::Stays | End::HalfClosed) && !self.cut_off
    }

    /// Each copy of a broadcast came or was reported, where the caller knows how many there were.
    fn check_broadcasts(&self, all_read: bool) -> Result<()> {
        for sent in self.sent.iter().filter(|sent| is_broadcast(&sent.header)) {
            let known = u64::from(sent.came) + sent.lost.len() as u64;
            match sent.targets {
                Some(targets) => {
                    let targets = u64::from(targets);
                    ensure!(known <= targets, "{known} of {targets} copies: {sent:?}");
                    ensure!(known == targets || !all_read, "{known} of {targets} copies: {sent:?}");
                }
                None if sent.header.flags.contains(Flags::CALL) => {
                    ensure!(known == 1 && sent.came == 0, "a call that nobody got: {sent:?}");
                }
                None => {}
            }
        }
        Ok(())
    }
}

impl Sent {
    fn asks(&self) -> bool {
        self.header.flags.intersects(Flags::CALL | Flags::REPORT)
    }
}

fn received(metrics: &Metrics, class: Option<Class>, mode: Mode) -> u64 {
    sum(metrics, "switchboard_frames_received_total", class, mode, None)
}

fn ended(metrics: &Metrics, class: Option<Class>, mode: Mode, outcome: Option<&str>) -> u64 {
    sum(metrics, "switchboard_frames_total", class, mode, outcome)
}

fn sum(
    metrics: &Metrics,
    name: &str,
    class: Option<Class>,
    mode: Mode,
    outcome: Option<&str>,
) -> u64 {
    let class = class.map(|class| format!("class{class}"));
    let mut labels = vec![("mode", mode.name())];
    labels.extend(class.as_deref().map(|class| ("class", class)));
    labels.extend(outcome.map(|outcome| ("outcome", outcome)));
    metrics.sum(name, &labels)
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.runs += other.runs;
        self.calm += other.calm;
        self.lives += other.lives;
        self.sent += other.sent;
        self.came += other.came;
        self.reported += other.reported;
        self.unread += other.unread;
        self.lost += other.lost;
        self.pauses += other.pauses;
        self.parked += other.parked;
    }
}
