//! Many connections that do little: they join, stay, and leave. One thread has as many joining at a time as
//! it is told; whoever has joined is kept as a bare socket, so that a million of them fit.

use std::collections::HashMap;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::Result;
use hdrhistogram::Histogram;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::bench::calls;
use crate::bench::connection::{Connection, Scratch};
use crate::bench::dialect::Who;
use crate::bench::poller::{Poller, Ready};
use crate::bench::server::Server;
use crate::failure::Failure;

/// Connections by number.
pub struct Crowd<'a> {
    server: &'a Server,
    members: Vec<Option<Member>>,
    joining: HashMap<usize, Joining>,
    took: Histogram<u64>,
    poller: Poller,
    scratch: Scratch,
    patience: Duration,
    /// In what time everybody is pinged.
    heartbeat: Duration,
    /// Who is pinged next, and when all have last been.
    next: usize,
    swept: Instant,
}

/// Who has joined.
struct Member {
    stream: TcpStream,
    /// How many pings have not been answered yet, as far as that has been read.
    unanswered: usize,
}

/// Who waits for an answer, and is nowhere else meanwhile.
struct Joining {
    connection: Connection,
    since: Instant,
    /// How many answers have to come.
    due: usize,
}

impl<'a> Crowd<'a> {
    pub fn new(
        server: &'a Server,
        size: usize,
        heartbeat: Duration,
        patience: Duration,
    ) -> Result<Self> {
        Ok(Self {
            server,
            members: (0..size).map(|_| None).collect(),
            joining: HashMap::new(),
            took: calls::times()?,
            poller: Poller::new()?,
            // What comes here is short, but for what a router may tell of itself.
            scratch: Scratch::small(),
            patience,
            heartbeat,
            next: 0,
            swept: Instant::now(),
        })
    }

    /// Begins to connect and to register.
    pub fn join(&mut self, number: usize) -> Result<()> {
        let connection = self.server.begin(Who::Member(number), number)?;
        self.expect(number, connection, 1)
    }

    /// Waits for so many answers from now on.
    fn expect(&mut self, number: usize, connection: Connection, due: usize) -> Result<()> {
        self.poller.add(&connection, number)?;
        self.joining.insert(number, Joining { connection, since: Instant::now(), due });
        Ok(())
    }

    /// How many are on their way in.
    pub fn joining(&self) -> usize {
        self.joining.len()
    }

    /// Waits a little; answers how many have come in meanwhile.
    pub fn welcome(&mut self, timeout: Duration) -> Result<usize> {
        let mut joined = 0;
        let ready: Vec<Ready> = self.poller.wait(timeout)?.collect();
        for ready in ready {
            let Some(Joining { connection, due, .. }) = self.joining.get_mut(&ready.token) else {
                continue;
            };
            if ready.writable {
                connection.flush()?;
            }
            if ready.readable {
                connection.read(&mut self.scratch, |_, _| Err(not_for_members(ready.token)))?;
            }
            if connection.answers() >= *due
                && let Some(Joining { connection, since, .. }) = self.joining.remove(&ready.token)
            {
                self.poller.remove(&connection)?;
                let stream = connection.into_stream();
                self.members[ready.token] = Some(Member { stream, unanswered: 0 });
                self.took.saturating_record(since.elapsed().as_nanos() as u64);
                joined += 1;
            }
        }
        Ok(joined)
    }

    /// Has everybody join, so many at a time, and tells `each` how many have come in.
    pub fn gather(&mut self, at_a_time: usize, each: impl FnMut(usize)) -> Result<()> {
        self.everybody("have joined", at_a_time, Self::join, each)
    }

    /// Makes sure that everybody is still there: all ping, so many at a time, and all have to be answered.
    pub fn expect_alive(&mut self) -> Result<()> {
        self.everybody("are still answered", PINGING, Self::ask, |_| ())
    }

