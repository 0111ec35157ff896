//! The configuration: a YAML file, the command line over it, and what both are checked against.
//!
//! Every field has a default, and `router.example.yaml` documents each. A mistake is one line with the
//! file, the key, the bad value and what would be right.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_yaml::Value;
use switchboard_protocol::{Class, limits};

use crate::caller;
use crate::policy::{ClassPolicy, Overflow, Policies};
use crate::reload::KeyChange;
use crate::secret::{self, Secret};
use crate::tokens::{self, Token};

/// All that a router can be told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// What it calls itself, in Welcome and in logs.
    pub name: String,
    /// Where nodes connect: an IP address and a port, or `unix:/path`. Port 0 takes any free one.
    pub listen: Vec<Address>,
    /// Where operators connect over HTTP.
    #[serde(deserialize_with = "read_admin")]
    pub admin: SocketAddr,
    /// What operators have to show; without it nobody has to, and only this machine is listened to.
    #[serde(deserialize_with = "read_admin_token")]
    pub admin_token: Option<Secret>,
    /// The names, besides `localhost`, that the admin server is asked by.
    pub admin_hosts: Vec<String>,
    /// How many threads forward frames; 0 is one for each core.
    pub shards: usize,
    /// Which log lines to write: `info`, or `switchboard_router=debug`.
    pub log: String,
    /// What peers may take.
    pub limits: Limits,
    /// How often nodes ping.
    pub heartbeat: Heartbeat,
    /// How the router leaves.
    pub drain: Drain,
    /// Where other routers listen, as nodes should dial them: `host:port` or `unix:/path`. Nodes are
    /// told of them; this router itself does nothing with them.
    pub routers: Vec<String>,
    /// What nodes show to be let in, and what each lets them register; while there is none, none is asked for.
    #[serde(deserialize_with = "tokens::read")]
    pub tokens: Vec<Token>,
    /// Calls that come over HTTP.
    pub http_calls: HttpCalls,
    /// The policy of classes that `classes` does not name.
    pub default_class: ClassPolicy,
    /// The classes by name.
    #[serde(deserialize_with = "classes")]
    pub classes: BTreeMap<String, ClassConfig>,
}

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Address {
    /// A TCP address.
    Tcp(SocketAddr),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

/// What peers may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// The longest frame in bytes, header included.
    pub max_frame_bytes: u32,
    /// The most connections at a time.
    pub max_connections: usize,
    /// The most ids that one session may register.
    pub max_services_per_session: usize,
    /// How long a new connection may take to say Hello.
    pub handshake_timeout_ms: u64,
}

/// How often nodes ping. A side that hears nothing for three heartbeats gives the other up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Heartbeat {
    /// For a node that does not ask.
    pub default_ms: u32,
    /// The shortest that a node may ask for.
    pub min_ms: u32,
    /// The longest.
    pub max_ms: u32,
}

/// How the router leaves after SIGTERM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Drain {
    /// How long sessions have to end by themselves.
    pub timeout_ms: u64,
    /// Nodes are told to come back after a random time up to this, so that they don't all come at once.
    pub reconnect_spread_ms: u32,
}

/// Calls that come over HTTP, for the classes that take them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpCalls {
    /// The longest body of a call.
    pub max_body_bytes: usize,
}

/// A class in the file: its number and its policy, side by side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ClassConfig {
    /// Its number, 1 to 255.
    pub id: u8,
    /// Its policy.
    #[serde(flatten)]
    pub policy: ClassPolicy,
}

// By hand, because serde's flatten would let unknown fields pass.
fn classes<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, ClassConfig>, D::Error> {
    // A mapping refuses a name that stands there twice; a map would keep the last.
    let classes = serde_yaml::Mapping::deserialize(deserializer)?;
    let read = |(name, fields): (Value, Value)| {
        let name =
            name.as_str().ok_or_else(|| D::Error::custom("the name of a class is a text"))?;
        let wrong = |wrong: String| D::Error::custom(format_args!("classes.{name}: {wrong}"));
        let fields = serde_yaml::from_value(fields).map_err(|error| wrong(error.to_string()))?;
        Ok((name.to_owned(), class(fields).map_err(wrong)?))
    };
    classes.into_iter().map(read).collect()
}

