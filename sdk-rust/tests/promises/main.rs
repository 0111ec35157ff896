//! What the SDK promises, against a router that does what each test tells it to.
#![allow(clippy::unwrap_used, reason = "a test that can't go on should stop")]

mod calls;
mod connect;
mod deliveries;
mod embedded;
mod handling;
mod links;
#[cfg(feature = "prometheus")]
mod prometheus;
mod repeated;
mod serving;
mod several;
mod stats;
mod support;
mod watching;
