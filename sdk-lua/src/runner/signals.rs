//! SIGTERM and SIGINT. The first one is for the script, on the Lua thread between messages; the second ends
//! the process at once.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::signal::unix::{SignalKind, signal};
use tracing::warn;

use crate::reactor::Reactor;

/// Watches for signals. The flag is set by the first.
pub(super) fn watch(reactor: &Reactor) -> io::Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    let (received, asked, signal_of_lua) =
        (flag.clone(), reactor.upkeep.asked(), reactor.signal.clone());
    reactor.enter(|| {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        tokio::spawn(async move {
            let mut next = async || {
                tokio::select! {
                    _ = terminate.recv() => TERMINATED,
                    _ = interrupt.recv() => INTERRUPTED,
                }
            };
            next().await;
            received.store(true, Ordering::Release);
            asked.store(true, Ordering::Release);
            signal_of_lua.set();
            let code = next().await;
            warn!("second signal: leaving at once");
            // The Lua thread is not waited for.
            std::process::exit(code)
        });
        Ok(flag)
    })
}

/// 128 and the number of the signal.
const TERMINATED: i32 = 143;
const INTERRUPTED: i32 = 130;
