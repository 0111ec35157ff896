//! What a sweep measures: for each size a point, for each way of doing it a series. Pure but for the rounds, which
//! take all ways in turn, so that whatever else the machine does meets all of them alike.

use anyhow::Result;
use serde_json::{Value, json};

use crate::bench::figures::{CPU, Figures, RATE, median};

/// One question, measured at several sizes.
#[derive(Debug, Clone)]
pub struct Sweep {
    /// What JSON calls it.
    pub key: &'static str,
    pub title: &'static str,
    /// What the sizes are.
    pub size: &'static str,
    /// What a point's cost is, with its unit.
    pub cost: &'static str,
    /// What is done at which rate.
    pub rate: &'static str,
    pub series: Vec<Series>,
}

/// One way of doing it.
#[derive(Debug, Clone)]
pub struct Series {
    pub name: &'static str,
    pub points: Vec<Point>,
}

/// What was measured at one size.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    pub size: u64,
    pub cost: f64,
    /// By the second.
    pub rate: f64,
}

impl Sweep {
    /// For programs.
    pub fn json(&self) -> Value {
        let series = self.series.iter().map(|series| {
            let points = series.points.iter().map(
                |point| json!({"size": point.size, "cost": point.cost, "per_second": point.rate}),
            );
            json!({"name": series.name, "points": points.collect::<Vec<_>>()})
        });
        json!({
            "key": self.key,
            "title": self.title,
            "size": self.size,
            "cost": self.cost,
            "rate": self.rate,
            "series": series.collect::<Vec<_>>(),
        })
    }

    /// The sizes of all series, ascending.
    pub fn sizes(&self) -> Vec<u64> {
        let points = self.series.iter().flat_map(|series| &series.points);
        let mut sizes: Vec<u64> = points.map(|point| point.size).collect();
        sizes.sort_unstable();
        sizes.dedup();
        sizes
    }
}

impl Series {
    /// One without points.
    pub fn named(name: &'static str) -> Self {
        Self { name, points: Vec::new() }
    }

    /// What was measured at this size.
    pub fn at(&self, size: u64) -> Option<Point> {
        self.points.iter().find(|point| point.size == size).copied()
    }
}

/// Does it in all ways in turn, once to warm up and then so many times; answers what a message cost in each, in
/// nanoseconds of the router's, and how many came by the second: medians.
pub fn rounds(
    rounds: u32,
    ways: usize,
    mut once: impl FnMut(usize) -> Result<Figures>,
) -> Result<Vec<(f64, f64)>> {
    let mut measured = vec![(Vec::new(), Vec::new()); ways];
    for round in 0..=rounds {
        for (way, (costs, rates)) in measured.iter_mut().enumerate() {
            let figures = once(way)?;
            if round > 0 {
                costs.extend(figures.value(CPU));
                rates.extend(figures.value(RATE));
            }
        }
    }
    Ok(measured.into_iter().map(|(costs, rates)| (median(costs), median(rates))).collect())
}
