//! How busy the node says it is. The last value wins, and each router hears at most ten a second.

use std::time::Duration;

use switchboard_protocol::{Control, control};
use tokio::sync::watch;

use crate::links::Port;
use crate::session::End;
use crate::shared::Shared;

/// The latest load, if there ever was one.
#[derive(Debug)]
pub(crate) struct Load(watch::Sender<Option<u32>>);

impl Load {
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(None))
    }

    /// Reports the load once more, for ids that are new.
    pub(crate) fn repeat(&self) {
        self.0.send_if_modified(|known| known.is_some());
    }

    pub(crate) fn set(&self, load: u32) {
        self.0.send_if_modified(|known| known.replace(load) != Some(load));
    }
}

/// Reports the load to a router as long as the link lasts, and at its beginning.
pub(crate) async fn report(shared: &Shared, port: &Port) -> End {
    let mut latest = shared.load.0.subscribe();
    latest.mark_changed();
    loop {
        // The sender is part of the node.
        let _ = latest.changed().await;
        let Some(load) = *latest.borrow_and_update() else { continue };
        for id in port.ids() {
            // A link that is going down takes the report with it; the next begins with a report.
            let _ = port.outbox.push_control(&Control::Load(control::Load { id, load }));
        }
        tokio::time::sleep(REPORT_INTERVAL).await;
    }
}

const REPORT_INTERVAL: Duration = Duration::from_millis(100);
