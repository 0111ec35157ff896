//! The vectors against this crate, both ways: the bytes mean what the JSON says, and what the JSON
//! says is written as these bytes. The files in `vectors/` serve SDKs in other languages too.

use std::fs;
use std::path::Path;

use bytes::{Bytes, BytesMut};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use switchboard_protocol::codec::CodecError;
use switchboard_protocol::control::{self, ControlError};
use switchboard_protocol::limits::{self, DEFAULT_MAX_FRAME};
use switchboard_protocol::{
    Control, FixedHeader, Flags, Frame, FrameCodec, Header, HeaderError, Kind, Reason, RefusalCode,
    Report, ServiceId, Trace, key,
};
use tokio_util::codec::{Decoder, Encoder};

#[test]
fn frames_are_read_and_written_as_the_vectors_say() {
    for vector in vectors("frames") {
        let name = vector.name();
        let wire = vector.bytes("hex");
        let expected = Frame::new(header(&vector), vector.bytes("payload"));

        let fixed = FixedHeader::parse(&wire, DEFAULT_MAX_FRAME).expect(name).expect(name);
        assert_eq!(fixed, fixed_header(&vector), "{name}");
        assert_eq!(fixed.length as usize, wire.len(), "{name}");
        assert_eq!(fixed.header_len(), wire.len() - expected.payload.len(), "{name}");
        let key = vector.0.get("key").map(|_| vector.long("key"));
        assert_eq!(fixed.key(&wire), key, "{name}");

        let mut stream = BytesMut::from(&wire[..]);
        let frame = FrameCodec::default().decode(&mut stream).expect(name).expect(name);
        assert_eq!(frame, expected, "{name}");
        assert!(stream.is_empty(), "{name}");

        let mut written = BytesMut::new();
        FrameCodec::default().encode(expected.clone(), &mut written).expect(name);
        assert_eq!(hex(&written), hex(&wire), "{name}");
        assert_eq!(expected.to_bytes(), wire, "{name}");
        assert_eq!(expected.len(), wire.len(), "{name}");
    }
}

#[test]
fn every_kind_is_there_with_every_flag_that_it_may_have() {
    let seen: Vec<(u64, u8)> = vectors("frames")
        .iter()
        .map(|vector| (vector.number("kind"), vector.flags().raw()))
        .collect();
    for kind in 0..=u8::MAX {
        for flags in 0..=u8::MAX {
            // Long enough for every extension, and with the target that the kind asks for.
            let mut bytes = [64, 0, 0, 0, kind, flags, 0, 0, 1, 0, 0, 2, 0, 0, 0, 5];
            bytes[12] = u8::from(kind == 1);
            let legal = FixedHeader::parse(&bytes, DEFAULT_MAX_FRAME).is_ok();
            assert_eq!(seen.contains(&(kind.into(), flags)), legal, "kind {kind} flags {flags}");
        }
    }
}

#[test]
fn a_stream_of_all_frames_is_read_in_order() {
    let vectors = vectors("frames");
    let wires: Vec<Bytes> = vectors.iter().map(|vector| vector.bytes("hex")).collect();
    let mut stream = BytesMut::from(&wires.concat()[..]);
    let mut codec = FrameCodec::default();
    for wire in wires {
        assert_eq!(codec.decode(&mut stream).unwrap().unwrap().to_bytes(), wire);
    }
    assert!(codec.decode(&mut stream).unwrap().is_none());
}

#[test]
fn control_messages_are_read_and_written_as_the_vectors_say() {
    for vector in vectors("control") {
        let name = vector.name();
        let body = vector.bytes("hex");
        let message = vector.text("message");
        let fields = &vector.0["fields"];

        let decoded = Control::decode(&body).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(decoded.name(), message, "{name}");
        assert_eq!(&fields_of(&decoded), fields, "{name}");
        let expected = message_of(message, fields);
        assert_eq!(decoded, expected, "{name}");
        if vector.0["canonical"] == true {
            assert_eq!(hex(&expected.encode()), hex(&body), "{name}");
        }
        let frame = expected.to_frame();
        assert_eq!(frame.header, Header::new(Kind::Control, 0, 0), "{name}");
        assert_eq!(Control::decode(&frame.payload), Ok(expected), "{name}");
    }
}

#[test]
fn every_refusal_code_has_its_number_and_its_word() {
    let vectors = vectors("refusals");
    for vector in &vectors {
        let name = vector.name();
        let body = vector.bytes("hex");
        let code = u16::try_from(vector.number("code")).expect(name);
        let refused =
            Control::Refused(control::Refused { code, text: name.to_owned(), ..<_>::default() });
        assert_eq!(Control::decode(&body).as_ref(), Ok(&refused), "{name}");
        assert_eq!(hex(&refused.encode()), hex(&body), "{name}");
        assert_eq!(RefusalCode::from_raw(code).to_string(), name);
        assert_eq!(RefusalCode::from_raw(code).raw(), code);
    }
    assert_eq!(vectors.len(), RefusalCode::ALL.len());
    assert_eq!(RefusalCode::from_raw(60_000), RefusalCode::Other(60_000));
}

