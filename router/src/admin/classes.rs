//! `/api/v1/classes`: who is there, by class.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use switchboard_protocol::{Class, Instance};

use super::Admin;
use super::answer::{Answered, json};
use super::problem::Problem;
use super::query::Query;
use crate::mailbox::Mailbox;
use crate::parking::lots::Occupancy;
use crate::policy::{ClassPolicy, HashPolicy, Policies};
use crate::table::sequence::Metadata;
use crate::table::{ClassTable, Member};

type Table = ClassTable<Arc<Mailbox>>;

/// A class in the list, and at the top of its own page.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    class: u8,
    name: String,
    instances: u32,
    draining: u32,
    weight: u64,
    master: Option<String>,
    /// Absent as long as there was no master.
    epoch: Option<u64>,
    master_changes: u64,
    parked_frames: usize,
    parked_bytes: usize,
}

#[derive(Debug, Serialize)]
struct List {
    classes: Vec<Row>,
}

/// A class on its own page.
#[derive(Debug, Serialize)]
struct Page<'a> {
    #[serde(flatten)]
    row: Row,
    policy: &'a ClassPolicy,
    slots: Option<Slots>,
    members: Vec<MemberRow<'a>>,
    /// Where the next page begins.
    next: Option<u32>,
}

/// Where keys lead.
#[derive(Debug, Default, Serialize)]
struct Slots {
    count: u32,
    /// How many are empty.
    empty: u32,
    /// The first of these.
    holes: Vec<Hole>,
}

#[derive(Debug, Serialize)]
struct Hole {
    slot: u32,
    /// Whose it is.
    instance: u32,
}

#[derive(Debug, Serialize)]
struct MemberRow<'a> {
    id: String,
    instance: u32,
    session: u64,
    weight: u16,
    load: u32,
    draining: bool,
    master: bool,
    slot: Option<u32>,
    metadata: &'a Metadata,
}

/// All classes that have a name, or had an instance.
pub(super) fn list(query: &str, admin: &Admin) -> Answered {
    Query::read(query, &[])?;
    let classes = rows(admin).into_iter().map(|(_, row)| row).collect();
    Ok(json(&List { classes }))
}

/// All classes that have a name, or had an instance, by their numbers.
pub(super) fn rows(admin: &Admin) -> Vec<(Class, Row)> {
    let policies = admin.shared.settings.load().policies.clone();
    let table = admin.shared.published.load_full();
    let lots = occupancy(admin);
    let seen = table.classes().map(Table::class);
    let mut classes: Vec<Class> = policies.names.keys().copied().chain(seen).collect();
    classes.sort_unstable();
    classes.dedup();
    let row = |class: Class| (class, row(class, table.class(class), &policies, &lots));
    classes.into_iter().map(row).collect()
}

/// One class, by name or number.
pub(super) fn one(name: &str, query: &str, admin: &Admin) -> Answered {
    let query = Query::read(query, &["limit", "cursor"])?;
    let limit = query.limit(USUAL_PAGE, LONGEST_PAGE)?;
    let after = query.value::<u32>("cursor")?.unwrap_or(0);
    if after > Instance::MAX.raw() {
        let most = Instance::MAX.raw();
        return Err(Problem::bad_request(format!("cursor: {after} is out of range: 0 to {most}")));
    }
    let policies = admin.shared.settings.load().policies.clone();
    let class = find(name, &policies)?;
    let table = admin.shared.published.load_full();
    let table = table.class(class);
    if table.is_none() && !policies.names.contains_key(&class) {
        return Err(unknown(name));
    }
    let row = row(class, table, &policies, &occupancy(admin));
    let policy = policies.of(class);
    let slots = table.map_or_else(|| empty_slots(policy), slots);
    let (members, next) = table.map_or((Vec::new(), None), |table| {
        let mut members = instances(table, after, limit + 1, &policies);
        members.sort_unstable_by_key(|member| member.instance);
        let more = members.len() > limit;
        members.truncate(limit);
        let last = members.last().map(|member| member.instance);
        (members, last.filter(|_| more))
    });
    Ok(json(&Page { row, policy, slots, members, next }))
}

/// The class of this name or number.
pub(super) fn find(name: &str, policies: &Policies) -> Result<Class, Problem> {
    let by_number = || Class::new(name.parse().ok()?).ok();
    policies.class(name).or_else(by_number).ok_or_else(|| unknown(name))
}

