//! Askers and answerers that are connected, and their two threads.

use std::sync::{Arc, Barrier};
use std::thread;

use anyhow::{Result, anyhow};
use hdrhistogram::Histogram;

use crate::bench::answering::{self, Answerer};
use crate::bench::asking::{Asker, Asking, Questions};
use crate::bench::blocks::Block;
use crate::bench::check::Check;
use crate::bench::dialect::{To, Who};
use crate::bench::flow::Flow;
use crate::bench::plan::Plan;
use crate::bench::server::{Meter, Spent};
use crate::bench::workload::Setting;
use crate::failure::Failure;

/// How many ask whom, and how much.
#[derive(Debug, Clone)]
pub struct Shape {
    /// The number of the first of both: others may be there as well.
    pub first: usize,
    pub askers: usize,
    pub answerers: usize,
    pub payload: usize,
    /// How many calls an asker keeps open.
    pub outstanding: u64,
    /// How many calls each asker makes in all.
    pub each: u64,
}

/// What came of it.
pub struct Answered {
    /// How long the answers took, in nanoseconds.
    pub took: Histogram<u64>,
    pub spent: Spent,
}

/// Where times go, in nanoseconds.
pub fn times() -> Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, LONGEST_NS, 3)?)
}

/// What took longer counts as this: ten minutes.
const LONGEST_NS: u64 = 600_000_000_000;

/// Both ends, connected.
pub struct Calls<'a> {
    setting: &'a Setting<'a>,
    shape: &'a Shape,
    plan: Arc<Plan>,
    askers: Vec<Asker>,
    answerers: Vec<Answerer>,
}

impl<'a> Calls<'a> {
    pub fn connect(setting: &'a Setting<'a>, shape: &'a Shape) -> Result<Self> {
        let server = setting.server;
        server.dialect().check_pairs(shape.askers, shape.answerers, false)?;
        let plan = Arc::new(Plan::of(shape.askers, shape.payload));
        let answerers = (0..shape.answerers).map(|number| {
            let who = Who::Receiver(shape.first + number);
            Ok(Answerer { connection: server.join(who)?, who })
        });
        let answerers = answerers.collect::<Result<_>>()?;
        let askers = (0..shape.askers).map(|number| {
            let who = Who::Sender(shape.first + number);
            let to = shape.first + number % shape.answerers;
            let block = Block::new(server.dialect(), (who, number), &plan, 1, 1, |_| To::Ask(to))?;
            let questions = Questions::new(block, shape.each);
            Ok(Asker { connection: server.join(who)?, questions })
        });
        let askers = askers.collect::<Result<_>>()?;
        Ok(Self { setting, shape, plan, askers, answerers })
    }

    /// Asks until each asker has made its calls.
    pub fn run(mut self, flow: &Flow) -> Result<Answered> {
        let Setting { server, patience, progress } = *self.setting;
        let mut check = Check::pairs(self.plan.clone(), self.shape.answerers);
        let mut asking = Asking {
            askers: self.askers,
            check: Check::pairs(self.plan, self.shape.askers),
            outstanding: self.shape.outstanding,
            flow,
            progress,
            patience,
        };
        let ready = Barrier::new(2);
        let (answered, took) = thread::scope(|scope| {
            let answering = scope.spawn(|| {
                ready.wait();
                let answered =
                    answering::run(&mut self.answerers, &mut check, server.dialect(), flow);
                flow.end();
                answered
            });
            let took = (|| -> Result<Answered> {
                // ORDER: whatever went wrong, the other thread waits here.
                let meter = Meter::start(server);
                ready.wait();
                let took = asking.run()?;
                let spent = meter?.stop()?;
                if !flow.is_over() {
                    asking.expect_nothing()?;
                }
                Ok(Answered { took, spent })
            })();
            flow.end();
            let panicked = |_| Err(anyhow!("the answering thread panicked"));
            (answering.join().unwrap_or_else(panicked), took)
        });
        let (took, answered): (Answered, u64) = (took?, answered?);
        if (asking.asked(), asking.asked()) != (took.took.len(), answered) {
            let (asked, got) = (asking.asked(), took.took.len());
            let what = format!("{asked} calls were made, {answered} answered, {got} answers came");
            return Err(Failure::Check(what).into());
        }
        Ok(took)
    }
}
