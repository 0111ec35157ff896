//! The relay's wire: who is there says so in five bytes; from then on it carries the router's own frames,
//! byte for byte, which it does not look at.

use anyhow::Result;

use super::{Dialect, Encoded, Found, Message, Switchboard, To, Who};
use crate::bench::traffic::Route;
use crate::failure::Failure;

/// The wire of the relay.
pub struct Relay {
    frames: Switchboard,
}

impl Relay {
    pub fn new() -> Self {
        Self { frames: Switchboard::new() }
    }
}

impl Dialect for Relay {
    /// It does not know where a frame ends, so all that one sender sends goes the same way.
    fn route(&self, route: Route) -> Route {
        match route {
            Route::Turns => Route::Partner,
            other => other,
        }
    }

    fn check_pairs(&self, senders: usize, receivers: usize, to_all: bool) -> Result<(), Failure> {
        if senders == if to_all { 1 } else { receivers } {
            return Ok(());
        }
        Err(Failure::Usage(format!(
            "the relay copies from one to one, so it takes as many receivers as senders, or one sender to all of them: \
             not {senders} and {receivers}"
        )))
    }

    fn hello(&self, who: Who, out: &mut Vec<u8>) {
        let (end, number) = match who {
            Who::Sender(number) => (hello::SENDER, number),
            Who::Receiver(number) => (hello::RECEIVER, number),
            Who::Member(number) => (hello::MEMBER, number),
        };
        out.push(end);
        out.extend_from_slice(&(number as u32).to_le_bytes());
    }

    fn encode(&self, from: Who, to: To, length: usize, out: &mut Vec<u8>) -> Result<Encoded> {
        if matches!(to, To::Key(_) | To::Master) {
            let what = "the relay knows no keys and no masters";
            return Err(Failure::Usage(what.to_owned()).into());
        }
        self.frames.encode(from, to, length, out)
    }

    fn answer(&self, from: Who, message: Message<'_>, out: &mut Vec<u8>) -> Result<(), Failure> {
        self.frames.answer(from, message, out)
    }

    /// The partners answer, behind what they have sent before; who has none is answered by the relay.
    fn ping(&self, out: &mut Vec<u8>) {
        self.frames.ping(out);
    }

    fn scan(&self, bytes: &[u8], found: &mut Found) -> Result<usize> {
        self.frames.scan(bytes, found)
    }
}

/// What the relay reads and says itself, once for each connection.
pub mod hello {
    use switchboard_protocol::Control;
    use switchboard_protocol::control::Ping;

    use crate::bench::relay::End;

    pub const LENGTH: usize = 5;
    pub const SENDER: u8 = b's';
    pub const RECEIVER: u8 = b'r';
    pub const MEMBER: u8 = b'm';

    /// Who it is that says so.
    pub fn read([end, number @ ..]: [u8; LENGTH]) -> Option<End> {
        let number = u32::from_le_bytes(number);
        match end {
            SENDER => Some(End::Sender(number)),
            RECEIVER => Some(End::Receiver(number)),
            MEMBER => Some(End::Member(number)),
            _ => None,
        }
    }

    /// The answer.
    pub fn welcome() -> Vec<u8> {
        Control::Pong(Ping { nonce: 0 }).to_frame().to_bytes().to_vec()
    }
}
