//! Churn: connections leave and come back all the time while a flood goes among others, of which every
//! message has to arrive all the same.

use std::time::{Duration, Instant};

use anyhow::Result;
use clap::{Args, value_parser};

use super::idle::{gather, hold, weigh};
use super::{LONGEST, Setting, Workload, beside, unending};
use crate::bench::Pace;
use crate::bench::crowd::{Crowd, allow_open_files};
use crate::bench::figures::{self, Figures};
use crate::bench::flow::Flow;
use crate::failure::Failure;

// A doc comment would be its help.
#[derive(Debug, Clone, Args)]
pub struct Churn {
    /// How many connections leave, and come back under the same id, each second
    #[arg(long, default_value_t = 1000, value_parser = value_parser!(u32).range(1..=1_000_000))]
    rate: u32,
    /// How many connections take turns at that
    #[arg(long, default_value_t = 1000, value_parser = value_parser!(u32).range(1..=1_000_000))]
    connections: u32,
    /// How many more connections stay meanwhile, registered and idle
    #[arg(long, default_value_t = 0, value_parser = value_parser!(u32).range(0..=8_000_000))]
    idle: u32,
    /// How many seconds a heartbeat of those has, in which each pings once; as long as the router's
    /// `heartbeat.max_ms` at most
    #[arg(long, default_value_t = 60, value_parser = value_parser!(u32).range(1..=3600))]
    heartbeat: u32,
    /// How many seconds all of them only ping before anything else happens
    #[arg(long, default_value_t = 0, value_parser = value_parser!(u32).range(0..=86_400))]
    hold: u32,
    /// How many seconds the flood goes alone, and then again beside the churn
    #[arg(long, default_value_t = 5, value_parser = value_parser!(u32).range(1..=86_400))]
    seconds: u32,
    /// How many senders the flood has
    #[arg(long, default_value_t = 4, value_parser = value_parser!(u16).range(1..))]
    senders: u16,
    /// How many receivers the flood has
    #[arg(long, default_value_t = 4, value_parser = value_parser!(u16).range(1..))]
    receivers: u16,
    /// How long a payload of the flood is, in bytes
    #[arg(long, default_value_t = 64, value_parser = value_parser!(u32).range(8..=LONGEST))]
    payload: u32,
    #[command(flatten)]
    pace: Pace,
}

impl Workload for Churn {
    fn name(&self) -> &'static str {
        "churn"
    }

    fn describe(&self) -> String {
        let Self { rate, connections, seconds, senders, receivers, payload, idle, .. } = self;
        let mut text = format!(
            "{rate} of {connections} connections reconnect each second, for {seconds} s, beside a flood of {payload} \
             bytes from {senders} senders to {receivers} receivers"
        );
        if *idle > 0 {
            text += &format!(", while {idle} more stay idle");
        }
        text
    }

    fn check(&self) -> Result<()> {
        let others = usize::from(self.senders) + usize::from(self.receivers);
        allow_open_files((self.connections + self.idle) as usize + others)
    }

    fn wants_fresh_servers(&self) -> bool {
        self.idle > 0
    }

    fn round(&self, setting: &Setting<'_>) -> Result<Figures> {
        let flood = unending(self.senders, self.receivers, self.payload, &self.pace);
        let mut idle = Figures::default();
        let memory = setting.server.memory()?;
        let members = self.connections + self.idle;
        let heartbeat = Duration::from_secs(self.heartbeat.into());
        let (mut crowd, joining) = gather(setting, members, AT_A_TIME, heartbeat)?;
        idle.add(figures::JOIN_RATE, f64::from(members) / joining.took.as_secs_f64());
        idle.add(figures::CONNECTIONS, members.into());
        // Without the idle ones the server is one that has done such things before.
        if self.idle > 0 {
            weigh(setting, memory, members, &mut idle)?;
        }
        hold(setting, &mut crowd, self.hold, &mut idle)?;
        let (delivered, mut figures) = beside(setting, &flood, |flow| {
            let calm = self.wait(&mut crowd, flow)?;
            let start = Instant::now();
            let before = flow.arrived_in_all();
            let came_back = self.churn(&mut crowd, flow, setting.patience)?;
            let took = start.elapsed().as_secs_f64();
            let mut figures = Figures::default();
            figures.add(figures::CHURN_RATE, came_back as f64 / took);
            figures.add_latency(figures::JOINING, crowd.took());
            figures.add(figures::CALM_RATE, calm);
            figures.add(figures::RATE, (flow.arrived_in_all() - before) as f64 / took);
            Ok(figures)
        })?;
        crowd.expect_alive()?;
        figures.add(figures::MESSAGES, delivered.messages as f64);
        idle.iter().for_each(|(figure, value)| figures.add(figure, value));
        Ok(figures)
    }
}

impl Churn {
    /// How many messages a second arrive while nothing else happens.
    fn wait(&self, crowd: &mut Crowd<'_>, flow: &Flow) -> Result<f64> {
        let (start, before) = (Instant::now(), flow.arrived_in_all());
        while start.elapsed() < self.period() && !flow.is_over() {
            crowd.keep_alive()?;
            std::thread::sleep(TICK);
        }
        Ok((flow.arrived_in_all() - before) as f64 / start.elapsed().as_secs_f64())
    }

    /// Lets connections leave and come back; answers how many have.
    fn churn(&self, crowd: &mut Crowd<'_>, flow: &Flow, patience: Duration) -> Result<u64> {
        crowd.forget_times();
        let (start, mut gone, mut back) = (Instant::now(), 0, 0);
        while start.elapsed() < self.period() && !flow.is_over() {
            let due = (start.elapsed().as_secs_f64() * f64::from(self.rate)) as u64;
            while gone < due && crowd.joining() < AT_A_TIME.into() {
                let number = (gone % u64::from(self.connections)) as usize;
                // Who has not come back yet can't leave.
                if !crowd.leave(number) {
                    break;
                }
                crowd.join(number)?;
                gone += 1;
            }
            back += crowd.welcome(TICK)? as u64;
            crowd.keep_alive()?;
        }
        let deadline = Instant::now() + patience;
        while back < gone && !flow.is_over() {
            if Instant::now() > deadline {
                let what =
                    format!("{back} of {gone} came back, and the others not within {patience:?}");
                return Err(Failure::Check(what).into());
            }
            back += crowd.welcome(TICK)? as u64;
        }
        Ok(back)
    }

    fn period(&self) -> Duration {
        Duration::from_secs(self.seconds.into())
    }
}

const TICK: Duration = Duration::from_millis(1);
/// How many are on their way in at a time, at most.
const AT_A_TIME: u16 = 256;
