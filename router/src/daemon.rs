//! A whole router: binds, starts the threads, reloads, drains, stops. The one room that knows them all.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc as std_mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rand::RngExt;
use switchboard_protocol::ServiceId;
use switchboard_protocol::control::{Control, GoAway, GoAwayReason};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::{info, warn};

use crate::admin::{self, Admin};
use crate::caller::Caller;
use crate::config::{Address, Config, ConfigError, Difference};
use crate::counters::Counters;
use crate::events::What;
use crate::forward::local::{Local, Published};
use crate::listener::{self, Dealer, Listener};
use crate::mailbox::{Ending, Mailbox};
use crate::parking::lots::Lots;
use crate::registrar::{self, Registrar};
use crate::registry::{Change, Registry};
use crate::reload::{ReloadError, Reloader, Source};
use crate::shard::{self, Fence};
use crate::shared::Shared;
use crate::table::Keep;
use crate::watchdog;

/// A running router. It stops when it is dropped; [`Router::drain`] lets its nodes leave first.
#[derive(Debug)]
pub struct Router {
    shared: Arc<Shared>,
    reloader: Arc<Reloader>,
    control: tokio::runtime::Handle,
    dealer: Dealer,
    listen: Vec<Address>,
    /// Who accepts there, in the order of `listen`. A port is closed when its task has ended.
    ports: Vec<JoinHandle<()>>,
    admin: SocketAddr,
    leave: watch::Sender<bool>,
    stop: watch::Sender<bool>,
    threads: Vec<thread::JoinHandle<()>>,
}

/// Why a router does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration can't be meant.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// An address can't be bound.
    #[error("{key}: can't listen on {address}: {}", explain(error))]
    Bind {
        /// Which setting names it.
        key: &'static str,
        /// The address.
        address: String,
        /// Why.
        error: io::Error,
    },
    /// The system gives no thread or no runtime.
    #[error("can't start a thread: {0}")]
    Thread(#[from] io::Error),
}

impl Router {
    /// Starts a router. When this returns, it accepts connections.
    pub fn start(config: Config) -> Result<Self, StartError> {
        Self::start_with(config, None)
    }

    /// Starts a router that can be told to read its configuration again.
    pub fn start_with(config: Config, source: Option<Source>) -> Result<Self, StartError> {
        config.validate()?;
        let listeners: Vec<Listener> =
            config.listen.iter().map(bind_nodes).collect::<Result<_, _>>()?;
        let admin_listener = listener::bind_tcp(config.admin).map_err(|error| {
            StartError::Bind { key: "admin", address: config.admin.to_string(), error }
        })?;
        let listen: Vec<Address> =
            listeners.iter().map(Listener::address).collect::<io::Result<_>>()?;
        let admin = admin_listener.local_addr()?;

        let shard_count = match config.shards {
            0 => thread::available_parallelism().map_or(1, usize::from),
            shards => shards,
        };
        // One set of counters for each shard, and the last for the control thread.
        let counters: Vec<Arc<Counters>> = (0..=shard_count).map(|_| Arc::default()).collect();
        let (registrar, requests) = Registrar::new();
        let published = Arc::<Published>::default();
        let lots = Arc::new(Lots::new(Arc::new(config.policies())));
        let (stop, stopped) = watch::channel(false);

        let mut threads = Vec::new();
        let mut handles = Vec::new();
        let start = |name: String, counters: &Arc<Counters>| {
            let (published, lots) = (published.clone(), lots.clone());
            shard::start(name, published, lots, counters.clone(), stopped.clone())
        };
        for (number, counters) in counters[..shard_count].iter().enumerate() {
            let shard = start(format!("shard-{number}"), counters)?;
            handles.push(shard.handle);
            threads.push(shard.thread);
        }
        let control = start("control".to_owned(), &counters[shard_count])?;
        threads.push(control.thread);

        let all = handles.iter().chain([&control.handle]).cloned().collect();
        let fence = Fence::new(all);
        let shared = Arc::new(Shared::new(
            &config,
            listen.clone(),
            registrar,
            counters,
            published.clone(),
            lots.clone(),
            fence,
        ));
        let policies = shared.settings.load().policies.clone();
        let services = config.limits.max_services_per_session;
        let registry = Registry::new(policies, services, rand::random());
        let events = shared.events.clone();
        control.handle.spawn(registrar::run(registry, requests, published, lots, events));
        control.handle.spawn(watchdog::run(shared.clone()));
        let dealer = Dealer::new(handles, shared.clone());
        let accept = |listener| control.handle.spawn(accept(listener, dealer.clone()));
        let ports = listeners.into_iter().map(accept).collect();
        let reloader = Arc::new(Reloader::new(config, source, shared.clone()));
        let (leave, _) = watch::channel(false);
        let caller = Caller::new(dealer.clone());
        let office = Admin::new(shared.clone(), reloader.clone(), admin, leave.clone(), caller);
        threads.push(admin::start(admin_listener, office, stopped)?);
        Ok(Self {
            shared,
            reloader,
            control: control.handle,
            dealer,
            listen,
            ports,
            admin,
            leave,
            stop,
            threads,
        })
    }

    /// Where nodes connect, with the ports that were taken.
    #[must_use]
    pub fn listen(&self) -> &[Address] {
        &self.listen
    }

