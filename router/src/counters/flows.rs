//! Who talks to whom: what a thread took in, by the class of its sender, and the class and mode that it is for.
//! What came in for a class is the sum of that over the senders, so each frame is counted in one place.

use std::sync::OnceLock;

use switchboard_protocol::Class;

use super::bucket::{BUCKETS, Bucket, Volume};
use super::meter::Meter;

/// One thread's. Of the classes that never sent anything it keeps nothing.
#[derive(Debug)]
pub struct Flows(Box<[OnceLock<Flow>]>);

/// What sessions of one class sent.
#[derive(Debug)]
pub struct Flow(Box<[Meter]>);

impl Flows {
    /// What sessions of this class send, or those that have no id.
    #[inline]
    pub fn from(&self, source: Option<Class>) -> &Flow {
        let source = source.map_or(NOBODY, Class::raw);
        self.0[usize::from(source)].get_or_init(Flow::default)
    }

    /// Everything that anybody sent: from which class, as what, and how many frames and bytes.
    pub fn read(&self) -> impl Iterator<Item = (Option<Class>, Bucket, (u64, u64))> {
        let flows = self.0.iter().zip(0_u8..=u8::MAX);
        let flows = flows.filter_map(|(flow, raw)| Some((Class::new(raw).ok(), flow.get()?)));
        flows.flat_map(|(from, flow)| {
            let sent =
                Bucket::by_index().zip(&flow.0).map(|(bucket, meter)| (bucket, meter.read()));
            let some = sent.filter(|(_, (frames, _))| *frames > 0);
            some.map(move |(bucket, volume)| (from, bucket, volume))
        })
    }
}

impl Default for Flows {
    fn default() -> Self {
        Self((0..=u8::MAX).map(|_| OnceLock::new()).collect())
    }
}

impl Flow {
    /// Notes frames. Only the thread that owns it does.
    #[inline]
    pub fn add(&self, bucket: Bucket, volume: Volume) {
        self.0[bucket.index()].add(volume);
    }
}

impl Default for Flow {
    fn default() -> Self {
        Self((0..BUCKETS).map(|_| Meter::default()).collect())
    }
}

/// In place of a class, which is never 0.
const NOBODY: u8 = 0;

#[cfg(test)]
mod tests {
    use switchboard_protocol::Mode;

    use super::*;

    #[test]
    fn what_was_sent_is_read_by_its_sender_and_by_what_it_is() {
        let flows = Flows::default();
        let (first, last) = (Class::of(1), Class::of(255));
        let of = |class: Class, mode| Bucket::new(mode, class.as_target());
        let some = |frames, bytes| Volume { frames, bytes };
        flows.from(Some(last)).add(of(first, Mode::Direct), some(1, 20));
        flows.from(Some(first)).add(of(last, Mode::Hash), some(2, 40));
        flows.from(Some(first)).add(of(last, Mode::Hash), some(3, 60));
        flows.from(None).add(of(last, Mode::Broadcast), some(4, 80));
        let read: Vec<_> = flows.read().collect();
        assert_eq!(
            read,
            [
                (None, of(last, Mode::Broadcast), (4, 80)),
                (Some(first), of(last, Mode::Hash), (5, 100)),
                (Some(last), of(first, Mode::Direct), (1, 20)),
            ]
        );
        assert_eq!(of(last, Mode::Broadcast).class(), Some(last));
    }
}
