//! The report of a run, in Markdown, and its short table. Pure: the same account gives the same text.

use super::Peer;
use super::account::{Account, Described, Done, Machine};
use super::bar::Verdict;
use super::programme::Measure;
use super::roster::ROUTER;
use crate::bench::figures::median;
use crate::bench::report::columns_of;

/// The language of a short table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    English,
    Chinese,
}

/// The whole report.
pub fn report(account: &Account) -> String {
    let mut text = format!("# Peers side by side, {}\n\n", account.date);
    text += &format!("    {}\n\n", account.command);
    text += &origin(account);
    text += "\n## The bar\n\n";
    text += &verdicts(account);
    text += "\n## What was compared\n\n";
    text += &table(account, Language::English);
    text += "\nMedian over the rounds; the number behind × is the median of the rounds' ratios to \
             switchboard's figure.\n";
    text += RULES;
    for done in &account.pieces {
        text += &format!("\n## {}\n\n    routerctl bench {}\n\n", done.piece.title, done.command);
        text += &columns_of(&done.servers);
        for (name, why) in &done.failed {
            text += &format!("\n{name} failed and is left out here: {why}\n");
        }
    }
    text
}

/// The short table: a row for each measure, a column for each server.
pub fn table(account: &Account, language: Language) -> String {
    let names: Vec<&str> = account.entrants.iter().map(|entrant| &*entrant.name).collect();
    let mut text = format!("| | {} |\n|---|{}\n", names.join(" | "), "---|".repeat(names.len()));
    for done in &account.pieces {
        for measure in done.piece.measures {
            let title = match language {
                Language::English => measure.title,
                Language::Chinese => measure.title_zh,
            };
            let cells = names.iter().map(|name| cell(done, measure, name));
            text += &format!("| {title} | {} |\n", cells.collect::<Vec<_>>().join(" | "));
        }
    }
    text
}

fn origin(account: &Account) -> String {
    let Machine { cores, cpu, kernel, system, load } = &account.machine;
    let rounds = match account.rounds {
        1 => "1 round".to_owned(),
        rounds => format!("{rounds} rounds"),
    };
    let mut text = format!(
        "{cores} cores of {cpu}, Linux {kernel}, {system}; load average {load} before the run.\n\
         Loopback, the generator on the same cores. {rounds} count, everybody in turn in each, after one to warm up.\n"
    );
    if let Some(revision) = &account.revision {
        text += &format!("Revision {revision}.\n");
    }
    text += "\n";
    for Described { name, version, settings } in &account.entrants {
        text += &format!("- {name} {version}: {settings}\n");
    }
    for missing in &account.missing {
        text += &format!("- {missing}\n");
    }
    text
}

fn verdicts(account: &Account) -> String {
    let mut text = "| | | |\n|---|---|---|\n".to_owned();
    for done in &account.pieces {
        for measure in done.piece.measures {
            let verdict = Verdict::of(measure, done);
            text += &format!("| {} | {} | {} |\n", measure.title, verdict.word(), verdict.why);
        }
    }
    text
}

fn cell(done: &Done, measure: &Measure, name: &str) -> String {
    if done.failed.iter().any(|(failed, _)| failed == name) {
        return "failed".to_owned();
    }
    let peer = Peer::ALL.into_iter().find(|peer| peer.name() == name);
    let values = done.rounds_of(peer).unwrap_or_default();
    let values: Vec<f64> = values.iter().filter_map(|round| round.value(measure.figure)).collect();
    if values.is_empty() {
        return "-".to_owned();
    }
    let own = measure.figure.unit.show(median(values));
    match done.ratio(measure, peer, None).filter(|_| name != ROUTER) {
        Some(ratio) => format!("{own} (×{ratio:.2})"),
        None => own,
    }
}

const RULES: &str = "
The same for everybody: the same messages in the same blocks of 64 KiB, at most 512 KiB of each sender's on their way,
or 4 MiB where one sender has to keep all receivers busy, and every message checked for order, all of its bytes, and
that nothing is missing and nothing came twice. CPU is that of all threads of the server, user and system, by delivered
message; a call is two messages. The generator's own is beside it. A server is started anew for each piece of work, and
for each round of the last one.

