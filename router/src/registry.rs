//! Who is registered: the only writer of the table.
//!
//! A pure state machine: it takes one [`Change`] at a time, alters its working copy of the table, and
//! answers with what has to be told to whom, before and after the copy is published. It knows no
//! socket, no clock and no task; the registrar runs it.
//!
//! - `election`: who becomes master of a class.

mod election;
#[cfg(test)]
mod model;

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use switchboard_protocol::control::{
    Claim, Control, Event, Hello, Joined, Left, LeftReason, Load, Master, Replaced, Service,
};
use switchboard_protocol::{Class, Instance, RefusalCode, ServiceId};

use self::election::Office;
use crate::policy::{MasterPolicy, Policies};
use crate::table::{ClassTable, Keep, Member, Table};
use crate::tokens::Pass;

/// What the registry needs to know of a session's mailbox.
pub trait Handle: Clone {
    /// The session that it belongs to. No two sessions of a router's life share a number.
    fn session(&self) -> u64;
}

/// Everything that can change the table, or who is told of it.
#[derive(Debug)]
pub enum Change<H> {
    /// A session offers services: all of them are registered, or none.
    Register {
        /// The session.
        handle: H,
        /// Whose it is.
        program: Program,
        /// What it may offer.
        pass: Pass,
        /// What it offers.
        services: Vec<Service>,
        /// How many ids it holds already.
        held: usize,
    },
    /// A session gives ids up, or ends. Ids that it does not hold any more are passed over.
    Unregister {
        /// The session.
        handle: H,
        /// What it gives up.
        ids: Vec<ServiceId>,
        /// Why.
        reason: LeftReason,
    },
    /// A session gives ids up, but is still reached by what is sent to them by number, until it
    /// unregisters them, ends, or another session registers them.
    Drain {
        /// The session.
        handle: H,
        /// What it gives up.
        ids: Vec<ServiceId>,
    },
    /// A session wants to hear of a class.
    Watch {
        /// The session.
        handle: H,
        /// The class.
        class: Class,
        /// Without the picture of the class as it is.
        changes_only: bool,
    },
    /// A session wants to hear no more.
    Unwatch {
        /// The session.
        handle: H,
        /// The class; none for all of them.
        class: Option<Class>,
    },
    /// An instance says how busy it is.
    Load {
        /// The session.
        handle: H,
        /// The instance, and how busy it is.
        load: Load,
    },
    /// Another router elected an instance, and this one another.
    Claim {
        /// The session.
        handle: H,
        /// The instance, and the epoch in which it was elected.
        claim: Claim,
    },
    /// An operator makes an instance the master of its class.
    Appoint(ServiceId),
    /// Whether an id has a slot while nobody holds it, where the policy counts slots by who has been seen.
    Slot {
        /// The id.
        id: ServiceId,
        /// Whether.
        keep: Keep,
    },
    /// The configuration was read again.
    Policies(Arc<Policies>),
}

/// What a change led to. The order within each list is the order in which to do it.
#[derive(Debug)]
pub struct Effects<H> {
    /// Before the table is published: whoever is named here hears it before the first frame that the
    /// change brings.
    pub before: Vec<Effect<H>>,
    /// After the table is published: whoever hears it may act on it at once.
    pub after: Vec<Effect<H>>,
    /// What happened to whole classes, for whoever keeps a record.
    pub news: Vec<News>,
}

/// What happened to a class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// An instance joined.
    Joined(ServiceId),
    /// One left, and why.
    Left(Left),
    /// It has another master, or none.
    Master(Class, Master),
}

/// One thing to do.
#[derive(Debug)]
pub enum Effect<H> {
    /// Send a message to each of these.
    Tell {
        /// Who hears it.
        to: Arc<Vec<H>>,
        /// What.
        message: Control,
    },
    /// Take an id from a session, which ends if it was the last. After the table is published, because
    /// until then frames still go to it.
    Remove {
        /// The session that held it.
        holder: H,
        /// The id.
        id: ServiceId,
    },
}

/// What happened to a class before its master is looked at.
#[derive(Debug)]
enum Turn<H> {
    /// Someone joined.
    Joined(Office),
    /// A session took the id of another one.
    Displaced {
        /// What it took out.
        old: Member<H>,
        /// Who has come.
        joiner: Office,
        /// Both are of one start of one program.
        same_program: bool,
    },
    /// A member was taken out.
    Left(Member<H>),
    /// A member was elected elsewhere later than the master here, or appointed.
    Claimed(Office),
    /// The policy may be another one.
    Reload,
}

/// Why a change is not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Refusal {
    /// The code for the peer's program.
    pub code: RefusalCode,
    /// The text for people.
    pub text: String,
}

/// Who holds an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Program {
    /// Grows with every start of the program.
    pub incarnation: u64,
    /// Which of its connections.
    pub link: u32,
    /// Which of the times that it made this connection.
    pub attempt: u64,
}

impl From<&Hello> for Program {
    fn from(hello: &Hello) -> Self {
        let Hello { incarnation, link, attempt, .. } = *hello;
        Self { incarnation, link, attempt }
    }
}

/// The state behind the table.
#[derive(Debug)]
pub struct Registry<H> {
    table: Table<H>,
    policies: Arc<Policies>,
    programs: HashMap<u32, Program, ahash::RandomState>,
    watchers: BTreeMap<Class, Arc<Vec<H>>>,
    next_assigned: BTreeMap<Class, u32>,
    /// What the masters claimed that have a claim.
    claims: BTreeMap<Class, u64>,
    epoch: u64,
    max_services: usize,
    rng: SmallRng,
}

