//! The samples of one metric, and the page that they stand on, as Prometheus reads it.

use prometheus::proto::{self, MetricType};
use prometheus::{Encoder, TextEncoder};

use super::names::Family;
use crate::counters::Durations;

/// The page while it is gathered.
#[derive(Debug, Default)]
pub(super) struct Page(Vec<proto::MetricFamily>);

/// The samples of one metric.
#[derive(Debug)]
pub(super) struct Series {
    family: &'static Family,
    samples: Vec<proto::Metric>,
}

impl Page {
    /// Adds a metric with its samples. One without any is left out.
    pub(super) fn add(&mut self, series: Series) {
        if series.samples.is_empty() {
            return;
        }
        let mut family = proto::MetricFamily::default();
        family.set_name(series.family.name.to_owned());
        family.set_help(series.family.help.to_owned());
        family.set_field_type(series.family.kind);
        family.set_metric(series.samples);
        self.0.push(family);
    }

    /// Adds a metric without labels.
    pub(super) fn add_one(&mut self, family: &'static Family, value: f64) {
        let mut series = Series::of(family);
        series.add(&[], value);
        self.add(series);
    }

    /// Adds a histogram without labels.
    pub(super) fn add_durations(&mut self, family: &'static Family, durations: &Durations) {
        let bucket = |(bound, count): &(f64, u64)| {
            let mut bucket = proto::Bucket::default();
            bucket.set_upper_bound(*bound);
            bucket.set_cumulative_count(*count);
            bucket
        };
        let mut histogram = proto::Histogram::default();
        histogram.set_sample_count(durations.count);
        histogram.set_sample_sum(durations.sum);
        histogram.set_bucket(durations.below.iter().map(bucket).collect());
        let mut metric = proto::Metric::default();
        metric.set_histogram(histogram);
        self.add(Series { family, samples: vec![metric] });
    }

    /// The page as text.
    pub(super) fn encode(&self) -> Result<Vec<u8>, prometheus::Error> {
        let mut page = Vec::new();
        TextEncoder::new().encode(&self.0, &mut page)?;
        Ok(page)
    }
}

impl Series {
    /// None yet.
    pub(super) fn of(family: &'static Family) -> Self {
        Self { family, samples: Vec::new() }
    }

    /// Adds a sample; the values of its labels are in the order of their names.
    pub(super) fn add(&mut self, values: &[&str], value: f64) {
        debug_assert_eq!(values.len(), self.family.labels.len(), "{}", self.family.name);
        let label = |(name, value): (&&str, &&str)| {
            let mut label = proto::LabelPair::default();
            label.set_name((*name).to_owned());
            label.set_value((*value).to_owned());
            label
        };
        let labels = self.family.labels.iter().zip(values).map(label).collect();
        let mut metric = proto::Metric::from_label(labels);
        if self.family.kind == MetricType::COUNTER {
            let mut counter = proto::Counter::default();
            counter.set_value(value);
            metric.set_counter(counter);
        } else {
            let mut gauge = proto::Gauge::default();
            gauge.set_value(value);
            metric.set_gauge(gauge);
        }
        self.samples.push(metric);
    }

    /// Adds a whole number. Up to 2^53 it is exact.
    pub(super) fn count(&mut self, values: &[&str], value: u64) {
        self.add(values, value as f64);
    }
}
