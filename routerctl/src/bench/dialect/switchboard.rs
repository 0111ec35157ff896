//! Switchboard's own wire, as written in `protocol/WIRE.md`.
//!
//! Senders and receivers are instances of two classes that a cluster is unlikely to use, since the router
//! may be one that others use as well.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use bytes::Bytes;
use switchboard_protocol::control::{Hello, Ping, Service};
use switchboard_protocol::limits::{FIXED_HEADER, VERSION};
use switchboard_protocol::{
    Class, Control, FixedHeader, Flags, Header, Instance, Kind, Mode, Report, ServiceId,
};

use super::{Dialect, Encoded, Found, Message, SPANS, Span, To, Who};
use crate::failure::Failure;

/// The wire of a router.
pub struct Switchboard {
    /// A run takes its ids from one before that the router has not missed yet.
    incarnation: u64,
}

impl Switchboard {
    pub fn new() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { incarnation: since.as_micros() as u64 }
    }

    /// Under which id somebody registers.
    pub fn id(who: Who) -> ServiceId {
        let (class, number) = match who {
            Who::Sender(number) => (SENDERS, number),
            Who::Receiver(number) => (RECEIVERS, number),
            Who::Member(number) => (MEMBERS, number),
        };
        let instance = Instance::new(number as u32 + 1).unwrap_or(Instance::MAX);
        ServiceId::new(class, instance)
    }
}

impl Dialect for Switchboard {
    fn hello(&self, who: Who, out: &mut Vec<u8>) {
        let hello = Hello {
            version: VERSION,
            services: vec![Service::of(Self::id(who))],
            incarnation: self.incarnation,
            heartbeat_ms: match who {
                // The router gives as much as it is configured to.
                Who::Member(_) => u32::MAX,
                Who::Sender(_) | Who::Receiver(_) => HEARTBEAT_MS,
            },
            ..Hello::default()
        };
        Control::Hello(hello).to_frame().encode(out);
    }

    fn encode(&self, from: Who, to: To, length: usize, out: &mut Vec<u8>) -> Result<Encoded> {
        let direct = |receiver| Header::direct(Self::id(from), Self::id(Who::Receiver(receiver)));
        let header = match to {
            To::One(receiver) => direct(receiver),
            To::Ask(receiver) => Header { flags: Flags::CALL, ..direct(receiver) },
            To::All => Header::to_class(Self::id(from), Mode::Broadcast, RECEIVERS),
            // It costs nothing to ask for a report of what is not delivered, and tells why nothing comes.
            To::Key(key) => {
                let header = Header::to_class(Self::id(from), Mode::Hash, RECEIVERS);
                Header { key, flags: Flags::REPORT, ..header }
            }
            To::Master => {
                let header = Header::to_class(Self::id(from), Mode::Master, RECEIVERS);
                Header { flags: Flags::REPORT, ..header }
            }
        };
        // Behind the fixed part, and only there with a call.
        let call_id = (header.flags == Flags::CALL).then_some(out.len() + FIXED_HEADER);
        header.write(length, out);
        let payload = out.len();
        out.resize(payload + length, 0);
        Ok(Encoded { payload, call_id, end: out.len() })
    }

    fn answer(&self, from: Who, message: Message<'_>, out: &mut Vec<u8>) -> Result<(), Failure> {
        let nobody = || Failure::Check(format!("{from} got a message that is no call"));
        let fixed = FixedHeader::parse(message.whole, u32::MAX).ok().flatten();
        let call = fixed.and_then(|fixed| Header::read(&fixed, message.whole));
        let call = call.filter(|call| call.flags.contains(Flags::CALL)).ok_or_else(nobody)?;
        let caller = ServiceId::from_raw(call.source).map_err(|_| nobody())?;
        let direct = Header::direct(Self::id(from), caller);
        Header { flags: Flags::REPLY, call_id: call.call_id, ..direct }
            .write(message.payload.len(), out);
        out.extend_from_slice(message.payload);
        Ok(())
    }

    fn ping(&self, out: &mut Vec<u8>) {
        Control::Ping(Ping { nonce: 0 }).to_frame().encode(out);
    }

    fn scan(&self, bytes: &[u8], found: &mut Found) -> Result<usize> {
        let mut at = 0;
        while found.messages.len() < SPANS {
            let rest = &bytes[at..];
            let Some(head) = rest.first_chunk::<FIXED_HEADER>() else { break };
            let length = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
            if rest.len() < length {
                break;
            }
            // What comes by the million is looked at by hand.
            let header = match (head[4], head[5]) {
                (DIRECT | BROADCAST, 0) => FIXED_HEADER,
                (MASTER | RANDOM, REPORT) => FIXED_HEADER,
                (HASH, REPORT) => FIXED_HEADER + 8,
                _ => usize::MAX,
            };
            if length >= header {
                let (payload, end) = (at + header, at + length);
                found.messages.push(Span { start: at, payload, end });
            } else {
                other(at, rest, found)?;
            }
            at += length;
        }
        Ok(at)
    }
}

/// A frame that is no plain Direct one; `at` is where it begins.
fn other(at: usize, bytes: &[u8], found: &mut Found) -> Result<()> {
    let header = FixedHeader::parse(bytes, u32::MAX)
        .map_err(|error| Failure::Check(format!("the router sent what is no frame: {error}")))?
        .context("a header is whole")?;
    let end = header.length as usize;
    let body = &bytes[header.header_len()..end];
    match header.kind {
        Kind::Data(_) => {
            let (payload, end) = (at + header.header_len(), at + end);
            found.messages.push(Span { start: at, payload, end });
        }
        Kind::Control => control(&Control::decode(body)?, found)?,
        Kind::Report | Kind::Relay => {
            let report = Report::decode(&Bytes::copy_from_slice(body));
            let report = report.context("the router sent a report that can't be read")?;
            let what = format!("the router reports a message as {}", report.reason.name());
            return Err(Failure::Check(what).into());
        }
    }
    Ok(())
}

fn control(message: &Control, found: &mut Found) -> Result<()> {
    match message {
        Control::Welcome(_) | Control::Registered(_) | Control::Pong(_) => found.answers += 1,
        Control::Ping(ping) => {
            Control::Pong(*ping).to_frame().encode(&mut found.say);
        }
        Control::Refused(refused) => {
            let what = format!("the router refuses: {} (code {})", refused.text, refused.code);
            return Err(Failure::Check(what).into());
        }
        Control::GoAway(why) => {
            let what = format!("the router sends the generator away: {:?}", why.reason);
            return Err(Failure::Check(what).into());
        }
        Control::Replaced(_) => {
            let what = "another generator, or a node with its ids, has come to the same router";
            return Err(Failure::Check(what.to_owned()).into());
        }
        // Elections, and whatever a later version has to tell.
        _ => {}
    }
    Ok(())
}

const SENDERS: Class = Class::of(251);
const RECEIVERS: Class = Class::of(252);
const MEMBERS: Class = Class::of(253);
const DIRECT: u8 = Mode::Direct as u8;
const BROADCAST: u8 = Mode::Broadcast as u8;
const MASTER: u8 = Mode::Master as u8;
const RANDOM: u8 = Mode::Random as u8;
const HASH: u8 = Mode::Hash as u8;
const REPORT: u8 = Flags::REPORT.raw();
/// The longest that a router with default settings grants. Who sends nothing has to ping within three.
const HEARTBEAT_MS: u32 = 60_000;
