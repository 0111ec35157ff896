//! What each process of the cluster does, one file for each role; here is what the nodes among them
//! have in common: they connect, say that they are ready, and do as their parent orders.

pub mod dbagent;
mod exporter;
pub mod gamesvr;
pub mod mailsvr;
pub mod matchsvr;
pub mod router;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, ValueEnum};
use switchboard::{Builder, Caller, Event, Node, ServiceId};
use tokio::sync::mpsc;

use crate::ledger::Ledger;
use crate::news::{self, News, Order, tell};
use crate::stream::now;

/// Which part a process plays. The cluster starts itself again with these.
#[derive(Debug, Clone, Args)]
pub struct Part {
    /// The role.
    pub role: Role,
    /// The number in its class.
    #[arg(long, default_value_t = 1)]
    pub instance: u32,
    /// Which of the processes with this number in a row it is.
    #[arg(long, default_value_t = 1)]
    pub life: u32,
    /// Where the routers listen.
    #[arg(long)]
    pub router: Vec<String>,
    /// What a router calls itself.
    #[arg(long)]
    pub name: Option<String>,
    /// Where files go.
    #[arg(long, default_value = ".")]
    pub dir: PathBuf,
    /// How many players there are on all game servers.
    #[arg(long, default_value_t = 0)]
    pub players: u64,
    /// How many messages a player sends in a second.
    #[arg(long, default_value_t = 0)]
    pub rate: u64,
    /// Lets Prometheus read what the node counts.
    #[arg(long)]
    pub metrics: bool,
    /// Counts a message as sent that is not; for tests of the account.
    #[arg(long)]
    pub lose_one: bool,
}

/// The roles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Role {
    Router,
    Gamesvr,
    Matchsvr,
    Dbagent,
    Mailsvr,
}

/// Plays a part to its end.
pub fn play(part: Part) -> anyhow::Result<ExitCode> {
    let orders = news::orders();
    if part.role == Role::Router {
        return Ok(router::run(&part));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match part.role {
            Role::Router | Role::Gamesvr => gamesvr::run(&part, orders).await,
            Role::Matchsvr => matchsvr::run(&part, orders).await,
            Role::Dbagent => dbagent::run(&part, orders).await,
            Role::Mailsvr => mailsvr::run(&part, orders).await,
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

/// What a node is before it has handlers.
fn builder(class: &str, part: &Part) -> Builder {
    let service = format!("{class}.{}", part.instance);
    // Room for all that may come while this machine gives its time to another process.
    let builder = Node::builder(&service).name(service).handler_queue(HANDLER_QUEUE);
    part.router.iter().fold(builder, Builder::router)
}

/// Connects. From then on a `fence` is answered: since messages from one sender to one target keep
/// their order, whoever has the answer knows that what it sent here before has been handled.
async fn connect(builder: Builder, part: &Part) -> anyhow::Result<Node> {
    let builder = builder.on("fence", async |_: Caller, (): ()| Ok(()));
    let node = builder.connect().await.context("can't connect")?;
    let metrics = match part.metrics {
        true => Some(exporter::export(&node).await.context("can't export metrics")?),
        false => None,
    };
    tell(&News::Ready { id: node.id().raw(), metrics });
    Ok(node)
}

/// Works until the order to leave. Orders that not every role knows go to `players`.
async fn work(
    node: Node,
    ledger: &Ledger,
    mut orders: mpsc::UnboundedReceiver<Order>,
    players: Option<mpsc::UnboundedSender<Order>>,
) -> anyhow::Result<()> {
    let mut events = node.events();
    loop {
        tokio::select! {
            event = events.next() => match event {
                Some(event) => note(&node, ledger, event),
                None => return Ok(()),
            },
            order = orders.recv() => match order {
                Some(Order::Tick) => tell(&News::Tick(ledger.tick())),
                Some(Order::Report) => tell(&News::Report(ledger.report())),
                Some(Order::Close) | None => break,
                Some(order) => {
                    if let Some(players) = &players {
                        players.send(order).context("the players are gone")?;
                    }
                }
            }
        }
    }
    node.close().await;
    Ok(())
}

/// Takes in what happened to the node.
fn note(node: &Node, ledger: &Ledger, event: Event) {
    let at = now();
    match event {
        Event::Promoted { class, epoch } if class == node.id().class() => {
            tell(&News::Promoted { epoch, at });
        }
        Event::Demoted { class } if class == node.id().class() => tell(&News::Demoted { at }),
        Event::Undelivered { reason, mode, class, .. } => {
            gamesvr::undelivered(node, ledger, reason, mode, class);
        }
        Event::Connected { router, .. } => tell(&News::Connected { router }),
        Event::Lost { router, why, .. } => tell(&News::LinkLost { router, why, at }),
        // What follows from a lost link, again and again where the router is dead.
        Event::Reconnecting { .. }
        | Event::Promoted { .. }
        | Event::Demoted { .. }
        | Event::Closed(_) => {}
        other => tell(&News::Trouble { what: format!("{other:?}") }),
    }
}

/// The player whom a message is about belongs to somebody else.
fn stray(player: u64, id: ServiceId) {
    tell(&News::Trouble { what: format!("player {player} came to {id}, which has other slots") });
}

/// How many messages may wait for their handlers.
const HANDLER_QUEUE: usize = 1 << 18;
