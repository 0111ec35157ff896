//! One link from Welcome to its end: reads and takes frames apart, writes the outbox, keeps the
//! heartbeat. All of it is one task; nothing else touches the socket.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use switchboard_protocol::control::{self, GoAway, GoAwayReason, Ping, Unregister, Welcome};
use switchboard_protocol::limits::{DEFAULT_HEARTBEAT, DEFAULT_MAX_FRAME, MISSED_HEARTBEATS};
use switchboard_protocol::{
    Class, Control, Flags, Frame, Header, Kind, Reason, RefusalCode, Report, ServiceId,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::args;
use crate::error::{CallError, CloseReason, RegisterError};
use crate::event::Event;
use crate::handlers::HandlerError;
use crate::link::{Link, READ_BUFFER};
use crate::load;
use crate::runner::{self, Incoming};
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
    shared: &'a Shared,
    incoming: &'a mpsc::Sender<Incoming>,
    /// Whether anything came since the last heartbeat.
    heard: AtomicBool,
    /// What the router said about the end of the session.
    go_away: Mutex<Option<GoAway>>,
    max_frame: u32,
    heartbeat: Duration,
}

impl<'a> Session<'a> {
    pub(crate) fn new(
        shared: &'a Shared,
        incoming: &'a mpsc::Sender<Incoming>,
        welcome: &Welcome,
    ) -> Self {
        let max_frame = max_frame(welcome);
        let heartbeat = match welcome.heartbeat_ms {
            0 => DEFAULT_HEARTBEAT,
            ms => Duration::from_millis(ms.into()),
        };
        let (heard, go_away) = (AtomicBool::new(true), Mutex::new(None));
        Self { shared, incoming, heard, go_away, max_frame, heartbeat }
    }

    /// Works until the link ends, or the node is closed.
    pub(crate) async fn run(&self, link: Link) -> End {
        let Link { mut reader, mut writer, buffer, early } = link;
        let end = tokio::select! {
            end = self.read(&mut reader, buffer, early) => end,
            end = self.write(&mut writer) => end,
            end = self.keep_alive() => end,
            end = self.farewell() => end,
            () = load::report(self.shared) => self.lost("the load reporter ended"),
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
            self.shared.outbox.take(&mut batch).await;
            if let Err(error) = writer.write_all(&batch).await {
                return self.lost(&error.to_string());
            }
        }
    }

    /// Pings at every heartbeat, and gives the router up after three without a frame from it.
    async fn keep_alive(&self) -> End {
        let mut ticks = interval(self.heartbeat);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut silent = 0;
        let mut nonce = 0;
        loop {
            ticks.tick().await;
            if self.heard.swap(false, Ordering::Relaxed) {
                silent = 0;
            } else {
                silent += 1;
            }
            if silent >= MISSED_HEARTBEATS {
                return self.lost("the router fell silent");
            }
            nonce += 1;
            // A link that takes no ping any more is being closed.
            let _ = self.shared.outbox.push_control(&Control::Ping(Ping { nonce }));
            self.shared.announce_drops();
        }
    }

    /// When the program closes the node: gives the ids up, lets the outbox run empty.
    async fn farewell(&self) -> End {
        self.shared.lifecycle.close_requested().await;
        self.shared.lifecycle.condemn(CloseReason::Local);
        let ticket = self.shared.requests.open();
        let unregister = Unregister { request: ticket.number, ids: self.shared.ids() };
        let mut ticket = ticket;
        let goodbye = async {
            if self.shared.outbox.seal(&Control::Unregister(unregister)).is_ok() {
                self.shared.outbox.flushed().await;
                // Whatever the answer is, the node leaves.
                let _ = (&mut ticket.answer).await;
            }
        };
        let _ = timeout(FAREWELL, goodbye).await;
        End::Final(CloseReason::Local)
    }

    /// Takes in one frame.
    fn take_in(&self, frame: Frame) -> Option<End> {
        match frame.header.kind {
            Kind::Data(_) if frame.header.flags.contains(Flags::REPLY) => self.reply(frame),
            Kind::Data(_) => self.message(frame),
            Kind::Report => self.report(&frame),
            Kind::Control => return self.control(&frame),
            // For routers among themselves.
            Kind::Relay => {}
        }
        None
    }

    fn reply(&self, frame: Frame) {
        let outcome = if frame.header.flags.contains(Flags::ERROR) {
            let (code, text) = args::read_error(&frame.payload);
            Err(CallError::Remote { code, text })
        } else {
            Ok(frame.payload)
        };
        // Nobody waits for a reply that comes after the deadline: its caller has been told.
        self.shared.calls.answer(frame.header.call_id, outcome);
    }

