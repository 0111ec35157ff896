//! What benches drive of the data plane and others can't see: a batch on its way to mailboxes, without the
//! session that reads it. Compiled with the feature `bench` only; nothing of it is an interface.

use std::future::poll_fn;
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::task::Waker;

use rand::SeedableRng;
use rand::rngs::SmallRng;
use switchboard_protocol::control::Service;
use switchboard_protocol::limits::DEFAULT_MAX_FRAME;
use switchboard_protocol::{Class, Instance, ServiceId};

use crate::forward::local::{Local, Published};
use crate::forward::{Source, forward};
use crate::mailbox::Mailbox;
use crate::mailbox::badge::Badge;
use crate::parking::lots::Lots;
use crate::policy::Policies;
use crate::registry::{Change, Effects, Program, Registry};
use crate::sessions::Sessions;
use crate::stream::{Accepted, ReadHalf};
use crate::tokens::Pass;

/// A sender, and the instances of a class with a socket each.
#[derive(Debug)]
pub struct Road {
    local: Local,
    source: Source,
    peers: Vec<(ReadHalf, UnixStream)>,
}

impl Road {
    /// A road from `from` to instances 1 to `targets` of a class. Call it within a runtime.
    ///
    /// # Panics
    /// If the system gives no sockets.
    pub async fn new(from: ServiceId, class: Class, targets: u32) -> Self {
        let policies = Arc::<Policies>::default();
        let sessions = Arc::<Sessions>::default();
        let mut registry = Registry::new(policies.clone(), 1, 1);
        let (mut peers, mut mailboxes) = (Vec::new(), Vec::new());
        let targets = (1..=targets).map(|number| {
            ServiceId::new(class, Instance::new(number).expect("a small number that is not 0"))
        });
        for id in std::iter::once(from).chain(targets) {
            let (here, there) = UnixStream::pair().expect("a pair of sockets");
            here.set_nonblocking(true).expect("a socket can be so");
            there.set_nonblocking(true).expect("a socket can be so");
            let halves = Accepted::Unix(here).into_halves();
            let (reader, writer, peer) = halves.expect("a runtime");
            poll_fn(|cx| reader.poll_write_ready(cx)).await.expect("a fresh socket takes bytes");
            let (slot, number) = sessions.open(usize::MAX).expect("no limit");
            let mailbox = Arc::new(Mailbox::new(slot, number, writer, Badge::new(peer, 0)));
            let (program, pass, services) =
                (Program::default(), Pass::default(), vec![Service::of(id)]);
            let handle = mailbox.clone();
            let change = Change::Register { handle, program, pass, services, held: 0 };
            registry.apply(change, 1, &mut Effects::default()).expect("a free id");
            mailboxes.push(mailbox);
            peers.push((reader, there));
        }
        let published = Arc::new(Published::from_pointee(registry.table().clone()));
        let rng = SmallRng::seed_from_u64(1);
        let lots = Arc::new(Lots::new(policies));
        let local = Local::new(published, lots, Arc::default(), rng);
        let (mailbox, ids) = (mailboxes.swap_remove(0), vec![from]);
        let source = Source { mailbox, ids, held: Vec::new(), spoofed: None };
        Self { local, source, peers }
    }

    /// Takes what one read brought from the header of the first frame to the sockets. Answers how many
    /// bytes it used.
    pub fn drive(&mut self, bytes: &[u8]) -> usize {
        let waker = Waker::noop();
        let (used, _) = forward(bytes, &mut self.source, DEFAULT_MAX_FRAME, waker, &mut self.local);
        self.local.out.flush();
        used
    }

    /// Reads what has arrived, so that there is room for more. Answers how many bytes that was.
    pub fn clear(&mut self) -> usize {
        let mut scratch = vec![0; 64 << 10];
        let mut read = 0;
        for (_, peer) in &mut self.peers {
            while let Ok(n) = peer.read(&mut scratch) {
                read += n;
            }
        }
        read
    }
}
