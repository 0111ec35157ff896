//! Reloads a script again and again under load: a sender in Rust numbers its messages, `lua-node` handles them,
//! and its script is replaced meanwhile, every tenth time by a version that fails in its middle. No message
//! may be lost, come twice or out of order, or be handled by half a file or by one that failed.
//!
//! ```text
//! cargo build --release -p switchboard-router -p switchboard-lua -p switchboard-tests
//! target/release/lua_reload [--seconds 60] [--rate 50000] [--reloads 100]
//! ```
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "printing is what it is for")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use switchboard::{Direct, ForwardError, Node};
use switchboard_tests::lua_node::Script;
use switchboard_tests::{LuaNode, RouterProcess};
use tokio::time::MissedTickBehavior;

struct Options {
    seconds: u64,
    /// Messages a second.
    rate: u64,
    /// New versions a second.
    reloads: u64,
}

/// What the script counts: messages, those that did not come in their turn, and those that saw more than one
/// version, or one that failed; versions that ran, and that handled a message.
type Counts = (u64, u64, u64, u64, u64);

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse()?;
    let router =
        RouterProcess::with("classes: {matchsvr: {id: 5, park_ms: 5000}, gamesvr: {id: 6}}");
    let more = ["--service", "matchsvr.1", "--router", router.listen()];
    let script = Script::new(&text(0)).args(&more).args(&["--log", "error"]);
    // Looked at more often than written, so that no version is skipped.
    let lua = Arc::new(script.args(&["--reload-every", "2ms"]).start());
    let node = Node::builder("gamesvr.1").router(router.listen()).connect().await?;
    while counts(&node).await.is_err() {
        ensure!(!lua.log().contains("lua-node:"), "the script does not run:\n{}", lua.log());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }

    let done = Arc::new(AtomicBool::new(false));
    let writing = tokio::spawn(write(lua.clone(), options.reloads, done.clone()));
    let begun = Instant::now();
    let sent = send(&node, &options).await?;
    let took = begun.elapsed();
    done.store(true, Ordering::Relaxed);
    let (written, broken) = writing.await?;
    let (handled, astray, mixed, ran, seen) = settled(&node, sent, written - broken).await?;
    let refused = lua.log().matches("not reloaded").count() as u64;
    println!(
        "{sent} messages in {:.1} s ({:.0} k per second): {handled} handled, {astray} lost or out of order, \
         {mixed} by half a file",
        took.as_secs_f64(),
        sent as f64 / took.as_secs_f64() / 1e3,
    );
    println!(
        "{written} versions written ({:.0} per second): {ran} ran, {seen} handled messages, {refused} of \
         {broken} that fail were refused",
        written as f64 / took.as_secs_f64(),
    );
    ensure!(
        (handled, astray, mixed) == (sent, 0, 0),
        "not every message was handled as it should be"
    );
    ensure!(ran + refused <= written + 1, "a version ran twice");
    // Where the machine is busy, two are written between two looks.
    ensure!((ran + refused) * 2 > written, "too many versions were skipped");
    Ok(())
}

/// Sends at the rate; answers how many.
async fn send(node: &Node, options: &Options) -> anyhow::Result<u64> {
    let begun = Instant::now();
    let all = options.rate * options.seconds;
    let mut sent = 0;
    let mut ticks = tokio::time::interval(Duration::from_millis(1));
    while sent < all {
        ticks.tick().await;
        let due = (begun.elapsed().as_micros() as u64 * options.rate / 1_000_000).min(all);
        while sent < due {
            let method = if sent.is_multiple_of(2) { "even" } else { "odd" };
            match node.forward(Direct, "matchsvr.1", method, (sent,)) {
                Ok(()) => sent += 1,
                Err(ForwardError::Full { .. }) => tokio::task::yield_now().await,
                Err(error) => bail!("message {sent}: {error}"),
            }
        }
    }
    Ok(sent)
}

/// Replaces the script until it is done; answers how many versions there were, and how many of them fail.
async fn write(lua: Arc<LuaNode>, reloads: u64, done: Arc<AtomicBool>) -> (u64, u64) {
    let mut ticks = tokio::time::interval(Duration::from_micros(1_000_000 / reloads));
    // Many at once would be one for who looks.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut version = 0;
    // Ends with one that runs.
    while !done.load(Ordering::Relaxed) || fails(version) {
        ticks.tick().await;
        version += 1;
        lua.rewrite("script.lua", &text(version));
    }
    (version, (1..=version).filter(|version| fails(*version)).count() as u64)
}

/// The counts when all is handled and nothing changes any more.
async fn settled(node: &Node, sent: u64, versions: u64) -> anyhow::Result<Counts> {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let now = counts(node).await.context("the script answers")?;
        if now.0 >= sent && now.3 > versions || Instant::now() > deadline {
            return Ok(now);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        if counts(node).await? == now && now.0 >= sent {
            return Ok(now);
        }
    }
}

async fn counts(node: &Node) -> anyhow::Result<Counts> {
    Ok(node.call(Direct, "matchsvr.1", "counts", ()).await?)
}

fn fails(version: u64) -> bool {
    version % 10 == 9
}

/// A version of the script. Its number stands in two functions, one at each end of the file, and in two
/// handlers, and all of them must agree whenever a message is handled.
fn text(version: u64) -> String {
    let broken = match (fails(version), version % 20) {
        (false, _) => "",
        (true, 9) => "local nothing = nil\nnothing.field = 1",
        (true, _) => "this does not parse",
    };
    format!(
        r#"
local switchboard = require "switchboard"
node = node or assert(switchboard.connect {{ handler_queue = 1000000 }})
count = count or {{ handled = 0, astray = 0, mixed = 0, ran = 0, seen = 0, last = -1 }}

function first() return {version} end

local function handle(number, mine)
  if number ~= count.handled then count.astray = count.astray + 1 end
  count.handled = count.handled + 1
  if first() ~= mine or last() ~= mine or mine % 10 == 9 then count.mixed = count.mixed + 1 end
  if mine ~= count.last then
    if mine < count.last then count.mixed = count.mixed + 1 end
    count.seen, count.last = count.seen + 1, mine
  end
end

function node.on.even(_, number) return handle(number, {version}) end
{broken}
function node.on.odd(_, number) return handle(number, {version}) end
function node.on.counts() return count.handled, count.astray, count.mixed, count.ran, count.seen end

function last() return {version} end
count.ran = count.ran + 1
"#
    )
}

impl Options {
    fn parse() -> anyhow::Result<Self> {
        let mut options = Self { seconds: 60, rate: 50_000, reloads: 100 };
        let mut args = std::env::args().skip(1);
        while let Some(flag) = args.next() {
            let value = args.next().and_then(|value| value.parse().ok());
            let value: u64 = value
                .filter(|value| *value > 0)
                .with_context(|| format!("{flag} takes a number"))?;
            match flag.as_str() {
                "--seconds" => options.seconds = value,
                "--rate" => options.rate = value,
                "--reloads" => options.reloads = value,
                _ => bail!("`{flag}` is not an option; see the head of this program"),
            }
        }
        Ok(options)
    }
}
