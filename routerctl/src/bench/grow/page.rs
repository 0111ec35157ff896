//! The tables of a run in Markdown, with where they come from, and their place in a page between two comments.

use std::path::Path;

use anyhow::Result;
use serde_json::{Value, json};

use super::chart::{exact, steps};
use super::sweep::Sweep;
use crate::bench::figures::RATE;
use crate::bench::here;
use crate::failure::Failure;

/// When, where and how a run was made.
#[derive(Debug, Clone)]
pub struct Origin {
    date: String,
    command: String,
    machine: String,
    /// The load average when it began and when it ended.
    load: (String, String),
}

impl Origin {
    /// Looks around at the beginning.
    pub fn look() -> Self {
        let cpu = here::cpu().unwrap_or_else(|| "an unknown processor".to_owned());
        let kernel = here::kernel();
        // Without what whoever built it called it.
        let kernel = kernel.split('-').next().unwrap_or_default();
        Self {
            date: here::today(),
            command: here::command_line(),
            machine: format!("{} cores of {cpu}, Linux {kernel}", here::cores()),
            load: (here::load(), String::new()),
        }
    }

    /// Looks again at the end.
    pub fn until_now(self) -> Self {
        Self { load: (self.load.0, here::load()), ..self }
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let Self { date, command, machine, load } = self;
        json!({"date": date, "command": command, "machine": machine, "load": [load.0, load.1]})
    }
}

/// All tables, and above them where they come from.
pub fn section(origin: &Origin, sweeps: &[Sweep]) -> String {
    let Origin { date, command, machine, load: (before, after) } = origin;
    let mut text = format!(
        "Measured on {date}: {machine}, loopback, the generator on the same cores; load average {before} before and \
         {after} after the run.\n\n    {command}\n"
    );
    for sweep in sweeps {
        text += &table(sweep);
    }
    text
}

fn table(sweep: &Sweep) -> String {
    let mut text =
        format!("\n{}: {} ({})\n\n| {} |", sweep.title, sweep.cost, sweep.rate, sweep.size);
    sweep.series.iter().for_each(|series| text += &format!(" {} |", series.name));
    text += &format!("\n|---|{}\n", "---|".repeat(sweep.series.len()));
    for size in rows(&sweep.sizes()) {
        text += &format!("| {} |", grouped(size));
        for series in &sweep.series {
            text += &series.at(size).map_or(" - |".to_owned(), |point| {
                format!(" {} ({}) |", exact(point.cost), RATE.unit.show(point.rate))
            });
        }
        text += "\n";
    }
    text
}

/// All sizes if they are few, and the round ones otherwise.
fn rows(sizes: &[u64]) -> Vec<u64> {
    let (Some(first), Some(last)) = (sizes.first(), sizes.last()) else { return Vec::new() };
    if sizes.len() <= FEW {
        return sizes.to_vec();
    }
    let round: Vec<u64> =
        steps(*first as f64, *last as f64).iter().map(|size| *size as u64).collect();
    sizes
        .iter()
        .copied()
        .filter(|size| round.contains(size) || size == first || size == last)
        .collect()
}

/// 1000000 as 1,000,000.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// What the file holds, with this between its marks instead of what is there.
///
/// # Errors
/// If it can't be read, or the marks are not there.
pub fn replace(path: &Path, section: &str) -> Result<String> {
    let usage = |what: String| Failure::Usage(format!("--page: {}: {what}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| usage(error.to_string()))?;
    between_marks(&text, section).ok_or_else(|| {
        usage(format!("the tables go between a line `{BEGIN}` and a later line `{END}`")).into()
    })
}

fn between_marks(text: &str, section: &str) -> Option<String> {
    let (head, rest) = text.split_once(BEGIN)?;
    let (_, tail) = rest.split_once(END)?;
    Some(format!("{head}{BEGIN}\n{}\n{END}{tail}", section.trim_end()))
}

const BEGIN: &str = "<!-- grow: begin -->";
const END: &str = "<!-- grow: end -->";
/// More sizes than this are too many for a table.
const FEW: usize = 6;

#[cfg(test)]
mod tests {
    use super::super::sweep::{Point, Series};
    use super::*;

    #[test]
    fn a_table_has_a_row_for_each_size_and_a_column_for_each_series() {
        let series = |name, sizes: &[u64]| {
            let points = sizes.iter().map(|size| Point { size: *size, cost: 51.26, rate: 2.5e6 });
            Series { name, points: points.collect() }
        };
        let sweep = Sweep {
            key: "key",
            title: "A frame",
            size: "instances",
            cost: "CPU ns",
            rate: "a second",
            series: vec![series("direct", &[10, 1_000_000]), series("hash", &[10])],
        };
        let expected = "\nA frame: CPU ns (a second)\n\n| instances | direct | hash |\n|---|---|---|\n\
                        | 10 | 51.3 (2.50 M) | 51.3 (2.50 M) |\n| 1,000,000 | 51.3 (2.50 M) | - |\n";
        assert_eq!(table(&sweep), expected);
    }

    #[test]
    fn of_many_sizes_the_round_ones_are_told() {
        let sizes: Vec<u64> = (1..=20).map(|step| step * 50_000).collect();
        assert_eq!(rows(&sizes), [50_000, 100_000, 200_000, 500_000, 1_000_000]);
        assert_eq!(rows(&[7, 8, 9]), [7, 8, 9]);
    }

    #[test]
    fn what_is_between_the_marks_is_replaced_and_nothing_else() {
        let page = format!("# A\n\n{BEGIN}\nold\n{END}\n\nmore\n");
        let replaced = between_marks(&page, "new\n").expect("marks");
        assert_eq!(replaced, format!("# A\n\n{BEGIN}\nnew\n{END}\n\nmore\n"));
        assert_eq!(between_marks(&replaced, "new\n").expect("marks"), replaced);
        for without in [format!("{END}\n{BEGIN}\n"), BEGIN.to_owned(), String::new()] {
            assert_eq!(between_marks(&without, "new"), None, "{without}");
        }
    }
}