#[test]
fn reports_are_read_and_written_as_the_vectors_say() {
    let vectors = vectors("reports");
    for vector in &vectors {
        let name = vector.name();
        let wire = vector.bytes("hex");
        let about = Vector(vector.0["about"].clone());
        let code = u8::try_from(vector.number("code")).expect(name);
        let expected = Report {
            reason: Reason::from_raw(code),
            targets: vector.short("targets"),
            header: header(&about),
            length: about.short("length"),
        };

        assert_eq!(expected.reason.name(), vector.text("reason"), "{name}");
        assert_eq!(expected.reason.raw(), code, "{name}");
        let frame = FrameCodec::default().decode(&mut BytesMut::from(&wire[..]));
        let frame = frame.expect(name).expect(name);
        assert_eq!(frame.header, Header::new(Kind::Report, 0, expected.header.source), "{name}");
        assert_eq!(Report::decode(&frame.payload), Some(expected), "{name}");
        assert_eq!(hex(&expected.to_frame().to_bytes()), hex(&wire), "{name}");

        // As a router makes one: from the bytes of the frame that it is about.
        let start = &frame.payload[8..];
        let fixed = FixedHeader::parse(start, u32::MAX).expect(name).expect(name);
        assert_eq!(fixed, fixed_header(&about), "{name}");
        let made = Report::about(expected.reason, expected.targets, &fixed, start);
        assert_eq!(made, Some(expected), "{name}");
    }
    for reason in Reason::ALL {
        let named = |vector: &Vector| vector.text("reason") == reason.name();
        assert!(vectors.iter().any(named), "no vector for {reason}");
    }
}

#[test]
fn keys_are_hashed_as_the_vectors_say() {
    for vector in vectors("keys") {
        let name = vector.name();
        let key = if let Some(integer) = vector.0["integer"].as_str() {
            let signed = integer.parse().ok().map(key::of_integer);
            signed.unwrap_or_else(|| integer.parse().expect(name))
        } else if let Some(text) = vector.0["text"].as_str() {
            key::of_bytes(text.as_bytes())
        } else {
            key::of_bytes(&vector.bytes("bytes"))
        };
        assert_eq!(key, vector.long("key"), "{name}");
        assert_eq!(hex(&key.to_le_bytes()), hex(&vector.bytes("hex")), "{name}");
    }
}

#[test]
fn ids_are_laid_out_as_the_vectors_say() {
    for vector in vectors("ids") {
        let name = vector.name();
        let raw = vector.short("raw");
        assert_eq!(hex(&raw.to_le_bytes()), hex(&vector.bytes("hex")), "{name}");
        match ServiceId::from_raw(raw) {
            Ok(id) => {
                assert_eq!(u64::from(id.class().raw()), vector.number("class"), "{name}");
                assert_eq!(u64::from(id.instance().raw()), vector.number("instance"), "{name}");
                assert_eq!(id.instance().is_assigned(), vector.0["assigned"], "{name}");
                assert_eq!(id.to_string(), vector.text("text"), "{name}");
                assert_eq!(vector.text("text").parse(), Ok(id), "{name}");
                assert_eq!(ServiceId::new(id.class(), id.instance()), id, "{name}");
            }
            Err(error) => assert_eq!(error.to_string(), vector.text("error"), "{name}"),
        }
    }
}

#[test]
fn payloads_are_plain_messagepack() {
    for vector in vectors("payloads") {
        let name = vector.name();
        let body = vector.bytes("hex");
        let value: Value = rmp_serde::from_slice(&body).expect(name);
        assert_eq!(value, vector.0["value"], "{name}");
        assert_eq!(hex(&rmp_serde::to_vec(&value).expect(name)), hex(&body), "{name}");
        match vector.text("kind") {
            "request" => assert!(value[0].is_string(), "{name}"),
            "reply" => assert!(value.is_array(), "{name}"),
            "error" => {
                let parts: Result<(String, String), _> = rmp_serde::from_slice(&body);
                assert!(parts.is_ok(), "{name}");
            }
            other => panic!("{name}: {other} is not a kind of payload"),
        }
    }
}

