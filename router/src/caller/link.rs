//! The router's session with itself, from the node's side: a task that reads, and one that writes.

use std::os::unix::net::UnixStream as StdStream;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use switchboard_protocol::control::{Control, GoAway, Hello, Ping, Refused, Service, Welcome};
use switchboard_protocol::limits::VERSION;
use switchboard_protocol::{Class, Flags, Frame, Header, Kind, Mode, Report, ServiceId};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tracing::debug;

use super::pending::{Outcome, Pending, Waiting};
use super::{Answer, CLASS, CLASS_NAME};
use crate::listener::Dealer;
use crate::stream::Accepted;

/// A link that was welcomed.
#[derive(Debug)]
pub(super) struct Link {
    /// Who the router is to those that it calls.
    pub id: ServiceId,
    /// The longest frame that it takes.
    pub max_frame: u32,
    outbox: mpsc::Sender<Bytes>,
    pending: Arc<Pending>,
}

/// The reading end.
#[derive(Debug)]
struct Reader {
    half: OwnedReadHalf,
    buffer: BytesMut,
}

impl Link {
    /// Connects and says hello. The error says why not.
    pub(super) async fn open(dealer: &Dealer) -> Result<Self, String> {
        let stream = connect(dealer).map_err(|error| error.to_string())?;
        let (read, mut write) = stream.into_split();
        let hello = Hello {
            version: VERSION,
            services: vec![Service::any_of(Class::of(CLASS))],
            name: CLASS_NAME.to_owned(),
            ..Hello::default()
        };
        let hello = Control::Hello(hello).to_frame().to_bytes();
        write.write_all(&hello).await.map_err(|error| error.to_string())?;
        let mut reader = Reader { half: read, buffer: BytesMut::new() };
        let welcome = reader.welcome().await?;
        let id = *welcome.ids.first().ok_or("the router assigned no id")?;
        let (outbox, frames) = mpsc::channel(OUTBOX);
        let pending = Pending::new();
        tokio::spawn(read_on(reader, id, outbox.clone(), pending.clone()));
        let heartbeat = Duration::from_millis(welcome.heartbeat_ms.max(1).into());
        tokio::spawn(write_on(write, frames, heartbeat, pending.clone()));
        Ok(Self { id, max_frame: welcome.max_frame, outbox, pending })
    }

    /// A new call, unless the router leaves.
    pub(super) fn begin(&self) -> Option<Waiting> {
        self.pending.begin()
    }

    /// Sends a frame when its turn comes; an error says that the link is gone.
    pub(super) async fn send(&self, frame: Bytes) -> Result<(), mpsc::error::SendError<Bytes>> {
        self.outbox.send(frame).await
    }

    /// Whether it is gone.
    pub(super) fn is_lost(&self) -> bool {
        self.pending.is_lost()
    }
}

fn connect(dealer: &Dealer) -> std::io::Result<UnixStream> {
    let (here, there) = StdStream::pair()?;
    here.set_nonblocking(true)?;
    there.set_nonblocking(true)?;
    dealer.give(Accepted::Own(there));
    UnixStream::from_std(here)
}

impl Reader {
    /// The next frame; `None` when the connection has ended.
    async fn next(&mut self) -> Option<Frame> {
        loop {
            // The router sends what it has checked itself.
            match Frame::decode(&mut self.buffer, u32::MAX) {
                Ok(Some(frame)) => return Some(frame),
                Ok(None) => {}
                Err(error) => {
                    debug!(%error, "the router's link to itself is broken");
                    return None;
                }
            }
            match self.half.read_buf(&mut self.buffer).await {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    async fn welcome(&mut self) -> Result<Welcome, String> {
        while let Some(frame) = self.next().await {
            match Control::decode(&frame.payload) {
                Ok(Control::Welcome(welcome)) => return Ok(welcome),
                Ok(Control::Refused(Refused { text, .. })) => return Err(text),
                _ => {}
            }
        }
        Err("the router closed its link to itself".to_owned())
    }
}

/// Takes answers and reports until the connection ends.
async fn read_on(
    mut reader: Reader,
    id: ServiceId,
    outbox: mpsc::Sender<Bytes>,
    pending: Arc<Pending>,
) {
    while let Some(frame) = reader.next().await {
        let Frame { header, payload } = frame;
        match header.kind {
            Kind::Data(_) if header.flags.contains(Flags::REPLY) => {
                let error = header.flags.contains(Flags::ERROR);
                let answer = Answer { from: header.source, error, payload };
                pending.end(header.call_id, Outcome::Answered(answer));
            }
            Kind::Data(_) if header.flags.contains(Flags::CALL) => {
                // Whoever writes may be held up by a full mailbox; then this one is not answered.
                let _ = outbox.try_send(no_method(id, &header));
            }
            Kind::Report => {
                if let Some(report) = Report::decode(&payload) {
                    pending.end(report.header.call_id, Outcome::Bounced(report.reason));
                }
            }
            Kind::Control => match Control::decode(&payload) {
                Ok(Control::GoAway(GoAway { reason, .. })) => {
                    debug!(?reason, "the router's link to itself is to end");
                    pending.leave();
                }
                Ok(Control::Refused(refused)) => {
                    debug!(refused.text, "the router's link to itself is refused something");
                }
                _ => {}
            },
            _ => {}
        }
    }
    pending.lose();
}

/// Sends what there is to send, and signs of life, until the link is to end.
async fn write_on(
    mut half: OwnedWriteHalf,
    mut frames: mpsc::Receiver<Bytes>,
    heartbeat: Duration,
    pending: Arc<Pending>,
) {
    let mut beat = tokio::time::interval(heartbeat);
    loop {
        let frame = tokio::select! {
            frame = frames.recv() => frame,
            _ = beat.tick() => Some(Control::Ping(Ping::default()).to_frame().to_bytes()),
            () = pending.done.notified() => None,
        };
        let Some(frame) = frame else { return };
        if half.write_all(&frame).await.is_err() {
            return;
        }
    }
}

/// The answer to whoever calls the router.
fn no_method(id: ServiceId, call: &Header) -> Bytes {
    let header = Header {
        flags: Flags::REPLY | Flags::ERROR,
        call_id: call.call_id,
        ..Header::new(Kind::Data(Mode::Direct), id.raw(), call.source)
    };
    let mut payload = Vec::new();
    let answer = ["no_method", "this is a router's own id, which answers no calls"];
    let answer = rmpv::Value::Array(answer.into_iter().map(Into::into).collect());
    // Nothing fails that is written to memory.
    let _ = rmpv::encode::write_value(&mut payload, &answer);
    Frame::new(header, payload).to_bytes()
}

/// How many frames may wait to be written; further calls wait in line.
const OUTBOX: usize = 64;
