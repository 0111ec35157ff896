//! What a registration costs while the class grows: many ids with one message, and one at a time, each answered
//! before the next. A session has a thousand ids at most, so it is only the class that grows.

use anyhow::Result;

use super::Lab;
use super::population::{IDS_PER_MESSAGE, ask, await_answers};
use super::sweep::{Point, Series, Sweep};
use crate::bench::connection::Connection;
use crate::bench::dialect::Who;
use crate::bench::server::{Meter, Server};

/// The sweep.
pub(super) fn by_size(lab: &Lab<'_>) -> Result<Sweep> {
    let server = lab.router(0)?;
    lab.progress.begin(format!("a class grows to {} instances", lab.options.registered));
    let mut class = Class { lab, server: &server, size: 0, sessions: Vec::new() };
    let step = lab.options.registered as usize / STEPS;
    let singly = (step / 50).max(1);
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
    /// Registers more ids, with one message for each session or for each id, and times it. Each session brings one
    /// with its hello, which is not timed.
    fn register(&mut self, count: usize, together: bool) -> Result<Point> {
        let patience = self.lab.patience();
        let ids: Vec<usize> = (self.size..self.size + count).collect();
        let mut sessions = Vec::new();
        for ids in ids.chunks(IDS_PER_MESSAGE) {
            sessions.push(self.server.join(Who::Receiver(ids[0]))?);
        }
        let meter = Meter::start(self.server)?;
        let mut registered = 0;
        if together {
            let mut asked = Vec::new();
            for (ids, session) in ids.chunks(IDS_PER_MESSAGE).zip(&mut sessions) {
                asked.push(ids.len() - 1);
                ask(session, ids[1..].iter().copied());
            }
            await_answers(&mut sessions, 1, patience)?;
            registered += asked.iter().sum::<usize>();
        } else {
            for (ids, session) in ids.chunks(IDS_PER_MESSAGE).zip(&mut sessions) {
                for id in &ids[1..] {
                    ask(session, [*id].into_iter());
                    await_answers(std::slice::from_mut(session), 1, patience)?;
                }
                registered += ids.len() - 1;
            }
        }
        let spent = meter.stop()?;
        self.sessions.append(&mut sessions);
        self.size += count;
        self.lab.progress.add(count as u64);
        let registered = (registered as f64).max(1.0);
        Ok(Point {
            size: self.size as u64,
            cost: spent.cpu_ns.unwrap_or_default() as f64 / 1e3 / registered,
            rate: registered / spent.took.as_secs_f64(),
        })
    }
}

/// In how many steps the class grows.
const STEPS: usize = 20;
