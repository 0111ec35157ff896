//! What a registration costs while the class grows: many ids with one message, and one at a time, each answered
//! before the next. A session has a thousand ids at most, so it is only the class that grows.

use anyhow::Result;

use super::Lab;
use super::population::{IDS_PER_MESSAGE, ask, await_answers};
use super::sweep::{Point, Series, Sweep};
use crate::bench::connection::Connection;
use crate::bench::dialect::Who;
use crate::bench::figures::median;
use crate::bench::server::{Meter, Server};

/// The sweep.
pub(super) fn by_size(lab: &Lab<'_>) -> Result<Sweep> {
    let server = lab.router(0)?;
    lab.progress.begin(format!("a class grows to {} instances", lab.options.registered));
    let mut class = Class { lab, server: &server, size: 0, sessions: Vec::new() };
    let step = lab.options.registered as usize / STEPS;
    let singly = (step / 50).max(2);
    let (mut together, mut alone) = (Series::named("1,000 together"), Series::named("one by one"));
    for end in (1..=STEPS).map(|number| (number * step) as u64) {
        let point = class.register(step - singly, true)?;
        together.points.push(Point { size: end, ..point });
        alone.points.push(class.register(singly, false)?);
    }
    Ok(Sweep {
        key: "registration_by_instances",
        title: "A registration, by instances of its class",
        size: "instances",
        cost: "CPU µs per registration",
        rate: "registrations per second",
        series: vec![together, alone],
    })
}

/// The class that grows.
struct Class<'a> {
    lab: &'a Lab<'a>,
    server: &'a Server,
    size: usize,
    sessions: Vec<Connection>,
}

impl Class<'_> {
    /// Registers more ids, with one message for each session or for each id, and times it: the median of several
    /// parts. Each session brings an id with its hello, which is not timed.
    fn register(&mut self, count: usize, together: bool) -> Result<Point> {
        let ids: Vec<usize> = (self.size..self.size + count).collect();
        let (mut costs, mut rates) = (Vec::new(), Vec::new());
        for ids in ids.chunks(if together { TOGETHER } else { SINGLY }) {
            let mut sessions = Vec::new();
            for ids in ids.chunks(IDS_PER_MESSAGE) {
                sessions.push(self.server.join(Who::Receiver(ids[0]))?);
            }
            let meter = Meter::start(self.server)?;
            self.ask(&mut sessions, ids, together)?;
            let spent = meter.stop()?;
            let registered = (ids.len() - sessions.len()) as f64;
            if registered > 0.0 {
                costs.extend(spent.cpu_ns.map(|cpu_ns| cpu_ns as f64 / 1e3 / registered));
                rates.push(registered / spent.took.as_secs_f64());
            }
            self.sessions.append(&mut sessions);
        }
        self.size += count;
        self.lab.progress.add(count as u64);
        Ok(Point { size: self.size as u64, cost: median(costs), rate: median(rates) })
    }

    fn ask(&self, sessions: &mut [Connection], ids: &[usize], together: bool) -> Result<()> {
        let patience = self.lab.patience();
        let ids = ids.chunks(IDS_PER_MESSAGE).map(|ids| &ids[1..]);
        if together {
            ids.zip(&mut *sessions).for_each(|(ids, session)| ask(session, ids.iter().copied()));
            return await_answers(sessions, 1, patience);
        }
        for (ids, session) in ids.zip(sessions) {
            for id in ids {
                ask(session, [*id].into_iter());
                await_answers(std::slice::from_mut(session), 1, patience)?;
            }
        }
        Ok(())
    }
}

/// In how many steps the class grows.
const STEPS: usize = 20;
/// How many ids a part of it has, of which the median is taken: those of ten sessions,
const TOGETHER: usize = 10 * IDS_PER_MESSAGE;
/// or so many of one.
const SINGLY: usize = 100;
