//! What a frame costs while its class has more and more instances: to one id, by hash, to anyone.
//!
//! All ids live on the same few connections, so it is the search that grows and not the writing. A sender's targets
//! are dealt over all ids, and no two senders have the same ones while there are enough.

use std::sync::Arc;

use anyhow::{Context, Result};

use super::Lab;
use super::load::{Load, PAYLOAD};
use super::population::{CONNECTIONS, Population};
use super::random::AtRandom;
use super::sweep::{Point, Series, Sweep, rounds};
use crate::bench::check::Check;
use crate::bench::dialect::To;
use crate::bench::figures::Figures;
use crate::bench::plan::Plan;
use crate::bench::workload::Setting;

/// How a message is addressed.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Way {
    Direct,
    Hash,
    Random,
}

/// The sweep.
pub(super) fn by_instances(lab: &Lab<'_>) -> Result<Sweep> {
    let server = lab.router(0)?;
    let setting = Setting { server: &server, patience: lab.patience(), progress: &lab.progress };
    let mut population = Population::found(&server, lab.patience())?;
    let mut series = WAYS.map(|(_, name)| Series::named(name));
    for size in lab.options.instances.iter().map(|size| *size as usize) {
        let what = format!("a class of {size} instances");
        lab.progress.begin(what.clone());
        population.grow_to(size, |came| lab.progress.add(came))?;
        let measured = rounds(lab.options.rounds, WAYS.len(), |way| {
            once(lab, &setting, &population, size, WAYS[way].0)
        });
        for (series, (cost, rate)) in series.iter_mut().zip(measured.context(what)?) {
            series.points.push(Point { size: size as u64, cost, rate });
        }
    }
    Ok(Sweep {
        key: "frame_by_instances",
        title: "A frame, by instances of its class",
        size: "instances",
        cost: "CPU ns per message",
        rate: "messages per second",
        series: series.into(),
    })
}

fn once(
    lab: &Lab<'_>,
    setting: &Setting<'_>,
    population: &Population<'_>,
    size: usize,
    way: Way,
) -> Result<Figures> {
    let plan = Arc::new(Plan::of(SENDERS, PAYLOAD));
    let at_random = AtRandom(setting.server.dialect());
    let dialect = if way == Way::Random { &at_random } else { setting.server.dialect() };
    let load = Load { dialect, plan: &plan, period: PERIOD, messages: lab.options.messages };
    let check = match way {
        Way::Random => Check::anywhere(plan.clone(), CONNECTIONS),
        // With `fixed` slots, key k leads to instance k.
        Way::Direct | Way::Hash => Check::turns(plan.clone(), CONNECTIONS),
    };
    load.run(setting, population.receivers()?, check, |sender, i| match way {
        Way::Hash => To::Key(target(size, sender, i) as u64),
        Way::Direct | Way::Random => To::One(target(size, sender, i)),
    })
}

/// The instance that a sender's message i is for: one of connection i modulo their number.
fn target(size: usize, sender: usize, i: u64) -> usize {
    let (i, each) = (i as usize % PERIOD, size / CONNECTIONS);
    let turn = sender * (PERIOD / CONNECTIONS) + i / CONNECTIONS;
    i % CONNECTIONS + CONNECTIONS * (turn * STRIDE % each)
}

const WAYS: [(Way, &str); 3] =
    [(Way::Direct, "direct"), (Way::Hash, "hash"), (Way::Random, "random")];
const SENDERS: usize = 4;
/// After how many messages a sender's targets begin anew.
const PERIOD: usize = 64_000;
/// A prime, so that every id has its turn, and none beside the one before.
const STRIDE: usize = 2_654_435_761;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn targets_take_turns_at_connections_and_are_dealt_over_all_ids() {
        for (size, different) in [(10, 10), (1_000, 1_000), (1_000_000, SENDERS * PERIOD)] {
            let mut targets = BTreeSet::new();
            for (sender, i) in (0..SENDERS).flat_map(|s| (0..PERIOD as u64).map(move |i| (s, i))) {
                let target = target(size, sender, i);
                assert_eq!(target % CONNECTIONS, i as usize % CONNECTIONS);
                targets.insert(target);
            }
            assert_eq!(targets.len(), different, "of {size}");
            assert!(targets.first() < Some(&size.div_ceil(50)), "{:?}", targets.first());
            assert!(targets.last() >= Some(&(size - size.div_ceil(50))), "{:?}", targets.last());
        }
    }
}