/// No class has this name.
pub(super) fn unknown(name: &str) -> Problem {
    Problem::not_found(format!("there is no class `{name}`"))
}

fn occupancy(admin: &Admin) -> BTreeMap<Class, Occupancy> {
    admin.shared.lots.occupancy().into_iter().map(|lot| (lot.class, lot)).collect()
}

fn row(
    class: Class,
    table: Option<&Table>,
    policies: &Policies,
    lots: &BTreeMap<Class, Occupancy>,
) -> Row {
    let count = table.map(Table::count).unwrap_or_default();
    let (master, epoch) = table.map(Table::master).unwrap_or_default();
    let parked = lots.get(&class);
    Row {
        class: class.raw(),
        name: policies.name(class),
        instances: count.live,
        draining: table.map_or(0, Table::count_draining),
        weight: count.weight,
        master: master.map(|member| format!("{}.{}", policies.name(class), member.instance)),
        epoch: (epoch > 0).then_some(epoch),
        master_changes: table.map_or(0, Table::master_changes),
        parked_frames: parked.map_or(0, |lot| lot.frames),
        parked_bytes: parked.map_or(0, |lot| lot.bytes),
    }
}

/// The next instances behind this one, and the next that drain.
fn instances<'t>(
    table: &'t Table,
    after: u32,
    most: usize,
    policies: &Policies,
) -> Vec<MemberRow<'t>> {
    let name = policies.name(table.class());
    let master = table.master().0.map(|member| member.instance);
    let instance = |member: &'t Member<Arc<Mailbox>>, draining, slot| MemberRow {
        id: format!("{name}.{}", member.instance),
        instance: member.instance,
        session: member.handle.session(),
        weight: member.weight,
        load: member.load(),
        draining,
        master: !draining && master == Some(member.instance),
        slot,
        metadata: member.metadata.as_deref().unwrap_or(&NOTHING),
    };
    let policy = table.policy();
    let mut live = 0..;
    let placed = (0..).zip(table.slots()).filter_map(|(place, (_, member))| {
        let member = member?;
        let rank = live.next();
        let slot = match (policy.hash, policy.slots) {
            (HashPolicy::Rendezvous, _) => None,
            (HashPolicy::Modulo, _) => rank,
            (HashPolicy::Fixed, 0) => Some(place),
            (HashPolicy::Fixed, slots) => (member.instance <= slots).then(|| member.instance - 1),
        };
        (member.instance > after).then(|| instance(member, false, slot))
    });
    let draining = table.all_draining().filter(|member| member.instance > after);
    let draining = draining.map(|member| instance(member, true, None));
    placed.take(most).chain(draining.take(most)).collect()
}

fn slots(table: &Table) -> Option<Slots> {
    let policy = table.policy();
    let count = table.count();
    match (policy.hash, policy.slots) {
        (HashPolicy::Rendezvous, _) => None,
        (HashPolicy::Modulo, _) => Some(Slots { count: count.live, ..Slots::default() }),
        (HashPolicy::Fixed, 0) => {
            let holes = (0..).zip(table.slots()).filter(|(_, (_, member))| member.is_none());
            let holes = holes.map(|(slot, (instance, _))| Hole { slot, instance });
            let holes = holes.take(MAX_HOLES).collect();
            Some(Slots { count: count.slots, empty: count.slots - count.live, holes })
        }
        (HashPolicy::Fixed, slots) => {
            let empty = |instance: &u32| table.member(*instance).is_none();
            let holes = (1..=slots).filter(empty).take(MAX_HOLES);
            let holes = holes.map(|instance| Hole { slot: instance - 1, instance }).collect();
            Some(Slots { count: slots, empty: slots - table.live_below(slots + 1), holes })
        }
    }
}

/// Those of a class that nobody has joined yet.
fn empty_slots(policy: &ClassPolicy) -> Option<Slots> {
    let count = match policy.hash {
        HashPolicy::Rendezvous => return None,
        HashPolicy::Modulo => 0,
        HashPolicy::Fixed => policy.slots,
    };
    let holes = (0..count).take(MAX_HOLES).map(|slot| Hole { slot, instance: slot + 1 }).collect();
    Some(Slots { count, empty: count, holes })
}

/// What most instances tell of themselves.
static NOTHING: Metadata = BTreeMap::new();
const USUAL_PAGE: usize = 1_000;
const LONGEST_PAGE: usize = 10_000;
/// How many holes are told one by one.
const MAX_HOLES: usize = 1_000;
