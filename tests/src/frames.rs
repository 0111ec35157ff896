//! Ids, hellos and frames in few words.

use switchboard_protocol::control::{Hello, Service};
use switchboard_protocol::limits::VERSION;
use switchboard_protocol::{Class, Flags, Frame, Header, Mode, ServiceId};

/// The id that is written so.
///
/// # Panics
/// If it is not an id.
#[must_use]
#[track_caller]
pub fn id(text: &str) -> ServiceId {
    text.parse().unwrap_or_else(|error| panic!("{error}"))
}

/// What a class's number is in the target field.
#[must_use]
pub fn class(raw: u8) -> Class {
    Class::of(raw)
}

/// A service by its id; with instance 0, one that the router assigns.
///
/// # Panics
/// If it is not written `5.1`.
#[must_use]
#[track_caller]
pub fn service(text: &str) -> Service {
    match text.strip_suffix(".0") {
        Some(class) => Service::any_of(Class::of(class.parse().expect("a class in digits"))),
        None => Service::of(id(text)),
    }
}

/// A Hello for these ids. Its heartbeat is long, so that a test need not ping.
#[must_use]
#[track_caller]
pub fn hello(ids: &[&str]) -> Hello {
    Hello {
        version: VERSION,
        services: ids.iter().map(|text| service(text)).collect(),
        incarnation: 1,
        heartbeat_ms: 60_000,
        ..Hello::default()
    }
}

/// A frame to one instance.
#[must_use]
pub fn direct(source: ServiceId, target: ServiceId, payload: impl AsRef<[u8]>) -> Frame {
    Frame::new(Header::direct(source, target), payload.as_ref().to_vec())
}

/// A frame to a class.
#[must_use]
pub fn to_class(source: ServiceId, mode: Mode, target: u8, payload: impl AsRef<[u8]>) -> Frame {
    Frame::new(Header::to_class(source, mode, class(target)), payload.as_ref().to_vec())
}

/// A frame to the instance that a key leads to.
#[must_use]
pub fn hash(source: ServiceId, target: u8, key: u64, payload: impl AsRef<[u8]>) -> Frame {
    let mut frame = to_class(source, Mode::Hash, target, payload);
    frame.header.key = key;
    frame
}

/// What can be added to a frame.
pub trait With {
    /// With these flags too.
    #[must_use]
    fn with(self, flags: Flags) -> Self;
    /// As a call of this number.
    #[must_use]
    fn call(self, call_id: u64) -> Self;
}

impl With for Frame {
    fn with(mut self, flags: Flags) -> Self {
        self.header.flags |= flags;
        self
    }

    fn call(mut self, call_id: u64) -> Self {
        self.header.call_id = call_id;
        self.with(Flags::CALL)
    }
}

/// A payload that begins with a number and is filled up to a length.
#[must_use]
pub fn numbered(number: u64, length: usize) -> Vec<u8> {
    let mut payload = number.to_le_bytes().to_vec();
    payload.resize(length.max(8), number as u8);
    payload
}

/// The number that a payload begins with.
///
/// # Panics
/// If it is shorter than a number.
#[must_use]
#[track_caller]
pub fn number_of(payload: &[u8]) -> u64 {
    u64::from_le_bytes(*payload.first_chunk().expect("a payload that begins with a number"))
}
