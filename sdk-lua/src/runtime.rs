//! The thread on which sockets are read and written, beside the Lua thread.

use std::io;
use std::thread::{Builder, JoinHandle};

use tokio::runtime::{self, Handle};
use tokio::sync::oneshot;

/// A tokio runtime with a thread of its own. Dropping it ends both.
#[derive(Debug)]
pub(crate) struct Runtime {
    handle: Handle,
    /// Dropped to end the thread.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Runtime {
    pub(crate) fn start() -> io::Result<Self> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = Builder::new().name("switchboard".to_owned()).spawn(move || {
            // An error says that the sender is gone, and that is what is waited for.
            let _ = runtime.block_on(stopped);
        })?;
        Ok(Self { handle, stop: Some(stop), thread: Some(thread) })
    }

    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        drop(self.stop.take());
        // Joined: where Lua unloads the library after this, no thread may be left in its code.
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
