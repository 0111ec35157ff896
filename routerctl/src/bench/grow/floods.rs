//! What a copy of a broadcast costs among more and more receivers, and a message among more and more connections
//! and threads.

use std::sync::Arc;

use anyhow::{Context, Result};

use super::Lab;
use super::load::{Load, PAYLOAD};
use super::sweep::{Point, Series, Sweep, rounds};
use crate::bench::Pace;
use crate::bench::check::Check;
use crate::bench::dialect::{To, Who};
use crate::bench::figures::Figures;
use crate::bench::plan::Plan;
use crate::bench::server::Server;
use crate::bench::traffic::{Contents, Route, Shape};
use crate::bench::workload::{Setting, one_way};

/// Broadcasts from one sender, in bursts and each once the one before has come everywhere.
pub(super) fn by_copies(lab: &Lab<'_>) -> Result<Sweep> {
    let ways = [("bursts", BURSTS, 1), ("one at a time", ONE_AT_A_TIME, 20)];
    let mut series = ways.each_ref().map(|(name, ..)| Series::named(name));
    for receivers in lab.options.copies.iter().copied() {
        let server = lab.router(0)?;
        let what = format!("broadcasts to {receivers} connections");
        lab.progress.begin(what.clone());
        let setting = lab.setting(&server);
        let measured = rounds(lab.options.rounds, ways.len(), |way| {
            let (_, pace, share) = &ways[way];
            let messages = lab.options.messages / share / u64::from(receivers);
            let shape = Shape {
                senders: 1,
                receivers: receivers as usize,
                route: Route::All,
                contents: Contents::Uniform(PAYLOAD),
                each: messages.max(FEWEST),
                pace,
            };
            one_way(&setting, &shape)
        });
        for (series, (cost, rate)) in series.iter_mut().zip(measured.context(what)?) {
            series.points.push(Point { size: receivers.into(), cost, rate });
        }
    }
    Ok(Sweep {
        key: "broadcast_by_copies",
        title: "A copy of a broadcast, by receivers",
        size: "receivers",
        cost: "CPU ns per copy",
        rate: "copies per second",
        series: series.into(),
    })
}

/// Messages between as many senders as receivers: everybody has one partner, or goes round all.
pub(super) fn by_active(lab: &Lab<'_>) -> Result<Sweep> {
    let mut series = ["each to its own", "each to all in turn"].map(Series::named);
    for number in lab.options.active.iter().copied() {
        let server = lab.router(0)?;
        let what = format!("{number} connections that send to {number} that receive");
        lab.progress.begin(what.clone());
        let setting = lab.setting(&server);
        let measured = rounds(lab.options.rounds, series.len(), |way| {
            flood(lab, &setting, number as usize, way == 1)
        });
        for (series, (cost, rate)) in series.iter_mut().zip(measured.context(what)?) {
            series.points.push(Point { size: number.into(), cost, rate });
        }
    }
    Ok(Sweep {
        key: "message_by_connections",
        title: "A message, by active connections",
        size: "senders, and as many receivers",
        cost: "CPU ns per message",
        rate: "messages per second",
        series: series.into(),
    })
}

/// The work of W2, four senders to four receivers, on more and more threads.
pub(super) fn by_shards(lab: &Lab<'_>) -> Result<Sweep> {
    let shards = &lab.options.shards;
    lab.progress.begin("shards".to_owned());
    let servers = shards.iter().map(|shards| lab.router(*shards));
    let servers = servers.collect::<Result<Vec<_>>>()?;
    let measured = rounds(lab.options.rounds, servers.len(), |way| {
        flood(lab, &lab.setting(&servers[way]), FOUR, true)
    });
    let points = shards.iter().zip(measured.context("shards")?);
    let points = points.map(|(size, (cost, rate))| Point { size: (*size).into(), cost, rate });
    Ok(Sweep {
        key: "message_by_shards",
        title: "A message, by threads of the router",
        size: "shards",
        cost: "CPU ns per message",
        rate: "messages per second",
        series: vec![Series { name: "4 senders to 4 receivers", points: points.collect() }],
    })
}

fn flood(lab: &Lab<'_>, setting: &Setting<'_>, number: usize, to_all: bool) -> Result<Figures> {
    let plan = Arc::new(Plan::of_kinds(number, PAYLOAD, KINDS));
    let receivers = (0..number).map(|number| setting.server.join(Who::Receiver(number)));
    let receivers = receivers.collect::<Result<Vec<_>>>()?;
    let check = match to_all {
        true => Check::turns(plan.clone(), number),
        false => Check::pairs(plan.clone(), number),
    };
    let load = Load {
        dialect: setting.server.dialect(),
        plan: &plan,
        period: if to_all { number } else { 1 },
        messages: lab.options.messages,
    };
    load.run(setting, receivers, check, |sender, i| {
        To::One(if to_all { i as usize % number } else { sender })
    })
}

impl<'a> Lab<'a> {
    fn setting(&'a self, server: &'a Server) -> Setting<'a> {
        Setting { server, patience: self.patience(), progress: &self.progress }
    }
}

/// 8 KiB are written at a time: some hundred messages.
const BURSTS: Pace = Pace { window: 16 << 10, block: 8 << 10 };
const ONE_AT_A_TIME: Pace = Pace { window: 1, block: 1 };
/// How many broadcasts there are at least.
const FEWEST: u64 = 10;
const FOUR: usize = 4;
/// Few enough that the blocks of a thousand senders to a thousand receivers fit.
const KINDS: usize = 8;
