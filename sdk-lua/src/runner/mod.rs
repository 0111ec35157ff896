//! What `lua-node` does around a script.
//!
//! - `cli`: options, the log, exit codes; `amounts`: times and sizes as they are typed;
//! - `run`: a script from its start to its end; `state`: the Lua state that it runs in; `instructions`: how
//!   much of it may run at a time; `signals`: SIGTERM and SIGINT;
//! - `files`: what `import` and the reload need of the file system; `check`: parsing without running.
//!
//! What is about coroutines is written in Lua: `lua/runner.lua` and `lua/files.lua`.

mod amounts;
mod check;
pub mod cli;
mod files;
mod instructions;
mod run;
mod signals;
mod state;

pub use cli::main;
