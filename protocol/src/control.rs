//! What a node and a router say to each other: the MessagePack body of a frame of kind 16.
//!
//! A body is an array of two, the message's name and a map of its fields:
//!
//! ```text
//! ["ping", {"nonce": 7}]
//! ```
//!
//! Unknown fields are ignored and absent ones take their default, so that versions may differ by
//! one; an unknown name is [`ControlError::Unknown`], which a router answers with Refused.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use rmp::Marker;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize};

use crate::frame::Frame;
use crate::header::Header;
use crate::id::{Class, ServiceId};
use crate::kind::Kind;

/// One control message.
#[derive(Debug, Clone, PartialEq)]
pub enum Control {
    /// node -> router, the first frame: who I am.
    Hello(Hello),
    /// router -> node, the answer: you are reachable.
    Welcome(Welcome),
    /// node -> router: more ids for this session.
    Register(Register),
    /// router -> node: the ids are reachable.
    Registered(Registered),
    /// node -> router: ids that this session gives up.
    Unregister(Unregister),
    /// router -> node: they are gone; no frame for them follows.
    Unregistered(Unregistered),
    /// router -> node: a newer incarnation took these ids from this session.
    Replaced(Replaced),
    /// node -> router: how busy an instance is.
    Load(Load),
    /// node -> router: another router elected this id of mine, and you have another master.
    Claim(Claim),
    /// node -> router: tell me of every change in a class.
    Watch(Watch),
    /// node -> router: tell me no more.
    Unwatch(Watch),
    /// router -> node: what changed in a class.
    Event(Event),
    /// Are you there? Either side may ask.
    Ping(Ping),
    /// Yes. A router also sends it unasked to a node that it has stopped reading for a while.
    Pong(Ping),
    /// router -> node: this session ends soon, or now.
    GoAway(GoAway),
    /// router -> node: no, and why.
    Refused(Refused),
}

/// The first thing a node says.
#[derive(Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Hello {
    /// The protocol version it speaks; see [`crate::limits::VERSION`].
    pub version: u16,
    /// What proves who it is, if the router asks for it. A secret: `Debug` does not show it.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "read_secret")]
    pub token: String,
    /// The services it offers.
    pub services: Vec<Service>,
    /// Grows each time the program starts. An equal or a larger one takes an id from an older
    /// session; a smaller one is refused.
    pub incarnation: u64,
    /// What people call it, in logs.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// How often it will ping, in milliseconds; 0 leaves it to the router.
    pub heartbeat_ms: u32,
    /// The classes to watch from the start.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub watch: Vec<Class>,
    /// Which of the node's links this is, where it has several: another link of the same incarnation
    /// to the same router is refused.
    #[serde(skip_serializing_if = "is_zero")]
    pub link: u32,
    /// Grows with every connection that this link makes: a Hello that comes late, from one that was
    /// given up, does not take the ids from the one that followed.
    #[serde(skip_serializing_if = "is_zero_long")]
    pub attempt: u64,
}

/// One service that a node offers: `id` by number, or `class` by name with `instance`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Service {
    /// Class and instance; with instance 0 the router assigns one. 0 where `class` is given.
    #[serde(skip_serializing_if = "is_zero")]
    pub id: u32,
    /// The class by the name that the router knows it under.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub class: String,
    /// The instance beside `class`; 0 to have one assigned.
    #[serde(skip_serializing_if = "is_zero")]
    pub instance: u32,
    /// Its share of Random frames against the other instances'; 0 takes none.
    pub weight: u16,
    /// What watchers of the class are told of it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    /// Another router assigned the id: where someone else holds it here, it is refused and not
    /// taken from them.
    #[serde(skip_serializing_if = "is_false")]
    pub assigned: bool,
    /// The epoch in which this node is the master of the class already, at another router; 0 if it
    /// is not.
    #[serde(skip_serializing_if = "is_zero_long")]
    pub master_since: u64,
}