fn class(mut fields: BTreeMap<String, Value>) -> Result<ClassConfig, String> {
    let id = fields.remove("id").ok_or("missing field `id`: a class has a number, 1 to 255")?;
    let number = id.as_u64().and_then(|id| u8::try_from(id).ok()).ok_or_else(|| {
        let shown = serde_yaml::to_string(&id).unwrap_or_default();
        format!("id: {} is out of range: a class is 1 to 255", shown.trim())
    })?;
    let fields = fields.into_iter().map(|(key, value)| (key.into(), value));
    let policy = serde_yaml::from_value(Value::Mapping(fields.collect()));
    Ok(ClassConfig { id: number, policy: policy.map_err(|error| error.to_string())? })
}

/// A mistake in the configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("{}: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The file is not what a router expects.
    #[error("{}: {error}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where, and what is wrong.
        error: serde_yaml::Error,
    },
    /// A value in the file can't be meant.
    #[error("{}: {error}", path.display())]
    InFile {
        /// The file.
        path: PathBuf,
        /// Which value, and what is wrong.
        error: Box<Self>,
    },
    /// A value can't be meant.
    #[error("{key}: {value} {wrong}")]
    Value {
        /// The field.
        key: String,
        /// What stands there.
        value: String,
        /// What is wrong, and what would be right.
        wrong: String,
    },
}

impl Config {
    /// Any free ports on the loopback interface; for programs and tests that embed a router.
    #[must_use]
    pub fn local() -> Self {
        let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
        Self { listen: vec![Address::Tcp(anywhere)], admin: anywhere, ..Self::default() }
    }

    /// Gives a class a name, and so a policy of its own, the default one.
    #[must_use]
    pub fn with_class(self, name: &str, id: u8) -> Self {
        self.with_policy(name, id, ClassPolicy::default())
    }

    /// Gives a class a name and a policy.
    #[must_use]
    pub fn with_policy(mut self, name: &str, id: u8, policy: ClassPolicy) -> Self {
        self.classes.insert(name.to_owned(), ClassConfig { id, policy });
        self
    }

    /// Asks nodes for a token: this one, or another one that is given.
    #[must_use]
    pub fn with_token(mut self, token: Token) -> Self {
        self.tokens.push(token);
        self
    }

