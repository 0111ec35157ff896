//! What is not a frame, or not one that this node may send: it costs its own session at most.

use std::time::Duration;

use switchboard_protocol::control::{Ping, Register, Watch};
use switchboard_protocol::limits::MAX_CONTROL_FRAME;
use switchboard_protocol::{Control, Flags, Mode, RefusalCode};
use switchboard_tests::frames::{With, class, direct, hash, hello, id, service, to_class};
use switchboard_tests::{RawNode, RouterBuilder, RouterProcess, eventually};

fn raw(length: u32, kind: u8, flags: u8, source: u32, target: u32) -> Vec<u8> {
    let mut bytes = length.to_le_bytes().to_vec();
    bytes.extend([kind, flags, 0, 0]);
    bytes.extend(source.to_le_bytes());
    bytes.extend(target.to_le_bytes());
    bytes
}

fn control(body: &[u8]) -> Vec<u8> {
    [raw(16 + body.len() as u32, 16, 0, 0, 0), body.to_vec()].concat()
}

const SOURCE: u32 = 6 << 24 | 1;
const TARGET: u32 = 5 << 24 | 1;

/// Sends these bytes behind a good frame, and expects the session to end with this text.
#[track_caller]
fn assert_malformed(router: &RouterProcess, bystander: &mut RawNode, bytes: &[u8], text: &str) {
    let mut node = router.join(&["6.1"]);
    let hello = Control::Hello(hello(&["6.1"])).to_frame();
    let good = direct(id("6.1"), id("5.1"), "good");
    let behind = direct(id("6.1"), id("5.1"), "behind").to_bytes();
    node.send_bytes(&[&good.to_bytes()[..], bytes, &behind].concat());
    let refused = node.expect_refused();
    assert_eq!(refused.text, text);
    assert_eq!(refused.code, RefusalCode::Malformed.raw());
    assert_eq!(refused.offset, Some((hello.len() + good.len()) as u64), "{text}");
    node.expect_closed();
    assert_eq!(bystander.expect_data(), good);
    bystander.sync();
    assert_eq!(bystander.take_data(), [], "{text}");
}

#[test]
fn malformed_frames_are_refused_with_text_and_offset_and_end_the_session() {
    let router = RouterProcess::start();
    let mut bystander = router.join(&["5.1"]);
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (raw(15, 1, 0, SOURCE, TARGET), "frame length 15 is below the 16 bytes of a header"),
        (raw(0, 1, 0, SOURCE, TARGET), "frame length 0 is below the 16 bytes of a header"),
        (raw(16, 0, 0, SOURCE, TARGET), "unknown frame kind 0: a node sends 1 to 6, and 16"),
        (raw(16, 7, 0, SOURCE, TARGET), "unknown frame kind 7: a node sends 1 to 6, and 16"),
        (raw(16, 255, 0, SOURCE, TARGET), "unknown frame kind 255: a node sends 1 to 6, and 16"),
        (raw(16, 17, 0, SOURCE, TARGET), "a node does not send frames of kind 17"),
        (raw(16, 18, 0, SOURCE, TARGET), "a node does not send frames of kind 18"),
        (
            raw(16, 1, 128, SOURCE, TARGET),
            "flags IDEMPOTENT do not go with kind 1: only a call is idempotent",
        ),
        (
            raw(24, 1, 3, SOURCE, TARGET),
            "flags CALL|REPLY do not go with kind 1: a frame is a call or a reply",
        ),
        (
            raw(16, 1, 4, SOURCE, TARGET),
            "flags ERROR do not go with kind 1: only a reply is an error",
        ),
        (raw(24, 2, 2, SOURCE, 5 << 24), "flags REPLY do not go with kind 2: a reply is direct"),
        (
            raw(16, 1, 64, SOURCE, TARGET),
            "flags ECHO do not go with kind 1: only a broadcast has an echo",
        ),
        (raw(16, 16, 1, 0, 0), "flags CALL do not go with kind 16: only data frames have flags"),
        (
            raw(23, 1, 1, SOURCE, TARGET),
            "frame length 23 is below the 24 bytes that its kind and flags announce",
        ),
        (
            raw(55, 3, 33, SOURCE, 5 << 24),
            "frame length 55 is below the 56 bytes that its kind and flags announce",
        ),
        (
            raw(16, 1, 0, SOURCE, 1),
            "target 0x00000001 does not go with mode direct: its class is 0",
        ),
        (
            raw(16, 1, 0, SOURCE, 5 << 24),
            "target 0x05000000 does not go with mode direct: its instance is 0",
        ),
        (
            raw(16, 2, 0, SOURCE, TARGET),
            "target 0x05000001 does not go with mode master: its instance is not 0",
        ),
    ];
    for (bytes, text) in &cases {
        assert_malformed(&router, &mut bystander, bytes, text);
    }
    assert_eq!(
        router.metric("switchboard_sessions_ended_total", &[("reason", "malformed")]),
        cases.len() as u64
    );
}

