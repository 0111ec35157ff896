//! Elections against a plain model: whoever joins, leaves, drains, reports and claims, and whatever the
//! clock does.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use switchboard_protocol::control::{Claim, Control, LeftReason, Load, Master, Service};
use switchboard_protocol::{Class, RefusalCode, ServiceId};

use super::{Change, Effect, Effects, Program, Registry};
use crate::policy::{MasterPolicy, Policies};
use crate::tokens::Pass;

#[derive(Debug, Clone)]
enum Step {
    /// An instance, the incarnation, and its claim.
    Join(u32, u64, u64),
    Leave(u32),
    Drain(u32),
    Load(u32, u32),
    /// An instance was elected elsewhere, in an epoch so far from that of the master here. With true it
    /// is said by a session that does not hold it.
    Claim(u32, i64, bool),
    /// An operator makes an instance master.
    Appoint(u32),
    Reload(MasterPolicy),
    /// The clock shows this from now on.
    Clock(u64),
}

/// What should be: the live members by instance, and who is master.
#[derive(Debug, Default)]
struct Model {
    members: BTreeMap<u32, Seat>,
    draining: BTreeMap<u32, Seat>,
    /// Instance, session, claim.
    master: Option<(u32, u64, u64)>,
}

#[derive(Debug, Clone, Copy)]
struct Seat {
    session: u64,
    incarnation: u64,
    load: u32,
}

impl Model {
    fn elect(&mut self, policy: MasterPolicy, joined: Option<(u32, u64, u64)>) {
        let lowest =
            self.members.iter().next().map(|(instance, seat)| (*instance, seat.session, 0));
        if policy == MasterPolicy::LowestId {
            self.master = lowest;
            return;
        }
        let least = self.members.iter().min_by_key(|(instance, seat)| (seat.load, **instance));
        self.master = self.master.or(match policy {
            MasterPolicy::LowestLoad => least.map(|(instance, seat)| (*instance, seat.session, 0)),
            _ => lowest,
        });
        if let (Some(master), Some(joined)) = (self.master, joined)
            && joined.2 > master.2
        {
            self.master = Some(joined);
        }
    }

    fn join(&mut self, policy: MasterPolicy, instance: u32, seat: Seat, claim: u64) -> bool {
        if let Some(old) = self.members.get(&instance) {
            if seat.incarnation < old.incarnation {
                return false;
            }
            if let Some(master) = self.master.filter(|master| master.0 == instance) {
                let same = seat.incarnation == old.incarnation;
                self.master = same.then_some((instance, seat.session, master.2));
            }
        }
        self.draining.remove(&instance);
        self.members.insert(instance, seat);
        self.elect(policy, Some((instance, seat.session, claim)));
        true
    }

    /// Whether an instance that was elected elsewhere is master from now on.
    fn claim(&mut self, policy: MasterPolicy, instance: u32, epoch: u64, present: u64) {
        let (Some(seat), Some(master)) = (self.members.get(&instance), self.master) else { return };
        let later = epoch > present || epoch == present && instance < master.0;
        if policy != MasterPolicy::LowestId && instance != master.0 && later {
            self.master = Some((instance, seat.session, epoch));
        }
    }

    /// Whether an instance may be made master, which it is then, in an epoch that it claims from then on.
    fn appoint(&mut self, policy: MasterPolicy, instance: u32, epoch: u64) -> bool {
        let Some(seat) = self.members.get(&instance) else { return false };
        if policy == MasterPolicy::LowestId {
            return false;
        }
        if self.master.is_none_or(|master| master.0 != instance) {
            self.master = Some((instance, seat.session, epoch));
        }
        true
    }

    fn take_out(&mut self, policy: MasterPolicy, instance: u32) -> Option<Seat> {
        let seat = self.members.remove(&instance)?;
        self.master = self.master.filter(|master| master.0 != instance);
        self.elect(policy, None);
        Some(seat)
    }
}

