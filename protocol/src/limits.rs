//! The numbers that both ends know before they have met. What a router tells in Welcome overrides
//! the defaults here.

use std::time::Duration;

/// The protocol version that this crate speaks.
pub const VERSION: u16 = 1;

/// The fixed part of every header, and so the shortest frame, in bytes.
pub const FIXED_HEADER: usize = 16;

/// The longest header: fixed part, key, call id, trace.
pub const LONGEST_HEADER: usize = FIXED_HEADER + 8 + 8 + 24;

/// The longest frame, header included, unless a router says otherwise: 16 MiB.
pub const DEFAULT_MAX_FRAME: u32 = 16 << 20;

/// The longest control frame that a node may send, header included: 64 KiB.
pub const MAX_CONTROL_FRAME: u32 = 64 << 10;

/// Either side gives the other up after this many heartbeats without a sign of life.
pub const MISSED_HEARTBEATS: u32 = 3;

/// The heartbeat of a node that does not ask for another. Three of them are less than the default
/// deadline of a call, so that an idempotent call outlasts the silence of the instance that has it.
pub const DEFAULT_HEARTBEAT: Duration = Duration::from_millis(1_500);

/// The unit of the header's ttl field.
pub const TTL_UNIT: Duration = Duration::from_millis(10);
