//! How a program says what its node does when it is called.

use bytes::Bytes;
use serde::Serialize;

use crate::args::FromArgs;
use crate::caller::Caller;
use crate::handlers::{self, HandlerError};
use crate::node::Node;

impl Node {
    /// Handles a method, in place of the handler that it had.
    ///
    /// The handler takes who sent the message, and the arguments as a tuple of owned types. A
    /// caller gets what it returns; to a one-way message nobody listens.
    ///
    /// Handlers are started in the order in which messages came. One that doesn't wait is finished
    /// before the next is started; those that wait run side by side. A panic is answered with the
    /// code `panic` and harms nothing else.
    ///
    /// An async closure that uses something from outside takes the form
    /// `move |from, args| { let db = db.clone(); async move { .. } }`. A handler that holds a clone
    /// of its own node keeps the node alive; [`Caller::node`] does not.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let config = switchboard_router::Config::local().with_class("matchsvr", 5).with_class("gamesvr", 3);
    /// # let router = switchboard_router::Router::start(config)?;
    /// # let address = router.listen()[0].to_string();
    /// # let node = Node::builder("matchsvr.1").router(&address).connect().await?;
    /// use std::sync::Arc;
    /// use std::sync::atomic::{AtomicU32, Ordering};
    /// use switchboard::{Caller, HandlerError, Node, Random};
    ///
    /// node.on("join_match", async |from: Caller, (player_id, mode): (u64, String)| {
    ///     if mode != "ranked" {
    ///         return Err(HandlerError::new("no_such_mode", format!("{mode}: try ranked")));
    ///     }
    ///     Ok(format!("{player_id} of {} is in", from.class()))
    /// });
    ///
    /// let visits = Arc::new(AtomicU32::new(0));
    /// node.on("visit", move |_: Caller, ()| {
    ///     let visits = Arc::clone(&visits);
    ///     async move { Ok(visits.fetch_add(1, Ordering::Relaxed) + 1) }
    /// });
    ///
    /// let answer: String = node.call(Random, "matchsvr", "join_match", (7, "ranked")).await?;
    /// assert_eq!(answer, "7 of 5 is in");
    /// assert_eq!(node.call::<u32>(Random, "matchsvr", "visit", ()).await?, 1);
    /// # Ok(())
    /// # }
    /// ```
    pub fn on<A, F, W, R>(&self, method: impl Into<String>, handler: F)
    where
        A: FromArgs,
        F: Fn(Caller, A) -> W + Send + Sync + 'static,
        W: Future<Output = Result<R, HandlerError>> + Send + 'static,
        R: Serialize + 'static,
    {
        self.shared().handlers.insert(method.into(), handlers::typed(handler));
    }

    /// Handles everything that no method's handler takes, payloads as they are. What the handler
    /// returns is the payload of the reply.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let config = switchboard_router::Config::local().with_class("matchsvr", 5).with_class("gamesvr", 3);
    /// # let router = switchboard_router::Router::start(config)?;
    /// # let address = router.listen()[0].to_string();
    /// # let node = Node::builder("matchsvr.1").router(&address).connect().await?;
    /// use bytes::Bytes;
    /// use switchboard::{Caller, HandlerError, Node, Random};
    ///
    /// node.on_raw(async |_: Caller, payload: Bytes| {
    ///     if payload.is_empty() {
    ///         return Err(HandlerError::new("empty", "there is nothing to reverse"));
    ///     }
    ///     Ok(payload.iter().rev().copied().collect())
    /// });
    /// assert_eq!(node.call_raw(Random, "matchsvr", "abc").await?, "cba");
    /// # Ok(())
    /// # }
    /// ```
    pub fn on_raw<F, W>(&self, handler: F)
    where
        F: Fn(Caller, Bytes) -> W + Send + Sync + 'static,
        W: Future<Output = Result<Bytes, HandlerError>> + Send + 'static,
    {
        self.shared().handlers.insert_raw(handlers::raw(handler));
    }
}