impl<H: Handle> Registry<H> {
    /// An empty registry. `seed` decides where it begins to assign instances: two routers rarely assign
    /// the same.
    pub fn new(policies: Arc<Policies>, max_services: usize, seed: u64) -> Self {
        Self {
            table: Table::default(),
            policies,
            programs: HashMap::default(),
            watchers: BTreeMap::new(),
            next_assigned: BTreeMap::new(),
            claims: BTreeMap::new(),
            epoch: 0,
            max_services,
            rng: SmallRng::seed_from_u64(seed),
        }
    }

    /// The table as it stands now.
    pub fn table(&self) -> &Table<H> {
        &self.table
    }

    /// The policies in force.
    pub fn policies(&self) -> &Arc<Policies> {
        &self.policies
    }

    /// The master of a class that has, or had, one.
    pub fn master(&self, class: Class) -> Option<Master> {
        let (master, epoch) = self.table.class(class)?.master();
        let id = master.and_then(|member| id_of(class, member.instance));
        Some(Master { id, epoch })
    }

    /// Makes one change. Register answers with its ids, in the order of its services. Epochs follow
    /// `now_us`, the microseconds since 1970, but grow with each election even where it does not.
    pub fn apply(
        &mut self,
        change: Change<H>,
        now_us: u64,
        effects: &mut Effects<H>,
    ) -> Result<Vec<ServiceId>, Refusal> {
        match change {
            Change::Register { handle, program, pass, services, held } => {
                return self.register(&handle, program, &pass, services, held, now_us, effects);
            }
            Change::Unregister { handle, ids, reason } => {
                self.unregister(&handle, &ids, reason, now_us, effects);
            }
            Change::Drain { handle, ids } => self.drain(&handle, &ids, now_us, effects),
            Change::Watch { handle, class, changes_only } => {
                if !changes_only {
                    self.picture(&handle, class, effects);
                }
                self.watch(handle, class);
            }
            Change::Unwatch { handle, class } => self.unwatch(&handle, class),
            Change::Load { handle, load } => self.load(&handle, load)?,
            Change::Claim { handle, claim } => self.claim(&handle, claim, now_us, effects)?,
            Change::Appoint(id) => self.appoint(id, now_us, effects)?,
            Change::Slot { id, keep } => {
                self.class_mut(id.class()).set_slot(id.instance().raw(), keep);
            }
            Change::Policies(policies) => self.take_policies(policies, now_us, effects),
        }
        Ok(Vec::new())
    }

    #[expect(clippy::too_many_arguments, reason = "they are the fields of the change")]
    fn register(
        &mut self,
        handle: &H,
        program: Program,
        pass: &Pass,
        services: Vec<Service>,
        held: usize,
        now_us: u64,
        effects: &mut Effects<H>,
    ) -> Result<Vec<ServiceId>, Refusal> {
        if services.len() > self.max_services {
            return Err(self.too_many_services());
        }
        // Everything is checked before anything is changed, so that a refusal leaves no trace.
        let mut ids: Vec<ServiceId> = Vec::with_capacity(services.len());
        for service in &services {
            check_metadata(service)?;
            let id = self.resolve(service, pass, &ids)?;
            self.admit(handle, id, program, service.assigned)?;
            if ids.contains(&id) {
                return Err(self.already_registered(id));
            }
            ids.push(id);
        }
        // What it drains and takes up again, it holds already.
        let again = ids.iter().filter(|id| self.drains(handle, **id)).count();
        if held + ids.len() - again.min(held) > self.max_services {
            return Err(self.too_many_services());
        }
        for (id, service) in ids.iter().zip(services) {
            self.join(handle, *id, program, service, now_us, effects);
        }
        Ok(ids)
    }

    fn drains(&self, handle: &H, id: ServiceId) -> bool {
        let draining = self.table.class(id.class());
        let draining = draining.and_then(|class| class.draining(id.instance().raw()));
        draining.is_some_and(|member| member.handle.session() == handle.session())
    }

    /// The id that a service asks for, by number or by the class's name; a free one if it leaves the
    /// instance open.
    fn resolve(
        &mut self,
        service: &Service,
        pass: &Pass,
        taken: &[ServiceId],
    ) -> Result<ServiceId, Refusal> {
        let invalid = |error: &dyn std::fmt::Display| {
            Refusal::new(RefusalCode::InvalidId, format!("service {:#010x}: {error}", service.id))
        };
        if service.id != 0 && !service.class.is_empty() {
            let text =
                format!("service {:#010x} has a class name too: give one of them", service.id);
            return Err(Refusal::new(RefusalCode::InvalidId, text));
        }
        let (class, instance) = if service.class.is_empty() {
            let class = Class::of_target(service.id)
                .ok_or_else(|| invalid(&"class 0 is out of range: a class is 1 to 255"))?;
            (class, service.id & Instance::MAX.raw())
        } else {
            let class = self.policies.class(&service.class);
            (class.ok_or_else(|| self.unknown_class(&service.class))?, service.instance)
        };
        // Here, where a name becomes a number: what is checked is what is registered.
        pass.check(class, &self.policies)?;
        match instance {
            0 => self.assign(class, taken),
            _ => Instance::new(instance)
                .map(|instance| ServiceId::new(class, instance))
                .map_err(|error| Refusal::new(RefusalCode::InvalidId, error.to_string())),
        }
    }

