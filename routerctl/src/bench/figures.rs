//! What a round measures: named numbers, and how people like to read each.

use std::fmt::Write as _;

use hdrhistogram::Histogram;

use crate::bench::server::Spent;

/// A kind of number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Figure {
    /// What JSON calls it.
    pub key: &'static str,
    /// What the table calls it.
    pub title: &'static str,
    /// How the table writes it.
    pub unit: Unit,
}

/// How a table writes a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// With one digit behind the point.
    Tenths,
    /// A count of something by the second: 2.34 M, 56.7 k.
    Rate,
}

/// What one round of one server came to.
#[derive(Debug, Clone, Default)]
pub struct Figures(Vec<(Figure, f64)>);

impl Figures {
    /// What so many messages took and cost.
    pub fn of_messages(messages: u64, spent: Spent) -> Self {
        let mut figures = Self::default();
        let messages = messages as f64;
        if let Some(cpu_ns) = spent.cpu_ns {
            figures.add(CPU, cpu_ns as f64 / messages);
        }
        figures.add(OWN_CPU, spent.own_ns as f64 / messages);
        figures.add(RATE, messages / spent.took.as_secs_f64());
        figures.add(MESSAGES, messages);
        figures
    }

    /// How much more the generator takes through the SDK than without.
    pub fn add_sdk_ratio(&mut self, raw: &Self) {
        if let (Some(sdk), Some(raw)) = (self.value(OWN_CPU), raw.value(OWN_CPU)) {
            self.add(RAW_CPU, raw);
            self.add(SDK_RATIO, sdk / raw);
        }
    }

    /// One more.
    pub fn add(&mut self, figure: Figure, value: f64) {
        self.0.push((figure, value));
    }

    /// How long answers took, in microseconds, from nanoseconds.
    pub fn add_latency(&mut self, latency: [Figure; 4], took: &Histogram<u64>) {
        let [p50, p99, p999, max] = latency;
        for (figure, quantile) in [(p50, 0.5), (p99, 0.99), (p999, 0.999)] {
            self.add(figure, took.value_at_quantile(quantile) as f64 / 1e3);
        }
        self.add(max, took.max() as f64 / 1e3);
    }

    /// This one, if it was measured.
    pub fn value(&self, figure: Figure) -> Option<f64> {
        self.0.iter().find(|(known, _)| *known == figure).map(|(_, value)| *value)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (Figure, f64)> {
        self.0.iter().copied()
    }
}

impl Unit {
    /// The number as the table has it.
    pub fn show(self, value: f64) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = match self {
            Self::Tenths => write!(text, "{value:.1}"),
            Self::Rate if value >= 1e6 => write!(text, "{:.2} M", value / 1e6),
            Self::Rate if value >= 1e4 => write!(text, "{:.1} k", value / 1e3),
            Self::Rate => write!(text, "{value:.0}"),
        };
        text
    }
}

/// The middle one; of an even number the higher of the two.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// What a delivered message costs the server.
pub const CPU: Figure =
    Figure { key: "cpu_ns_per_message", title: "CPU ns per message", unit: Unit::Tenths };
/// What it costs the generator, both ends.
pub const OWN_CPU: Figure =
    Figure { key: "generator_cpu_ns_per_message", title: "generator CPU ns", unit: Unit::Tenths };
/// The same without the SDK, in the same round,
pub const RAW_CPU: Figure = Figure {
    key: "raw_generator_cpu_ns_per_message",
    title: "without the SDK",
    unit: Unit::Tenths,
};
/// and how many times as much the SDK takes.
pub const SDK_RATIO: Figure = Figure { key: "sdk_cpu_ratio", title: "ratio", unit: Unit::Tenths };
/// How many are delivered.
pub const RATE: Figure =
    Figure { key: "messages_per_second", title: "messages per second", unit: Unit::Rate };
/// How many were delivered, every one of them checked.
pub const MESSAGES: Figure = Figure { key: "messages", title: "messages", unit: Unit::Rate };
/// How many calls are answered.
pub const CALLS_RATE: Figure =
    Figure { key: "calls_per_second", title: "calls per second", unit: Unit::Rate };
/// How many were answered, every answer checked.
pub const CALLS: Figure = Figure { key: "calls", title: "calls", unit: Unit::Rate };
/// How many connections join.
pub const JOIN_RATE: Figure =
    Figure { key: "connections_per_second", title: "connections per second", unit: Unit::Rate };
/// What one that joins costs the server.
pub const JOIN_CPU: Figure =
    Figure { key: "cpu_us_per_connection", title: "CPU us per connection", unit: Unit::Tenths };
/// How many there were, all of them alive at the end.
pub const CONNECTIONS: Figure =
    Figure { key: "connections", title: "connections", unit: Unit::Rate };
/// How much the server has grown for each.
pub const MEMORY: Figure = Figure {
    key: "rss_bytes_per_connection",
    title: "resident bytes per connection",
    unit: Unit::Tenths,
};
/// What it takes while they only ping, of one core.
pub const IDLE_CPU: Figure =
    Figure { key: "idle_cpu_percent", title: "CPU while idle, % of a core", unit: Unit::Tenths };
/// From asking to the answer.
pub const LATENCY: [Figure; 4] = [
    Figure { key: "p50_us", title: "p50 us", unit: Unit::Tenths },
    Figure { key: "p99_us", title: "p99 us", unit: Unit::Tenths },
    Figure { key: "p999_us", title: "p99.9 us", unit: Unit::Tenths },
    Figure { key: "max_us", title: "max us", unit: Unit::Tenths },
];
/// The same, of calls that have the server to themselves.
pub const ALONE: [Figure; 4] = [
    Figure { key: "alone_p50_us", title: "alone p50 us", unit: Unit::Tenths },
    Figure { key: "alone_p99_us", title: "p99 us", unit: Unit::Tenths },
    Figure { key: "alone_p999_us", title: "p99.9 us", unit: Unit::Tenths },
    Figure { key: "alone_max_us", title: "max us", unit: Unit::Tenths },
];
/// The same, of calls beside a flood.
pub const BESIDE: [Figure; 4] = [
    Figure { key: "beside_p50_us", title: "beside the flood p50 us", unit: Unit::Tenths },
    Figure { key: "beside_p99_us", title: "p99 us", unit: Unit::Tenths },
    Figure { key: "beside_p999_us", title: "p99.9 us", unit: Unit::Tenths },
    Figure { key: "beside_max_us", title: "max us", unit: Unit::Tenths },
];
/// From connecting until the id is registered.
pub const JOINING: [Figure; 4] = [
    Figure { key: "join_p50_us", title: "joining p50 us", unit: Unit::Tenths },
    Figure { key: "join_p99_us", title: "p99 us", unit: Unit::Tenths },
    Figure { key: "join_p999_us", title: "p99.9 us", unit: Unit::Tenths },
    Figure { key: "join_max_us", title: "max us", unit: Unit::Tenths },
];
/// How many connections left and came back.
pub const CHURN_RATE: Figure =
    Figure { key: "reconnects_per_second", title: "reconnects per second", unit: Unit::Rate };
/// What was delivered before something else began.
pub const CALM_RATE: Figure = Figure {
    key: "calm_messages_per_second",
    title: "messages per second before",
    unit: Unit::Rate,
};
/// How much of the rate before is left.
pub const KEPT: Figure =
    Figure { key: "kept_percent", title: "% of the rate kept", unit: Unit::Tenths };
/// How much the server has grown since.
pub const GROWN: Figure = Figure { key: "grown_mib", title: "grown by MiB", unit: Unit::Tenths };
