//! The Lua thread's side of the border: everything that waits for Lua comes together here, and is handed to
//! it turn by turn. Other threads only fill the queues behind it and set its signal.
//!
//! Nothing is borrowed while Lua runs, since scripts call back.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::os::fd::RawFd;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use futures_util::stream::{FuturesUnordered, StreamExt};
use mlua::{FromLuaMulti, Function, IntoLuaMulti, Lua};
use switchboard::{Deliveries, Delivery, Node};
use tokio::sync::oneshot;
use tracing::error;

use crate::alarm::Alarm;
use crate::runtime::Runtime;
use crate::signal::Signal;
use crate::timers::Timers;
use crate::unheard::Unheard;
use crate::upkeep::Upkeep;
use crate::values::Marks;

/// What a Lua state has to do with the world.
pub(crate) struct Reactor {
    pub(crate) signal: Arc<Signal>,
    waker: Waker,
    /// What is waited for on behalf of scripts.
    jobs: RefCell<FuturesUnordered<Job>>,
    timers: RefCell<Timers>,
    /// By number. No number is used again: scripts may hold on to one.
    nodes: RefCell<BTreeMap<u64, Member>>,
    /// Messages whose handlers wait for something.
    begun: RefCell<HashMap<u64, (u64, Delivery)>>,
    /// What may be given up, by its id.
    cancellable: RefCell<HashMap<u64, oneshot::Sender<()>>>,
    alarm: Alarm,
    pub(crate) unheard: Unheard,
    last_id: Cell<u64>,
    script: OnceCell<Script>,
    /// What the program around the scripts does between messages.
    pub(crate) upkeep: Upkeep,
    /// What a script has used up since it was last entered, where that is limited; set to 0 here.
    pub(crate) spent: Rc<Cell<u64>>,
    // Last: it outlives what uses it.
    runtime: Runtime,
}

/// The functions of the prelude that are called from here, and its marks.
#[derive(Debug)]
pub(crate) struct Script {
    /// (node, token, method, from, ...) to what [`crate::bind::answering`] reads.
    pub(crate) deliver: Function,
    /// (id, ...): what was waited for under an id is there.
    pub(crate) complete: Function,
    /// (node, name, ...): something happened to a node.
    pub(crate) hook: Function,
    /// (text): one of these raised, and left its work half done.
    pub(crate) reset: Function,
    pub(crate) marks: Marks,
}

/// A node of this Lua state.
struct Member {
    node: Node,
    deliveries: Deliveries,
    /// How many of its messages have handlers that wait, and how many may.
    waiting: usize,
    most_waiting: usize,
}

/// Something to wait for, and what to do with it then.
type Job = Pin<Box<dyn Future<Output = Then>>>;

/// What follows, on the Lua thread.
type Then = Box<dyn FnOnce(&Lua, &Rc<Reactor>) -> mlua::Result<()>>;

impl Reactor {
    pub(crate) fn start() -> io::Result<Self> {
        let signal = Arc::new(Signal::default());
        Ok(Self {
            waker: signal.waker(),
            signal,
            jobs: RefCell::default(),
            timers: RefCell::default(),
            nodes: RefCell::default(),
            begun: RefCell::default(),
            cancellable: RefCell::default(),
            alarm: Alarm::default(),
            unheard: Unheard::default(),
            last_id: Cell::new(0),
            script: OnceCell::new(),
            upkeep: Upkeep::default(),
            spent: Rc::default(),
            runtime: Runtime::start()?,
        })
    }

    pub(crate) fn set_script(&self, script: Script) {
        // Set once, when the module is opened.
        let _ = self.script.set(script);
    }

    pub(crate) fn script(&self) -> mlua::Result<&Script> {
        self.script.get().ok_or_else(|| mlua::Error::runtime("the module is not open"))
    }

    /// An id that no other thing has: call, timer, token of a message.
    pub(crate) fn next_id(&self) -> u64 {
        self.last_id.set(self.last_id.get() + 1);
        self.last_id.get()
    }

    /// The last id that a thing was given.
    #[cfg(feature = "runner")]
    pub(crate) fn last_id(&self) -> u64 {
        self.last_id.get()
    }

    /// Takes a node in, of whose handlers so many may wait at a time; gives its number.
    pub(crate) fn join(&self, node: Node, deliveries: Deliveries, most_waiting: usize) -> u64 {
        self.signal.set();
        let number = self.next_id();
        let member = Member { node, deliveries, waiting: 0, most_waiting: most_waiting.max(1) };
        self.nodes.borrow_mut().insert(number, member);
        number
    }

    /// The node of a number; none if it is closed.
    pub(crate) fn node(&self, number: u64) -> Option<Node> {
        self.nodes.borrow().get(&number).map(|member| member.node.clone())
    }