    /// Has everybody begin something that the server answers, so many at a time, until all are answered.
    fn everybody(
        &mut self,
        have_done: &str,
        at_a_time: usize,
        begin: impl Fn(&mut Self, usize) -> Result<()>,
        mut each: impl FnMut(usize),
    ) -> Result<()> {
        let (mut begun, mut answered) = (0, 0);
        let mut heard = Instant::now();
        while answered < self.members.len() {
            while begun < self.members.len() && self.joining.len() < at_a_time {
                begin(self, begun)?;
                begun += 1;
            }
            let came = self.welcome(LOOK_AGAIN)?;
            answered += came;
            each(came);
            self.keep_alive()?;
            if came > 0 {
                heard = Instant::now();
            } else if heard.elapsed() > self.patience {
                let (all, patience) = (self.members.len(), self.patience);
                let what = format!("{answered} of {all} {have_done}, then nobody for {patience:?}");
                return Err(Failure::Check(what).into());
            }
        }
        Ok(())
    }

    /// Has a member ping; until that and all before is answered it counts as on its way in.
    fn ask(&mut self, number: usize) -> Result<()> {
        let Some(member) = self.members[number].take() else {
            return Err(not_here(number).into());
        };
        let connection = self.ping(number, member.stream)?;
        self.expect(number, connection, member.unanswered + 1)
    }

    /// Reads what a member was answered before, and has it ping.
    fn ping(&mut self, number: usize, stream: TcpStream) -> Result<Connection> {
        let mut connection = self.server.resume(stream, Who::Member(number));
        connection.read(&mut self.scratch, |_, _| Err(not_for_members(number)))?;
        connection.ping()?;
        Ok(connection)
    }

    /// How long joining took, from connecting to the answer, in nanoseconds.
    pub fn took(&self) -> &Histogram<u64> {
        &self.took
    }

    /// Takes the times anew from now on.
    pub fn forget_times(&mut self) {
        self.took.reset();
    }

    /// Closes a connection, if it has joined.
    pub fn leave(&mut self, number: usize) -> bool {
        self.members[number].take().is_some()
    }

    /// Pings those whose turn it is: everybody once in a while, evenly spread. Who holds connections for long
    /// calls this often.
    pub fn keep_alive(&mut self) -> Result<()> {
        let part = self.swept.elapsed().as_secs_f64() / self.heartbeat.as_secs_f64();
        let due = ((self.members.len() as f64 * part) as usize).min(self.members.len());
        while self.next < due {
            let number = self.next;
            if let Some(Member { stream, unanswered }) = self.members[number].take() {
                let connection = self.ping(number, stream)?;
                let unanswered = (unanswered + 1).saturating_sub(connection.answers());
                let stream = connection.into_stream();
                self.members[number] = Some(Member { stream, unanswered });
            }
            self.next += 1;
        }
        if self.next == self.members.len() && part >= 1.0 {
            (self.next, self.swept) = (0, Instant::now());
        }
        Ok(())
    }
}

/// Makes room for so many open files.
///
/// # Errors
/// If the process may not have as many.
pub fn allow_open_files(connections: usize) -> Result<()> {
    let needed = connections as u64 + OTHER_FILES;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    if limit.maximum.is_none_or(|maximum| maximum >= needed) {
        // The router that is started inherits it.
        setrlimit(Resource::Nofile, Rlimit { current: Some(needed), maximum: limit.maximum })?;
        return Ok(());
    }
    let maximum = limit.maximum.unwrap_or_default();
    Err(Failure::Usage(format!(
        "{connections} connections take {needed} open files, here and in the router, and the limit is {maximum}: \
         raise it in this shell, as root: ulimit -n {needed}"
    ))
    .into())
}

fn not_for_members(number: usize) -> Failure {
    Failure::Check(format!("member {number} got a message, and none is for it"))
}

fn not_here(number: usize) -> Failure {
    Failure::Check(format!("member {number} has left, and all should be there"))
}

const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// How many wait for the answer to a ping at a time, at the end.
const PINGING: usize = 1024;
/// Files that either process has open besides, and other connections.
const OTHER_FILES: u64 = 256;