/// The answer to Hello.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Welcome {
    /// The version that the session speaks.
    pub version: u16,
    /// The router's name.
    pub router: String,
    /// The session's number, as it stands in the router's log.
    pub session: u64,
    /// The ids, in the order of Hello's services.
    pub ids: Vec<ServiceId>,
    /// The names of classes that the router knows.
    pub classes: BTreeMap<Class, String>,
    /// How often to ping, in milliseconds.
    pub heartbeat_ms: u32,
    /// The longest frame that the router takes, in bytes.
    pub max_frame: u32,
    /// How many ids one session may register.
    pub max_services: u32,
    /// Where other routers listen.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub routers: Vec<String>,
    /// The masters of the classes that the session registered, as they are with it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub masters: BTreeMap<Class, Master>,
    /// How long the router has been up, in milliseconds.
    #[serde(skip_serializing_if = "is_zero_long")]
    pub uptime_ms: u64,
}

/// More ids for a session.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Register {
    /// Comes back in the answer.
    pub request: u32,
    /// The services.
    pub services: Vec<Service>,
}

/// The answer to Register.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Registered {
    /// That of the Register.
    pub request: u32,
    /// The ids, in the order of its services.
    pub ids: Vec<ServiceId>,
}

/// Ids that a session gives up.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Unregister {
    /// Comes back in the answer.
    pub request: u32,
    /// The ids.
    pub ids: Vec<ServiceId>,
    /// The ids are picked no more, but the session may still send from them and be reached by
    /// Direct frames, until it gives them up for good or ends.
    #[serde(skip_serializing_if = "is_false")]
    pub draining: bool,
}

/// The answer to Unregister.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Unregistered {
    /// That of the Unregister.
    pub request: u32,
}

/// Ids that a newer incarnation took.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Replaced {
    /// The ids.
    pub ids: Vec<ServiceId>,
}

/// How busy an instance is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Load {
    /// The instance.
    pub id: ServiceId,
    /// Any number that grows with the work; players online, say.
    pub load: u32,
}

/// The word of another router that an instance is master of its class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The instance.
    pub id: ServiceId,
    /// The epoch in which that router elected it.
    pub epoch: u64,
}

/// A class to watch, or to watch no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watch {
    /// The class.
    pub class: Class,
    /// Only what changes from now on, without the picture of the class as it is.
    #[serde(default, skip_serializing_if = "is_false")]
    pub changes_only: bool,
}

/// What changed in a class. `left` comes before `joined`, and `joined` before `master`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// The class.
    pub class: Class,
    /// Part of the picture that a Watch starts with: `joined` lists who is there already.
    #[serde(default, skip_serializing_if = "is_false")]
    pub snapshot: bool,
    /// The last part of that picture.
    #[serde(default, skip_serializing_if = "is_false")]
    pub complete: bool,
    /// Who left, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left: Vec<Left>,
    /// Who joined.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub joined: Vec<Joined>,
    /// The master, where it changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub master: Option<Master>,
}

/// An instance that joined its class.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Joined {
    /// Who.
    pub id: ServiceId,
    /// What it told of itself.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
}

/// An instance that left its class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Left {
    /// Who.
    pub id: ServiceId,
    /// Why.
    pub reason: LeftReason,
}

/// Why an instance left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum LeftReason {
    /// It gave the id up.
    Unregistered,
    /// Its connection ended without a word.
    Disconnected,
    /// It missed its heartbeats.
    HeartbeatLost,
    /// A newer incarnation took the id.
    Replaced,
    /// It did not read what was sent to it.
    SlowConsumer,
    /// It sent what is not a frame.
    Malformed,
    /// The router closed the session.
    Closed,
    /// A reason of a later version.
    #[serde(other)]
    Other,
}

/// The word that is on the wire.
impl fmt::Display for LeftReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// Who is master of a class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Master {
    /// The master; none while the class has no live instance.
    pub id: Option<ServiceId>,
    /// Grows with every change; a master writes it beside its data.
    pub epoch: u64,
}

