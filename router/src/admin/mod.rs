//! The operators' HTTP server: what lives here, what it does, and who is asked to do otherwise. It has a
//! thread of its own, so that a table of a hundred thousand sessions holds up neither frames nor the registrar.
//!
//! - [`server`]: connections, and who has to make room when there are too many;
//! - [`routes`]: from a path and a method to one function below; [`query`], [`body`], [`answer`], [`problem`]: what
//!   these are asked with, and answer with; [`access`]: who may ask;
//! - `classes`, `sessions`, `status`, `history`: what is read; `stream`, `summary`: what is told
//!   unasked; `page`: who shows all that in a browser; `actions`: what is done;
//! - `call`: a call over HTTP; `payload`, `base64`: what it says, in JSON and in MessagePack.

mod access;
mod actions;
mod answer;
mod base64;
mod body;
mod call;
mod classes;
mod history;
mod page;
mod payload;
mod problem;
mod query;
mod routes;
mod server;
mod sessions;
mod status;
mod stream;
mod summary;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::runtime::Builder;
use tokio::sync::watch;

use self::sessions::Rates;
use self::stream::Listeners;
use crate::caller::Caller;
use crate::reload::Reloader;
use crate::shared::Shared;

/// What the answers are made from.
#[derive(Debug)]
pub(crate) struct Admin {
    shared: Arc<Shared>,
    reloader: Arc<Reloader>,
    /// Where operators connect in fact.
    address: SocketAddr,
    /// Says that the router shall leave, to whoever runs it.
    leave: watch::Sender<bool>,
    caller: Caller,
    rates: Rates,
    listeners: Listeners,
}

impl Admin {
    /// The office of a router that runs.
    pub(crate) fn new(
        shared: Arc<Shared>,
        reloader: Arc<Reloader>,
        address: SocketAddr,
        leave: watch::Sender<bool>,
        caller: Caller,
    ) -> Self {
        Self {
            shared,
            reloader,
            address,
            leave,
            caller,
            rates: Rates::default(),
            listeners: Listeners::default(),
        }
    }
}

/// Starts the server's thread, which ends when `stop` says so.
pub(crate) fn start(
    listener: TcpListener,
    admin: Admin,
    mut stop: watch::Receiver<bool>,
) -> io::Result<JoinHandle<()>> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("admin".to_owned()).spawn(move || {
        runtime.spawn(server::run(listener, Arc::new(admin)));
        // The sender is dropped with the router, which is as good as a stop.
        let _ = runtime.block_on(stop.wait_for(|stop| *stop));
    })
}
