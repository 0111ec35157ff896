//! What is left at the end: the account and the takeover, for people and for programs.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use serde::Serialize;

use crate::account::{Account, Row};
use crate::stream::{MATCHSVR, Stream};
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
    pub takeover: Takeover,
    /// The half and the slowest of a hundred, in microseconds.
    pub latency_micros: BTreeMap<Stream, (Option<u64>, Option<u64>)>,
}

/// How the class got another master, and the old one back. Times are milliseconds since the kill.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Takeover {
    pub killed: String,
    pub pid: u32,
    /// A game server was told that the master left.
    pub left_seen_ms: f64,
    /// The backup was told that it is the master.
    pub promoted_ms: f64,
    /// The backup handled its first message as the master.
    pub first_message_ms: f64,
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
             {:>10} {:>6} {:>10} {:>6} {:>9} {:>9}\n",
            self.sent_per_second,
            self.seconds,
            "class",
            "mode",
            "method",
            "sent",
            "delivered",
            "told",
            "in flight",
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
        write!(text, "{}", self.takeover)?;
        writeln!(
            text,
            "  In flight: {} that the router had written to {MATCHSVR}'s master by its own count, \
             and {} answers.",
            self.account.in_flight_by_router, self.account.total.answers_in_flight
        )?;
        for problem in &self.account.problems {
            writeln!(text, "  WRONG: {problem}")?;
        }
        let verdict = match self.closes {
            true => "The account closes: sent = delivered + told + in flight at the kill.",
            false => "The account does NOT close.",
        };
        writeln!(text, "\n{verdict}")
    }
}

impl fmt::Display for Takeover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { killed, pid, left_seen_ms, promoted_ms, first_message_ms, .. } = self;
        let [old, backup, again] = self.handled;
        let [first, second, third] = self.epochs;
        writeln!(
            f,
            "  {killed} (process {pid}) was killed; {left_seen_ms:.1} ms later a game server knew, \
             after {promoted_ms:.1} ms\n  the backup was promoted, and after \
             {first_message_ms:.1} ms it had handled its first message."
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
    let Row { sent, delivered, in_flight, lost, .. } = row;
    let told = row.told();
    // Writing to a string does not fail.
    let _ = writeln!(
        text,
        "  {words} {sent:>9} {delivered:>10} {told:>6} {in_flight:>10} {lost:>6}{latency}"
    );
}