    /// The next free instance of the range that routers assign from. They are dealt in a circle, so
    /// that a frame to one that has left does not reach its successor.
    fn assign(&mut self, class: Class, taken: &[ServiceId]) -> Result<ServiceId, Refusal> {
        let first = Instance::FIRST_ASSIGNED.raw();
        let range = Instance::MAX.raw() - first + 1;
        let rng = &mut self.rng;
        let next = self.next_assigned.entry(class).or_insert_with(|| rng.random_range(0..range));
        for _ in 0..range {
            let instance = first + *next % range;
            *next = next.wrapping_add(1);
            let id = Instance::new(instance).map(|instance| ServiceId::new(class, instance));
            if let Ok(id) = id
                && self.table.find(id).is_none()
                && !taken.contains(&id)
            {
                return Ok(id);
            }
        }
        Err(Refusal::new(
            RefusalCode::LimitExceeded,
            format!("class {class} has no instance left to assign"),
        ))
    }

    /// Whether a session may take an id, from another one if need be: the newest incarnation wins.
    /// An id that its holder drains is free, but not for a node that came by it by chance: answers to the
    /// holder's calls are still on their way.
    fn admit(
        &self,
        handle: &H,
        id: ServiceId,
        program: Program,
        assigned: bool,
    ) -> Result<(), Refusal> {
        let Some(class) = self.table.class(id.class()) else { return Ok(()) };
        let Some(holder) = class.find(id.instance().raw()) else { return Ok(()) };
        let own = holder.handle.session() == handle.session();
        let draining = class.member(id.instance().raw()).is_none();
        if own && !draining {
            return Err(self.already_registered(id));
        }
        let Program { incarnation, link, attempt } = program;
        let holder = self.programs.get(&id.raw()).copied();
        let held = holder.map_or(0, |holder| holder.incarnation);
        // Without a number of its own nobody can be told from another.
        let same = holder.is_some_and(|holder| holder.incarnation == incarnation && held != 0);
        if !draining && same && holder.is_some_and(|holder| holder.link != link) {
            return Err(Refusal::new(
                RefusalCode::AlreadyRegistered,
                format!(
                    "{} is registered over another connection of this node; one to each router is enough",
                    self.policies.id_name(id)
                ),
            ));
        }
        // A hello that comes late, of a connection that the node has given up. Nobody hears the answer,
        // and nobody would read what is sent there.
        if same && let Some(later) = holder.map(|holder| holder.attempt).filter(|n| *n > attempt) {
            return Err(Refusal::new(
                RefusalCode::OutdatedIncarnation,
                format!(
                    "{} is held by a later connection of this node: attempt {later}, and this is {attempt}",
                    self.policies.id_name(id)
                ),
            ));
        }
        if assigned && !own && incarnation != held {
            return Err(Refusal::new(
                RefusalCode::IdTaken,
                format!(
                    "{} is held by another node here; ask for instance 0 and use what is assigned",
                    self.policies.id_name(id)
                ),
            ));
        }
        if !draining && incarnation < held {
            return Err(Refusal::new(
                RefusalCode::OutdatedIncarnation,
                format!(
                    "{} is held by incarnation {held}, which is newer than {incarnation}",
                    self.policies.id_name(id)
                ),
            ));
        }
        Ok(())
    }

    fn join(
        &mut self,
        handle: &H,
        id: ServiceId,
        program: Program,
        service: Service,
        now_us: u64,
        effects: &mut Effects<H>,
    ) {
        let instance = id.instance().raw();
        let member = Member::new(instance, service.weight, handle.clone())
            .with_metadata(service.metadata.clone());
        let displaced = self.class_mut(id.class()).insert(member);
        let before = self.programs.insert(id.raw(), program);
        let mut event = Event::of(id.class());
        event.joined.push(Joined { id, metadata: service.metadata });
        let same_program = before.is_some_and(|before| before.incarnation == program.incarnation);
        let joiner = Office { instance, claim: service.master_since };
        let turn = match displaced {
            Some(displaced) => {
                event.left.push(Left { id, reason: LeftReason::Replaced });
                let holder = displaced.handle.clone();
                let told = Effect::Tell {
                    to: Arc::new(vec![holder.clone()]),
                    message: Control::Replaced(Replaced { ids: vec![id] }),
                };
                effects.before.push(told);
                effects.after.push(Effect::Remove { holder, id });
                Turn::Displaced { old: displaced, joiner, same_program }
            }
            None => Turn::Joined(joiner),
        };
        self.elect(id.class(), turn, now_us, &mut event, effects);
        self.announce(event, effects);
    }

    fn unregister(
        &mut self,
        handle: &H,
        ids: &[ServiceId],
        reason: LeftReason,
        now_us: u64,
        effects: &mut Effects<H>,
    ) {
        for &id in ids {
            if self.drains(handle, id) {
                // Whoever watches was told when it began.
                self.class_mut(id.class()).forget(id.instance().raw());
                self.programs.remove(&id.raw());
            } else if self.holds(handle, id) {
                let removed = self.class_mut(id.class()).remove(id.instance().raw());
                self.programs.remove(&id.raw());
                self.left(id, removed, reason, now_us, effects);
            }
        }
    }

    /// The incarnation stays, for as long as the id is reached.
    fn drain(&mut self, handle: &H, ids: &[ServiceId], now_us: u64, effects: &mut Effects<H>) {
        for &id in ids {
            if self.holds(handle, id) {
                let removed = self.class_mut(id.class()).drain(id.instance().raw());
                self.left(id, removed, LeftReason::Unregistered, now_us, effects);
            }
        }
    }

    /// INVARIANT: a removal names its session, so a late goodbye never evicts the newcomer.
    fn holds(&self, handle: &H, id: ServiceId) -> bool {
        let member = self.table.class(id.class());
        let member = member.and_then(|class| class.member(id.instance().raw()));
        member.is_some_and(|member| member.handle.session() == handle.session())
    }

