//! A session's task: from the acceptance of its connection to its end.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use super::{Session, Step};
use crate::forward::local::Local;
use crate::shared::Shared;
use crate::stream::Accepted;

/// A connection from its acceptance to its end. The future is written out because there may be a million of them:
/// what is at work now and then is boxed while it is, and an idle one is its session and nothing else.
pub(crate) enum Serving {
    Accepted(Accepted, Arc<Shared>),
    Traffic(Session),
    /// Until the work is done, and with what goes on then, if anything does.
    Busy(Work),
    Over,
}

/// What is at work now and then, and the session that goes on when it is done, if it does.
pub(super) type Work = Pin<Box<dyn Future<Output = Option<Session>> + Send>>;

impl Serving {
    /// That of a connection which was just accepted.
    pub(crate) fn new(accepted: Accepted, shared: Arc<Shared>) -> Self {
        Self::Accepted(accepted, shared)
    }

    /// What comes next, once it does.
    fn poll_step(&mut self, cx: &mut Context<'_>) -> Poll<Self> {
        match self {
            Self::Traffic(session) => {
                let step = ready!(Local::with(|local| session.poll_traffic(cx, local)));
                let Self::Traffic(session) = std::mem::replace(self, Self::Over) else {
                    return Poll::Ready(Self::Over);
                };
                Poll::Ready(Self::Busy(match step {
                    Step::Control(body) => Box::pin(session.answer(body)),
                    Step::End(end) => Box::pin(session.finish(end)),
                }))
            }
            Self::Busy(work) => Poll::Ready(match ready!(work.as_mut().poll(cx)) {
                Some(session) => Self::Traffic(session),
                None => Self::Over,
            }),
            Self::Accepted(..) | Self::Over => {
                let Self::Accepted(accepted, shared) = std::mem::replace(self, Self::Over) else {
                    return Poll::Ready(Self::Over);
                };
                Poll::Ready(match Session::open(accepted, shared) {
                    Ok(session) => Self::Traffic(session),
                    Err(turned_away) => Self::Busy(turned_away),
                })
            }
        }
    }
}

impl Future for Serving {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        for _ in 0..STEPS_PER_TURN {
            *self = ready!(self.poll_step(cx));
            if matches!(*self, Self::Over) {
                return Poll::Ready(());
            }
        }
        // A read may hold thousands of control frames; the others' turn comes in between.
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// How many steps a session may take before the others' turn comes: two for each control frame.
const STEPS_PER_TURN: u32 = 64;
