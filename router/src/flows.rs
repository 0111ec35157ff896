//! Who talks to whom: the frames and bytes that a thread took in, by the class of their sender and the class
//! that they are for. Counted per run of frames, like everything else that a thread counts; a session with
//! ids of several classes counts under the class of its first.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use switchboard_protocol::Class;

/// One thread's. Of the classes that never sent anything it keeps nothing.
#[derive(Debug)]
pub struct Flows(Box<[OnceLock<Flow>]>);

/// What sessions of one class sent, by the class that it is for.
#[derive(Debug)]
pub struct Flow {
    frames: Box<[AtomicU64]>,
    bytes: Box<[AtomicU64]>,
}

impl Flows {
    /// What sessions of this class send.
    #[inline]
    pub fn from(&self, source: Class) -> &Flow {
        self.0[usize::from(source.raw())].get_or_init(Flow::default)
    }

    /// Everything that anybody sent: from which class, to which, how many frames and bytes.
    pub fn read(&self) -> impl Iterator<Item = (Class, Class, u64, u64)> {
        let flows = self.0.iter().zip(0_u8..=u8::MAX).skip(1);
        let flows = flows.filter_map(|(flow, raw)| Some((Class::of(raw), flow.get()?)));
        flows.flat_map(|(from, flow)| {
            let to = (1..=u8::MAX).map(|raw| (raw, usize::from(raw)));
            to.filter_map(move |(raw, at)| {
                let frames = flow.frames[at].load(Relaxed);
                let bytes = flow.bytes[at].load(Relaxed);
                (frames > 0).then(|| (from, Class::of(raw), frames, bytes))
            })
        })
    }
}

impl Default for Flows {
    fn default() -> Self {
        Self((0..=u8::MAX).map(|_| OnceLock::new()).collect())
    }
}

impl Flow {
    /// Notes frames for a class. Only the thread that owns it does.
    #[inline]
    pub fn add(&self, target: Class, frames: u32, bytes: usize) {
        let at = usize::from(target.raw());
        let add = |counter: &AtomicU64, n: u64| counter.store(counter.load(Relaxed) + n, Relaxed);
        add(&self.frames[at], frames.into());
        add(&self.bytes[at], bytes as u64);
    }
}

impl Default for Flow {
    fn default() -> Self {
        let zeros = || (0..=u8::MAX).map(|_| AtomicU64::new(0)).collect();
        Self { frames: zeros(), bytes: zeros() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sent_is_read_by_both_classes() {
        let flows = Flows::default();
        flows.from(Class::of(255)).add(Class::of(1), 1, 20);
        flows.from(Class::of(1)).add(Class::of(255), 2, 40);
        flows.from(Class::of(1)).add(Class::of(255), 3, 60);
        let read: Vec<_> = flows
            .read()
            .map(|(from, to, frames, bytes)| (from.raw(), to.raw(), frames, bytes))
            .collect();
        assert_eq!(read, [(1, 255, 5, 100), (255, 1, 1, 20)]);
    }
}
