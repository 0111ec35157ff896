//! What the SDK promises, against a router that does what each test tells it to.
#![allow(clippy::unwrap_used, reason = "a test that can't go on should stop")]

mod connect;
#[allow(dead_code, reason = "the other promises follow")]
mod support;