/// A sign of life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Ping {
    /// Comes back in the Pong.
    pub nonce: u64,
}

/// A session ends soon, or now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct GoAway {
    /// Why.
    pub reason: GoAwayReason,
    /// When to come back, in milliseconds; absent: do not come back by yourself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reconnect_after_ms: Option<u32>,
}

/// Why a session ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum GoAwayReason {
    /// The router is about to leave.
    Shutdown,
    /// A newer incarnation took the last id of this session.
    Replaced,
    /// It did not read what was sent to it.
    SlowConsumer,
    /// It missed its heartbeats.
    HeartbeatLost,
    /// An operator closed it.
    Closed,
    /// A reason of a later version.
    #[serde(other)]
    Other,
}

/// No, and why.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Refused {
    /// A [`crate::RefusalCode`] by number.
    pub code: u16,
    /// For people: what was wrong, and what would be right.
    pub text: String,
    /// Where it was wrong: bytes from the start of the session's stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// The Register or Unregister that is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<u32>,
}

/// Why a body is not a control message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// It is a message, of a name that this version does not know; this is the start of the name.
    #[error("unknown control message `{0}`")]
    Unknown(String),
    /// It is not `[name, {fields}]`.
    #[error("a control message is an array of its name and a map of its fields: {0}")]
    Shape(String),
    /// A field is missing, of the wrong type or out of range.
    #[error("control message `{name}`: {why}")]
    Field {
        /// The message.
        name: String,
        /// What is wrong.
        why: String,
    },
}

// By hand, because the token is a secret and a Hello may end up in a log.
impl fmt::Debug for Hello {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            version,
            token,
            services,
            incarnation,
            name,
            heartbeat_ms,
            watch,
            link,
            attempt,
        } = self;
        let token = if token.is_empty() { "none" } else { "hidden" };
        f.debug_struct("Hello")
            .field("version", version)
            .field("token", &format_args!("{token}"))
            .field("services", services)
            .field("incarnation", incarnation)
            .field("name", name)
            .field("heartbeat_ms", heartbeat_ms)
            .field("watch", watch)
            .field("link", link)
            .field("attempt", attempt)
            .finish()
    }
}

impl Watch {
    /// A class, with its picture.
    #[must_use]
    pub fn of(class: Class) -> Self {
        Self { class, changes_only: false }
    }
}

impl Event {
    /// An event of a class in which nothing has happened yet.
    #[must_use]
    pub fn of(class: Class) -> Self {
        Self {
            class,
            snapshot: false,
            complete: false,
            left: Vec::new(),
            joined: Vec::new(),
            master: None,
        }
    }
}

impl Default for Service {
    fn default() -> Self {
        Self {
            id: 0,
            class: String::new(),
            instance: 0,
            weight: 1,
            metadata: BTreeMap::new(),
            assigned: false,
            master_since: 0,
        }
    }
}

impl Service {
    /// The service with this id.
    #[must_use]
    pub fn of(id: ServiceId) -> Self {
        Self { id: id.raw(), ..Self::default() }
    }

    /// Some instance of a class, which the router assigns.
    #[must_use]
    pub fn any_of(class: Class) -> Self {
        Self { id: class.as_target(), ..Self::default() }
    }
}

impl Control {
    /// Reads a body.
    pub fn decode(body: &[u8]) -> Result<Self, ControlError> {
        let (name, fields) = split(body)?;
        Ok(match name {
            "hello" => Self::Hello(read(name, fields)?),
            "welcome" => Self::Welcome(read(name, fields)?),
            "register" => Self::Register(read(name, fields)?),
            "registered" => Self::Registered(read(name, fields)?),
            "unregister" => Self::Unregister(read(name, fields)?),
            "unregistered" => Self::Unregistered(read(name, fields)?),
            "replaced" => Self::Replaced(read(name, fields)?),
            "load" => Self::Load(read(name, fields)?),
            "claim" => Self::Claim(read(name, fields)?),
            "watch" => Self::Watch(read(name, fields)?),
            "unwatch" => Self::Unwatch(read(name, fields)?),
            "event" => Self::Event(read(name, fields)?),
            "ping" => Self::Ping(read(name, fields)?),
            "pong" => Self::Pong(read(name, fields)?),
            "go_away" => Self::GoAway(read(name, fields)?),
            "refused" => Self::Refused(read(name, fields)?),
            unknown => return Err(ControlError::Unknown(shortened(unknown))),
        })
    }