#[test]
fn malformed_input_is_refused_for_the_reason_in_the_vectors() {
    for vector in vectors("malformed") {
        let name = vector.name();
        let bytes = vector.bytes("hex");
        let (error, text) = match vector.text("in") {
            "frame" => frame_error(&vector, &bytes),
            "control" => {
                let error = Control::decode(&bytes).expect_err(name);
                let variant = match &error {
                    ControlError::Shape(_) => "Shape",
                    ControlError::Unknown(_) => "Unknown",
                    ControlError::Field { .. } => "Field",
                };
                (variant, Some(error.to_string()))
            }
            "report" => {
                assert_eq!(Report::decode(&bytes), None, "{name}");
                ("NotAReport", None)
            }
            other => panic!("{name}: `{other}` has no malformed input"),
        };
        assert_eq!(error, vector.text("error"), "{name}");
        if let Some(expected) = vector.0["text"].as_str() {
            assert_eq!(text.as_deref(), Some(expected), "{name}");
        }
    }
}

#[test]
fn the_text_names_every_number_and_every_field() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("WIRE.md");
    let text = fs::read_to_string(path).expect("WIRE.md");
    let has = |line: &str| assert!(text.contains(line), "WIRE.md has no `{line}`");
    for vector in vectors("refusals") {
        has(&format!("\n| {} | {} | ", vector.number("code"), vector.name()));
    }
    for reason in Reason::ALL {
        has(&format!("\n| {} | {reason} | ", reason.raw()));
    }
    for (bit, name) in (0..8).map(|bit| (1 << bit, Flags::from_raw(1 << bit))) {
        has(&format!("\n| {bit} | {name:?} | "));
    }
    for kind in (0..=u8::MAX).filter_map(Kind::from_raw) {
        let name = match kind {
            Kind::Data(mode) => format!("{mode:?}"),
            other => format!("{other:?}"),
        };
        has(&format!("\n| {} | {name} | ", kind.raw()));
    }
    for vector in vectors("control") {
        has(&format!("**{}**", vector.text("message")));
        for field in vector.0["fields"].as_object().expect("fields").keys() {
            has(&format!("\n| `{field}` | "));
        }
    }
    for sample in ["", "a", "abc"] {
        has(&format!("\n| text \"{sample}\" | {:#018x} |", key::of_bytes(sample.as_bytes())));
    }
    for sample in [42, -1] {
        has(&format!("\n| integer {sample} | {:#018x} |", key::of_integer(sample)));
    }
    has(&format!("fixed part of a header | {} bytes |", limits::FIXED_HEADER));
    has(&format!("longest header | {} bytes |", limits::LONGEST_HEADER));
    has(&format!("longest frame | {DEFAULT_MAX_FRAME} bytes, "));
    has(&format!("from a node | {} bytes |", limits::MAX_CONTROL_FRAME));
    has(&format!("heartbeat | {} ms, ", limits::DEFAULT_HEARTBEAT.as_millis()));
    has(&format!("before giving up | {} |", limits::MISSED_HEARTBEATS));
    has(&format!("unit of ttl | {} ms |", limits::TTL_UNIT.as_millis()));
}

/// What both readers say of a frame; they must agree.
fn frame_error(vector: &Vector, bytes: &Bytes) -> (&'static str, Option<String>) {
    let name = vector.name();
    let max = vector.0["max_frame"].as_u64().map_or(DEFAULT_MAX_FRAME, |max| max as u32);
    let error = FixedHeader::parse(bytes, max).expect_err(name);
    let mut stream = BytesMut::from(&bytes[..]);
    match FrameCodec::new(max).decode(&mut stream) {
        Err(CodecError::Header(same)) => assert_eq!(same, error, "{name}"),
        other => panic!("{name}: the codec says {other:?}"),
    }
    assert_eq!(&stream, bytes, "{name}: what is refused stays where it is");
    let variant = match error {
        HeaderError::LengthBelowHeader(_) => "LengthBelowHeader",
        HeaderError::LengthBelowExtension { .. } => "LengthBelowExtension",
        HeaderError::UnknownKind(_) => "UnknownKind",
        HeaderError::Conflict { .. } => "Conflict",
        HeaderError::Target { .. } => "Target",
        HeaderError::TooLarge { header, .. } => {
            // The header is whole, so that the frame can be skipped and reported.
            assert_eq!(header.length.to_le_bytes(), bytes[..4], "{name}");
            "TooLarge"
        }
    };
    (variant, Some(error.to_string()))
}

/// One object of a file.
struct Vector(Value);

fn vectors(file: &str) -> Vec<Vector> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("vectors/{file}.json"));
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    let list: Vec<Value> = serde_json::from_str(&text).expect("a list of objects");
    assert!(!list.is_empty(), "{path:?} is empty");
    list.into_iter().map(Vector).collect()
}

impl Vector {
    fn name(&self) -> &str {
        self.text("name")
    }

    fn text(&self, field: &str) -> &str {
        self.0[field].as_str().unwrap_or_else(|| panic!("{}: no text `{field}`", self.0))
    }