    /// Reads and checks a file.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| ConfigError::Read { path: path.to_owned(), error })?;
        let config = Self::parse(&text)
            .map_err(|error| ConfigError::Parse { path: path.to_owned(), error })?;
        config.validate().map_err(|error| {
            let error = Box::new(error);
            ConfigError::InFile { path: path.to_owned(), error }
        })?;
        Ok(config)
    }

    /// Reads a text, and the secrets from where it says that they are.
    pub fn parse(text: &str) -> Result<Self, serde_yaml::Error> {
        if text.lines().all(|line| line.trim().is_empty() || line.trim().starts_with('#')) {
            return Ok(Self::default());
        }
        serde_yaml::from_str(text)
    }

    /// Checks what the types alone don't.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if self.listen.is_empty() {
            return wrong(
                "listen",
                "[]",
                "is empty: name one address at least, such as 0.0.0.0:2000",
            );
        }
        if !self.admin.ip().is_loopback() && self.admin_token.is_none() {
            let rule = "is reached from other machines: set admin_token, or use 127.0.0.1";
            return wrong("admin", self.admin, rule);
        }
        if let Some(token) = &self.admin_token {
            token.validate("admin_token", LEAST_ADMIN_TOKEN)?;
            token.validate_for_header("admin_token")?;
        }
        if self.name.is_empty() {
            return wrong("name", "\"\"", "is empty: a router needs a name");
        }
        if self.shards > MAX_SHARDS {
            return wrong("shards", self.shards, format!("is over {MAX_SHARDS}"));
        }
        for address in &self.routers {
            if !is_dialled(address) {
                let rule = "is not an address to dial: write host:port or unix:/path";
                return wrong("routers", format!("`{address}`"), rule);
            }
        }
        self.validate_limits()?;
        if !(1..=MAX_MAX_FRAME as usize).contains(&self.http_calls.max_body_bytes) {
            let rule = format!("is out of range: 1 to {MAX_MAX_FRAME} bytes");
            return wrong("http_calls.max_body_bytes", self.http_calls.max_body_bytes, rule);
        }
        self.validate_policy("default_class", &self.default_class)?;
        let mut seen: BTreeMap<u8, &str> = BTreeMap::new();
        for (name, class) in &self.classes {
            let key = format!("classes.{name}");
            let starts_well = name.starts_with(|first: char| first.is_ascii_alphabetic());
            if !starts_well || name.contains(['.', ' ', '/', ':']) {
                let rule =
                    "is not a name: it starts with a letter and has no dot, space, slash, colon";
                return wrong("classes", format!("`{name}`"), rule);
            }
            if class.id == 0 {
                return wrong(&format!("{key}.id"), 0, "is out of range: a class is 1 to 255");
            }
            if let Some(other) = seen.insert(class.id, name) {
                return wrong(&format!("{key}.id"), class.id, format!("is taken by `{other}`"));
            }
            let is_callers = class.id == caller::CLASS || name == caller::CLASS_NAME;
            if is_callers && self.takes_http_calls() {
                let rule = format!(
                    "is the router's own while a class has http_calls: it calls as {} ({})",
                    caller::CLASS_NAME,
                    caller::CLASS
                );
                return wrong("classes", format!("`{name}`"), rule);
            }
            self.validate_policy(&key, &class.policy)?;
        }
        tokens::validate(self)
    }

    fn validate_limits(&self) -> Result<(), ConfigError> {
        let Limits { max_frame_bytes, max_connections, handshake_timeout_ms, .. } = self.limits;
        let least = limits::MAX_CONTROL_FRAME;
        if !(least..=MAX_MAX_FRAME).contains(&max_frame_bytes) {
            let rule = format!("is out of range: {least} to {MAX_MAX_FRAME} bytes");
            return wrong("limits.max_frame_bytes", max_frame_bytes, rule);
        }
        if max_connections == 0 {
            return wrong("limits.max_connections", 0, "lets nobody in: it is 1 or more");
        }
        if self.limits.max_services_per_session == 0 {
            return wrong("limits.max_services_per_session", 0, "lets nobody register: 1 or more");
        }
        if let Some(rule) = wrong_time(handshake_timeout_ms) {
            return wrong("limits.handshake_timeout_ms", handshake_timeout_ms, rule);
        }
        let Heartbeat { default_ms, min_ms, max_ms } = self.heartbeat;
        if min_ms < 100 {
            return wrong("heartbeat.min_ms", min_ms, "is too short: 100 ms or more");
        }
        if !(min_ms..=max_ms).contains(&default_ms) {
            let rule = format!("is not between min_ms ({min_ms}) and max_ms ({max_ms})");
            return wrong("heartbeat.default_ms", default_ms, rule);
        }
        Ok(())
    }

    fn validate_policy(&self, key: &str, policy: &ClassPolicy) -> Result<(), ConfigError> {
        if policy.high_water_bytes < 4 << 10 {
            let rule = "is too little: 4096 bytes or more";
            return wrong(&format!("{key}.high_water_bytes"), policy.high_water_bytes, rule);
        }
        if let Some(rule) = wrong_time(policy.stall_timeout_ms) {
            return wrong(&format!("{key}.stall_timeout_ms"), policy.stall_timeout_ms, rule);
        }
        if policy.park_ms > MAX_PARK_MS {
            let rule = format!("is over {MAX_PARK_MS}: an hour");
            return wrong(&format!("{key}.park_ms"), policy.park_ms, rule);
        }
        if policy.park_bytes < 4 << 10 {
            let rule = "is too little: 4096 bytes or more; park_ms: 0 turns parking off";
            return wrong(&format!("{key}.park_bytes"), policy.park_bytes, rule);
        }
        if policy.slots > MAX_SLOTS {
            let rule = format!("is over {MAX_SLOTS}");
            return wrong(&format!("{key}.slots"), policy.slots, rule);
        }
        Ok(())
    }

    /// Whether any class takes calls over HTTP.
    fn takes_http_calls(&self) -> bool {
        self.default_class.http_calls || self.classes.values().any(|class| class.policy.http_calls)
    }

    /// The policies of all classes.
    #[must_use]
    pub fn policies(&self) -> Policies {
        let mut policies = Policies { default: self.default_class.clone(), ..Policies::default() };
        for (name, class) in &self.classes {
            if let Ok(id) = Class::new(class.id) {
                policies.classes.insert(id, class.policy.clone());
                policies.names.insert(id, name.clone());
            }
        }
        if self.takes_http_calls() {
            // Nobody who answers is held up because the router does not come to reading.
            let (overflow, high_water_bytes) = (Overflow::DropNew, CALLER_HIGH_WATER);
            let policy = ClassPolicy { overflow, high_water_bytes, ..ClassPolicy::default() };
            policies.classes.insert(Class::of(caller::CLASS), policy);
            policies.names.insert(Class::of(caller::CLASS), caller::CLASS_NAME.to_owned());
        }
        policies
    }

    /// What differs in `new`: what a reload takes over, and what needs a restart.
    #[must_use]
    pub fn difference(&self, new: &Self) -> Difference {
        let mut difference = Difference::default();
        let mut note = |key: &str, changed: bool, live: bool| {
            if changed {
                let list =
                    if live { &mut difference.applied } else { &mut difference.needs_restart };
                list.push(key.to_owned());
            }
        };
        note("name", self.name != new.name, false);
        note("listen", self.listen != new.listen, false);
        note("admin", self.admin != new.admin, false);
        note("admin_token", self.admin_token != new.admin_token, true);
        note("admin_hosts", self.admin_hosts != new.admin_hosts, true);
        note("shards", self.shards != new.shards, false);
        note("log", self.log != new.log, false);
        let services = self.limits.max_services_per_session;
        let other_services = new.limits.max_services_per_session;
        note("limits.max_services_per_session", services != other_services, false);
        let live = Limits { max_services_per_session: services, ..new.limits };
        note("limits", self.limits != live, true);
        note("heartbeat", self.heartbeat != new.heartbeat, true);
        note("drain", self.drain != new.drain, true);
        note("http_calls", self.http_calls != new.http_calls, true);
        note("routers", self.routers != new.routers, true);
        note("tokens", self.tokens != new.tokens, true);
        note("default_class", self.default_class != new.default_class, true);
        for (name, class) in &new.classes {
            note(&format!("classes.{name}"), self.classes.get(name) != Some(class), true);
        }
        for name in self.classes.keys() {
            note(&format!("classes.{name}"), !new.classes.contains_key(name), true);
        }
        difference
    }
}