    fn message(&self, frame: Frame) {
        let Ok(from) = ServiceId::from_raw(frame.header.source) else { return };
        let message = Incoming { from, header: frame.header, payload: frame.payload };
        match self.incoming.try_send(message) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(message)) => self.busy(&message),
            // Handlers end after the driver, or when the node was dropped.
            Err(mpsc::error::TrySendError::Closed(_)) => {}
        }
    }

    fn busy(&self, message: &Incoming) {
        if message.header.flags.contains(Flags::CALL) {
            let text = "too many messages wait for their handlers";
            let error = HandlerError::new(HandlerError::BUSY, text);
            runner::reply(self.shared, message, &Err(error));
        } else {
            self.shared.drop_message();
        }
    }

    fn report(&self, frame: &Frame) {
        let Some(report) = Report::decode(&frame.payload) else { return };
        let header = &report.header;
        if header.flags.contains(Flags::CALL) {
            let outcome = match report.reason {
                Reason::Delivered => return,
                Reason::TargetLost => CallError::OutcomeUnknown,
                reason => CallError::NoRoute(reason),
            };
            self.shared.calls.answer(header.call_id, Err(outcome));
        } else if let Some(event) = undelivered(report.reason, header) {
            self.shared.events.announce(event);
        }
    }

    fn control(&self, frame: &Frame) -> Option<End> {
        let shared = self.shared;
        match Control::decode(&frame.payload) {
            Ok(Control::Event(event)) => {
                if let Some(master) = event.master {
                    shared.master_is(event.class, master);
                }
                shared.watches.apply(event);
            }
            Ok(Control::Registered(registered)) => {
                shared.change_identity(|identity| {
                    identity.grant(registered.request, &registered.ids);
                });
                shared.requests.answer(registered.request, Ok(registered.ids));
            }
            Ok(Control::Unregistered(unregistered)) => {
                shared.requests.answer(unregistered.request, Ok(Vec::new()));
            }
            Ok(Control::Ping(ping)) => {
                // A link that takes no pong any more is being closed.
                let _ = shared.outbox.push_control(&Control::Pong(ping));
            }
            Ok(Control::Replaced(replaced)) => return self.replaced(replaced.ids),
            Ok(Control::GoAway(go_away)) => return self.go_away(go_away),
            Ok(Control::Refused(refused)) => self.refused(refused),
            // A pong has done its work by coming; the rest is not for nodes, or of a later version.
            Ok(_) | Err(_) => {}
        }
        None
    }

    fn replaced(&self, ids: Vec<ServiceId>) -> Option<End> {
        let left = self.shared.change_identity(|identity| {
            identity.remove(&ids);
            identity.primary()
        });
        self.shared.events.announce(Event::Replaced { ids });
        left.is_none().then_some(End::Final(CloseReason::Replaced))
    }

    fn go_away(&self, go_away: GoAway) -> Option<End> {
        let GoAway { reason, reconnect_after_ms } = go_away;
        let reconnect_after = reconnect_after_ms.map(|ms| Duration::from_millis(ms.into()));
        self.shared.events.announce(Event::GoAway { reason, reconnect_after });
        if reason == GoAwayReason::Replaced {
            return Some(End::Final(CloseReason::Replaced));
        }
        if reconnect_after.is_none() {
            return Some(End::Final(CloseReason::SentAway(format!("{reason:?}"))));
        }
        *self.go_away.lock().unwrap_or_else(PoisonError::into_inner) = Some(go_away);
        None
    }

    fn refused(&self, refused: control::Refused) {
        let code = RefusalCode::from_raw(refused.code);
        if let Some(request) = refused.request {
            self.shared.change_identity(|identity| identity.deny(request));
            let error = RegisterError::Refused { code, text: refused.text };
            self.shared.requests.answer(request, Err(error));
        } else {
            self.shared.events.announce(Event::Refused { code, text: refused.text });
        }
    }

    fn lost(&self, why: &str) -> End {
        let go_away = self.go_away.lock().unwrap_or_else(PoisonError::into_inner).take();
        let come_back = go_away.and_then(|go_away| go_away.reconnect_after_ms);
        let come_back = come_back.map(|ms| Duration::from_millis(ms.into()));
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

fn undelivered(reason: Reason, header: &Header) -> Option<Event> {
    let Kind::Data(mode) = header.kind else { return None };
    Some(Event::Undelivered {
        reason,
        mode,
        class: Class::of_target(header.target)?,
        id: ServiceId::from_raw(header.target).ok(),
        key: (mode == switchboard_protocol::Mode::Hash).then_some(header.key),
    })
}

/// How long a farewell may take: one second.
const FAREWELL: Duration = Duration::from_secs(1);