#[test]
fn watchers_are_told_that_a_node_left_for_what_it_sent() {
    let router = RouterProcess::start();
    let mut watcher = router.join(&[]);
    watcher.say(Control::Watch(Watch::of(class(6))));
    watcher.expect_event();
    let mut node = router.join(&["6.1"]);
    watcher.expect_event();
    node.send_bytes(&[0; 16]);
    let left = watcher.expect_event().left;
    assert_eq!(left[0].reason, switchboard_protocol::control::LeftReason::Malformed);
    router.expect_log("closed: malformed input");
}

#[test]
fn a_frame_with_a_source_of_another_session_is_refused_and_the_session_lives() {
    let router = RouterProcess::with("classes: {gateway: {id: 6}}\n");
    let mut victim = router.join(&["6.1"]);
    let mut node = router.join(&["6.2"]);
    let hello = Control::Hello(hello(&["6.2"])).to_frame();
    let spoofed = direct(id("6.1"), id("6.1"), "I am you");
    node.send_all([
        &direct(node.id(), id("6.1"), "one"),
        &spoofed,
        &spoofed,
        &direct(node.id(), id("6.1"), "two"),
    ]);
    let refused = node.expect_refused();
    assert_eq!(refused.code, RefusalCode::NotRegistered.raw());
    assert_eq!(
        refused.text,
        "the frame's source 6.1 is not registered by this session; the frame was dropped, and 1 more"
    );
    assert_eq!(refused.offset, Some(hello.len() as u64 + 19));
    assert_eq!(victim.expect_data().payload, "one");
    assert_eq!(victim.expect_data().payload, "two");
    for source in [0, 1, 6 << 24, 7 << 24 | 1] {
        node.send_bytes(&raw(16, 1, 0, source, 6 << 24 | 1));
        assert_eq!(node.expect_refused().code, RefusalCode::NotRegistered.raw());
    }
    node.sync();
    victim.sync();
    assert_eq!(victim.take_data(), []);
    assert_eq!(router.outcome("gateway", "refused"), 6);
}

#[test]
fn a_spoofed_call_is_not_reported_to_anyone() {
    let router = RouterProcess::start();
    let mut victim = router.join(&["6.1"]);
    let mut node = router.join(&["6.2"]);
    node.send(&to_class(id("6.1"), Mode::Master, 5, "x").call(1).with(Flags::REPORT));
    node.send(&to_class(id("6.1"), Mode::Broadcast, 6, "x").call(2));
    node.expect_refused();
    node.sync();
    victim.sync();
    assert_eq!((victim.take_reports(), victim.take_data()), (vec![], vec![]));
    assert_eq!(node.take_reports(), []);
}