/// What is wrong with a time that peers are given, if anything is.
fn wrong_time(ms: u64) -> Option<&'static str> {
    match ms {
        0..100 => Some("is too short: 100 ms or more"),
        100..=3_600_000 => None,
        _ => Some("is too long: 3600000 ms at most"),
    }
}

/// What a reload changes.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Difference {
    /// Keys that are in force now.
    pub applied: Vec<String>,
    /// Keys that keep their old value until the router starts again.
    pub needs_restart: Vec<String>,
    /// Each value that differs, where a running router compared them.
    pub changes: Vec<KeyChange>,
}

pub(crate) fn wrong<T>(
    key: &str,
    value: impl fmt::Display,
    wrong: impl Into<String>,
) -> Result<T, ConfigError> {
    Err(ConfigError::Value { key: key.to_owned(), value: value.to_string(), wrong: wrong.into() })
}

impl Default for Config {
    fn default() -> Self {
        Self {
            name: "router".to_owned(),
            listen: vec![Address::Tcp(SocketAddr::from(([0, 0, 0, 0], 2000)))],
            admin: SocketAddr::from(([127, 0, 0, 1], 2001)),
            admin_token: None,
            admin_hosts: Vec::new(),
            shards: 0,
            log: "info".to_owned(),
            limits: Limits::default(),
            heartbeat: Heartbeat::default(),
            drain: Drain::default(),
            http_calls: HttpCalls::default(),
            routers: Vec::new(),
            tokens: Vec::new(),
            default_class: ClassPolicy::default(),
            classes: BTreeMap::new(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_frame_bytes: limits::DEFAULT_MAX_FRAME,
            max_connections: 1_100_000,
            max_services_per_session: 64,
            handshake_timeout_ms: 5_000,
        }
    }
}

impl Limits {
    /// How long a new connection may take to say Hello.
    #[must_use]
    pub fn handshake_timeout(&self) -> Duration {
        Duration::from_millis(self.handshake_timeout_ms)
    }
}

impl Default for Heartbeat {
    fn default() -> Self {
        let default_ms = limits::DEFAULT_HEARTBEAT.as_millis() as u32;
        Self { default_ms, min_ms: 500, max_ms: 60_000 }
    }
}

impl Heartbeat {
    /// What a node gets that asks for `wanted` milliseconds; 0 leaves it to the router.
    #[must_use]
    pub fn grant(&self, wanted: u32) -> u32 {
        if wanted == 0 { self.default_ms } else { wanted.clamp(self.min_ms, self.max_ms) }
    }
}

impl Default for Drain {
    fn default() -> Self {
        Self { timeout_ms: 10_000, reconnect_spread_ms: 1_000 }
    }
}

impl Default for HttpCalls {
    fn default() -> Self {
        Self { max_body_bytes: 1 << 20 }
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return match path {
                "" => Err(format!("`{text}` names no file: write unix:/path/to/socket")),
                path => Ok(Self::Unix(PathBuf::from(path))),
            };
        }
        text.parse().map(Self::Tcp).map_err(|_| {
            format!(
                "`{text}` is not an address: write an IP address and a port, such as \
                 0.0.0.0:2000, or unix:/path"
            )
        })
    }
}

