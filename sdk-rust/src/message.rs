//! A one-way message with options.

use std::time::Duration;

use switchboard_protocol::{Flags, Kind, Mode};

use crate::args::{self, Args};
use crate::call::ttl_units;
use crate::error::{ForwardError, TargetError};
use crate::node::Node;
use crate::shared::with_scratch;
use crate::target::Route;

/// A one-way message with options, from [`Node::message`]; [`Message::send`] sends it.
#[must_use = "a message is sent by `send`"]
#[derive(Debug)]
pub struct Message<'a, A> {
    node: &'a Node,
    route: Result<Route, ForwardError>,
    method: &'a str,
    args: A,
    flags: Flags,
    ttl: u16,
}

impl<'a, A: Args> Message<'a, A> {
    pub(crate) fn new(
        node: &'a Node,
        route: Result<Route, ForwardError>,
        method: &'a str,
        args: A,
    ) -> Self {
        Self { node, route, method, args, flags: Flags::NONE, ttl: 0 }
    }

    /// First to go under pressure; for movement, say, that the next message overwrites.
    pub fn droppable(mut self) -> Self {
        self.flags |= Flags::DROPPABLE;
        self
    }

    /// Have the router tell if it can't deliver, as
    /// [`Event::Undelivered`](crate::Event::Undelivered).
    pub fn report(mut self) -> Self {
        self.flags |= Flags::REPORT;
        self
    }

    /// How long the message may wait where its class parks messages, in steps of 10 ms up to 655 s;
    /// the class's default unless set.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl_units(ttl);
        self
    }

    /// A broadcast reaches its sender too. With other modes, `send` says that it makes no sense.
    pub fn echo(mut self) -> Self {
        self.flags |= Flags::ECHO;
        self
    }

    /// Sends it; returns at once, like [`Node::forward`].
    pub fn send(self) -> Result<(), ForwardError> {
        let mut header = self.route?.header();
        if self.flags.contains(Flags::ECHO) && header.kind != Kind::Data(Mode::Broadcast) {
            return Err(ForwardError::Target(TargetError::Echo));
        }
        header.flags = self.flags;
        header.ttl = self.ttl;
        let sent = with_scratch(|payload| {
            args::write_request(self.method, &self.args, payload).map_err(ForwardError::Encode)?;
            self.node.shared().push(header, payload)
        });
        self.node.shared().counted(header.target, self.method, sent)
    }
}