#[test]
fn a_control_message_that_cannot_be_read_is_refused_and_the_session_lives() {
    let router = RouterProcess::start();
    let mut node = router.join(&["6.1"]);
    let shape = "a control message is an array of its name and a map of its fields: ";
    let ping = Control::Ping(Ping { nonce: u64::MAX }).encode();
    let cases: Vec<(Vec<u8>, RefusalCode, String)> = vec![
        (vec![], RefusalCode::InvalidMessage, format!("{shape}it is not an array")),
        (vec![0xc1], RefusalCode::InvalidMessage, format!("{shape}it is not an array")),
        (
            b"\x92\xa4ping".to_vec(),
            RefusalCode::InvalidMessage,
            format!("{shape}its fields are not a map"),
        ),
        (
            b"\x92\xa5dance\x80".to_vec(),
            RefusalCode::UnknownMessage,
            "unknown control message `dance`".to_owned(),
        ),
        (
            b"\x92\xa4load\x80".to_vec(),
            RefusalCode::InvalidMessage,
            "control message `load`: missing field `id`".to_owned(),
        ),
        (
            b"\x92\xa7welcome\x80".to_vec(),
            RefusalCode::InvalidMessage,
            "control message `welcome` is not for a node to send".to_owned(),
        ),
    ];
    for (body, code, text) in cases {
        node.send_bytes(&control(&body));
        let refused = node.expect_refused();
        assert_eq!((RefusalCode::from_raw(refused.code), refused.text), (code, text));
    }
    // Every cut of a message, and every message with one byte that is wrong.
    let mut refusals = 0;
    for cut in 0..ping.len() {
        node.send_bytes(&control(&ping[..cut]));
        refusals += 1;
    }
    for _ in 0..refusals {
        assert_eq!(node.expect_refused().code, RefusalCode::InvalidMessage.raw());
    }
    node.sync();
}

#[test]
fn a_control_frame_over_its_limit_is_skipped_and_the_session_lives() {
    let router = RouterProcess::start();
    let mut node = router.join(&["6.1"]);
    let mut target = router.join(&["5.1"]);
    let good = direct(node.id(), id("5.1"), "good");
    for length in [MAX_CONTROL_FRAME + 1, 1 << 20, (16 << 20) + 1] {
        let mut bytes = good.to_bytes().to_vec();
        bytes.extend(control(&vec![0x80; length as usize - 16]));
        bytes.extend(good.to_bytes());
        node.send_bytes(&bytes);
        let refused = node.expect_refused();
        assert_eq!(refused.code, RefusalCode::FrameTooLarge.raw());
        assert_eq!(
            refused.text,
            format!("control frame of {length} bytes is over the limit of 65536; skipped")
        );
        assert!(refused.offset.is_some());
        assert_eq!([target.expect_data(), target.expect_data()], [good.clone(), good.clone()]);
    }
    // The longest that is allowed is read.
    let mut body = b"\x92\xa4ping\x81\xa5later\xc5\xff\xdf".to_vec();
    body.resize(MAX_CONTROL_FRAME as usize - 16, 0);
    let rest = body.len() as u16 - 16;
    body[14..16].copy_from_slice(&rest.to_be_bytes());
    node.send_bytes(&control(&body));
    node.expect("Pong", |incoming| {
        matches!(incoming, switchboard_tests::Incoming::Control(Control::Pong(_))).then_some(())
    });
}

#[test]
fn an_announced_length_reserves_no_memory() {
    let router = RouterProcess::start();
    let before = router.resident_bytes();
    let mut nodes: Vec<RawNode> = (1..=100).map(|n| router.join(&[&format!("6.{n}")])).collect();
    for node in &mut nodes {
        node.send_bytes(&raw(16 << 20, 1, 0, node.id().raw(), TARGET));
    }
    let mut last = router.join(&["5.1"]);
    last.sync();
    let grown = router.resident_bytes().saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes for 100 announced frames of 16 MiB");
}

/// A small generator with a fixed start, so that a failure can be seen again.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }
}

/// A stream that a proper node could send.
fn valid_stream(chance: &mut Chance) -> Vec<u8> {
    let name = format!("7.{}", 1 + chance.below(50));
    let source = id(&name);
    let mut stream = Vec::new();
    let mut greeting = hello(&[&name]);
    greeting.incarnation = chance.next();
    stream.extend(Control::Hello(greeting).to_frame().to_bytes());
    for _ in 0..chance.below(12) {
        let payload = vec![chance.next() as u8; chance.below(300)];
        let frame = match chance.below(8) {
            0 => Control::Ping(Ping { nonce: chance.next() }).to_frame(),
            1 => Control::Watch(Watch::of(class(7))).to_frame(),
            2 => Control::Register(Register { request: 1, services: vec![service("7.0")] })
                .to_frame(),
            3 => hash(source, 7, chance.next(), payload).call(chance.next()),
            4 => to_class(source, Mode::Broadcast, 7, payload).with(Flags::ECHO | Flags::REPORT),
            5 => to_class(source, Mode::Random, 8, payload).with(Flags::REPORT | Flags::TRACE),
            6 => to_class(source, Mode::Master, 7, payload).with(Flags::DROPPABLE),
            _ => direct(source, source, payload).call(chance.next()),
        };
        stream.extend(frame.to_bytes());
    }
    stream
}

