//! What a node counts, in Prometheus' terms. All names of metrics are in this file; labels are
//! directions, classes, methods and outcomes, never ids. A scrape reads [`Node::stats`] once.
//!
//! Only with the feature `prometheus`.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use prometheus::core::{Collector, Desc};
use prometheus::proto::{self, MetricFamily, MetricType};
use prometheus::{Error, Registry};

use crate::latency::Latency;
use crate::node::Node;
use crate::outcome::{Outcome, Outcomes};
use crate::shared::Shared;
use crate::stats::{Direction, MethodStats, Stats};

impl Node {
    /// Adds what [`Node::stats`] tells to a registry, under names that begin with `switchboard_node_`.
    /// A registry takes one node: for several in a process, give each a registry of its own
    /// (`Registry::new_custom`, with a label that names the node). Once the node is gone, its metrics
    /// are too.
    ///
    /// Needs the cargo feature `prometheus`.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let config = switchboard_router::Config::local().with_class("matchsvr", 5).with_class("gamesvr", 3);
    /// # let router = switchboard_router::Router::start(config)?;
    /// # let address = router.listen()[0].to_string();
    /// # let node = switchboard::Node::builder("matchsvr.1").router(&address).connect().await?;
    /// use prometheus::{Registry, TextEncoder};
    /// use switchboard::{Node, Random};
    ///
    /// let registry = Registry::new();
    /// node.register_metrics(&registry)?;
    /// node.forward(Random, "gamesvr", "moved", (1, 2))?;
    ///
    /// let page = TextEncoder::new().encode_to_string(&registry.gather())?;
    /// assert!(page.contains("switchboard_node_messages_total"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn register_metrics(&self, registry: &Registry) -> Result<(), Error> {
        registry.register(Box::new(Metrics::new(self.shared())?))
    }
}

/// The collector of a node. It does not keep the node.
struct Metrics {
    shared: Weak<Shared>,
    descs: Vec<Desc>,
}

impl Metrics {
    fn new(shared: &Arc<Shared>) -> Result<Self, Error> {
        let describe = |family: &Family| {
            let labels = family.labels.iter().map(|label| (*label).to_owned()).collect();
            let (name, help) = (family.name.to_owned(), family.help.to_owned());
            Desc::new(name, help, labels, HashMap::new())
        };
        let descs = FAMILIES.iter().map(describe).collect::<Result<_, _>>()?;
        Ok(Self { shared: Arc::downgrade(shared), descs })
    }
}

impl Collector for Metrics {
    fn desc(&self) -> Vec<&Desc> {
        self.descs.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let Some(shared) = self.shared.upgrade() else { return Vec::new() };
        let stats = Stats::read(&shared);
        FAMILIES.iter().map(|family| family.read(&stats)).collect()
    }
}

/// One name, and where its numbers come from.
struct Family {
    name: &'static str,
    help: &'static str,
    labels: &'static [&'static str],
    source: Source,
}

enum Source {
    Ends(fn(&MethodStats) -> Outcomes),
    Counter(fn(&MethodStats) -> u64),
    Gauge(fn(&MethodStats) -> u64),
    Histogram(fn(&MethodStats) -> &Latency),
    Node(fn(&Stats) -> usize),
}

impl Family {
    fn read(&self, stats: &Stats) -> MetricFamily {
        let mut family = MetricFamily::default();
        family.set_name(self.name.to_owned());
        family.set_help(self.help.to_owned());
        let methods = || stats.iter().map(|method| (method, labels(method)));
        let (kind, metrics) = match self.source {
            Source::Ends(read) => {
                let ends = methods().flat_map(|(method, labels)| ends(read(method), &labels));
                (MetricType::COUNTER, ends.collect())
            }
            Source::Counter(read) => {
                let metrics = methods().map(|(method, labels)| counter(labels, read(method)));
                (MetricType::COUNTER, metrics.collect())
            }
            Source::Gauge(read) => {
                let metrics = methods().map(|(method, labels)| gauge(labels, read(method) as f64));
                (MetricType::GAUGE, metrics.collect())
            }
            Source::Histogram(read) => {
                let timed = methods().filter(|(method, _)| read(method).count() > 0);
                let metrics = timed.map(|(method, labels)| histogram(labels, read(method)));
                (MetricType::HISTOGRAM, metrics.collect::<Vec<_>>())
            }
            Source::Node(read) => (MetricType::GAUGE, vec![gauge(Vec::new(), read(stats) as f64)]),
        };
        family.set_field_type(kind);
        family.set_metric(metrics);
        family
    }
}

