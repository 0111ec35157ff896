//! What is left at the end: the account and the takeover, for people and for programs.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use serde::Serialize;

use crate::account::{Account, Row};
use crate::kills::Kill;
use crate::stream::{MATCHSVR, Manner, Stream};
use crate::table::{mode, time};

/// The whole run.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    pub seconds: u64,
    pub players: u64,
    /// Messages that a player sends in a second.
    pub rate: u64,
    /// Messages that were sent in a second, all players together.
    pub sent_per_second: u64,
    pub closes: bool,
    pub account: Account,
    /// The master's and the router's.
    pub kills: [Kill; 2],
    pub takeover: Takeover,
    /// The half and the slowest of a hundred, in microseconds.
    pub latency_micros: BTreeMap<Stream, (Option<u64>, Option<u64>)>,
}

/// How the class got another master, and the old one back. Times are milliseconds since the kill.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Takeover {
    /// A game server was told that the master left.
    pub left_seen_ms: f64,
    /// The backup was told that it is the master.
    pub promoted_ms: f64,
    /// The last game server was told who the master is.
    pub master_seen_ms: f64,
    /// The epochs of the old master, of the backup, and of the old one when it is back.
    pub epochs: [u64; 3],
    /// Messages that were handled under each epoch.
    pub handled: [u64; 3],
}

impl Summary {
    /// For people.
    pub fn render(&self) -> String {
        let mut text = format!(
            "\nWhere every message went ({} a second for {} s):\n\n  {:<9} {:<13} {:<11} {:>9} \
             {:>10} {:>6} {:>8} {:>8} {:>6} {:>9} {:>9}\n",
            self.sent_per_second,
            self.seconds,
            "class",
            "mode",
            "method",
            "sent",
            "delivered",
            "told",
            "w.master",
            "w.router",
            "lost",
            "p50",
            "p99"
        );
        for (stream, row) in &self.account.rows {
            let (class, method) = (stream.class(), stream.method());
            let (half, most) = self.latency_micros.get(stream).copied().unwrap_or_default();
            let words = format!("{class:<9} {:<13} {method:<11}", mode(*stream));
            line(&mut text, &words, row, &format!(" {:>9} {:>9}", time(half), time(most)));
        }
        line(&mut text, &format!("{:<35}", "all"), &self.account.total, "");
        // Writing to a string does not fail.
        let _ = self.write_rest(&mut text);
        text
    }

    fn write_rest(&self, text: &mut String) -> fmt::Result {
        writeln!(text)?;
        for (stream, row) in self.account.rows.iter().filter(|(_, row)| row.told() > 0) {
            let told: Vec<String> = row.told.iter().map(|(why, n)| format!("{why} {n}")).collect();
            writeln!(text, "  {} was told: {}", stream.method(), told.join(", "))?;
        }
        let refused = self.account.total.refused;
        if refused > 0 {
            writeln!(text, "  {refused} times a node's outbox was full, and the player waited.")?;
        }
        writeln!(text, "  w.master, w.router: gone with the killed process that had them.\n")?;
        let [master, router] = &self.kills;
        write!(text, "{master}{}", self.takeover)?;
        let Account { total, unhandled_by_router, overtaken, .. } = &self.account;
        writeln!(
            text,
            "  Gone with it: {}. By its count the router wrote {unhandled_by_router} more to \
             {MATCHSVR}'s masters than they handled:\n  these, and copies of calls. {} calls were \
             run by two instances.\n",
            total.with_master, total.again
        )?;
        let plain: u64 = self.rows(|stream| stream.manner() == Manner::Call, |row| row.with_router);
        writeln!(
            text,
            "{router}  Gone with it: {} one-way messages, and {plain} calls that are not idempotent, \
             whose callers were told\n  that the outcome is unknown. {overtaken} messages were \
             overtaken by later ones over the other router.\n",
            total.with_router - plain
        )?;
        let made = self.rows(Stream::idempotent, |row| row.sent);
        let failed = made - self.rows(Stream::idempotent, |row| row.delivered);
        writeln!(text, "  Idempotent calls: {made}, failed {failed}.")?;
        for problem in &self.account.problems {
            writeln!(text, "  WRONG: {problem}")?;
        }
        let verdict = match self.closes {
            true => "The account closes: sent = delivered + told + gone with a killed process.",
            false => "The account does NOT close.",
        };
        writeln!(text, "\n{verdict}")
    }
}

impl Summary {
    /// A sum over some rows of the account.
    fn rows(&self, of: impl Fn(Stream) -> bool, value: impl Fn(&Row) -> u64) -> u64 {
        self.account.rows.iter().filter(|(stream, _)| of(**stream)).map(|(_, row)| value(row)).sum()
    }
}

impl fmt::Display for Kill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { killed, pid, gap_ms, open, answered_later, slowest_ms, .. } = self;
        writeln!(
            f,
            "  {killed} (process {pid}) was killed; after {gap_ms:.1} ms all was well again."
        )?;
        writeln!(
            f,
            "  Idempotent calls open then or made until then: {open}, answered later \
             {answered_later} (the slowest took {slowest_ms:.1} ms), failed {}.",
            open - answered_later
        )
    }
}

impl fmt::Display for Takeover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { left_seen_ms, promoted_ms, .. } = self;
        let [old, backup, again] = self.handled;
        let [first, second, third] = self.epochs;
        writeln!(
            f,
            "  A game server knew after {left_seen_ms:.1} ms, and the backup was promoted after \
             {promoted_ms:.1} ms."
        )?;
        writeln!(
            f,
            "  Handled as master: {old} in epoch {first}, {backup} in epoch +{}, {again} in epoch \
             +{}.",
            second.saturating_sub(first),
            third.saturating_sub(first)
        )
    }
}

fn line(text: &mut String, words: &str, row: &Row, latency: &str) {
    let Row { sent, delivered, with_master, with_router, lost, .. } = row;
    let told = row.told();
    // Writing to a string does not fail.
    let _ = writeln!(
        text,
        "  {words} {sent:>9} {delivered:>10} {told:>6} {with_master:>8} {with_router:>8} \
         {lost:>6}{latency}"
    );
}
