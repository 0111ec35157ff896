//! Request and reply: every client keeps a number of calls open, and the time until each answer is kept in
//! an HDR histogram. With one client and one call it is ping-pong.

use anyhow::Result;
use clap::{Args, value_parser};

use super::{LONGEST, Setting, Workload};
use crate::bench::calls::{Answered, Calls, Shape};
use crate::bench::figures::{self, Figures};
use crate::bench::flow::Flow;
use crate::bench::sdk;

// A doc comment would be its help.
#[derive(Debug, Clone, Args)]
pub struct Request {
    /// How many clients
    #[arg(long, default_value_t = 8, value_parser = value_parser!(u16).range(1..))]
    clients: u16,
    /// How many answer them; client i asks number i modulo this
    #[arg(long, default_value_t = 8, value_parser = value_parser!(u16).range(1..))]
    answerers: u16,
    /// How many calls each client keeps open
    #[arg(long, default_value_t = 8, value_parser = value_parser!(u32).range(1..=1_000_000))]
    outstanding: u32,
    /// How many calls, all clients together
    #[arg(long, default_value_t = 1_000_000, value_parser = value_parser!(u64).range(1..))]
    messages: u64,
    /// How long a payload is, in bytes, there and back
    #[arg(long, default_value_t = 64, value_parser = value_parser!(u32).range(8..=LONGEST))]
    payload: u32,
    /// Through nodes of the Rust SDK; each round is then run without it as well, to compare the generator's own
    /// CPU time
    #[arg(long)]
    sdk: bool,
}

// A doc comment would be its help.
#[derive(Debug, Clone, Args)]
pub struct PingPong {
    /// How many calls
    #[arg(long, default_value_t = 100_000, value_parser = value_parser!(u64).range(1..))]
    messages: u64,
    /// How long a payload is, in bytes, there and back
    #[arg(long, default_value_t = 64, value_parser = value_parser!(u32).range(8..=LONGEST))]
    payload: u32,
    /// Through nodes of the Rust SDK; each round is then run without it as well, to compare the generator's own
    /// CPU time
    #[arg(long)]
    sdk: bool,
}

impl Workload for Request {
    fn name(&self) -> &'static str {
        "request"
    }

    fn describe(&self) -> String {
        let Self { clients, answerers, outstanding, payload, .. } = self;
        let calls = self.shape().each * u64::from(*clients);
        format!(
            "{clients} clients with {outstanding} calls open, {answerers} that answer, {calls} calls of \
             {payload} bytes"
        )
    }

    fn round(&self, setting: &Setting<'_>) -> Result<Figures> {
        round(setting, &self.shape(), self.sdk)
    }
}

impl Request {
    fn shape(&self) -> Shape {
        Shape {
            first: 0,
            askers: self.clients.into(),
            answerers: self.answerers.into(),
            payload: self.payload as usize,
            outstanding: self.outstanding.into(),
            each: (self.messages / u64::from(self.clients)).max(1),
        }
    }
}

impl Workload for PingPong {
    fn name(&self) -> &'static str {
        "ping-pong"
    }

    fn describe(&self) -> String {
        format!("one call at a time, {} calls of {} bytes", self.messages, self.payload)
    }

    fn round(&self, setting: &Setting<'_>) -> Result<Figures> {
        let payload = self.payload as usize;
        let each = self.messages;
        round(
            setting,
            &Shape { first: 0, askers: 1, answerers: 1, payload, outstanding: 1, each },
            self.sdk,
        )
    }
}

fn round(setting: &Setting<'_>, shape: &Shape, through_sdk: bool) -> Result<Figures> {
    let flow = Flow::new(shape.askers)?;
    if !through_sdk {
        return Ok(figures(&Calls::connect(setting, shape)?.run(&flow)?));
    }
    let mut answered = figures(&sdk::calls(setting, shape)?);
    answered.add_sdk_ratio(&figures(&Calls::connect(setting, shape)?.run(&flow)?));
    Ok(answered)
}

fn figures(answered: &Answered) -> Figures {
    let mut figures = Figures::default();
    let calls = answered.took.len() as f64;
    if let Some(cpu_ns) = answered.spent.cpu_ns {
        // A call is two messages, there and back.
        figures.add(figures::CPU, cpu_ns as f64 / calls / 2.0);
    }
    figures.add(figures::OWN_CPU, answered.spent.own_ns as f64 / calls / 2.0);
    figures.add(figures::CALLS_RATE, calls / answered.spent.took.as_secs_f64());
    figures.add_latency(figures::LATENCY, &answered.took);
    figures.add(figures::CALLS, calls);
    figures
}