/// Reads the address of the admin server.
pub(crate) fn parse_admin(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        format!(
            "`{text}` is not an address: write an IP address and a port, such as 127.0.0.1:2001"
        )
    })
}

/// Whether a node can dial this. A name is resolved by the node, so here it is only looked at.
fn is_dialled(address: &str) -> bool {
    if let Some(path) = address.strip_prefix("unix:") {
        return path.starts_with('/');
    }
    let Some((host, port)) = address.rsplit_once(':') else { return false };
    // An IPv6 address stands in brackets, or nobody could tell where its port begins.
    let v6 = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_host = match v6 {
        Some(v6) => v6.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && !host.contains([':', '/', '[', ']', ' ']),
    };
    is_host && port.parse::<u16>().is_ok_and(|port| port != 0)
}

fn read_admin<'de, D: Deserializer<'de>>(from: D) -> Result<SocketAddr, D::Error> {
    let text = String::deserialize(from)?;
    // The parser names the field by itself only while it reads it.
    parse_admin(&text).map_err(|why| serde::de::Error::custom(format_args!("admin: {why}")))
}

fn read_admin_token<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Secret>, D::Error> {
    let secret = match Value::deserialize(from)? {
        Value::Null => return Ok(None),
        Value::Mapping(fields) => Secret::read("admin_token", fields, &secret::FIELDS),
        // It is not repeated, as it may be the token.
        _ => Err("admin_token: is not where a secret stands: write {env: NAME} or {file: /path}"
            .to_owned()),
    };
    secret.map(Some).map_err(D::Error::custom)
}

