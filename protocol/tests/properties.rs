//! What holds for every frame and every control message, not only for those in the vectors.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use switchboard_protocol::control::{
    Claim, Event, GoAway, GoAwayReason, Hello, Joined, Left, LeftReason, Load, Master, Ping,
    Refused, Register, Registered, Replaced, Service, Unregister, Unregistered, Watch, Welcome,
};
use switchboard_protocol::{
    Class, Control, FixedHeader, Flags, Frame, FrameCodec, Header, Instance, Kind, Mode, Reason,
    Report, ServiceId, Trace, key,
};
use tokio_util::codec::{Decoder, Encoder};

const MAX_FRAME: u32 = 4096;

proptest! {
    #[test]
    fn any_frame_comes_back_as_it_was_written(frame in frames()) {
        let mut bytes = BytesMut::new();
        FrameCodec::new(MAX_FRAME).encode(frame.clone(), &mut bytes).unwrap();
        prop_assert_eq!(bytes.len(), frame.len());
        prop_assert_eq!(&bytes, &frame.to_bytes());

        let fixed = FixedHeader::parse(&bytes, MAX_FRAME).unwrap().unwrap();
        prop_assert_eq!(fixed.length as usize, frame.len());
        prop_assert_eq!(fixed.header_len(), frame.header.len());
        prop_assert_eq!(fixed.key(&bytes).unwrap_or(0), frame.header.key);

        prop_assert_eq!(Frame::decode(&mut bytes, MAX_FRAME), Ok(Some(frame)));
        prop_assert!(bytes.is_empty());
    }

    #[test]
    fn any_control_message_comes_back_as_it_was_written(message in messages()) {
        let frame = message.to_frame();
        prop_assert_eq!(Control::decode(&frame.payload), Ok(message));
        prop_assert_eq!(frame.header, Header::new(Kind::Control, 0, 0));
    }

    #[test]
    fn any_report_comes_back_as_it_was_written(
        frame in frames(),
        reason in any::<u8>().prop_map(Reason::from_raw),
        targets: u32,
    ) {
        let bytes = frame.to_bytes();
        let fixed = FixedHeader::parse(&bytes, MAX_FRAME).unwrap().unwrap();
        let report = Report::about(reason, targets, &fixed, &bytes).unwrap();
        let told = report.to_frame();
        prop_assert_eq!(told.header.target, frame.header.source);
        prop_assert_eq!(Report::decode(&told.payload), Some(report));
        prop_assert_eq!(report.header, frame.header);
        prop_assert_eq!(report.length as usize, bytes.len());
    }

    #[test]
    fn any_split_of_a_stream_gives_the_same_frames(
        sent in vec(frames(), 0..12),
        cuts in vec(1_usize..200, 1..40),
    ) {
        let stream: Vec<u8> = sent.iter().flat_map(Frame::to_bytes).collect();
        let mut codec = FrameCodec::new(MAX_FRAME);
        let mut buffer = BytesMut::new();
        let mut read = Vec::new();
        let mut rest = stream.as_slice();
        for cut in cuts.iter().cycle() {
            let (piece, behind) = rest.split_at(rest.len().min(*cut));
            buffer.extend_from_slice(piece);
            while let Some(frame) = codec.decode(&mut buffer).unwrap() {
                read.push(frame);
            }
            rest = behind;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert!(buffer.is_empty());
        prop_assert_eq!(read, sent);
    }

    #[test]
    fn the_header_in_place_and_the_codec_agree(bytes in almost_frames()) {
        let parsed = FixedHeader::parse(&bytes, MAX_FRAME);
        let mut stream = BytesMut::from(&bytes[..]);
        let decoded = Frame::decode(&mut stream, MAX_FRAME);
        match (parsed, decoded) {
            (Err(one), Err(other)) => prop_assert_eq!(one, other),
            (Ok(None), Ok(None)) => prop_assert!(bytes.len() < 16),
            (Ok(Some(fixed)), Ok(None)) => prop_assert!(bytes.len() < fixed.length as usize),
            (Ok(Some(fixed)), Ok(Some(frame))) => {
                let length = fixed.length as usize;
                prop_assert_eq!(frame.len(), length);
                prop_assert_eq!(&frame.to_bytes(), &bytes[..length]);
                prop_assert_eq!(&stream, &bytes[length..]);
            }
            (parsed, decoded) => prop_assert!(false, "{:?} and {:?}", parsed, decoded),
        }
    }

    #[test]
    fn random_bytes_are_no_reason_to_panic(bytes in vec(any::<u8>(), 0..300)) {
        let _ = Frame::decode(&mut BytesMut::from(&bytes[..]), MAX_FRAME);
        let _ = Control::decode(&bytes);
        let _ = Control::decode(&[b"\x92\xa5hello", &bytes[..]].concat());
        let _ = Report::decode(&bytes.into());
    }

    #[test]
    fn any_number_is_an_id_or_none(raw: u32) {
        match ServiceId::from_raw(raw) {
            Ok(id) => {
                prop_assert_eq!(id.raw(), raw);
                prop_assert_eq!(ServiceId::new(id.class(), id.instance()), id);
                prop_assert_eq!(id.to_string().parse(), Ok(id));
            }
            Err(_) => prop_assert!(raw >> 24 == 0 || raw & 0x00ff_ffff == 0),
        }
    }

    #[test]
    fn an_integer_key_deals_as_the_integer_does(integer: i64, slots in 1..10_000_u64) {
        let expected = u64::try_from(integer).unwrap_or_else(|_| integer.cast_unsigned()) % slots;
        prop_assert_eq!(key::of_integer(integer) % slots, expected);
    }
}

/// Any frame that is well-formed.
fn frames() -> impl Strategy<Value = Frame> {
    let kind = select((0..=u8::MAX).filter_map(Kind::from_raw).collect::<Vec<_>>());
    let optional = (any::<u64>(), any::<u64>(), any::<([u8; 16], [u8; 8])>());
    (kind, any::<u8>(), any::<u16>(), any::<u32>(), ids(), optional, payloads()).prop_map(
        |(kind, flags, ttl, source, id, (key, call_id, (trace_id, span_id)), payload)| {
            let flags = legal(kind, flags);
            let target = match kind {
                Kind::Data(Mode::Direct) => id.raw(),
                Kind::Data(_) => id.class().as_target(),
                _ => source.rotate_left(7),
            };
            let mut header = Header { flags, ttl, ..Header::new(kind, source, target) };
            // A part that is not written comes back as its default.
            if kind == Kind::Data(Mode::Hash) {
                header.key = key;
            }
            if flags.intersects(Flags::CALL | Flags::REPLY) {
                header.call_id = call_id;
            }
            if flags.contains(Flags::TRACE) {
                header.trace = Trace { trace_id, span_id };
            }
            Frame::new(header, payload)
        },
    )
}

/// The flags in `raw` that this kind may have together.
fn legal(kind: Kind, raw: u8) -> Flags {
    let Kind::Data(mode) = kind else { return Flags::NONE };
    let mut flags = raw & Flags::ALL.raw();
    let mut without = |flag: Flags| flags &= !flag.raw();
    if mode != Mode::Direct || raw & Flags::CALL.raw() != 0 {
        without(Flags::REPLY);
        without(Flags::ERROR);
    } else if raw & Flags::REPLY.raw() == 0 {
        without(Flags::ERROR);
    }
    if mode != Mode::Broadcast {
        without(Flags::ECHO);
    }
    if raw & Flags::CALL.raw() == 0 {
        without(Flags::IDEMPOTENT);
    }
    Flags::from_raw(flags)
}

/// Bytes that come close to a frame: small numbers where they matter, or a frame with a change.
fn almost_frames() -> impl Strategy<Value = Vec<u8>> {
    let header = (0..80_u32, 0..20_u8, any::<u8>(), 0..3_u32, 0..3_u32, vec(any::<u8>(), 0..90));
    let header = header.prop_map(|(length, kind, flags, class, instance, rest)| {
        let mut bytes = length.to_le_bytes().to_vec();
        bytes.extend_from_slice(&[kind, flags, 0, 0, 1, 0, 0, 2]);
        bytes.extend_from_slice(&(class << 24 | instance).to_le_bytes());
        bytes.extend_from_slice(&rest);
        bytes
    });
    let changed = (frames(), any::<prop::sample::Index>(), any::<u8>(), any::<bool>());
    let changed = changed.prop_map(|(frame, at, byte, cut)| {
        let mut bytes = frame.to_bytes().to_vec();
        let at = at.index(bytes.len().min(40));
        bytes[at] = byte;
        bytes.truncate(if cut { at } else { usize::MAX });
        bytes
    });
    prop_oneof![header, changed, vec(any::<u8>(), 0..64)]
}

fn payloads() -> impl Strategy<Value = Bytes> {
    prop_oneof![
        3 => vec(any::<u8>(), 0..40),
        1 => vec(any::<u8>(), 0..(MAX_FRAME as usize - 56)),
    ]
    .prop_map(Bytes::from)
}

fn classes() -> impl Strategy<Value = Class> {
    (1..=u8::MAX).prop_map(Class::of)
}

fn ids() -> impl Strategy<Value = ServiceId> {
    let instances = (1..=Instance::MAX.raw()).prop_map(|raw| Instance::new(raw).expect("in range"));
    (classes(), instances).prop_map(|(class, instance)| ServiceId::new(class, instance))
}

/// Short and long, ASCII and not: MessagePack has four forms of text.
fn texts() -> impl Strategy<Value = String> {
    prop_oneof![3 => "\\PC{0,12}", 1 => "[a-zé]{20,300}"]
}

fn metadata() -> impl Strategy<Value = BTreeMap<String, String>> {
    btree_map(texts(), texts(), 0..4)
}

fn services() -> impl Strategy<Value = Vec<Service>> {
    let service = (any::<(u32, u32, u16, bool, u64)>(), texts(), metadata());
    let service = service.prop_map(|(numbers, class, metadata)| {
        let (id, instance, weight, assigned, master_since) = numbers;
        Service { id, class, instance, weight, metadata, assigned, master_since }
    });
    vec(
        prop_oneof![service, ids().prop_map(Service::of), classes().prop_map(Service::any_of)],
        0..20,
    )
}

fn masters() -> impl Strategy<Value = Master> {
    (option::of(ids()), any::<u64>()).prop_map(|(id, epoch)| Master { id, epoch })
}

fn messages() -> impl Strategy<Value = Control> {
    let hello =
        (any::<(u16, u64, u32, u32, u64)>(), texts(), texts(), services(), vec(classes(), 0..20))
            .prop_map(
                |(
                    (version, incarnation, heartbeat_ms, link, attempt),
                    token,
                    name,
                    services,
                    watch,
                )| {
                    Control::Hello(Hello {
                        version,
                        token,
                        services,
                        incarnation,
                        name,
                        heartbeat_ms,
                        watch,
                        link,
                        attempt,
                    })
                },
            );
    let welcome = (
        any::<(u16, u64, u32, u32, u32, u64)>(),
        texts(),
        vec(ids(), 0..20),
        btree_map(classes(), texts(), 0..20),
        vec(texts(), 0..4),
        btree_map(classes(), masters(), 0..20),
    )
        .prop_map(|(numbers, router, ids, classes, routers, masters)| {
            let (version, session, heartbeat_ms, max_frame, max_services, uptime_ms) = numbers;
            Control::Welcome(Welcome {
                version,
                router,
                session,
                ids,
                classes,
                heartbeat_ms,
                max_frame,
                max_services,
                routers,
                masters,
                uptime_ms,
            })
        });
    let lists = || (any::<u32>(), vec(ids(), 0..70));
    let event = (
        classes(),
        any::<(bool, bool)>(),
        vec((ids(), left_reasons()).prop_map(|(id, reason)| Left { id, reason }), 0..20),
        vec((ids(), metadata()).prop_map(|(id, metadata)| Joined { id, metadata }), 0..20),
        option::of(masters()),
    )
        .prop_map(|(class, (snapshot, complete), left, joined, master)| {
            Control::Event(Event { class, snapshot, complete, left, joined, master })
        });
    let refused = (any::<(u16, Option<u64>, Option<u32>)>(), texts()).prop_map(
        |((code, offset, request), text)| Control::Refused(Refused { code, text, offset, request }),
    );
    prop_oneof![
        hello,
        welcome,
        (any::<u32>(), services())
            .prop_map(|(request, services)| Control::Register(Register { request, services })),
        lists().prop_map(|(request, ids)| Control::Registered(Registered { request, ids })),
        (lists(), any::<bool>()).prop_map(|((request, ids), draining)| {
            Control::Unregister(Unregister { request, ids, draining })
        }),
        any::<u32>().prop_map(|request| Control::Unregistered(Unregistered { request })),
        lists().prop_map(|(_, ids)| Control::Replaced(Replaced { ids })),
        (ids(), any::<u32>()).prop_map(|(id, load)| Control::Load(Load { id, load })),
        (ids(), any::<u64>()).prop_map(|(id, epoch)| Control::Claim(Claim { id, epoch })),
        (classes(), any::<bool>())
            .prop_map(|(class, changes_only)| Control::Watch(Watch { class, changes_only })),
        classes().prop_map(|class| Control::Unwatch(Watch::of(class))),
        event,
        any::<u64>().prop_map(|nonce| Control::Ping(Ping { nonce })),
        any::<u64>().prop_map(|nonce| Control::Pong(Ping { nonce })),
        (go_away_reasons(), any::<Option<u32>>()).prop_map(|(reason, reconnect_after_ms)| {
            Control::GoAway(GoAway { reason, reconnect_after_ms })
        }),
        refused,
    ]
}

fn left_reasons() -> impl Strategy<Value = LeftReason> {
    select(vec![
        LeftReason::Unregistered,
        LeftReason::Disconnected,
        LeftReason::HeartbeatLost,
        LeftReason::Replaced,
        LeftReason::SlowConsumer,
        LeftReason::Malformed,
        LeftReason::Closed,
        LeftReason::Other,
    ])
}

fn go_away_reasons() -> impl Strategy<Value = GoAwayReason> {
    select(vec![
        GoAwayReason::Shutdown,
        GoAwayReason::Replaced,
        GoAwayReason::SlowConsumer,
        GoAwayReason::HeartbeatLost,
        GoAwayReason::Closed,
        GoAwayReason::Other,
    ])
}