The relay is the ceiling: it copies bytes and looks at none of them. It can't tell messages apart, so in W2 all that
sender i sends goes to receiver i, in longer stretches than servers can write that deal messages in turns; of those
that register it remembers nothing. It carries the router's frames; the others carry the same payloads in their own. A
call of redis-server names the channel for its answer in front of its payload, one of nats-server in its header line;
redis-server sends no replies to PUBLISH.
";

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::bench::figures::{CALLS_RATE, CPU, Figure, Figures, JOIN_RATE, LATENCY, MEMORY};
    use crate::bench::peers::programme::PROGRAMME;

    /// A run of three rounds in which everything is known: nats-server missing, redis-server failing once.
    pub fn account() -> Account {
        let described = |name: &str, version: &str, settings: &str| Described {
            name: name.to_owned(),
            version: version.to_owned(),
            settings: settings.to_owned(),
        };
        let done = |number: usize, figure: Figure, own: f64, redis: f64, relay: f64| {
            let rounds = |middle: f64| {
                let figures = [0.5, 1.0, 2.0].map(|part| {
                    let mut figures = Figures::default();
                    figures.add(figure, middle * part);
                    figures
                });
                figures.to_vec()
            };
            let all = [("switchboard", own), ("redis-server", redis), ("relay", relay)];
            let taking_part = all.into_iter().filter(|(_, middle)| *middle > 0.0);
            let servers = taking_part.map(|(name, middle)| (name.to_owned(), rounds(middle)));
            let piece = &PROGRAMME[number];
            let command = piece.command(1);
            Done { piece, command, servers: servers.collect(), failed: Vec::new() }
        };
        let mut pieces = vec![
            done(0, CPU, 30.0, 450.0, 15.0),
            done(4, CPU, 20.0, 0.0, 9.0),
            done(5, CALLS_RATE, 450_000.0, 360_000.0, 450_000.0),
            done(6, LATENCY[0], 88.0, 110.0, 80.0),
            done(7, JOIN_RATE, 50_000.0, 25_000.0, 0.0),
        ];
        pieces[1].failed = vec![("redis-server".to_owned(), "the server hung up".to_owned())];
        for (server, memory) in pieces[4].servers.iter_mut().zip([1_000.0, 10_000.0]) {
            server.1.iter_mut().for_each(|round| round.add(MEMORY, memory));
        }
        Account {
            date: "2026-11-21".to_owned(),
            command: "routerctl bench peers --rounds 3".to_owned(),
            revision: Some("0123abc".to_owned()),
            machine: Machine {
                cores: 2,
                cpu: "an EPYC".to_owned(),
                kernel: "6.18".to_owned(),
                system: "Debian".to_owned(),
                load: "0.05".to_owned(),
            },
            rounds: 3,
            entrants: vec![
                described("switchboard", "0.1.0", "its default settings"),
                described("redis-server", "7.0.15", "`--save \"\"`"),
                described("relay", "0.1.0", "the router's threads"),
            ],
            missing: vec!["nats-server is left out: it is not installed".to_owned()],
            pieces,
        }
    }

    #[test]
    fn the_report_says_what_was_measured_and_what_came_of_it() {
        let expected = include_str!("page.expected.md").replace("{rules}\n", RULES);
        assert_eq!(report(&account()), expected);
    }

    #[test]
    fn the_chinese_table_has_the_same_figures() {
        let account = account();
        let figures = |language| -> Vec<String> {
            let table = table(&account, language);
            let lines = table.lines().skip(2);
            lines
                .map(|line| line.split_once("| ").unwrap().1.split_once("| ").unwrap().1.to_owned())
                .collect()
        };
        assert_eq!(figures(Language::Chinese), figures(Language::English));
        assert!(
            table(&account, Language::Chinese)
                .contains("| W4:广播给 32 个,64 字节;每份拷贝的 CPU 纳秒 | 20.0 | failed |")
        );
    }
}
