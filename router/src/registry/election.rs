//! Who becomes master of a class: the choice alone, by the class's policy. The registry makes it after
//! each change of a class, and tells those whom it concerns.

use crate::policy::MasterPolicy;
use crate::table::ClassTable;

/// Who is master, or would be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Office {
    /// The instance.
    pub instance: u32,
    /// The epoch in which it was master at another router when it joined, or when it said so; 0 if it
    /// was not.
    pub claim: u64,
}

/// The master of a class as it is now. `present` is who was and still is there, `joiner` who has just
/// come, or claims the office.
pub(super) fn elect<H: Clone>(
    class: &ClassTable<H>,
    present: Option<Office>,
    joiner: Option<Office>,
) -> Option<Office> {
    let without_claim = |instance| Office { instance, claim: 0 };
    let lowest = || class.lowest().map(|member| without_claim(member.instance));
    let holder = match class.policy().master {
        MasterPolicy::LowestId => return lowest(),
        MasterPolicy::Sticky => present.or_else(lowest)?,
        MasterPolicy::LowestLoad => present.or_else(|| {
            let least = class.members().min_by_key(|member| (member.load(), member.instance))?;
            Some(without_claim(least.instance))
        })?,
    };
    // Of two masters of different routers the one with the later epoch was elected last, when the other
    // was given up somewhere. Who was elected here for want of a better one yields to either.
    Some(joiner.filter(|joiner| joiner.claim > holder.claim).unwrap_or(holder))
}
