//! The harness of the end-to-end tests: real routers, and nodes that speak the wire to them.
//!
//! - [`binary`]: where the binaries are, built if need be;
//! - [`router`]: a running router: its addresses, its signals, its log, its end; [`metrics`] and [`http`]:
//!   what it counts, and how it is asked;
//! - [`lua_node`]: a script that runs as a node; [`lua_host`]: the same script in any Lua;
//! - [`node`]: a node in plain blocking code, which can also do what no proper node does
//!   (`stream` is its connection);
//! - [`browser`]: Chromium, in front of the page of a router;
//! - [`prometheus`]: a real one, that scrapes them; [`boards`]: what Grafana would ask it;
//! - [`process`]: signals, and the end of whatever was started;
//! - [`frames`]: ids, hellos and frames in few words;
//! - [`python`]: an environment for tools that exist nowhere else;
//! - [`simulation`]: a cluster in virtual time, which needs none of the others;
//! - [`stress`]: a router in this process, and nodes that are as hard on it as nodes can be;
//! - [`wait`]: conditions with a deadline, the only way to wait here; [`scratch`]: directories that go away.
#![forbid(unsafe_code)]

pub mod binary;
pub mod boards;
pub mod browser;
pub mod frames;
pub mod http;
pub mod lua_host;
pub mod lua_node;
pub mod metrics;
pub mod node;
pub mod process;
pub mod prometheus;
pub mod python;
pub mod router;
pub mod scratch;
pub mod simulation;
mod stream;
pub mod stress;
pub mod wait;

pub use lua_host::LuaHost;
pub use lua_node::LuaNode;
pub use node::{Incoming, RawNode};
pub use router::{RouterBuilder, RouterProcess};
pub use scratch::Scratch;
pub use wait::eventually;