    /// Listens in one more place, and says where that is in fact.
    pub fn open_port(&mut self, address: &Address) -> Result<Address, StartError> {
        let listener = bind_nodes(address)?;
        let bound = listener.address()?;
        self.ports.push(self.control.spawn(accept(listener, self.dealer.clone())));
        self.listen.push(bound.clone());
        self.shared.listen.store(Arc::new(self.listen.clone()));
        Ok(bound)
    }

    /// Listens there no more; who is connected stays. Whether it did.
    pub fn close_port(&mut self, address: &Address) -> bool {
        let Some(at) = self.listen.iter().position(|open| open == address) else { return false };
        self.listen.remove(at);
        self.shared.listen.store(Arc::new(self.listen.clone()));
        let port = self.ports.remove(at);
        port.abort();
        self.on_control(async move {
            // That it was cut short is what is waited for.
            let _ = port.await;
        });
        true
    }

    /// Where operators connect.
    #[must_use]
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// How many connections there are.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.shared.sessions.count()
    }

    /// Takes over what may change in a running router. A configuration with a mistake changes nothing.
    /// When this returns, all of it is in force.
    pub fn reconfigure(&self, new: Config) -> Result<Difference, ConfigError> {
        let reloader = self.reloader.clone();
        let taken = self.on_control(async move { reloader.take(new).await });
        taken.unwrap_or_else(|| Ok(Difference::default()))
    }

    /// Reads the configuration again, where the router was told from where, and takes it over.
    pub async fn reload(&self) -> Result<Difference, ReloadError> {
        self.reloader.reload().await
    }

    /// Turns true when an operator asks over HTTP that the router leaves. Who listens here calls
    /// [`Self::drain`] then; while nobody does, operators are told that they can't ask.
    #[must_use]
    pub fn leave_requests(&self) -> watch::Receiver<bool> {
        self.leave.subscribe()
    }

    /// Keeps a slot for an id that nobody holds, as if its instance had been there and left; in classes
    /// whose keys are spread over as many slots as instances have been seen.
    pub fn keep_slot(&self, id: ServiceId) {
        self.change(Change::Slot { id, keep: Keep::Hole });
    }

    /// Forgets the slot that an instance left behind, so that keys are spread without it.
    pub fn forget_slot(&self, id: ServiceId) {
        self.change(Change::Slot { id, keep: Keep::Nothing });
    }

    /// Has a change made that is never refused. When this returns, it is in force.
    fn change(&self, change: Change<Arc<Mailbox>>) {
        let registrar = self.shared.registrar.clone();
        self.on_control(async move {
            // Refused only where no table is left to change.
            let _ = registrar.ask(change).await;
        });
    }

    /// Lets the nodes leave: takes no new ones, tells the others to go, and waits until they have or
    /// `drain.timeout_ms` has passed. Answers how many had to be cut off.
    pub fn drain(&self) -> usize {
        let drain = self.shared.settings.load().drain;
        self.shared.start_draining();
        self.ports.iter().for_each(JoinHandle::abort);
        let sessions = self.shared.sessions.all();
        info!(sessions = sessions.len(), timeout_ms = drain.timeout_ms, "draining");
        self.shared.events.note(What::Draining { sessions: sessions.len() });
        self.on_control(async move {
            let mut rng = rand::rng();
            for mailbox in sessions {
                let after = rng.random_range(0..=drain.reconnect_spread_ms);
                let (reason, reconnect_after_ms) = (GoAwayReason::Shutdown, Some(after));
                let message = Control::GoAway(GoAway { reason, reconnect_after_ms });
                let frame = message.to_frame().to_bytes();
                Local::with(|local| mailbox.push(&frame, &mut local.out));
            }
            Local::with(|local| local.out.flush());
        });
        self.wait_until_empty(Duration::from_millis(drain.timeout_ms));
        let left = self.shared.sessions.all();
        if !left.is_empty() {
            warn!(sessions = left.len(), "drain timeout: closing the sessions that are left");
            left.iter().for_each(|mailbox| mailbox.end(Ending::Shutdown));
            let count = left.len();
            drop(left);
            self.wait_until_empty(LAST_WORDS);
            return count;
        }
        0
    }

    fn wait_until_empty(&self, patience: Duration) {
        let deadline = Instant::now() + patience;
        while self.shared.sessions.count() > 0 && Instant::now() < deadline {
            thread::sleep(LOOK_AGAIN);
        }
    }

    /// Runs something on the control thread, and waits for what comes of it.
    fn on_control<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let (done, wait) = std_mpsc::channel();
        self.control.spawn(async move {
            // The other end waits below.
            let _ = done.send(work.await);
        });
        wait.recv().ok()
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        for thread in self.threads.drain(..) {
            // A panic there has been printed already.
            let _ = thread.join();
        }
    }
}

fn bind_nodes(address: &Address) -> Result<Listener, StartError> {
    Listener::bind(address).map_err(|error| StartError::Bind {
        key: "listen",
        address: address.to_string(),
        error,
    })
}

async fn accept(listener: Listener, dealer: Dealer) {
    if let Err(error) = listener.run(dealer).await {
        warn!(%error, "a listener failed");
    }
}

fn explain(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => "the address is in use".to_owned(),
        io::ErrorKind::PermissionDenied => {
            "permission denied; ports below 1024 need privileges".to_owned()
        }
        io::ErrorKind::AddrNotAvailable => "no interface of this machine has it".to_owned(),
        _ => error.to_string(),
    }
}

/// How long sessions that are cut off have to send their last words.
const LAST_WORDS: Duration = Duration::from_secs(3);
const LOOK_AGAIN: Duration = Duration::from_millis(5);