    /// Lends a node without the cost of a clone. Lua may not run meanwhile.
    pub(crate) fn with_node<T>(&self, number: u64, work: impl FnOnce(&Node) -> T) -> Option<T> {
        self.nodes.borrow().get(&number).map(|member| work(&member.node))
    }

    /// Forgets a node, which closes it.
    pub(crate) fn part(&self, number: u64) {
        let member = self.nodes.borrow_mut().remove(&number);
        drop(member);
    }

    /// Begins something on behalf of a script: it goes as far as it can at once, so that things happen in
    /// the order in which they were begun. What comes of it is told in a later turn.
    pub(crate) fn begin<T: 'static>(
        &self,
        work: impl Future<Output = T> + 'static,
        then: impl FnOnce(T, &Lua, &Rc<Reactor>) -> mlua::Result<()> + 'static,
    ) {
        let mut job: Job = Box::pin(async move {
            let result = work.await;
            let then: Then = Box::new(move |lua, reactor| then(result, lua, reactor));
            then
        });
        let first = self.enter(|| job.as_mut().poll(&mut Context::from_waker(&self.waker)));
        let jobs = self.jobs.borrow();
        match first {
            // It is polled anew from its new place.
            Poll::Pending => jobs.push(job),
            Poll::Ready(then) => jobs.push(Box::pin(std::future::ready(then))),
        }
        self.signal.set();
    }

    /// Has what was waited for under an id handed to the script.
    pub(crate) fn complete<R: FromLuaMulti>(
        &self,
        id: u64,
        values: impl IntoLuaMulti,
        lua: &Lua,
    ) -> mlua::Result<R> {
        let mut values = values.into_lua_multi(lua)?;
        values.push_front(mlua::Value::Integer(id as i64));
        self.script()?.complete.call(values)
    }

    /// Keeps a message of a node whose handler waits.
    pub(crate) fn keep(&self, token: u64, number: u64, delivery: Delivery) {
        self.begun.borrow_mut().insert(token, (number, delivery));
        if let Some(member) = self.nodes.borrow_mut().get_mut(&number) {
            member.waiting += 1;
        }
    }

    /// A message whose handler has waited.
    pub(crate) fn take_begun(&self, token: u64) -> Option<Delivery> {
        let (number, delivery) = self.begun.borrow_mut().remove(&token)?;
        if let Some(member) = self.nodes.borrow_mut().get_mut(&number) {
            member.waiting -= 1;
            // There is room for another.
            self.signal.set();
        }
        Some(delivery)
    }

    /// What completes when something is given up.
    pub(crate) fn cancellable(&self, id: u64) -> oneshot::Receiver<()> {
        let (cancel, cancelled) = oneshot::channel();
        self.cancellable.borrow_mut().insert(id, cancel);
        cancelled
    }

    /// Gives something up.
    pub(crate) fn cancel(&self, id: u64) {
        self.cancellable.borrow_mut().remove(&id);
    }

    /// A descriptor that can be read from while there is something to do.
    pub(crate) fn descriptor(&self) -> io::Result<RawFd> {
        let descriptor = self.signal.descriptor()?;
        self.set_alarm();
        Ok(descriptor)
    }

    /// Has the signal set when the next timer is due, where somebody waits on the descriptor for it.
    fn set_alarm(&self) {
        if !self.signal.has_descriptor() {
            return;
        }
        let next = [self.timers.borrow().next(), self.upkeep.next()].into_iter().flatten().min();
        self.alarm.set(next, &self.signal, self.runtime.handle());
    }

    /// What raised on the script's side of the border: where there was no memory for it, it is told and left
    /// behind; an interrupt goes on to the main chunk.
    fn survive(&self, result: mlua::Result<()>) -> mlua::Result<()> {
        let Err(error) = result else { return Ok(()) };
        self.reset(&error);
        match error {
            mlua::Error::MemoryError(_) => {
                error!(%error, "something could not be handed to the script");
                Ok(())
            }
            error => Err(error),
        }
    }

    /// Leaves what the script's side was in the middle of.
    pub(crate) fn reset(&self, error: &mlua::Error) {
        let text = error.to_string();
        let done = self.script().and_then(|script| script.reset.call::<()>(text));
        if let Err(error) = done {
            error!(%error, "and that could not be told either");
        }
    }

    pub(crate) fn set_timer(&self, after: Duration, period: Option<Duration>) -> u64 {
        let id = self.next_id();
        let now = Instant::now();
        let at = now.checked_add(after).unwrap_or(now + DECADES);
        self.timers.borrow_mut().set(id, at, period);
        self.set_alarm();
        id
    }

    pub(crate) fn cancel_timer(&self, id: u64) -> bool {
        self.timers.borrow_mut().cancel(id)
    }

    #[cfg(feature = "runner")]
    pub(crate) fn is_timer_set(&self, id: u64) -> bool {
        self.timers.borrow().is_set(id)
    }

    /// Whether anything can still happen without the script doing something first.
    pub(crate) fn is_idle(&self) -> bool {
        self.nodes.borrow().is_empty()
            && self.jobs.borrow().is_empty()
            && self.timers.borrow().len() == 0
    }

    /// Runs something that needs the runtime around it, such as its timers.
    pub(crate) fn enter<T>(&self, work: impl FnOnce() -> T) -> T {
        let _inside = self.runtime.handle().enter();
        work()
    }

    /// Waits for something, with all of Lua.
    pub(crate) fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.handle().block_on(work)
    }

    /// Hands Lua what there is, waiting until then for something to come. Returns how much it was: 0 when
    /// the time is over.
    pub(crate) fn turn(
        self: &Rc<Self>,
        lua: &Lua,
        deadline: Option<Instant>,
    ) -> mlua::Result<usize> {
        loop {
            self.signal.take();
            let kept = self.upkeep.run()?;
            // ORDER: what happened before a message came is told before it, so the messages are taken first.
            let messages = self.take_messages();
            let told = self.fire(lua).and_then(|fired| Ok(fired + self.finish_jobs(lua)?));
            // What was taken is handed over in any case.
            let delivered = self.deliver(lua, messages);
            let done = told? + delivered?;
            self.spent.set(0);
            self.set_alarm();
            if kept + done > 0 {
                return Ok(kept + done);
            }
            let now = Instant::now();
            if deadline.is_some_and(|deadline| deadline <= now) {
                return Ok(0);
            }
            let timer = self.timers.borrow().next();
            let until = [deadline, timer, self.upkeep.next()].into_iter().flatten().min();
            self.signal.wait(until.map(|until| until.saturating_duration_since(now)));
        }
    }

    fn fire(self: &Rc<Self>, lua: &Lua) -> mlua::Result<usize> {
        let now = Instant::now();
        let mut fired = 0;
        // Bounded, so that timers which set timers leave room for others.
        while fired < BATCH {
            let Some(due) = self.timers.borrow_mut().pop(now) else { return Ok(fired) };
            fired += 1;
            self.spent.set(0);
            self.survive(self.complete(due.id, due.is_last, lua))?;
        }
        self.signal.set();
        Ok(fired)
    }

    fn finish_jobs(self: &Rc<Self>, lua: &Lua) -> mlua::Result<usize> {
        let mut context = Context::from_waker(&self.waker);
        for finished in 0..BATCH {
            let next = self.enter(|| self.jobs.borrow_mut().poll_next_unpin(&mut context));
            match next {
                Poll::Ready(Some(then)) => {
                    self.spent.set(0);
                    self.survive(then(lua, self))?;
                }
                Poll::Ready(None) | Poll::Pending => return Ok(finished),
            }
        }
        self.signal.set();
        Ok(BATCH)
    }

    /// The next messages of all nodes, as many as may be begun.
    fn take_messages(&self) -> Vec<(u64, Delivery)> {
        let mut context = Context::from_waker(&self.waker);
        let mut messages = Vec::new();
        for (number, member) in self.nodes.borrow_mut().iter_mut() {
            let room = member.most_waiting.saturating_sub(member.waiting).min(BATCH);
            for taken in 1..=room {
                let Poll::Ready(Some(delivery)) = member.deliveries.poll_next(&mut context) else {
                    break;
                };
                messages.push((*number, delivery));
                if taken == BATCH {
                    self.signal.set();
                }
            }
        }
        messages
    }

    fn deliver(self: &Rc<Self>, lua: &Lua, messages: Vec<(u64, Delivery)>) -> mlua::Result<usize> {
        let count = messages.len();
        for (number, delivery) in messages {
            self.spent.set(0);
            crate::bind::answering::hand_over(lua, self, number, delivery)?;
        }
        Ok(count)
    }
}

impl Drop for Reactor {
    fn drop(&mut self) {
        // What was sent leaves before the program does.
        let members = std::mem::take(self.nodes.get_mut());
        let nodes: Vec<Node> = members.into_values().map(|Member { node, .. }| node).collect();
        self.begun.get_mut().clear();
        for node in nodes {
            self.runtime.handle().block_on(node.close());
        }
    }
}

/// How many things of a kind are handed over in one turn.
const BATCH: usize = 256;

const DECADES: Duration = Duration::from_secs(1 << 30);
