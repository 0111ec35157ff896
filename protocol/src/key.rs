//! The key of a hash frame. An integer is its own key, so that `key % slots` is the database shard
//! that a team already computes; text and bytes are hashed with XXH64, seed 0.

use xxhash_rust::xxh64::xxh64;

/// The key of a text or a byte string: XXH64 with seed 0.
///
/// ```
/// assert_eq!(switchboard_protocol::key::of_bytes(b""), 0xef46_db37_51d8_e999);
/// ```
#[must_use]
pub fn of_bytes(bytes: &[u8]) -> u64 {
    xxh64(bytes, 0)
}

/// The key of a signed integer: its two's complement bits.
#[must_use]
pub const fn of_integer(key: i64) -> u64 {
    key as u64
}
