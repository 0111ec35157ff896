//! One link from Welcome to its end: reads and takes frames apart, writes the outbox, keeps the
//! heartbeat. All of it is one task; nothing else touches the socket.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use switchboard_protocol::control::{Ping, Unregister, Welcome};
use switchboard_protocol::limits::{DEFAULT_HEARTBEAT, DEFAULT_MAX_FRAME, MISSED_HEARTBEATS};
use switchboard_protocol::{Control, Frame};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout, timeout_at};

use crate::drops;
use crate::error::CloseReason;
use crate::incoming::Incoming;
use crate::link::{Link, READ_BUFFER};
use crate::links::Port;
use crate::load;
use crate::office::Input;
use crate::shared::Shared;

/// How a session ended.
#[derive(Debug)]
pub(crate) enum End {
    /// The link is gone; come back.
    Lost {
        why: String,
        /// When the router asked to.
        come_back: Option<Duration>,
    },
    /// For good.
    Final(CloseReason),
}

/// A link in use.
pub(crate) struct Session<'a> {
    pub(crate) shared: &'a Shared,
    pub(crate) port: &'a Arc<Port>,
    pub(crate) incoming: &'a mpsc::Sender<Incoming>,
    /// Whether anything came since the last heartbeat.
    heard: AtomicBool,
    /// How many messages have come.
    pub(crate) messages: AtomicU64,
    /// When it began. Pings carry the milliseconds since then.
    begun: Instant,
    /// When the router wants this node to come back, once it has asked it to go.
    pub(crate) come_back: watch::Sender<Option<Instant>>,
    max_frame: u32,
    heartbeat: Duration,
}

impl<'a> Session<'a> {
    pub(crate) fn new(
        shared: &'a Shared,
        port: &'a Arc<Port>,
        incoming: &'a mpsc::Sender<Incoming>,
        welcome: &Welcome,
    ) -> Self {
        Self {
            shared,
            port,
            incoming,
            heard: AtomicBool::new(true),
            messages: AtomicU64::new(0),
            begun: Instant::now(),
            come_back: watch::Sender::new(None),
            max_frame: max_frame(welcome),
            heartbeat: heartbeat(welcome),
        }
    }

    /// Works until the link ends, or the node is closed.
    pub(crate) async fn run(&self, link: Link) -> End {
        let Link { mut reader, mut writer, buffer, early, .. } = link;
        let end = tokio::select! {
            end = self.read(&mut reader, buffer, early) => end,
            end = self.write(&mut writer) => end,
            end = self.keep_alive() => end,
            end = self.close() => end,
            end = self.leave() => end,
            end = load::report(self.shared, self.port) => end,
            end = drops::report(self.shared) => end,
        };
        // The other side should see an end and not a reset; if it can't, the drop is enough.
        let _ = timeout(FAREWELL, writer.shutdown()).await;
        end
    }

    async fn read(
        &self,
        reader: &mut (impl AsyncRead + Unpin),
        mut buffer: BytesMut,
        early: Vec<Frame>,
    ) -> End {
        for frame in early {
            if let Some(end) = self.take_in(frame) {
                return end;
            }
        }
        loop {
            loop {
                match Frame::decode(&mut buffer, self.max_frame) {
                    Ok(Some(frame)) => {
                        if let Some(end) = self.take_in(frame) {
                            return end;
                        }
                    }
                    Ok(None) => break,
                    Err(error) => return self.lost(&error.to_string()),
                }
            }
            if buffer.capacity() - buffer.len() < READ_BUFFER / 4 {
                buffer.reserve(READ_BUFFER);
            }
            match reader.read_buf(&mut buffer).await {
                Ok(0) => return self.lost("the router closed the connection"),
                Ok(read) => {
                    self.heard.store(true, Ordering::Relaxed);
                    if read >= READ_BUFFER / 4 {
                        // There is much to read. Let the writer have its turn.
                        tokio::task::yield_now().await;
                    }
                }
                Err(error) => return self.lost(&error.to_string()),
            }
        }
    }

    async fn write(&self, writer: &mut (impl AsyncWrite + Unpin)) -> End {
        let mut batch = Vec::new();
        loop {
            self.port.outbox.take(&mut batch).await;
            if let Err(error) = writer.write_all(&batch).await {
                // A router that hangs up says why. Let the reader find that first.
                sleep(LAST_WORDS).await;
                return self.lost(&error.to_string());
            }
        }
    }

