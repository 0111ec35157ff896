//! Switchboard's wire protocol: bytes to frames and back.
//!
//! No socket, no clock, no runtime, no logging. The tour, from the bottom up:
//!
//! - [`id`]: who is addressed: [`Class`], [`Instance`], [`ServiceId`];
//! - [`kind`]: what a frame is, and the [`Mode`] by which a frame picks its targets;
//! - [`flags`]: what a frame asks for;
//! - [`header`]: the 16 fixed bytes, read in place by the router, and the optional ones behind them;
//! - [`frame`] and [`codec`]: whole frames, for nodes;
//! - [`control`]: what a node and a router say to each other;
//! - [`report`]: what became of a frame;
//! - [`refusal`], [`limits`], [`key`]: codes, numbers, and the hash of a key.
//!
//! `WIRE.md` beside this crate is the normative text; `vectors/` holds the bytes that prove it.
#![forbid(unsafe_code)]

pub mod codec;
pub mod control;
pub mod flags;
pub mod frame;
pub mod header;
pub mod id;
pub mod key;
pub mod kind;
pub mod limits;
pub mod refusal;
pub mod report;

pub use codec::FrameCodec;
pub use control::Control;
pub use flags::Flags;
pub use frame::Frame;
pub use header::{FixedHeader, Header, HeaderError, Trace};
pub use id::{Class, IdError, Instance, ServiceId};
pub use kind::{Kind, Mode};
pub use refusal::RefusalCode;
pub use report::{Reason, Report};
