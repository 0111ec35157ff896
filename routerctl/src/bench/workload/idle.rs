//! Connections that join and stay: how fast the server takes them, what each costs it in memory, and what
//! all of them cost while they only ping.

use std::time::{Duration, Instant};

use anyhow::Result;
use clap::{Args, value_parser};

use super::{Setting, Workload};
use crate::bench::crowd::{Crowd, allow_open_files};
use crate::bench::figures::{self, Figures};
use crate::bench::server::{Meter, Spent};

// A doc comment would be its help.
#[derive(Debug, Clone, Args)]
pub struct Idle {
    /// How many connections, each registered under an id of its own. Every thousand of them comes from a loopback
    /// address of its own, 127.0.1.1 and up, if the server is on loopback
    #[arg(long, default_value_t = 10_000, value_parser = value_parser!(u32).range(1..=8_000_000))]
    connections: u32,
    /// How many connect and register at a time
    #[arg(long, default_value_t = 64, value_parser = value_parser!(u16).range(1..))]
    parallel: u16,
    /// How many seconds a heartbeat of those has, in which each pings once; as long as the router's
    /// `heartbeat.max_ms` at most
    #[arg(long, default_value_t = 60, value_parser = value_parser!(u32).range(1..=3600))]
    heartbeat: u32,
    /// How many seconds they stay
    #[arg(long, default_value_t = 5, value_parser = value_parser!(u32).range(0..=86_400))]
    hold: u32,
}

// A doc comment would be its help.
#[derive(Debug, Clone, Args)]
pub struct Connect {
    /// How many connections, each registered under an id of its own
    #[arg(long, default_value_t = 10_000, value_parser = value_parser!(u32).range(1..=8_000_000))]
    connections: u32,
    /// How many connect and register at a time
    #[arg(long, default_value_t = 64, value_parser = value_parser!(u16).range(1..))]
    parallel: u16,
}

impl Workload for Idle {
    fn name(&self) -> &'static str {
        "idle"
    }

    fn describe(&self) -> String {
        let Self { connections, parallel, hold, .. } = self;
        format!("{connections} registered connections, {parallel} at a time, idle for {hold} s")
    }

    fn check(&self) -> Result<()> {
        allow_open_files(self.connections as usize)
    }

    fn wants_fresh_servers(&self) -> bool {
        true
    }

    fn round(&self, setting: &Setting<'_>) -> Result<Figures> {
        let mut figures = Figures::default();
        let before = setting.server.memory()?;
        let heartbeat = Duration::from_secs(self.heartbeat.into());
        let (mut crowd, spent) = gather(setting, self.connections, self.parallel, heartbeat)?;
        tell(&crowd, self.connections, &spent, &mut figures);
        hold(setting, &mut crowd, self.hold, &mut figures)?;
        weigh(setting, before, self.connections, &mut figures)?;
        crowd.expect_alive()?;
        Ok(figures)
    }
}

impl Workload for Connect {
    fn name(&self) -> &'static str {
        "connect"
    }

    fn describe(&self) -> String {
        let Self { connections, parallel } = self;
        format!("{connections} connections that register, {parallel} at a time")
    }

    fn check(&self) -> Result<()> {
        allow_open_files(self.connections as usize)
    }

    fn wants_fresh_servers(&self) -> bool {
        true
    }

    fn round(&self, setting: &Setting<'_>) -> Result<Figures> {
        let mut figures = Figures::default();
        let heartbeat = Duration::from_secs(60);
        let (mut crowd, spent) = gather(setting, self.connections, self.parallel, heartbeat)?;
        tell(&crowd, self.connections, &spent, &mut figures);
        crowd.expect_alive()?;
        Ok(figures)
    }
}

/// Keeps everybody for so many seconds, and notes what that takes of the server.
pub(super) fn hold(
    setting: &Setting<'_>,
    crowd: &mut Crowd<'_>,
    seconds: u32,
    figures: &mut Figures,
) -> Result<()> {
    let meter = Meter::start(setting.server)?;
    let end = Instant::now() + Duration::from_secs(seconds.into());
    while Instant::now() < end {
        crowd.keep_alive()?;
        std::thread::sleep(Duration::from_millis(20).min(end - Instant::now()));
    }
    let spent = meter.stop()?;
    if let (Some(cpu_ns), true) = (spent.cpu_ns, seconds > 0) {
        let percent = cpu_ns as f64 / spent.took.as_nanos() as f64 * 100.0;
        figures.add(figures::IDLE_CPU, percent);
    }
    Ok(())
}

/// Has everybody join; answers what that took.
pub(super) fn gather<'a>(
    setting: &Setting<'a>,
    connections: u32,
    parallel: u16,
    heartbeat: Duration,
) -> Result<(Crowd<'a>, Spent)> {
    let mut crowd = Crowd::new(setting.server, connections as usize, heartbeat, setting.patience)?;
    let meter = Meter::start(setting.server)?;
    crowd.gather(parallel.into(), |came| setting.progress.add(came as u64))?;
    Ok((crowd, meter.stop()?))
}

/// Notes how fast everybody joined.
fn tell(crowd: &Crowd<'_>, connections: u32, spent: &Spent, figures: &mut Figures) {
    let connections = f64::from(connections);
    figures.add(figures::JOIN_RATE, connections / spent.took.as_secs_f64());
    if let Some(cpu_ns) = spent.cpu_ns {
        figures.add(figures::JOIN_CPU, cpu_ns as f64 / connections / 1e3);
    }
    figures.add_latency(figures::JOINING, crowd.took());
    figures.add(figures::CONNECTIONS, connections);
}

/// Notes how much memory of the server's each connection takes that came since `before`.
pub(super) fn weigh(
    setting: &Setting<'_>,
    before: Option<u64>,
    connections: u32,
    figures: &mut Figures,
) -> Result<()> {
    if let Some((before, after)) = before.zip(setting.server.memory()?) {
        let each = after.saturating_sub(before) as f64 / f64::from(connections);
        figures.add(figures::MEMORY, each);
    }
    Ok(())
}