    /// Pings at every heartbeat, and gives the router up after three without a frame from it.
    /// Offices that depend on its answers are laid down when they are missing for too long, and those that
    /// it gives to another node than other routers do are claimed.
    async fn keep_alive(&self) -> End {
        let mut ticks = interval(self.heartbeat);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut silent = 0;
        loop {
            let far = Instant::now() + self.heartbeat;
            let expiry = self.shared.next_expiry().map_or(far, Instant::from_std);
            tokio::select! {
                _ = ticks.tick() => {}
                () = sleep_until(expiry), if expiry < far => {
                    self.shared.expire_offices();
                    continue;
                }
                () = self.shared.expires_sooner.notified() => continue,
            }
            if self.heard.swap(false, Ordering::Relaxed) {
                silent = 0;
            } else {
                silent += 1;
            }
            if silent >= MISSED_HEARTBEATS {
                return self.lost("the router fell silent");
            }
            // Never 0: with that a router says that it lives, and has not heard anything.
            let nonce = self.begun.elapsed().as_millis() as u64 + 1;
            // A link that takes no ping any more is being closed.
            let _ = self.port.outbox.push_control(&Control::Ping(Ping { nonce }));
        }
    }

    /// The router has answered a ping, so it had heard this node when that was sent.
    pub(crate) fn answered(&self, pong: Ping) {
        let Some(ms) = pong.nonce.checked_sub(1) else { return };
        let sent = self.begun + Duration::from_millis(ms);
        if sent <= Instant::now() {
            let until = lease(sent.into_std(), self.heartbeat);
            self.shared.office(Input::Lease { slot: self.port.slot, until });
        }
    }

    /// When the program closes the node: leaves at once.
    async fn close(&self) -> End {
        self.shared.lifecycle.close_requested().await;
        self.shared.lifecycle.condemn(CloseReason::Local);
        self.farewell().await;
        End::Final(CloseReason::Local)
    }

    /// When the router asks this node to go: stays for what others still send here and for its own
    /// calls, within reason, then leaves. With no other router it goes on until this one wants it
    /// back.
    async fn leave(&self) -> End {
        let mut asked = self.come_back.subscribe();
        // The sender is part of `self`.
        let at = asked.wait_for(Option::is_some).await.ok().and_then(|at| *at);
        let done = async {
            if self.shared.links.others(self.port.slot) {
                self.quiet().await;
            } else {
                sleep_until(at.unwrap_or_else(Instant::now)).await;
            }
            while !self.shared.calls.is_empty(Some(self.port.slot)) || self.port.handling() > 0 {
                sleep(LOOK_AGAIN).await;
            }
        };
        let _ = timeout_at(at.unwrap_or_else(Instant::now) + LEAVING, done).await;
        self.farewell().await;
        self.lost("the router asked this node to leave")
    }

    /// Waits until nobody has sent anything for a while.
    async fn quiet(&self) {
        let mut seen = self.messages.load(Ordering::Relaxed);
        let mut since = Instant::now();
        while since.elapsed() < QUIET {
            sleep(LOOK_AGAIN).await;
            let now = self.messages.load(Ordering::Relaxed);
            if now != seen {
                (seen, since) = (now, Instant::now());
            }
        }
    }

    /// Gives the ids up and lets the outbox run empty.
    async fn farewell(&self) {
        let mut ticket = self.shared.requests.open(self.port.slot);
        let ids = self.port.ids();
        let unregister = Unregister { request: ticket.number, ids, draining: false };
        let goodbye = async {
            if self.port.outbox.seal(&Control::Unregister(unregister)).is_ok() {
                // The answer comes after everything that was sent before, so the outbox has run
                // empty by then. Whatever it says, the node leaves.
                let _ = (&mut ticket.answer).await;
            }
        };
        let _ = timeout(FAREWELL, goodbye).await;
    }

    fn lost(&self, why: &str) -> End {
        let come_back = self.come_back.borrow().map(|at| at.duration_since(Instant::now()));
        End::Lost { why: why.to_owned(), come_back }
    }
}

/// The longest frame that the router takes, in bytes.
pub(crate) fn max_frame(welcome: &Welcome) -> u32 {
    match welcome.max_frame {
        0 => DEFAULT_MAX_FRAME,
        max => max,
    }
}

/// How often this node and the router hear of each other.
pub(crate) fn heartbeat(welcome: &Welcome) -> Duration {
    match welcome.heartbeat_ms {
        0 => DEFAULT_HEARTBEAT,
        ms => Duration::from_millis(ms.into()),
    }
}

/// How long an office may be held after a sign of life that the router has had. The router gives a node
/// up after 2.98 heartbeats.
pub(crate) fn lease(heard: std::time::Instant, heartbeat: Duration) -> std::time::Instant {
    heard + heartbeat * 5 / 2
}

/// How long nobody must have sent anything before a node leaves a router that is going.
const QUIET: Duration = Duration::from_millis(500);

/// How long a farewell may take: one second.
const FAREWELL: Duration = Duration::from_secs(1);

/// How long calls under way may keep a node that was asked to leave: five seconds.
const LEAVING: Duration = Duration::from_secs(5);

/// How often a node that is leaving looks whether its calls are done.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// How long the reader may go on when nothing can be written any more.
const LAST_WORDS: Duration = Duration::from_millis(200);