    /// After a member was taken out.
    fn left(
        &mut self,
        id: ServiceId,
        removed: Option<Member<H>>,
        reason: LeftReason,
        now_us: u64,
        effects: &mut Effects<H>,
    ) {
        let Some(removed) = removed else { return };
        let mut event = Event::of(id.class());
        event.left.push(Left { id, reason });
        self.elect(id.class(), Turn::Left(removed), now_us, &mut event, effects);
        self.announce(event, effects);
    }

    /// Names the master that a class has now, after the turn that things took, and tells those whom it
    /// concerns if it is another.
    fn elect(
        &mut self,
        class: Class,
        turn: Turn<H>,
        now_us: u64,
        event: &mut Event,
        effects: &mut Effects<H>,
    ) {
        let claim = self.claims.get(&class).copied().unwrap_or(0);
        let table = self.class_mut(class);
        let seat = |member: &Member<H>| (member.instance, member.handle.clone());
        let seated = table.master().0.map(seat);
        let office = |(instance, _): &(u32, H)| Office { instance: *instance, claim };
        // Who was master before, whether it is there still, and who has come.
        let (old, present, joiner, is_told) = match turn {
            Turn::Reload => (seated.clone(), seated.as_ref().map(office), None, true),
            Turn::Joined(joiner) => {
                (seated.clone(), seated.as_ref().map(office), Some(joiner), true)
            }
            // The master here steps aside, if the policy lets it.
            Turn::Claimed(claimant) => (seated, None, Some(claimant), true),
            // A master that left is not in the table any more, but it was one.
            Turn::Left(gone) => match seated {
                Some(seated) => (Some(seated.clone()), Some(office(&seated)), None, true),
                None => (Some(seat(&gone)), None, None, true),
            },
            // The office stays with a program that only changes its session.
            Turn::Displaced { old, joiner, same_program } => match seated {
                Some(seated) if seated.0 == old.instance => {
                    let present = same_program.then(|| office(&seated));
                    (Some(seat(&old)), present, Some(joiner), false)
                }
                seated => (seated.clone(), seated.as_ref().map(office), Some(joiner), true),
            },
        };
        let elected = election::elect(table, present, joiner);
        let new = elected.and_then(|office| table.member(office.instance)).map(seat);
        match elected.map(|office| office.claim) {
            None | Some(0) => self.claims.remove(&class),
            Some(claim) => self.claims.insert(class, claim),
        };
        let identity = |seat: &Option<(u32, H)>| {
            seat.as_ref().map(|(instance, handle)| (*instance, handle.session()))
        };
        if identity(&new) == identity(&old) {
            return;
        }
        let epoch = self.next_epoch(now_us);
        self.class_mut(class).set_master(elected.map(|office| office.instance), epoch);
        self.epoch = epoch;
        let id = elected.and_then(|office| id_of(class, office.instance));
        let master = Master { id, epoch };
        event.master = Some(master);
        // ORDER: the old master hears first that it is none, then the new one that it is, and both
        // before the table is published, so before any frame that follows from it. Who lost its id to
        // another session is told Replaced, which says it all.
        let told = Event { master: Some(master), ..Event::of(class) };
        for (_, handle) in old.filter(|_| is_told).into_iter().chain(new) {
            let message = Control::Event(told.clone());
            effects.before.push(Effect::Tell { to: Arc::new(vec![handle]), message });
        }
    }

    fn announce(&self, event: Event, effects: &mut Effects<H>) {
        let left = event.left.iter().copied().map(News::Left);
        let joined = event.joined.iter().map(|joined| News::Joined(joined.id));
        let master = event.master.map(|master| News::Master(event.class, master));
        effects.news.extend(left.chain(joined).chain(master));
        if let Some(watchers) = self.watchers.get(&event.class) {
            let message = Control::Event(event);
            effects.after.push(Effect::Tell { to: watchers.clone(), message });
        }
    }

    /// Tells a session of a class as it is.
    fn picture(&self, handle: &H, class: Class, effects: &mut Effects<H>) {
        let to = Arc::new(vec![handle.clone()]);
        let mut part = Event { snapshot: true, ..Event::of(class) };
        let mut bytes = 0;
        if let Some(table) = self.table.class(class) {
            for member in table.members() {
                let Some(id) = id_of(class, member.instance) else { continue };
                let metadata = member.metadata.as_deref().cloned().unwrap_or_default();
                bytes += JOINED_BYTES + metadata_bytes(&metadata);
                part.joined.push(Joined { id, metadata });
                if bytes >= SNAPSHOT_PART {
                    bytes = 0;
                    let full = Event { snapshot: true, ..Event::of(class) };
                    let message = Control::Event(std::mem::replace(&mut part, full));
                    effects.after.push(Effect::Tell { to: to.clone(), message });
                }
            }
            part.master = self.master(class);
        }
        part.complete = true;
        effects.after.push(Effect::Tell { to, message: Control::Event(part) });
    }

    fn watch(&mut self, handle: H, class: Class) {
        let watchers = Arc::make_mut(self.watchers.entry(class).or_default());
        if watchers.iter().all(|watcher| watcher.session() != handle.session()) {
            watchers.push(handle);
        }
    }

    fn unwatch(&mut self, handle: &H, class: Option<Class>) {
        let gone = |watchers: &mut Arc<Vec<H>>| {
            Arc::make_mut(watchers).retain(|watcher| watcher.session() != handle.session());
        };
        match class {
            Some(class) => self.watchers.get_mut(&class).into_iter().for_each(gone),
            None => self.watchers.values_mut().for_each(gone),
        }
        self.watchers.retain(|_, watchers| !watchers.is_empty());
    }

