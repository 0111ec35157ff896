//! A router inside the script's own process, for luna's `listen`. Its threads are its own; scripts open and
//! close its ports, and decide which slots it keeps.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::path::Path;

use mlua::{Lua, Table, UserData, UserDataMethods, Value};
use switchboard::{Class, Instance, ServiceId};
use switchboard_router::{Address, Config, Router, StartError};

use crate::failure::{Failure, returned};

/// A router, until it is stopped.
struct House {
    router: Option<Router>,
    /// The first port, as it was bound.
    first: Address,
    config: Config,
}

/// Adds the natives of this room.
pub(super) fn add(lua: &Lua, natives: &Table) -> mlua::Result<()> {
    // (address, connections, file or nil) to a house.
    let host = |lua: &Lua, (address, most, file): (String, usize, Option<String>)| {
        returned(lua, House::start(&address, most, file.as_deref()))
    };
    natives.raw_set("host", lua.create_function(host)?)
}

impl House {
    fn start(address: &str, most: usize, file: Option<&str>) -> Result<Self, Failure> {
        let config = match file {
            Some(file) => Config::load(Path::new(file)).map_err(|error| failed(error.into()))?,
            None => Config { shards: 1, ..Config::local() },
        };
        let mut config = Config { listen: vec![bindable(address)?], ..config };
        // This process is one more.
        config.limits.max_connections = config.limits.max_connections.min(most.saturating_add(1));
        let router = Router::start(config.clone()).map_err(failed)?;
        let first = router.listen().first().cloned().ok_or_else(stopped)?;
        Ok(Self { router: Some(router), first, config })
    }

    fn router(&mut self) -> Result<&mut Router, Failure> {
        self.router.as_mut().ok_or_else(stopped)
    }

    fn open(&mut self, address: &str) -> Result<String, Failure> {
        let address = bindable(address)?;
        Ok(self.router()?.open_port(&address).map_err(failed)?.to_string())
    }

    /// Where this process itself connects.
    fn loopback(&self) -> String {
        match self.first {
            Address::Tcp(address) if address.ip().is_unspecified() => {
                let ip: IpAddr = match address {
                    SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
                    SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
                };
                SocketAddr::new(ip, address.port()).to_string()
            }
            ref address => address.to_string(),
        }
    }

    /// A service id: its number, `5.1`, or `matchsvr.1` where the file names the class.
    fn id(&self, value: &Value) -> Result<u32, Failure> {
        let wrong = |shown: &str| {
            let text = format!(
                "{shown} is not a service id: it is class << 24 | instance, neither of them 0, or a text \
                 such as \"5.1\""
            );
            Failure::usage(text)
        };
        let text = match value {
            Value::Integer(raw) => {
                let id = u32::try_from(*raw).ok().and_then(|raw| ServiceId::from_raw(raw).ok());
                return id.map(ServiceId::raw).ok_or_else(|| wrong(&raw.to_string()));
            }
            Value::String(text) => text.to_string_lossy(),
            other => return Err(wrong(&format!("a {}", other.type_name()))),
        };
        let (class, instance) = text.rsplit_once('.').ok_or_else(|| wrong(&text))?;
        let named = self.config.policies().class(class);
        let class = named.or_else(|| Class::new(class.parse().ok()?).ok());
        let instance = instance.parse().ok().and_then(|raw: u32| Instance::new(raw).ok());
        match (class, instance) {
            (Some(class), Some(instance)) => Ok(ServiceId::new(class, instance).raw()),
            _ => Err(wrong(&text)),
        }
    }
}

impl UserData for House {
    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        methods.add_method("address", |_, this, ()| Ok(this.first.to_string()));
        methods.add_method("loopback", |_, this, ()| Ok(this.loopback()));
        methods.add_method("id", |lua, this, value: Value| returned(lua, this.id(&value)));
        methods.add_method_mut("open", |lua, this, address: String| {
            returned(lua, this.open(&address))
        });
        methods.add_method_mut("close", |_, this, address: String| {
            let address = address.parse().ok();
            let closed = address.zip(this.router.as_mut());
            Ok(closed.is_some_and(|(address, router)| router.close_port(&address)))
        });
        methods.add_method("keep", |_, this, id: u32| Ok(this.slot(id, Router::keep_slot)));
        methods.add_method("forget", |_, this, id: u32| Ok(this.slot(id, Router::forget_slot)));
        methods.add_method_mut("stop", |_, this, ()| {
            drop(this.router.take());
            Ok(())
        });
    }
}

impl House {
    fn slot(&self, id: u32, change: fn(&Router, ServiceId)) -> bool {
        let found = self.router.as_ref().zip(ServiceId::from_raw(id).ok());
        found.inspect(|(router, id)| change(router, *id)).is_some()
    }
}

/// An address to bind. Names are looked up, as luna does.
fn bindable(text: &str) -> Result<Address, Failure> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let found = text.to_socket_addrs().ok().and_then(|mut found| found.next());
    found.map(Address::Tcp).ok_or_else(|| {
        Failure::new("bind", format!("`{text}` is not an address of this machine, or of any"))
    })
}

fn failed(error: StartError) -> Failure {
    let code = match error {
        StartError::Bind { .. } => "bind",
        StartError::Config(_) => "usage",
        StartError::Thread(_) => "error",
    };
    Failure::new(code, error.to_string())
}

fn stopped() -> Failure {
    Failure::new("closed", "the listener is closed")
}