    fn number(&self, field: &str) -> u64 {
        self.0[field].as_u64().unwrap_or_else(|| panic!("{}: no number `{field}`", self.0))
    }

    fn short(&self, field: &str) -> u32 {
        u32::try_from(self.number(field)).expect("32 bits")
    }

    /// A 64-bit number in hex; 0 where there is none.
    fn long(&self, field: &str) -> u64 {
        self.0.get(field).map_or(0, |value| {
            let digits = value.as_str().and_then(|text| text.strip_prefix("0x"));
            u64::from_str_radix(digits.expect("0x"), 16).expect("hex digits")
        })
    }

    /// Bytes in hex, with spaces; none where the field is absent.
    fn bytes(&self, field: &str) -> Bytes {
        let text = self.0.get(field).map_or("", |_| self.text(field));
        let digits: Vec<u32> = text
            .chars()
            .filter(|symbol| *symbol != ' ')
            .map(|symbol| symbol.to_digit(16).expect("a hex digit"))
            .collect();
        assert_eq!(digits.len() % 2, 0, "{}: half a byte", self.0);
        digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect()
    }

    fn flags(&self) -> Flags {
        let mut flags = Flags::NONE;
        for name in self.0["flags"].as_array().expect("a list of flags") {
            flags |= match name.as_str().expect("a flag's name") {
                "CALL" => Flags::CALL,
                "REPLY" => Flags::REPLY,
                "ERROR" => Flags::ERROR,
                "DROPPABLE" => Flags::DROPPABLE,
                "REPORT" => Flags::REPORT,
                "TRACE" => Flags::TRACE,
                "ECHO" => Flags::ECHO,
                "IDEMPOTENT" => Flags::IDEMPOTENT,
                other => panic!("{other} is not a flag"),
            };
        }
        flags
    }
}

fn header(vector: &Vector) -> Header {
    let FixedHeader { kind, flags, ttl, source, target, .. } = fixed_header(vector);
    let mut trace = Trace::default();
    if flags.contains(Flags::TRACE) {
        trace.trace_id.copy_from_slice(&vector.bytes("trace_id"));
        trace.span_id.copy_from_slice(&vector.bytes("span_id"));
    }
    let (key, call_id) = (vector.long("key"), vector.long("call_id"));
    Header { kind, flags, ttl, source, target, key, call_id, trace }
}

fn fixed_header(vector: &Vector) -> FixedHeader {
    FixedHeader {
        length: vector.short("length"),
        kind: Kind::from_raw(vector.number("kind") as u8).expect("a kind"),
        flags: vector.flags(),
        ttl: vector.number("ttl") as u16,
        source: vector.short("source"),
        target: vector.short("target"),
    }
}

/// The message that a vector describes. Names that no field has would be overlooked here; they
/// show when the decoded message is turned into JSON again.
fn message_of(name: &str, fields: &Value) -> Control {
    fn read<T: DeserializeOwned>(fields: &Value) -> T {
        serde_json::from_value(fields.clone()).unwrap_or_else(|error| panic!("{fields}: {error}"))
    }
    match name {
        "hello" => Control::Hello(read(fields)),
        "welcome" => Control::Welcome(read(fields)),
        "register" => Control::Register(read(fields)),
        "registered" => Control::Registered(read(fields)),
        "unregister" => Control::Unregister(read(fields)),
        "unregistered" => Control::Unregistered(read(fields)),
        "replaced" => Control::Replaced(read(fields)),
        "load" => Control::Load(read(fields)),
        "claim" => Control::Claim(read(fields)),
        "watch" => Control::Watch(read(fields)),
        "unwatch" => Control::Unwatch(read(fields)),
        "event" => Control::Event(read(fields)),
        "ping" => Control::Ping(read(fields)),
        "pong" => Control::Pong(read(fields)),
        "go_away" => Control::GoAway(read(fields)),
        "refused" => Control::Refused(read(fields)),
        other => panic!("{other} is not a message"),
    }
}

fn fields_of(message: &Control) -> Value {
    match message {
        Control::Hello(fields) => json!(fields),
        Control::Welcome(fields) => json!(fields),
        Control::Register(fields) => json!(fields),
        Control::Registered(fields) => json!(fields),
        Control::Unregister(fields) => json!(fields),
        Control::Unregistered(fields) => json!(fields),
        Control::Replaced(fields) => json!(fields),
        Control::Load(fields) => json!(fields),
        Control::Claim(fields) => json!(fields),
        Control::Watch(fields) | Control::Unwatch(fields) => json!(fields),
        Control::Event(fields) => json!(fields),
        Control::Ping(fields) | Control::Pong(fields) => json!(fields),
        Control::GoAway(fields) => json!(fields),
        Control::Refused(fields) => json!(fields),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
