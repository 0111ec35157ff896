//! What people see while it runs: a table of rates and latencies once a second, and lines of what
//! happens in between.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use crate::latency::Latency;
use crate::news::Pulse;
use crate::stream::{Manner, Stream};

/// Where the table goes: away from the summary, if that is for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Screen {
    Stdout,
    Stderr,
}

/// The live table.
#[derive(Debug)]
pub struct Table {
    screen: Screen,
    start: Instant,
    shown: Instant,
    second: BTreeMap<Stream, Line>,
    whole: BTreeMap<Stream, Line>,
    /// How many lines of an earlier table stand right above the cursor.
    above: usize,
    running: bool,
}

/// A stream in some time.
#[derive(Debug)]
struct Line {
    sent: u64,
    handled: u64,
    failed: u64,
    latency: Latency,
}

impl Default for Line {
    fn default() -> Self {
        Self { sent: 0, handled: 0, failed: 0, latency: Latency::new() }
    }
}

impl Table {
    pub fn new(screen: Screen) -> Self {
        let now = Instant::now();
        let (second, whole) = (BTreeMap::new(), BTreeMap::new());
        Self { screen, start: now, shown: now, second, whole, above: 0, running: false }
    }

    /// Time starts to count, and so do messages.
    pub fn begin(&mut self) {
        let screen = self.screen;
        *self = Self { running: true, ..Self::new(screen) };
    }

    /// Takes in what one process says of the last second.
    pub fn note(&mut self, pulses: &BTreeMap<Stream, Pulse>) {
        for (stream, pulse) in pulses {
            for lines in [&mut self.second, &mut self.whole] {
                let line = lines.entry(*stream).or_default();
                line.sent += pulse.sent;
                line.handled += pulse.handled;
                line.failed += pulse.failed;
                line.latency.merge(&pulse.latency);
            }
        }
    }

    /// Something happened.
    pub fn say(&mut self, what: &str) {
        let seconds = self.start.elapsed().as_secs_f64();
        self.print(&format!("{seconds:6.2} s  {what}\n"));
        self.above = 0;
    }

    /// The table stands still from here on.
    pub fn end(&mut self, why: &str) {
        self.running = false;
        self.say(why);
    }

    /// Shows what was noted since the last time.
    pub fn show(&mut self) {
        if !self.running {
            return;
        }
        let span = self.shown.elapsed().max(Duration::from_millis(1)).as_secs_f64();
        self.shown = Instant::now();
        let mut text = String::new();
        if self.above > 0 && self.is_terminal() {
            let _ = write!(text, "\x1b[{}A\x1b[J", self.above);
        }
        let seconds = self.start.elapsed().as_secs_f64();
        let _ = writeln!(
            text,
            "\n{seconds:6.2} s  {:<9} {:<13} {:<11} {:>9} {:>11} {:>9} {:>9} {:>7}",
            "class", "mode", "method", "sent/s", "delivered/s", "p50", "p99", "failed"
        );
        let rate = |count: u64| (count as f64 / span).round();
        let (mut sent, mut handled, mut failed) = (0, 0, 0);
        for (stream, line) in std::mem::take(&mut self.second) {
            let _ = writeln!(
                text,
                "          {:<9} {:<13} {:<11} {:>9} {:>11} {:>9} {:>9} {:>7}",
                stream.class(),
                mode(stream),
                stream.method(),
                rate(line.sent),
                rate(line.handled),
                time(line.latency.quantile(0.5)),
                time(line.latency.quantile(0.99)),
                line.failed
            );
            sent += line.sent;
            handled += line.handled;
            failed += line.failed;
        }
        let _ = writeln!(
            text,
            "          {:<35} {:>9} {:>11} {:>9} {:>9} {:>7}",
            "all",
            rate(sent),
            rate(handled),
            "",
            "",
            failed
        );
        self.above = text.lines().count();
        self.print(&text);
    }

    /// The latencies over the whole time: the half and the slowest of a hundred, in microseconds.
    pub fn latencies(&self) -> BTreeMap<Stream, (Option<u64>, Option<u64>)> {
        let lines = self.whole.iter();
        lines
            .map(|(stream, line)| {
                (*stream, (line.latency.quantile(0.5), line.latency.quantile(0.99)))
            })
            .collect()
    }

    /// Prints what is not part of the table.
    pub fn write(&mut self, text: &str) {
        self.print(text);
        self.above = 0;
    }

    fn is_terminal(&self) -> bool {
        match self.screen {
            Screen::Stdout => io::stdout().is_terminal(),
            Screen::Stderr => io::stderr().is_terminal(),
        }
    }

    fn print(&self, text: &str) {
        // Without anybody to read it, the table is not worth failing for.
        let _ = match self.screen {
            Screen::Stdout => io::stdout().lock().write_all(text.as_bytes()),
            Screen::Stderr => io::stderr().lock().write_all(text.as_bytes()),
        };
    }
}

/// The mode, and whether it is a call.
pub fn mode(stream: Stream) -> String {
    match stream.manner() {
        Manner::OneWay => stream.mode().to_owned(),
        Manner::Call => format!("{} call", stream.mode()),
    }
}

/// Microseconds as people read them.
pub fn time(micros: Option<u64>) -> String {
    match micros {
        None => "-".to_owned(),
        Some(micros) if micros < 10_000 => format!("{micros} us"),
        Some(micros) => format!("{} ms", micros / 1000),
    }
}