impl TryFrom<String> for Address {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Address> for String {
    fn from(address: Address) -> Self {
        address.to_string()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// How many bytes of answers may wait for the router itself.
const CALLER_HIGH_WATER: usize = 64 << 20;
/// What is shorter can be guessed, by whoever can ask as often as they like.
const LEAST_ADMIN_TOKEN: usize = 16;
const MAX_SHARDS: usize = 256;
const MAX_SLOTS: u32 = 1 << 20;
const MAX_PARK_MS: u64 = 3_600_000;
const MAX_MAX_FRAME: u32 = 1 << 30;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{HashPolicy, MasterPolicy};

    const EXAMPLE: &str = include_str!("../../router.example.yaml");

    fn parse_error(text: &str) -> String {
        Config::parse(text).unwrap_err().to_string()
    }

    fn value_error(text: &str) -> String {
        Config::parse(text).unwrap().validate().unwrap_err().to_string()
    }

    #[test]
    fn the_example_documents_every_field_with_its_default() {
        let example = Config::parse(EXAMPLE).unwrap();
        example.validate().unwrap();
        let without_classes = Config { classes: BTreeMap::new(), ..example.clone() };
        assert_eq!(without_classes, Config::default());
        assert_eq!(example.classes["dbagent"].policy.slots, 4);
        assert_eq!(example.classes["mailsvr"].policy.hash, HashPolicy::Rendezvous);
        assert_eq!(example.classes["gamesvr"].policy.overflow, Overflow::DropOld);
        assert_eq!(example.classes["matchsvr"].policy.master, MasterPolicy::Sticky);
        // Every field that a configuration has stands in the example's text.
        let written = serde_yaml::to_string(&example).unwrap();
        for line in written.lines().filter(|line| !line.starts_with("- ")) {
            let key = line.trim().split(':').next().unwrap();
            assert!(EXAMPLE.contains(&format!("{key}:")), "{key} is not in the example");
        }
    }

    #[test]
    fn the_configuration_in_the_readme_is_valid() {
        let readme = include_str!("../../README.md");
        let (_, from_example) = readme.split_once("```yaml\n").unwrap();
        let (example, _) = from_example.split_once("```").unwrap();
        let config = Config::parse(example).unwrap();
        config.validate().unwrap();
        assert_eq!(config.classes["dbagent"].policy.slots, 4);
    }

    #[test]
    fn an_empty_file_is_all_defaults() {
        assert_eq!(Config::parse("# nothing\n\n").unwrap(), Config::default());
        assert_eq!(Config::parse("name: a\n").unwrap().admin, Config::default().admin);
    }

    #[test]
    fn an_unknown_field_is_named_with_its_place_and_what_would_be_right() {
        let error = parse_error("name: a\nlimit:\n  max_frame_bytes: 1\n");
        assert!(
            error.contains("unknown field `limit`, expected one of `name`, `listen`"),
            "{error}"
        );
        let error = parse_error("limits:\n  max_frame: 1\n");
        assert!(error.contains("limits: unknown field `max_frame`"), "{error}");
        assert!(error.contains("line 2"), "{error}");
        let error = parse_error("classes:\n  a:\n    id: 1\n    hsah: fixed\n");
        assert!(
            error.contains("classes.a: unknown field `hsah`, expected one of `hash`"),
            "{error}"
        );
    }

    #[test]
    fn a_bad_value_is_named_with_what_would_be_right() {
        let error = parse_error("listen: [nowhere]\n");
        assert!(
            error.contains(
                "`nowhere` is not an address: write an IP address and a port, such as 0.0.0.0:2000"
            ),
            "{error}"
        );
        let error = parse_error("default_class:\n  overflow: explode\n");
        assert!(error.contains("unknown variant `explode`, expected one of `pause`"), "{error}");
        let error = parse_error("classes:\n  a:\n    id: 256\n");
        assert!(
            error.contains("classes.a: id: 256 is out of range: a class is 1 to 255"),
            "{error}"
        );
        let error = parse_error("classes:\n  a: {id: 1}\n  a: {id: 2}\n");
        assert!(error.contains("duplicate entry with key \"a\""), "{error}");
        let error = parse_error("classes:\n  a:\n    slots: 4\n");
        assert!(error.contains("classes.a: missing field `id`"), "{error}");
        assert_eq!(
            value_error("classes: {a: {id: 0}}"),
            "classes.a.id: 0 is out of range: a class is 1 to 255"
        );
        assert_eq!(
            value_error("classes: {a: {id: 3}, b: {id: 3}}"),
            "classes.b.id: 3 is taken by `a`"
        );
        assert_eq!(
            value_error("limits: {max_frame_bytes: 100}"),
            "limits.max_frame_bytes: 100 is out of range: 65536 to 1073741824 bytes"
        );
        assert_eq!(
            value_error("heartbeat: {default_ms: 100}"),
            "heartbeat.default_ms: 100 is not between min_ms (500) and max_ms (60000)"
        );
        assert_eq!(
            value_error("classes: {a.b: {id: 1}}"),
            "classes: `a.b` is not a name: it starts with a letter and has no dot, space, slash, colon"
        );
        assert_eq!(
            value_error("default_class: {high_water_bytes: 1}"),
            "default_class.high_water_bytes: 1 is too little: 4096 bytes or more"
        );
        assert_eq!(
            value_error("limits: {handshake_timeout_ms: 4294967296}"),
            "limits.handshake_timeout_ms: 4294967296 is too long: 3600000 ms at most"
        );
        for address in
            ["there", "there:0", ":2000", "unix:", "unix:sock", "::1:2000", "[::1]", "a b:1"]
        {
            assert_eq!(
                value_error(&format!("routers: ['{address}']")),
                format!(
                    "routers: `{address}` is not an address to dial: write host:port or unix:/path"
                )
            );
        }
        let fine =
            "routers: ['north.example:2000', '[::1]:2000', '10.0.0.1:1', 'unix:/run/r.sock']";
        Config::parse(fine).unwrap().validate().unwrap();
        let error = parse_error("default_class: {master: highest-id}");
        assert!(
            error.contains("unknown variant `highest-id`, expected one of `lowest-id`"),
            "{error}"
        );
        assert_eq!(
            value_error("listen: []"),
            "listen: [] is empty: name one address at least, such as 0.0.0.0:2000"
        );
    }

    #[test]
    fn a_reload_tells_what_it_applies_and_what_needs_a_restart() {
        let old = Config::default().with_class("a", 1).with_class("b", 2);
        let mut new = Config::default().with_class("a", 1).with_class("c", 3);
        new.admin = SocketAddr::from(([127, 0, 0, 1], 9));
        new.limits.max_connections = 5;
        new.limits.max_services_per_session = 5;
        let difference = old.difference(&new);
        assert_eq!(difference.applied, ["limits", "classes.c", "classes.b"]);
        assert_eq!(difference.needs_restart, ["admin", "limits.max_services_per_session"]);
        assert_eq!(old.difference(&old), Difference::default());
    }
}