fn policy() -> impl Strategy<Value = MasterPolicy> {
    prop_oneof![
        Just(MasterPolicy::LowestId),
        Just(MasterPolicy::Sticky),
        Just(MasterPolicy::LowestLoad)
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let instance = || 1..7_u32;
    let claim = prop_oneof![3 => Just(0), 2 => 1..6_u64];
    let step = prop_oneof![
        6 => (instance(), 1..4_u64, claim).prop_map(|(i, inc, claim)| Step::Join(i, inc, claim)),
        3 => instance().prop_map(Step::Leave),
        2 => instance().prop_map(Step::Drain),
        3 => (instance(), 0..4_u32).prop_map(|(i, load)| Step::Load(i, load)),
        4 => (instance(), -3..3_i64, prop::bool::weighted(0.1))
            .prop_map(|(i, epoch, stranger)| Step::Claim(i, epoch, stranger)),
        3 => instance().prop_map(Step::Appoint),
        1 => policy().prop_map(Step::Reload),
        2 => (0..10_000_u64).prop_map(Step::Clock),
    ];
    prop::collection::vec(step, 0..150)
}

fn policies(master: MasterPolicy) -> Arc<Policies> {
    let mut policies = Policies::default();
    policies.default.master = master;
    Arc::new(policies)
}

fn id(instance: u32) -> ServiceId {
    ServiceId::from_raw(5 << 24 | instance).unwrap()
}

/// Who is told of which master, in order.
fn told(effects: &[Effect<u64>]) -> Vec<(u64, Master)> {
    let mut told = Vec::new();
    for effect in effects {
        if let Effect::Tell { to, message: Control::Event(event) } = effect {
            told.extend(to.iter().filter_map(|session| Some((*session, event.master?))));
        }
    }
    told
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn the_master_is_whom_the_policy_says_and_every_election_has_a_later_epoch(
        first in policy(),
        steps in steps(),
    ) {
        let mut registry = Registry::new(policies(first), 8, 1);
        let (mut model, mut policy, mut now) = (Model::default(), first, 5_000);
        let (mut sessions, mut last) = (0_u64, Master { id: None, epoch: 0 });
        for step in steps {
            let before = model.master;
            let mut effects = Effects::default();
            let change = match step {
                Step::Join(instance, incarnation, master_since) => {
                    sessions += 1;
                    let seat = Seat { session: sessions, incarnation, load: 0 };
                    let services = vec![Service { master_since, ..Service::of(id(instance)) }];
                    let change =
                        Change::Register { handle: sessions, program: Program { incarnation, ..Program::default() }, pass: Pass::default(), services, held: 0 };
                    let joins = model.join(policy, instance, seat, master_since);
                    let result = registry.apply(change, now, &mut effects);
                    prop_assert_eq!(result.is_ok(), joins);
                    None
                }
                Step::Leave(instance) => {
                    let seat = model.take_out(policy, instance);
                    seat.or_else(|| model.draining.remove(&instance)).map(|seat| {
                        let ids = vec![id(instance)];
                        let reason = LeftReason::Disconnected;
                        Change::Unregister { handle: seat.session, ids, reason }
                    })
                }
                Step::Drain(instance) => model.take_out(policy, instance).map(|seat| {
                    model.draining.insert(instance, seat);
                    Change::Drain { handle: seat.session, ids: vec![id(instance)] }
                }),
                Step::Load(instance, load) => model.members.get_mut(&instance).map(|seat| {
                    seat.load = load;
                    Change::Load { handle: seat.session, load: Load { id: id(instance), load } }
                }),
                Step::Claim(instance, offset, stranger) => {
                    let id = id(instance);
                    let epoch = last.epoch.saturating_add_signed(offset);
                    let claim = Claim { id, epoch };
                    let seat = model.members.get(&instance).or(model.draining.get(&instance));
                    match seat.map(|seat| seat.session).filter(|_| !stranger) {
                        Some(handle) => {
                            model.claim(policy, instance, epoch, last.epoch);
                            Some(Change::Claim { handle, claim })
                        }
                        None => {
                            let change = Change::Claim { handle: 0, claim };
                            let refusal = registry.apply(change, now, &mut effects).unwrap_err();
                            prop_assert_eq!(refusal.code, RefusalCode::NotRegistered);
                            None
                        }
                    }
                }
                Step::Appoint(instance) => {
                    let epoch = now.max(last.epoch + 1);
                    let change = Change::Appoint(id(instance));
                    let may = model.appoint(policy, instance, epoch);
                    prop_assert_eq!(registry.apply(change, now, &mut effects).is_ok(), may);
                    None
                }
                Step::Reload(new) => {
                    policy = new;
                    model.elect(policy, None);
                    Some(Change::Policies(policies(new)))
                }
                Step::Clock(shows) => {
                    now = shows;
                    None
                }
            };
            if let Some(change) = change {
                registry.apply(change, now, &mut effects).unwrap();
            }

            let master = registry.master(Class::of(5)).unwrap_or(last);
            prop_assert_eq!(master.id, model.master.map(|(instance, ..)| id(instance)));
            let seat = |master: Option<(u32, u64, u64)>| master.map(|(i, session, _)| (i, session));
            if seat(before) == seat(model.master) {
                prop_assert_eq!(master.epoch, last.epoch);
                prop_assert_eq!(told(&effects.before), []);
            } else {
                prop_assert_eq!(master.epoch, now.max(last.epoch + 1), "it follows the clock");
                let new = model.master.map(|(_, session, _)| session);
                let told = told(&effects.before);
                prop_assert_eq!(told.last().map(|(to, _)| *to), new.or(before.map(|old| old.1)));
                // The old master hears first, unless it is told Replaced.
                if told.len() == 2 {
                    prop_assert_eq!(Some(told[0].0), before.map(|old| old.1));
                }
                prop_assert!(told.iter().all(|(_, told)| *told == master));
            }
            last = master;
            // Whoever drains is reached, and by no mode picked.
            for instance in 1..7 {
                let reached = registry.table().find(id(instance)).map(|member| member.handle);
                let seat = model.members.get(&instance).or(model.draining.get(&instance));
                prop_assert_eq!(reached, seat.map(|seat| seat.session));
            }
            let class = registry.table().class(Class::of(5));
            let members: Vec<u32> = class
                .map(|class| class.members().map(|member| member.instance).collect())
                .unwrap_or_default();
            prop_assert_eq!(members, model.members.keys().copied().collect::<Vec<_>>());
        }
    }
}