    /// Writes a body.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let name = self.name();
        match self {
            Self::Hello(fields) => write(name, fields),
            Self::Welcome(fields) => write(name, fields),
            Self::Register(fields) => write(name, fields),
            Self::Registered(fields) => write(name, fields),
            Self::Unregister(fields) => write(name, fields),
            Self::Unregistered(fields) => write(name, fields),
            Self::Replaced(fields) => write(name, fields),
            Self::Load(fields) => write(name, fields),
            Self::Claim(fields) => write(name, fields),
            Self::Watch(fields) | Self::Unwatch(fields) => write(name, fields),
            Self::Event(fields) => write(name, fields),
            Self::Ping(fields) | Self::Pong(fields) => write(name, fields),
            Self::GoAway(fields) => write(name, fields),
            Self::Refused(fields) => write(name, fields),
        }
    }

    /// As a frame. Control frames have neither source nor target.
    #[must_use]
    pub fn to_frame(&self) -> Frame {
        Frame::new(Header::new(Kind::Control, 0, 0), self.encode())
    }

    /// The message's name, as it stands in the body.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Hello(_) => "hello",
            Self::Welcome(_) => "welcome",
            Self::Register(_) => "register",
            Self::Registered(_) => "registered",
            Self::Unregister(_) => "unregister",
            Self::Unregistered(_) => "unregistered",
            Self::Replaced(_) => "replaced",
            Self::Load(_) => "load",
            Self::Claim(_) => "claim",
            Self::Watch(_) => "watch",
            Self::Unwatch(_) => "unwatch",
            Self::Event(_) => "event",
            Self::Ping(_) => "ping",
            Self::Pong(_) => "pong",
            Self::GoAway(_) => "go_away",
            Self::Refused(_) => "refused",
        }
    }
}

/// The name, and the bytes of the map behind it.
fn split(mut body: &[u8]) -> Result<(&str, &[u8]), ControlError> {
    let shape = |why: &dyn fmt::Display| ControlError::Shape(why.to_string());
    match rmp::decode::read_array_len(&mut body) {
        Ok(2) => {}
        Ok(other) => return Err(shape(&format_args!("the array holds {other}"))),
        Err(_) => return Err(shape(&"it is not an array")),
    }
    let Ok((name, fields)) = rmp::decode::read_str_from_slice(body) else {
        return Err(shape(&"its name is not text"));
    };
    // Without this an array of the fields' values, in the order of this file, would do as well.
    match fields.first().copied().map(Marker::from_u8) {
        Some(Marker::FixMap(_) | Marker::Map16 | Marker::Map32) => Ok((name, fields)),
        _ => Err(shape(&"its fields are not a map")),
    }
}

/// As much of an unknown name as fits a line: it goes back in Refused, and into logs.
fn shortened(name: &str) -> String {
    let line = name.escape_debug();
    if name.len() <= LONGEST_NAME {
        return line.to_string();
    }
    line.take(LONGEST_NAME).chain("...".chars()).collect()
}

fn read<T: DeserializeOwned>(name: &str, fields: &[u8]) -> Result<T, ControlError> {
    let field = |why: String| ControlError::Field { name: name.to_owned(), why };
    let mut reader = rmp_serde::Deserializer::new(fields);
    reader.set_max_depth(MAX_DEPTH);
    let message = T::deserialize(&mut reader).map_err(|error| field(error.to_string()))?;
    match reader.get_ref().len() {
        0 => Ok(message),
        extra => Err(field(format!("{extra} bytes follow the fields"))),
    }
}

