//! A simulated router's side of a connection: a mailbox, and a few frames that are on their way.

use std::collections::VecDeque;
use std::time::Instant;

use switchboard_protocol::{Control, ServiceId};

use super::checks::Ending;
use super::message::{End, Message, Parcel};
use super::stage::Stage;

/// A connection as its router sees it.
#[derive(Debug)]
pub struct Session {
    pub ids: Vec<ServiceId>,
    pub heard: u64,
    pub mailbox: VecDeque<Outgoing>,
    /// Data frames that are on their way.
    pub on_the_way: usize,
}

/// What waits in a mailbox.
#[derive(Debug)]
pub enum Outgoing {
    Data(Waiting),
    Control(Box<Control>),
}

/// A data frame in a router.
#[derive(Debug, Clone, Copy)]
pub struct Waiting {
    pub frame: u64,
    pub from: u64,
    pub parcel: Parcel,
    /// Since when it waits for someone to come.
    pub parked: Option<Instant>,
}

impl Session {
    pub fn push(&mut self, stage: &mut Stage, conn: u64, outgoing: Outgoing) {
        self.mailbox.push_back(outgoing);
        let peak = &mut stage.checks.tally.peak_mailbox;
        *peak = (*peak).max(self.mailbox.len());
        self.write(stage, conn);
    }

    pub fn write(&mut self, stage: &mut Stage, conn: u64) {
        let full = |outgoing: &Outgoing| matches!(outgoing, Outgoing::Data(_));
        while let Some(next) = self.mailbox.front()
            && !(self.on_the_way >= ON_THE_WAY && full(next))
        {
            match self.mailbox.pop_front() {
                Some(Outgoing::Data(waiting)) => {
                    self.on_the_way += 1;
                    stage.checks.ended(stage.now, waiting.frame, Ending::Delivered);
                    stage.send(conn, End::Node, Message::Data(waiting.parcel));
                }
                Some(Outgoing::Control(control)) => {
                    stage.send(conn, End::Node, Message::Control(control));
                }
                None => {}
            }
        }
    }
}

/// How many frames a connection holds; the others wait in the mailbox.
const ON_THE_WAY: usize = 8;
