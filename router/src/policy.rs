//! What the configuration says of a class: how its keys spread, who is its master, what happens when
//! one of its mailboxes is full, and how long frames wait when nobody is there. Every field has a
//! default, so that a router works with no file.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use switchboard_protocol::{Class, ServiceId};

/// The policy of one class.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClassPolicy {
    /// How Hash frames find an instance.
    pub hash: HashPolicy,
    /// With `hash: fixed`: how many slots there are; slot `s` belongs to instance `s + 1`. 0: as many
    /// as instances have been seen since the start, in ascending order.
    pub slots: u32,
    /// With `hash: fixed`: a key whose slot is empty goes to the next live one.
    pub walk: bool,
    /// Who becomes master, and when that changes.
    pub master: MasterPolicy,
    /// What happens when an instance's mailbox is full.
    pub overflow: Overflow,
    /// A mailbox is full when it holds this many bytes.
    pub high_water_bytes: usize,
    /// With `overflow: pause`: how long a full mailbox may hold its senders up before its session is
    /// closed.
    pub stall_timeout_ms: u64,
    /// How long a frame may wait for an instance that takes it; 0: it does not wait.
    pub park_ms: u64,
    /// How many bytes may wait.
    pub park_bytes: usize,
    /// Whether its methods may be called over HTTP.
    pub http_calls: bool,
}

/// How Hash frames find an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HashPolicy {
    /// `key % slots`; an instance that leaves keeps its slot.
    #[default]
    Fixed,
    /// Highest random weight: only the keys of an instance that leaves move.
    Rendezvous,
    /// `key % live`: all keys are dealt anew when an instance joins or leaves.
    Modulo,
}

/// Who becomes master of a class, and when that changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MasterPolicy {
    /// The lowest live id, at any time: a lower one that joins takes the office.
    #[default]
    LowestId,
    /// The lowest live id when there is none; from then on it stays for as long as it lives.
    Sticky,
    /// The one with the lowest reported load when there is none, the lowest id among equals; from then
    /// on it stays for as long as it lives. Who has not reported a load counts as 0, as for LeastLoaded.
    LowestLoad,
}

/// What happens to a frame for a full mailbox. DROPPABLE frames go first under each of them: those that
/// come, and those that wait, once they are a sixteenth of the mailbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Overflow {
    /// The router stops reading the senders that hit it, until it drains.
    #[default]
    Pause,
    /// The frame is dropped.
    DropNew,
    /// The oldest frames in the mailbox make room.
    DropOld,
    /// The session that does not read is closed.
    Disconnect,
}

/// The policies and names of all classes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Policies {
    /// For classes that have none of their own.
    pub default: ClassPolicy,
    /// By class.
    pub classes: BTreeMap<Class, ClassPolicy>,
    /// The classes' names.
    pub names: BTreeMap<Class, String>,
}

impl Default for ClassPolicy {
    fn default() -> Self {
        Self {
            hash: HashPolicy::default(),
            slots: 0,
            walk: false,
            master: MasterPolicy::default(),
            overflow: Overflow::default(),
            high_water_bytes: 1 << 20,
            stall_timeout_ms: 5_000,
            park_ms: 0,
            park_bytes: 1 << 20,
            http_calls: false,
        }
    }
}

impl ClassPolicy {
    /// How long a full mailbox may hold its senders up.
    pub fn stall_timeout(&self) -> Duration {
        Duration::from_millis(self.stall_timeout_ms)
    }
}

impl Policies {
    /// The policy of a class.
    pub fn of(&self, class: Class) -> &ClassPolicy {
        self.classes.get(&class).unwrap_or(&self.default)
    }

    /// The class with a name.
    pub fn class(&self, name: &str) -> Option<Class> {
        self.names.iter().find(|(_, known)| *known == name).map(|(class, _)| *class)
    }

    /// A class as people know it: its name, or its number.
    pub fn name(&self, class: Class) -> String {
        self.names.get(&class).cloned().unwrap_or_else(|| class.to_string())
    }

    /// An id as people know it: `matchsvr.1`, or `5.1`.
    pub fn id_name(&self, id: ServiceId) -> String {
        format!("{}.{}", self.name(id.class()), id.instance())
    }
}
