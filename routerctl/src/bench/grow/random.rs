//! Messages for any receiver that the router likes: the router's wire, but for whom a message is for.

use anyhow::Result;
use switchboard_protocol::{Flags, Header, Mode};

use crate::bench::dialect::{Dialect, Encoded, Found, Message, Switchboard, To, Who};
use crate::failure::Failure;

/// Encodes each message for a random receiver, whoever it was meant for.
pub struct AtRandom<'a>(pub &'a dyn Dialect);

impl Dialect for AtRandom<'_> {
    fn encode(&self, from: Who, _: To, length: usize, out: &mut Vec<u8>) -> Result<Encoded> {
        let class = Switchboard::id(Who::Receiver(0)).class();
        let header = Header::to_class(Switchboard::id(from), Mode::Random, class);
        // It costs nothing to ask for a report of what is not delivered, and tells why nothing comes.
        Header { flags: Flags::REPORT, ..header }.write(length, out);
        let payload = out.len();
        out.resize(payload + length, 0);
        Ok(Encoded { payload, call_id: None, end: out.len() })
    }

    fn hello(&self, who: Who, out: &mut Vec<u8>) {
        self.0.hello(who, out);
    }

    fn answer(&self, from: Who, message: Message<'_>, out: &mut Vec<u8>) -> Result<(), Failure> {
        self.0.answer(from, message, out)
    }

    fn ping(&self, out: &mut Vec<u8>) {
        self.0.ping(out);
    }

    fn scan(&self, bytes: &[u8], found: &mut Found) -> Result<usize> {
        self.0.scan(bytes, found)
    }
}
