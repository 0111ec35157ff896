//! What a run came to: a table for people, or JSON for programs. Both go to standard output.

use std::io::Write;

use anyhow::Result;
use serde_json::{Map, Value, json};

use crate::bench::Common;
use crate::bench::contest::Results;
use crate::bench::figures::{CALLS, CONNECTIONS, CPU, Figure, Figures, MESSAGES, median};
use crate::bench::workload::Workload;

/// Prints it. A failure is in the JSON; for people the program's last line has it.
pub fn print(common: &Common, workload: &dyn Workload, result: Result<&Results, &anyhow::Error>) {
    let text = match result {
        _ if common.json => format!("{:#}\n", as_json(common, workload, result)),
        Ok(results) => table(common, workload, results),
        Err(_) => return,
    };
    // Who closed standard output does not want to know.
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

fn table(common: &Common, workload: &dyn Workload, results: &Results) -> String {
    let heading = format!(
        "{}: {}; {}; median (lowest-highest)\n\n",
        workload.name(),
        workload.describe(),
        match common.rounds {
            1 => "1 round".to_owned(),
            rounds => format!("{rounds} rounds"),
        },
    );
    heading + &columns_of(&results.servers)
}

/// A row for each server, a column for each figure, and the ratio of CPU time to that of the first.
pub fn columns_of(servers: &[(String, Vec<Figures>)]) -> String {
    let mut text = "| server |".to_owned();
    let base = servers.first().map_or(&[][..], |(_, rounds)| rounds);
    let columns: Vec<_> = base
        .first()
        .into_iter()
        .flat_map(Figures::iter)
        .map(|(figure, _)| figure)
        .filter(|figure| ![MESSAGES, CALLS, CONNECTIONS].contains(figure))
        .collect();
    for column in &columns {
        text += &format!(" {} |", column.title);
    }
    let others = servers.len() > 1 && columns.contains(&CPU);
    text += if others { " ratio of CPU |\n|---|" } else { "\n|---|" };
    text += &"---|".repeat(columns.len() + usize::from(others));
    text += "\n";
    for (name, rounds) in servers {
        text += &format!("| {name} |");
        for column in &columns {
            let values: Vec<f64> = rounds.iter().filter_map(|round| round.value(*column)).collect();
            let low = values.iter().copied().fold(f64::MAX, f64::min);
            let high = values.iter().copied().fold(f64::MIN, f64::max);
            text += &match values.len() {
                0 => " - |".to_owned(),
                1 => format!(" {} |", column.unit.show(low)),
                _ => {
                    let (low, high) = (column.unit.show(low), column.unit.show(high));
                    format!(" {} ({low}-{high}) |", column.unit.show(median(values)))
                }
            };
        }
        if others {
            text += &ratio(CPU, rounds, base)
                .map_or(" - |".to_owned(), |ratio| format!(" {ratio:.3} |"));
        }
        text += "\n";
    }
    text
}

fn as_json(
    common: &Common,
    workload: &dyn Workload,
    result: Result<&Results, &anyhow::Error>,
) -> Value {
    let mut document = json!({
        "workload": workload.name(),
        "description": workload.describe(),
        "rounds": common.rounds,
        "ok": result.is_ok(),
    });
    match result {
        Ok(results) => {
            let base = &results.servers[0].1;
            let servers = results.servers.iter().map(|(name, rounds)| {
                json!({
                    "name": name,
                    "median": medians(rounds),
                    "cpu_ratio": ratio(CPU, rounds, base),
                    "rounds": rounds.iter().map(of_round).collect::<Vec<_>>(),
                })
            });
            document["servers"] = servers.collect();
        }
        Err(error) => document["error"] = format!("{error:#}").into(),
    }
    document
}

pub fn of_round(round: &Figures) -> Map<String, Value> {
    round.iter().map(|(figure, value)| (figure.key.to_owned(), value.into())).collect()
}

pub fn medians(rounds: &[Figures]) -> Map<String, Value> {
    let figures = rounds.first().into_iter().flat_map(Figures::iter);
    figures
        .map(|(figure, _)| {
            let values = rounds.iter().filter_map(|round| round.value(figure)).collect();
            (figure.key.to_owned(), median(values).into())
        })
        .collect()
}

/// The median of the rounds' ratios, since a round meets both in the same weather.
pub fn ratio(figure: Figure, rounds: &[Figures], base: &[Figures]) -> Option<f64> {
    let ratios: Option<Vec<f64>> = rounds
        .iter()
        .zip(base)
        .map(|(one, base)| Some(one.value(figure)? / base.value(figure)?))
        .collect();
    ratios.filter(|ratios| !ratios.is_empty()).map(median)
}