fn write<T: Serialize>(name: &str, fields: &T) -> Bytes {
    let mut body = Vec::with_capacity(64);
    // Writing to memory does not fail, and neither does any type of this file.
    let written = rmp::encode::write_array_len(&mut body, 2)
        .and_then(|_| rmp::encode::write_str(&mut body, name))
        .is_ok()
        && rmp_serde::encode::write_named(&mut body, fields).is_ok();
    debug_assert!(written, "{name} can be written");
    body.into()
}

/// A text that no error repeats; errors come into logs.
fn read_secret<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    String::deserialize(from).map_err(|_| D::Error::custom("`token` is not a text"))
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

fn is_zero_long(number: &u64) -> bool {
    *number == 0
}

fn is_false(flag: &bool) -> bool {
    !*flag
}

/// How deep unknown fields may nest before a body is refused.
const MAX_DEPTH: usize = 16;

/// How much of an unknown name an error repeats.
const LONGEST_NAME: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_a_message_says_why() {
        let error = |body: &[u8]| Control::decode(body).unwrap_err().to_string();
        let shape = |why| {
            format!("a control message is an array of its name and a map of its fields: {why}")
        };
        assert_eq!(error(b""), shape("it is not an array"));
        assert_eq!(error(b"\x93"), shape("the array holds 3"));
        assert_eq!(error(b"\x92\x07\x80"), shape("its name is not text"));
        assert_eq!(error(b"\x92\xa4ping"), shape("its fields are not a map"));
        assert_eq!(error(b"\x92\xa4ping\x91\x07"), shape("its fields are not a map"));
        assert_eq!(error(b"\x92\xa3fly\x80"), "unknown control message `fly`");
        assert_eq!(
            error(b"\x92\xa4load\x81\xa4load\x07"),
            "control message `load`: missing field `id`"
        );
        assert_eq!(
            error(b"\x92\xa5watch\x81\xa5class\x00"),
            "control message `watch`: class 0 is out of range: a class is 1 to 255"
        );
        assert_eq!(
            error(b"\x92\xa4ping\x80\xc0"),
            "control message `ping`: 1 bytes follow the fields"
        );
    }

    #[test]
    fn an_unknown_name_comes_back_on_one_short_line() {
        let body = [b"\x92\xda\x10\x00".as_slice(), &[b'\n'; 4096], b"\x80"].concat();
        let error = Control::decode(&body).unwrap_err();
        assert_eq!(error, ControlError::Unknown(format!("{}...", "\\n".repeat(32))));
    }

    #[test]
    fn a_field_of_a_later_version_is_ignored_and_an_absent_one_has_its_default() {
        let body = b"\x92\xa4ping\x81\xa5later\x93\x01\x02\xc0";
        assert_eq!(Control::decode(body), Ok(Control::Ping(Ping { nonce: 0 })));
    }

    #[test]
    fn a_token_is_shown_by_neither_debug_nor_an_error() {
        let token = "s3cret-of-the-gateways".to_owned();
        let shown = format!("{:?}", Control::Hello(Hello { token, ..Hello::default() }));
        assert!(shown.contains("token: hidden, services: []"), "{shown}");
        assert!(format!("{:?}", Hello::default()).contains("token: none"));
        // A number, and bytes that are not text.
        for token in [b"\xce\x07\x5b\xcd\x15".as_slice(), b"\xa8\xffs3cret!"] {
            let body = [b"\x92\xa5hello\x81\xa5token".as_slice(), token].concat();
            let error = Control::decode(&body).unwrap_err().to_string();
            assert_eq!(error, "control message `hello`: `token` is not a text");
        }
    }

    #[test]
    fn a_reason_of_a_later_version_is_other() {
        let body = b"\x92\xa7go_away\x81\xa6reason\xa5bored";
        assert_eq!(
            Control::decode(body),
            Ok(Control::GoAway(GoAway { reason: GoAwayReason::Other, reconnect_after_ms: None }))
        );
    }
}
