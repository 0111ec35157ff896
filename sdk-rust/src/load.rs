//! How busy the node says it is. The last value wins, and the router hears at most ten a second.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use switchboard_protocol::{Control, ServiceId, control};
use tokio::sync::Notify;

use crate::session::End;
use crate::shared::Shared;

/// The latest load, if there ever was one.
#[derive(Debug, Default)]
pub(crate) struct Load {
    value: Mutex<Option<u32>>,
    changed: Notify,
}

impl Load {
    pub(crate) fn set(&self, load: u32) {
        let before = self.value.lock().unwrap_or_else(PoisonError::into_inner).replace(load);
        if before != Some(load) {
            self.changed.notify_one();
        }
    }

    fn value(&self) -> Option<u32> {
        *self.value.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reports the load as long as a link lasts, and at its beginning.
pub(crate) async fn report(shared: &Shared) -> End {
    loop {
        if let Some(load) = shared.load.value() {
            for id in shared.ids() {
                send(shared, id, load);
            }
            tokio::time::sleep(REPORT_INTERVAL).await;
        }
        shared.load.changed.notified().await;
    }
}

fn send(shared: &Shared, id: ServiceId, load: u32) {
    // A link that is going down takes the report with it; the next one begins with a report.
    let _ = shared.outbox.push_control(&Control::Load(control::Load { id, load }));
}

const REPORT_INTERVAL: Duration = Duration::from_millis(100);
