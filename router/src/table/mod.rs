//! The table of instances by class. The registry is its only writer and publishes a snapshot after
//! every batch of changes; shards read snapshots and never wait.
//!
//! - [`sequence`]: the members of one class, ascending, shared between snapshots;
//! - [`class`]: one class: its members, policy, master, and how a mode picks among them;
//! - [`rendezvous`]: which instance a key belongs to by highest random weight.

pub mod class;
#[cfg(test)]
mod model;
pub mod rendezvous;
pub mod sequence;

use std::sync::Arc;

use switchboard_protocol::{Class, ServiceId};

pub use class::{ClassTable, Pick};
pub use sequence::{Keep, Member};

/// One snapshot of all classes. `H` is how a member is reached: a mailbox, or a number in tests.
#[derive(Debug, Clone)]
pub struct Table<H> {
    classes: Vec<Option<Arc<ClassTable<H>>>>,
    version: u64,
}

impl<H> Default for Table<H> {
    fn default() -> Self {
        Self { classes: (0..=u8::MAX).map(|_| None).collect(), version: 0 }
    }
}

impl<H: Clone> Table<H> {
    /// A class that has, or had, members.
    #[inline]
    pub fn class(&self, class: Class) -> Option<&ClassTable<H>> {
        self.classes[usize::from(class.raw())].as_deref()
    }

    /// It grows with every table that is published.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The same under another version.
    pub(crate) fn with_version(self, version: u64) -> Self {
        Self { version, ..self }
    }

    /// Whom frames for an id reach: the member, or who drains under it.
    pub fn find(&self, id: ServiceId) -> Option<&Member<H>> {
        self.class(id.class())?.find(id.instance().raw())
    }

    /// All classes that have, or had, members.
    pub fn classes(&self) -> impl Iterator<Item = &ClassTable<H>> {
        self.classes.iter().flatten().map(|class| &**class)
    }

    /// A class to change. It is copied if a snapshot shares it.
    pub(crate) fn class_mut(
        &mut self,
        class: Class,
        new: impl FnOnce() -> ClassTable<H>,
    ) -> &mut ClassTable<H> {
        let slot = &mut self.classes[usize::from(class.raw())];
        Arc::make_mut(slot.get_or_insert_with(|| Arc::new(new())))
    }
}