fn labels(method: &MethodStats) -> Vec<proto::LabelPair> {
    let direction = match method.direction {
        Direction::Called => "called",
        Direction::Served => "served",
    };
    [("class", &*method.class_name), ("direction", direction), ("method", &*method.method)]
        .map(|(name, value)| label(name, value))
        .into()
}

fn label(name: &str, value: &str) -> proto::LabelPair {
    let mut label = proto::LabelPair::default();
    label.set_name(name.to_owned());
    label.set_value(value.to_owned());
    label
}

fn ends(outcomes: Outcomes, labels: &[proto::LabelPair]) -> Vec<proto::Metric> {
    let end = |(outcome, count): (Outcome, u64)| {
        let mut labels = labels.to_vec();
        labels.push(label("outcome", outcome.name()));
        counter(labels, count)
    };
    outcomes.iter().map(end).collect()
}

fn counter(labels: Vec<proto::LabelPair>, count: u64) -> proto::Metric {
    let mut counter = proto::Counter::default();
    counter.set_value(count as f64);
    let mut metric = proto::Metric::from_label(labels);
    metric.set_counter(counter);
    metric
}

fn gauge(labels: Vec<proto::LabelPair>, value: f64) -> proto::Metric {
    let mut gauge = proto::Gauge::default();
    gauge.set_value(value);
    let mut metric = proto::Metric::from_label(labels);
    metric.set_gauge(gauge);
    metric
}

/// Each bucket ends at a power of two of microseconds, where one of the finer ones does too.
fn histogram(labels: Vec<proto::LabelPair>, latency: &Latency) -> proto::Metric {
    let bucket = |power: u32| {
        let mut bucket = proto::Bucket::default();
        bucket.set_upper_bound(f64::from(1_u32 << power) / 1e6);
        bucket.set_cumulative_count(latency.below(power));
        bucket
    };
    let mut histogram = proto::Histogram::default();
    histogram.set_sample_count(latency.count());
    histogram.set_sample_sum(latency.total().as_secs_f64());
    histogram.set_bucket((SHORTEST..=LONGEST).map(bucket).collect());
    let mut metric = proto::Metric::from_label(labels);
    metric.set_histogram(histogram);
    metric
}

/// From 64 us to 67 s: 21 buckets.
const SHORTEST: u32 = 6;
const LONGEST: u32 = 26;

const METHOD: &[&str] = &["class", "direction", "method"];
const END: &[&str] = &["class", "direction", "method", "outcome"];

const FAMILIES: [Family; 11] = [
    Family {
        name: "switchboard_node_calls_total",
        help: "Calls that have ended, by how they did.",
        labels: END,
        source: Source::Ends(|method| method.outcomes),
    },
    Family {
        name: "switchboard_node_messages_total",
        help: "One-way messages, by whether they were sent, or how their handlers ended.",
        labels: END,
        source: Source::Ends(|method| method.messages),
    },
    Family {
        name: "switchboard_node_retries_total",
        help: "Copies of calls that were sent, beyond the first of each.",
        labels: METHOD,
        source: Source::Counter(|method| method.retries),
    },
    Family {
        name: "switchboard_node_in_flight",
        help: "Calls under way, and handlers that wait for something.",
        labels: METHOD,
        source: Source::Gauge(|method| method.in_flight),
    },
    Family {
        name: "switchboard_node_latency_seconds",
        help: "How long calls took until their end, or handlers.",
        labels: METHOD,
        source: Source::Histogram(|method| &method.latency),
    },
    Family {
        name: "switchboard_node_open_calls",
        help: "Calls that wait for their answers.",
        labels: &[],
        source: Source::Node(|stats| stats.open_calls),
    },
    Family {
        name: "switchboard_node_window_calls",
        help: "Idempotent calls that the node runs, or remembers the answers of.",
        labels: &[],
        source: Source::Node(|stats| stats.window_calls),
    },
    Family {
        name: "switchboard_node_window_bytes",
        help: "Bytes of the answers to idempotent calls that are remembered.",
        labels: &[],
        source: Source::Node(|stats| stats.window_bytes),
    },
    Family {
        name: "switchboard_node_handler_queue",
        help: "Messages that wait for their handlers.",
        labels: &[],
        source: Source::Node(|stats| stats.handler_queue),
    },
    Family {
        name: "switchboard_node_outbox_bytes",
        help: "Bytes that wait for their routers.",
        labels: &[],
        source: Source::Node(|stats| stats.outbox_bytes),
    },
    Family {
        name: "switchboard_node_routers",
        help: "Routers to which there is a link.",
        labels: &[],
        source: Source::Node(|stats| stats.routers),
    },
];