    fn load(&self, handle: &H, load: Load) -> Result<(), Refusal> {
        match self.table.find(load.id) {
            Some(member) if member.handle.session() == handle.session() => {
                member.set_load(load.load);
                Ok(())
            }
            _ => Err(self.not_registered(load.id)),
        }
    }

    /// Of two routers' masters the one that was elected last stays. Equal epochs are decided by the id, so
    /// that one of the two gives way.
    fn claim(
        &mut self,
        handle: &H,
        claim: Claim,
        now_us: u64,
        effects: &mut Effects<H>,
    ) -> Result<(), Refusal> {
        let Claim { id, epoch } = claim;
        if !self.holds(handle, id) {
            return if self.drains(handle, id) { Ok(()) } else { Err(self.not_registered(id)) };
        }
        let later = self.master(id.class()).and_then(|master| {
            let there = master.id?;
            Some((epoch, Reverse(id)) > (master.epoch, Reverse(there)) && id != there)
        });
        if later == Some(true) {
            let claimant = Office { instance: id.instance().raw(), claim: epoch };
            let mut event = Event::of(id.class());
            self.elect(id.class(), Turn::Claimed(claimant), now_us, &mut event, effects);
            if event.master.is_some() {
                self.announce(event, effects);
            }
        }
        Ok(())
    }

    /// The office goes to a member as if another router had elected it just now: in a new epoch, which is
    /// later than whatever anybody may claim.
    fn appoint(
        &mut self,
        id: ServiceId,
        now_us: u64,
        effects: &mut Effects<H>,
    ) -> Result<(), Refusal> {
        let name = self.policies.id_name(id);
        let class = self.table.class(id.class());
        if class.and_then(|class| class.member(id.instance().raw())).is_none() {
            let text = format!("{name} is not a live instance");
            return Err(Refusal::new(RefusalCode::NotRegistered, text));
        }
        if self.policies.of(id.class()).master == MasterPolicy::LowestId {
            let text = format!(
                "{name} can't be made master: the policy is `master: lowest-id`, by which the office is \
                 the lowest id's at any time; set it to sticky or lowest-load"
            );
            return Err(Refusal::new(RefusalCode::InvalidMessage, text));
        }
        if self.master(id.class()).is_some_and(|master| master.id == Some(id)) {
            return Ok(());
        }
        let appointed = Office { instance: id.instance().raw(), claim: self.next_epoch(now_us) };
        let mut event = Event::of(id.class());
        self.elect(id.class(), Turn::Claimed(appointed), now_us, &mut event, effects);
        self.announce(event, effects);
        Ok(())
    }

    /// The epoch of an election at this time.
    fn next_epoch(&self, now_us: u64) -> u64 {
        self.epoch.saturating_add(1).max(now_us)
    }

    /// A class that is for the lowest id now gets it as its master at once; under the other policies the
    /// present master stays.
    fn take_policies(&mut self, policies: Arc<Policies>, now_us: u64, effects: &mut Effects<H>) {
        let classes: Vec<Class> = self.table.classes().map(ClassTable::class).collect();
        self.policies = policies;
        for class in classes {
            let policy = self.policies.of(class).clone();
            self.class_mut(class).set_policy(Arc::new(policy));
            let mut event = Event::of(class);
            self.elect(class, Turn::Reload, now_us, &mut event, effects);
            if event.master.is_some() {
                self.announce(event, effects);
            }
        }
    }

    fn class_mut(&mut self, class: Class) -> &mut ClassTable<H> {
        let policies = &self.policies;
        self.table.class_mut(class, || ClassTable::new(class, Arc::new(policies.of(class).clone())))
    }

    fn too_many_services(&self) -> Refusal {
        Refusal::new(
            RefusalCode::LimitExceeded,
            format!("a session may register {} services at most", self.max_services),
        )
    }

    fn already_registered(&self, id: ServiceId) -> Refusal {
        Refusal::new(
            RefusalCode::AlreadyRegistered,
            format!("{} is registered by this session already", self.policies.id_name(id)),
        )
    }

    fn not_registered(&self, id: ServiceId) -> Refusal {
        Refusal::new(
            RefusalCode::NotRegistered,
            format!("{} is not registered by this session", self.policies.id_name(id)),
        )
    }

    fn unknown_class(&self, name: &str) -> Refusal {
        let known: Vec<&str> = self.policies.names.values().map(String::as_str).collect();
        let text = match known.as_slice() {
            [] => format!(
                "no class is named `{name}`: this router's configuration names none; use a number"
            ),
            known => format!("no class is named `{name}`; known are {}", known.join(", ")),
        };
        Refusal::new(RefusalCode::UnknownClass, text)
    }
}

impl Refusal {
    /// A refusal.
    pub fn new(code: RefusalCode, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }
}

impl<H> Default for Effects<H> {
    fn default() -> Self {
        Self { before: Vec::new(), after: Vec::new(), news: Vec::new() }
    }
}

fn id_of(class: Class, instance: u32) -> Option<ServiceId> {
    Instance::new(instance).ok().map(|instance| ServiceId::new(class, instance))
}

fn check_metadata(service: &Service) -> Result<(), Refusal> {
    let bytes = metadata_bytes(&service.metadata);
    if bytes > MAX_METADATA {
        let text = format!("metadata of {bytes} bytes is over the limit of {MAX_METADATA}");
        return Err(Refusal::new(RefusalCode::LimitExceeded, text));
    }
    Ok(())
}

fn metadata_bytes(metadata: &BTreeMap<String, String>) -> usize {
    metadata.iter().map(|(key, value)| key.len() + value.len()).sum()
}

