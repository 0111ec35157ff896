//! How a node ends well: finishes what it has, and closes.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::time::Duration;

use switchboard_protocol::Control;
use switchboard_protocol::control::Unregister;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::error::CloseReason;
use crate::node::Node;
use crate::office::Input;

/// Something to do when a node starts or stops.
pub(crate) type Hook =
    Box<dyn FnOnce(Node) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

impl Node {
    /// Ends the node without losing anything: its ids are picked no more and its offices go to
    /// others; what it has been sent is handled and answered, its own calls get their answers; then
    /// `on_stop` runs, and the node closes. After
    /// [`Builder::drain_timeout`](crate::Builder::drain_timeout) it closes in any case, with a second
    /// more for `on_stop`. A handler that wants to end its node spawns this: it is waited for itself.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let config = switchboard_router::Config::local().with_class("matchsvr", 5).with_class("gamesvr", 3);
    /// # let router = switchboard_router::Router::start(config)?;
    /// # let address = router.listen()[0].to_string();
    /// use std::time::Duration;
    /// use switchboard::{Caller, Node, Random};
    ///
    /// let slow = async |_: Caller, ()| {
    ///     tokio::time::sleep(Duration::from_millis(50)).await;
    ///     Ok("done")
    /// };
    /// let server = Node::builder("matchsvr.1").router(&address).on("slow", slow).connect().await?;
    /// let client = Node::builder("gamesvr.1").router(&address).connect().await?;
    /// let call = tokio::spawn(client.call::<String>(Random, "matchsvr", "slow", ()).into_future());
    /// # while !client.call::<u32>(Random, "matchsvr", "x", ()).await.is_err() {}
    /// server.drain().await;
    /// assert_eq!(call.await??, "done");
    /// # Ok(())
    /// # }
    /// ```
    pub async fn drain(&self) {
        let shared = self.shared();
        shared.lifecycle.drain();
        // ORDER: laid down here before the routers may give them to others.
        shared.office(Input::Gone { ids: shared.ids() });
        let finish = async {
            // A link that came up in this moment gives its ids up too.
            let mut asked = BTreeSet::new();
            loop {
                let ports = shared.links.up();
                let new: Vec<_> = ports.iter().filter(|port| asked.insert(port.slot)).collect();
                let tickets: Vec<_> = new
                    .into_iter()
                    .map(|port| {
                        let ticket = shared.requests.open(port.slot);
                        let (request, ids) = (ticket.number, port.ids());
                        let unregister = Unregister { request, ids, draining: true };
                        // A router that can't be asked has lost this node anyway.
                        let _ = port.outbox.push_control(&Control::Unregister(unregister));
                        ticket
                    })
                    .collect();
                for mut ticket in tickets {
                    let _ = timeout(ANSWER, &mut ticket.answer).await;
                }
                let busy = ports.iter().any(|port| port.handling() > 0);
                if !busy && shared.calls.is_empty(None) {
                    break;
                }
                sleep(LOOK_AGAIN).await;
            }
        };
        let deadline = Instant::now() + shared.options.drain_timeout;
        // Who has had so much time and is not done is cut off.
        let _ = timeout_at(deadline, finish).await;
        if let Some(stop) = shared.take_stop() {
            let _ = timeout_at(deadline.max(Instant::now() + ANSWER), stop(self.clone())).await;
        }
        self.close().await;
    }

    /// Serves until the process is told to end by SIGTERM or Ctrl-C, then drains. Returns why the
    /// node is closed.
    ///
    /// ```no_run
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use switchboard::{Caller, Node};
    ///
    /// let node = Node::builder("matchsvr.1")
    ///     .on("join_match", async |_: Caller, (player,): (u64,)| Ok(player))
    ///     .connect()
    ///     .await?;
    /// println!("closed {}", node.serve().await);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn serve(&self) -> CloseReason {
        tokio::select! {
            () = told_to_end() => self.drain().await,
            () = self.shared().lifecycle.closed() => {}
        }
        self.shared().closed().unwrap_or(CloseReason::Local)
    }
}

/// Waits for SIGTERM or Ctrl-C.
async fn told_to_end() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let (terminate, interrupt) =
            (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
        if let (Ok(mut terminate), Ok(mut interrupt)) = (terminate, interrupt) {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            return;
        }
    }
    if tokio::signal::ctrl_c().await.is_err() {
        // No signal can be heard of here; the node serves until it is closed otherwise.
        std::future::pending::<()>().await;
    }
}

/// How long a router may take to take ids out of its table: one second.
const ANSWER: Duration = Duration::from_secs(1);

const LOOK_AGAIN: Duration = Duration::from_millis(2);
