//! What travels between nodes and routers. Control messages are the real ones; data frames are the
//! fields of a header that matter here, and a number for a payload.

use switchboard_protocol::{Control, Mode, Reason, ServiceId};

/// An end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Node = 0,
    Router = 1,
}

/// One message.
#[derive(Debug)]
pub enum Message {
    /// The node wants a connection.
    Syn,
    /// The router has taken it.
    SynAck,
    /// The other end has closed the connection.
    Closed,
    Control(Box<Control>),
    Data(Parcel),
    Report(Reason, Parcel),
}

/// A data frame.
#[derive(Debug, Clone, Copy)]
pub struct Parcel {
    pub what: What,
    pub mode: Mode,
    pub source: ServiceId,
    /// Which life of the source sent it; only the checks look at it.
    pub life: u64,
    pub target: u32,
    pub key: u64,
    /// In units of 10 ms; 0 for as long as its class allows.
    pub ttl: u16,
    pub call_id: u64,
    /// The payload: for a one-way frame its number among those of its source.
    pub body: u64,
    /// Whether it was picked anew, after its first target was lost or missing.
    pub moved: bool,
}

/// What a data frame is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    Forward,
    Call,
    Reply,
    /// A reply with the error `busy`.
    Busy,
    /// A reply with the error `outside_window`.
    Outside,
}

impl End {
    pub fn other(self) -> Self {
        match self {
            Self::Node => Self::Router,
            Self::Router => Self::Node,
        }
    }
}