/// The most metadata of one service: keys and values, in bytes.
const MAX_METADATA: usize = 4 << 10;
/// About how many bytes one message of a snapshot may take.
const SNAPSHOT_PART: usize = 32 << 10;
/// About what an instance without metadata takes in it.
const JOINED_BYTES: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::tokens::{Token, Tokens};

    /// A program with one connection that it made once.
    fn program(incarnation: u64) -> Program {
        Program { incarnation, ..Program::default() }
    }

    /// A clock that stands still: epochs grow by one.
    const NOW: u64 = 101;

    /// A session with this number.
    impl Handle for u64 {
        fn session(&self) -> u64 {
            *self
        }
    }

    fn registry() -> Registry<u64> {
        let mut policies = Policies::default();
        policies.names.insert(Class::of(5), "matchsvr".to_owned());
        Registry::new(Arc::new(policies), 8, 1)
    }

    fn id(text: &str) -> ServiceId {
        text.parse().unwrap()
    }

    fn register(
        registry: &mut Registry<u64>,
        handle: u64,
        incarnation: u64,
        ids: &[&str],
    ) -> (Result<Vec<ServiceId>, Refusal>, Effects<u64>) {
        let services = ids.iter().map(|text| Service::of(id(text))).collect();
        let mut effects = Effects::default();
        let change = Change::Register {
            handle,
            program: program(incarnation),
            pass: Pass::default(),
            services,
            held: 0,
        };
        (registry.apply(change, NOW, &mut effects), effects)
    }

    fn leave(registry: &mut Registry<u64>, handle: u64, text: &str) -> Effects<u64> {
        let mut effects = Effects::default();
        let reason = LeftReason::Disconnected;
        let change = Change::Unregister { handle, ids: vec![id(text)], reason };
        registry.apply(change, NOW, &mut effects).unwrap();
        effects
    }

    fn watch(registry: &mut Registry<u64>, handle: u64, class: u8) -> Vec<(u64, Event)> {
        let mut effects = Effects::default();
        let change = Change::Watch { handle, class: Class::of(class), changes_only: false };
        registry.apply(change, NOW, &mut effects).unwrap();
        events(&effects.after)
    }

    /// Who is told of which event, in order.
    fn events(effects: &[Effect<u64>]) -> Vec<(u64, Event)> {
        let mut told = Vec::new();
        for effect in effects {
            if let Effect::Tell { to, message: Control::Event(event) } = effect {
                told.extend(to.iter().map(|session| (*session, event.clone())));
            }
        }
        told
    }

    fn masters(effects: &[Effect<u64>]) -> Vec<(u64, Option<ServiceId>, u64)> {
        let told = events(effects).into_iter();
        told.filter_map(|(to, event)| event.master.map(|master| (to, master.id, master.epoch)))
            .collect()
    }

    fn holder(registry: &Registry<u64>, text: &str) -> Option<u64> {
        registry.table().find(id(text)).map(|member| member.handle)
    }

    #[test]
    fn the_newest_incarnation_wins_and_the_older_is_told() {
        let mut registry = registry();
        register(&mut registry, 1, 10, &["5.1"]).0.unwrap();
        let (result, effects) = register(&mut registry, 2, 11, &["5.1"]);
        assert_eq!(result, Ok(vec![id("5.1")]));
        assert_eq!(holder(&registry, "5.1"), Some(2));
        assert!(matches!(
            &effects.before[0],
            Effect::Tell { to, message: Control::Replaced(replaced) }
                if **to == [1] && replaced.ids == [id("5.1")]
        ));
        assert!(matches!(
            &effects.after[0],
            Effect::Remove { holder: 1, id } if id.to_string() == "5.1"
        ));
        // The same program over a new connection counts as newer.
        register(&mut registry, 3, 11, &["5.1"]).0.unwrap();
        assert_eq!(holder(&registry, "5.1"), Some(3));
        let refusal = register(&mut registry, 4, 9, &["5.1"]).0.unwrap_err();
        assert_eq!(refusal.code, RefusalCode::OutdatedIncarnation);
        assert_eq!(refusal.text, "matchsvr.1 is held by incarnation 11, which is newer than 9");
        assert_eq!(holder(&registry, "5.1"), Some(3));
    }

    #[test]
    fn an_earlier_attempt_of_a_connection_comes_too_late() {
        let mut registry = registry();
        let mut attempt = |handle, link, attempt, text: &str| {
            let services = vec![Service::of(id(text))];
            let change = Change::Register {
                handle,
                program: Program { incarnation: 10, link, attempt },
                pass: Pass::default(),
                services,
                held: 0,
            };
            let mut effects = Effects::default();
            let result = registry.apply(change, NOW, &mut effects).map_err(|refusal| refusal.code);
            (result.map(drop), effects.before.len() + effects.after.len())
        };
        assert!(attempt(1, 1, 7, "5.1").0.is_ok());
        let refused = (Err(RefusalCode::OutdatedIncarnation), 0);
        assert_eq!(attempt(2, 1, 6, "5.1"), refused);
        // Another link is refused as such, and has attempts of its own.
        assert_eq!(attempt(3, 0, 6, "5.1"), (Err(RefusalCode::AlreadyRegistered), 0));
        assert!(attempt(3, 0, 6, "5.2").0.is_ok());
        // The newest wins where attempts are not counted, or equal.
        assert!(attempt(4, 1, 7, "5.1").0.is_ok());
        assert!(attempt(5, 1, 8, "5.1").0.is_ok());
        assert_eq!(attempt(4, 1, 7, "5.1"), refused);

        // While it drains, answers are still on their way to the later one.
        let (handle, ids) = (5, vec![id("5.1")]);
        registry.apply(Change::Drain { handle, ids }, NOW, &mut Effects::default()).unwrap();
        let mut register = |handle, incarnation, attempt| {
            let services = vec![Service::of(id("5.1"))];
            let change = Change::Register {
                handle,
                program: Program { incarnation, link: 1, attempt },
                pass: Pass::default(),
                services,
                held: 0,
            };
            registry.apply(change, NOW, &mut Effects::default())
        };
        let refusal = register(6, 10, 7).unwrap_err();
        assert_eq!(refusal.code, RefusalCode::OutdatedIncarnation);
        assert_eq!(
            refusal.text,
            "matchsvr.1 is held by a later connection of this node: attempt 8, and this is 7"
        );
        // Of a program that was started later, the first attempt is newer than any of the one before.
        register(7, 11, 1).unwrap();
        assert_eq!(holder(&registry, "5.1"), Some(7));
    }

    #[test]
    fn a_late_goodbye_does_not_evict_the_newcomer() {
        let mut registry = registry();
        register(&mut registry, 1, 10, &["5.1"]).0.unwrap();
        register(&mut registry, 2, 11, &["5.1"]).0.unwrap();
        let effects = leave(&mut registry, 1, "5.1");
        assert_eq!(holder(&registry, "5.1"), Some(2));
        assert!(effects.before.is_empty() && effects.after.is_empty());
    }

    #[test]
    fn master_is_the_lowest_id_and_every_change_has_a_larger_epoch() {
        let mut registry = registry();
        let (_, effects) = register(&mut registry, 2, 1, &["5.2"]);
        assert_eq!(masters(&effects.before), [(2, Some(id("5.2")), 101)]);
        let (_, effects) = register(&mut registry, 1, 1, &["5.1"]);
        // The old master hears of it before the new one.
        let told = [(2, Some(id("5.1")), 102), (1, Some(id("5.1")), 102)];
        assert_eq!(masters(&effects.before), told);
        let (_, effects) = register(&mut registry, 3, 1, &["5.3"]);
        assert_eq!(masters(&effects.before), [], "a higher id changes nothing");
        let effects = leave(&mut registry, 1, "5.1");
        let told = [(1, Some(id("5.2")), 103), (2, Some(id("5.2")), 103)];
        assert_eq!(masters(&effects.before), told);
        // A newer incarnation of the master is another master.
        let (_, effects) = register(&mut registry, 4, 2, &["5.2"]);
        assert_eq!(masters(&effects.before), [(4, Some(id("5.2")), 104)]);
        leave(&mut registry, 3, "5.3");
        let effects = leave(&mut registry, 4, "5.2");
        assert_eq!(masters(&effects.before), [(4, None, 105)], "nobody is left");
        let (_, effects) = register(&mut registry, 5, 1, &["5.9"]);
        assert_eq!(masters(&effects.before), [(5, Some(id("5.9")), 106)]);
    }

    #[test]
    fn a_watcher_sees_the_picture_and_then_every_change_with_its_reason() {
        let mut registry = registry();
        register(&mut registry, 1, 1, &["5.1", "5.2"]).0.unwrap();
        let picture = watch(&mut registry, 9, 5);
        let [(9, event)] = &picture[..] else { panic!("{picture:?}") };
        let joined: Vec<ServiceId> = event.joined.iter().map(|joined| joined.id).collect();
        assert_eq!(joined, [id("5.1"), id("5.2")]);
        assert!(event.snapshot && event.complete);
        assert_eq!(event.master.unwrap().id, Some(id("5.1")));

        let (_, effects) = register(&mut registry, 2, 2, &["5.2"]);
        let told = events(&effects.after);
        let [(9, event)] = &told[..] else { panic!("{told:?}") };
        assert_eq!(event.left, [Left { id: id("5.2"), reason: LeftReason::Replaced }]);
        assert_eq!(event.joined[0].id, id("5.2"));
        assert_eq!(event.master, None, "5.1 is master still");

        let mut effects = Effects::default();
        registry.apply(Change::Unwatch { handle: 9, class: None }, NOW, &mut effects).unwrap();
        let effects = leave(&mut registry, 2, "5.2");
        assert!(effects.after.is_empty(), "nobody watches any more");
    }

    #[test]
    fn a_large_class_is_pictured_in_parts() {
        let mut registry = registry();
        registry.max_services = 10_000;
        let services =
            (1..=5_000).map(|i| Service { id: 5 << 24 | i, ..Service::default() }).collect();
        let change = Change::Register {
            handle: 1,
            program: program(1),
            pass: Pass::default(),
            services,
            held: 0,
        };
        registry.apply(change, NOW, &mut Effects::default()).unwrap();
        let picture = watch(&mut registry, 9, 5);
        let sizes: Vec<usize> = picture.iter().map(|(_, event)| event.joined.len()).collect();
        assert_eq!(sizes, [2_048, 2_048, 904]);
        let complete: Vec<bool> = picture.iter().map(|(_, event)| event.complete).collect();
        assert_eq!(complete, [false, false, true]);
    }

    #[test]
    fn instance_zero_is_assigned_and_not_dealt_again_soon() {
        let mut registry = registry();
        let any = |registry: &mut Registry<u64>, handle| {
            let services = vec![Service::any_of(Class::of(5))];
            let change = Change::Register {
                handle,
                program: program(1),
                pass: Pass::default(),
                services,
                held: 0,
            };
            registry.apply(change, NOW, &mut Effects::default()).unwrap()[0]
        };
        let first = any(&mut registry, 1);
        assert!(first.instance().is_assigned());
        leave(&mut registry, 1, &first.to_string());
        assert_ne!(any(&mut registry, 2), first);
    }

    #[test]
    fn a_refused_register_leaves_no_trace() {
        let mut registry = registry();
        register(&mut registry, 1, 10, &["5.1"]).0.unwrap();
        let (result, effects) = register(&mut registry, 2, 9, &["5.2", "5.1"]);
        assert_eq!(result.unwrap_err().code, RefusalCode::OutdatedIncarnation);
        assert_eq!(holder(&registry, "5.2"), None);
        assert!(effects.before.is_empty() && effects.after.is_empty());
    }

    #[test]
    fn a_class_that_the_token_is_not_for_is_refused_by_name_and_by_number() {
        let config = Config::default().with_class("matchsvr", 5).with_class("gamesvr", 6);
        let token = Token::new("games", "a-secret-of-games").only(&["gamesvr"]);
        let pass =
            Tokens::of(&config.clone().with_token(token)).admit("a-secret-of-games").unwrap();
        let mut registry = Registry::new(Arc::new(config.policies()), 8, 1);
        let mut register = |services: Vec<Service>| {
            let program = program(1);
            let change =
                Change::Register { handle: 1, program, pass: pass.clone(), services, held: 0 };
            registry.apply(change, NOW, &mut Effects::default()).map_err(|refusal| refusal.code)
        };
        let named = |class: &str| Service { class: class.to_owned(), ..Service::default() };
        let refused = Err(RefusalCode::NotAllowed);
        assert_eq!(register(vec![named("matchsvr")]), refused);
        assert_eq!(register(vec![Service::any_of(Class::of(5))]), refused);
        assert_eq!(register(vec![Service::of(id("6.1")), Service::of(id("5.1"))]), refused);
        assert_eq!(register(vec![named("nosuch")]), Err(RefusalCode::UnknownClass));
        assert_eq!(register(vec![Service::of(id("6.1"))]), Ok(vec![id("6.1")]));
        assert!(register(vec![named("gamesvr")]).is_ok());
        assert_eq!(registry.table().class(Class::of(5)).map(ClassTable::class), None);
    }

    #[test]
    fn a_refusal_says_what_would_be_right() {
        let mut registry = registry();
        let mut refusal = |service: Service, held| {
            let change = Change::Register {
                handle: 1,
                program: program(1),
                pass: Pass::default(),
                services: vec![service],
                held,
            };
            let refusal = registry.apply(change, NOW, &mut Effects::default()).unwrap_err();
            (refusal.code, refusal.text)
        };
        let named = |class: &str, instance| Service {
            class: class.to_owned(),
            instance,
            ..Service::default()
        };
        assert_eq!(
            refusal(named("mailsvr", 1), 0),
            (
                RefusalCode::UnknownClass,
                "no class is named `mailsvr`; known are matchsvr".to_owned()
            )
        );
        assert_eq!(
            refusal(named("matchsvr", 1 << 24), 0),
            (
                RefusalCode::InvalidId,
                "instance 16777216 is out of range: an instance is 1 to 16777215".to_owned()
            )
        );
        assert_eq!(
            refusal(Service::default(), 0),
            (
                RefusalCode::InvalidId,
                "service 0x00000000: class 0 is out of range: a class is 1 to 255".to_owned()
            )
        );
        assert_eq!(
            refusal(Service { id: 5 << 24 | 1, ..named("matchsvr", 1) }, 0),
            (
                RefusalCode::InvalidId,
                "service 0x05000001 has a class name too: give one of them".to_owned()
            )
        );
        let metadata = BTreeMap::from([("key".to_owned(), "x".repeat(4_096))]);
        assert_eq!(
            refusal(Service { metadata, ..named("matchsvr", 1) }, 0),
            (
                RefusalCode::LimitExceeded,
                "metadata of 4099 bytes is over the limit of 4096".to_owned()
            )
        );
        assert_eq!(
            refusal(named("matchsvr", 1), 8),
            (RefusalCode::LimitExceeded, "a session may register 8 services at most".to_owned())
        );
        let (result, _) = register(&mut registry, 1, 1, &["5.1", "5.1"]);
        assert_eq!(result.unwrap_err().text, "matchsvr.1 is registered by this session already");
    }

    #[test]
    fn a_load_report_counts_only_from_the_session_that_holds_the_id() {
        let mut registry = registry();
        register(&mut registry, 1, 1, &["5.1"]).0.unwrap();
        let published = registry.table().clone();
        let load = Load { id: id("5.1"), load: 7 };
        let mut effects = Effects::default();
        let refusal =
            registry.apply(Change::Load { handle: 2, load }, NOW, &mut effects).unwrap_err();
        assert_eq!(refusal.code, RefusalCode::NotRegistered);
        registry.apply(Change::Load { handle: 1, load }, NOW, &mut effects).unwrap();
        assert_eq!(
            published.find(id("5.1")).unwrap().load(),
            7,
            "readers see it without a new table"
        );
    }

    #[test]
    fn a_reload_changes_how_keys_spread() {
        let mut registry = registry();
        register(&mut registry, 1, 1, &["5.1", "5.2"]).0.unwrap();
        leave(&mut registry, 1, "5.1");
        assert_eq!(registry.table().class(Class::of(5)).unwrap().count().slots, 2, "a hole");
        let mut policies = Policies::clone(registry.policies());
        policies.default.slots = 2;
        let change = Change::Policies(Arc::new(policies));
        registry.apply(change, NOW, &mut Effects::default()).unwrap();
        assert_eq!(registry.table().class(Class::of(5)).unwrap().count().slots, 1);
    }
}