fn malformed_stream(chance: &mut Chance) -> Vec<u8> {
    if chance.below(4) == 0 {
        return (0..chance.below(400)).map(|_| chance.next() as u8).collect();
    }
    let mut stream = valid_stream(chance);
    for _ in 0..=chance.below(4) {
        let at = chance.below(stream.len());
        match chance.below(5) {
            0 => stream[at] ^= 1 << chance.below(8),
            1 => stream[at] = chance.next() as u8,
            2 => stream.truncate(at + 1),
            3 => drop(stream.drain(at..(at + chance.below(20)).min(stream.len()))),
            _ => {
                let again = stream[at..].to_vec();
                stream.extend(again);
            }
        }
        if stream.is_empty() {
            break;
        }
    }
    stream
}

#[test]
fn ten_thousand_malformed_streams_leave_a_router_that_serves() {
    const THREADS: u64 = 8;
    const STREAMS: u64 = 10_000;
    let router = RouterBuilder::default()
        .arg("--log")
        .arg("error")
        .config("limits: {max_frame_bytes: 65536}\n")
        .start();
    let mut sender = router.join(&["6.1"]);
    let mut target = router.join(&["5.1"]);
    let mut serve = |what: &str| {
        sender.send(&direct(sender.id(), id("5.1"), what));
        assert_eq!(target.expect_data().payload, what);
        sender.sync();
    };
    let flood = |seed: u64, streams: u64| {
        let address = router.listen().to_owned();
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let address = address.clone();
                std::thread::spawn(move || {
                    let mut chance = Chance(seed + thread * 0x9e37_79b9 + 1);
                    for n in 0..streams / THREADS {
                        let mut node = RawNode::connect(&address);
                        // The router may close before it has all.
                        let _ = node.try_send_bytes(&malformed_stream(&mut chance));
                        if n % 50 == 0 {
                            node.read_for(Duration::from_millis(20));
                        }
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().expect("the flood goes on"));
    };
    flood(1, STREAMS / 5);
    serve("after the first");
    eventually("their sessions end", || router.metric("switchboard_sessions", &[]) == 2);
    let before = router.resident_bytes();
    flood(2, STREAMS * 4 / 5);
    serve("after the last");
    eventually("their sessions end", || router.metric("switchboard_sessions", &[]) == 2);
    let grown = router.resident_bytes().saturating_sub(before);
    assert!(grown < 48 << 20, "{grown} bytes more after {STREAMS} streams");
    assert_eq!(router.metric("switchboard_instances", &[("class", "7")]), 0);
    assert!(router.metric("switchboard_sessions_ended_total", &[("reason", "malformed")]) > 500);
    let metrics = router.metrics();
    for mode in ["direct", "master", "hash", "random", "least_loaded"] {
        let labels = [("mode", mode)];
        assert_eq!(
            metrics.sum("switchboard_frames_received_total", &labels),
            metrics.sum("switchboard_frames_total", &labels),
            "{mode}"
        );
    }
}

#[test]
fn valid_streams_of_the_same_kind_are_not_refused() {
    let router = RouterProcess::start();
    let mut chance = Chance(99);
    for _ in 0..200 {
        let mut node = router.connect();
        node.send_bytes(&valid_stream(&mut chance));
        node.sync();
        let refused = node.inbox().find(|one| {
            matches!(one, switchboard_tests::Incoming::Control(Control::Refused(refused))
                if refused.code == RefusalCode::Malformed.raw())
        });
        assert_eq!(refused, None);
    }
    assert_eq!(router.metric("switchboard_sessions_ended_total", &[("reason", "malformed")]), 0);
}
