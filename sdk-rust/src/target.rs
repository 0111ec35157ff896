//! Whom a message is for: a word that says how to pick ([`Master`], [`Hash`](struct@Hash), ...) and what to pick
//! from ([`To`]). Turning names into numbers happens here, with the names that Welcome brought.

use switchboard_protocol::{Class, Header, Instance, Kind, Mode, ServiceId};

use crate::error::TargetError;
use crate::key::Key;

/// One instance, named exactly: `node.forward(Direct, "gamesvr.2", "kick", (player,))`.
///
/// ```
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let config = switchboard_router::Config::local().with_class("matchsvr", 5).with_class("gamesvr", 3);
/// # let router = switchboard_router::Router::start(config)?;
/// # let address = router.listen()[0].to_string();
/// # let node = switchboard::Node::builder("matchsvr.1").router(&address).connect().await?;
/// use switchboard::{Direct, ServiceId};
///
/// node.forward(Direct, "gamesvr.2", "kick", (4711,))?;
/// let id: ServiceId = "3.2".parse()?;
/// node.forward(Direct, id, "kick", (4711,))?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Direct;

/// The master of a class, of which there is one at a time.
///
/// ```
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let config = switchboard_router::Config::local().with_class("matchsvr", 5).with_class("gamesvr", 3);
/// # let router = switchboard_router::Router::start(config)?;
/// # let address = router.listen()[0].to_string();
/// # let node = switchboard::Node::builder("matchsvr.1").router(&address).connect().await?;
/// use switchboard::Master;
///
/// node.forward(Master, "matchsvr", "join_match", (4711, "ranked"))?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Master;

/// The instance that a key leads to: the same key reaches the same instance.
///
/// An integer is its own key, so that `key % slots` is the shard that a team already computes;
/// text and bytes are hashed with XXH64, seed 0. See [`Key`].
///
/// ```
/// use switchboard::{Hash, Key};
///
/// assert_eq!(Hash(7).0.key(), 7);
/// assert_eq!(Hash("").0.key(), 0xef46_db37_51d8_e999);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hash<K>(pub K);

/// Any instance, in proportion to the weights.
///
/// ```
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let config = switchboard_router::Config::local().with_class("matchsvr", 5).with_class("gamesvr", 3);
/// # let router = switchboard_router::Router::start(config)?;
/// # let address = router.listen()[0].to_string();
/// # let node = switchboard::Node::builder("matchsvr.1").router(&address).connect().await?;
/// use switchboard::Random;
///
/// node.forward(Random, "gamesvr", "log", ("anyone can do this",))?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Random;

/// Every instance of a class. For `forward`, since a call has one answer;
/// [`Node::collect`](crate::Node::collect) gathers the answers of all.
///
/// ```
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let config = switchboard_router::Config::local().with_class("matchsvr", 5).with_class("gamesvr", 3);
/// # let router = switchboard_router::Router::start(config)?;
/// # let address = router.listen()[0].to_string();
/// # let node = switchboard::Node::builder("matchsvr.1").router(&address).connect().await?;
/// use switchboard::Broadcast;
///
/// node.forward(Broadcast, "gamesvr", "closing", (30,))?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Broadcast;

/// The instance that reports the least load; see [`Node::set_load`](crate::Node::set_load).
///
/// ```
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let config = switchboard_router::Config::local().with_class("matchsvr", 5).with_class("gamesvr", 3);
/// # let router = switchboard_router::Router::start(config)?;
/// # let address = router.listen()[0].to_string();
/// # let node = switchboard::Node::builder("matchsvr.1").router(&address).connect().await?;
/// use switchboard::LeastLoaded;
///
/// node.set_load(17);
/// node.forward(LeastLoaded, "matchsvr", "open_room", (8,))?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeastLoaded;

/// A word for how to pick: [`Direct`], [`Master`], [`Hash`](struct@Hash), [`Random`], [`Broadcast`] and
/// [`LeastLoaded`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a way to pick a target",
    note = "write one of Direct, Master, Hash(key), Random, Broadcast and LeastLoaded"
)]
pub trait Pick: sealed::Pick {}

/// A word that picks one instance: any but [`Broadcast`].
///
/// ```compile_fail,E0277
/// fn count(node: &switchboard::Node) -> switchboard::Call<u32> {
///     node.call(switchboard::Broadcast, "gamesvr", "count", ())
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "a call has one answer, and `{Self}` does not pick one instance",
    note = "call with Direct, Master, Hash(key), Random or LeastLoaded; a Broadcast is forwarded"
)]
pub trait PickOne: Pick {}

/// What to pick from: a class (by [`Class`], number, or the name that the router knows), or for
/// [`Direct`] one instance (a [`ServiceId`], `"5.1"` or `"gamesvr.2"`).
///
/// ```
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let config = switchboard_router::Config::local().with_class("matchsvr", 5).with_class("gamesvr", 3);
/// # let router = switchboard_router::Router::start(config)?;
/// # let address = router.listen()[0].to_string();
/// # let node = switchboard::Node::builder("matchsvr.1").router(&address).connect().await?;
/// use switchboard::{Class, Random, To};
///
/// assert_eq!(To::from("gamesvr"), To::Name("gamesvr"));
/// for class in [To::from("gamesvr"), To::from("3"), To::from(3), To::from(Class::of(3))] {
///     node.forward(Random, class, "ping", ())?;
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum To<'a> {
    /// A class.
    Class(Class),
    /// A class by its number; 0 is refused when the message is sent.
    Number(u8),
    /// One instance.
    Id(ServiceId),
    /// Either of them by name.
    Name(&'a str),
}

/// A mode with its key, and the target field that goes with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) mode: Mode,
    pub(crate) key: u64,
    pub(crate) target: u32,
}

impl Route {
    pub(crate) fn find(
        pick: &impl Pick,
        to: To<'_>,
        names: impl Fn(&str) -> Option<Class>,
    ) -> Result<Self, TargetError> {
        let (mode, key) = pick.pick();
        let target = match mode {
            Mode::Direct => to.instance(names)?.raw(),
            _ => to.class(names)?.as_target(),
        };
        Ok(Self { mode, key, target })
    }

    /// The header of a message on this route, from the node's first id.
    pub(crate) fn header(self) -> Header {
        Header { key: self.key, ..Header::new(Kind::Data(self.mode), 0, self.target) }
    }
}

impl To<'_> {
    pub(crate) fn class(self, names: impl Fn(&str) -> Option<Class>) -> Result<Class, TargetError> {
        match self {
            Self::Class(class) => Ok(class),
            Self::Number(raw) => Ok(Class::new(raw)?),
            Self::Id(id) => Err(TargetError::NotAClass(id.to_string())),
            Self::Name(name) => match names(name) {
                Some(class) => Ok(class),
                None if name.contains('.') => Err(TargetError::NotAClass(name.to_owned())),
                None => Err(TargetError::UnknownClass(name.to_owned())),
            },
        }
    }

    fn instance(self, names: impl Fn(&str) -> Option<Class>) -> Result<ServiceId, TargetError> {
        match self {
            Self::Id(id) => Ok(id),
            Self::Class(class) => Err(TargetError::NotAnInstance(class.to_string())),
            Self::Number(raw) => Err(TargetError::NotAnInstance(raw.to_string())),
            Self::Name(text) => {
                let not_one = || TargetError::NotAnInstance(text.to_owned());
                let (class, instance) = text.rsplit_once('.').ok_or_else(not_one)?;
                let instance: u32 = instance.parse().map_err(|_| not_one())?;
                let class =
                    names(class).ok_or_else(|| TargetError::UnknownClass(class.to_owned()))?;
                Ok(ServiceId::new(class, Instance::new(instance)?))
            }
        }
    }
}

impl From<Class> for To<'_> {
    fn from(class: Class) -> Self {
        Self::Class(class)
    }
}

impl From<u8> for To<'_> {
    fn from(raw: u8) -> Self {
        Self::Number(raw)
    }
}

impl From<ServiceId> for To<'_> {
    fn from(id: ServiceId) -> Self {
        Self::Id(id)
    }
}

impl<'a> From<&'a str> for To<'a> {
    fn from(name: &'a str) -> Self {
        Self::Name(name)
    }
}

impl<'a> From<&'a String> for To<'a> {
    fn from(name: &'a String) -> Self {
        Self::Name(name)
    }
}

mod sealed {
    use switchboard_protocol::Mode;

    pub trait Pick {
        fn pick(&self) -> (Mode, u64);
    }
}

macro_rules! words {
    ($($word:ident),+) => {$(
        impl Pick for $word {}
        impl sealed::Pick for $word {
            fn pick(&self) -> (Mode, u64) {
                (Mode::$word, 0)
            }
        }
    )+};
}

words!(Direct, Master, Random, Broadcast, LeastLoaded);

impl<K: Key> Pick for Hash<K> {}
impl<K: Key> sealed::Pick for Hash<K> {
    fn pick(&self) -> (Mode, u64) {
        (Mode::Hash, self.0.key())
    }
}

impl PickOne for Direct {}
impl PickOne for Master {}
impl<K: Key> PickOne for Hash<K> {}
impl PickOne for Random {}
impl PickOne for LeastLoaded {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Identity;

    fn route<'a>(pick: impl Pick, to: impl Into<To<'a>>) -> Result<Route, TargetError> {
        let identity = Identity::with_names([("matchsvr", 5), ("gamesvr", 3)]);
        Route::find(&pick, to.into(), |name| identity.class(name))
    }

    #[test]
    fn a_class_is_found_by_itself_by_number_and_by_name() {
        let expected = Ok(Route { mode: Mode::Master, key: 0, target: 5 << 24 });
        assert_eq!(route(Master, Class::of(5)), expected);
        assert_eq!(route(Master, 5), expected);
        assert_eq!(route(Master, "matchsvr"), expected);
        assert_eq!(route(Master, "5"), expected);
    }

    #[test]
    fn an_instance_is_found_by_id_and_by_name() {
        let id: ServiceId = "3.2".parse().unwrap();
        let expected = Ok(Route { mode: Mode::Direct, key: 0, target: id.raw() });
        assert_eq!(route(Direct, id), expected);
        assert_eq!(route(Direct, "3.2"), expected);
        assert_eq!(route(Direct, "gamesvr.2"), expected);
    }

    #[test]
    fn a_word_that_does_not_go_with_its_target_says_so() {
        let text = |route: Result<Route, TargetError>| route.unwrap_err().to_string();
        assert_eq!(
            text(route(Direct, "matchsvr")),
            "`matchsvr` is not one instance: Direct takes an id such as 5.1 or matchsvr.1"
        );
        assert_eq!(
            text(route(Random, "matchsvr.1")),
            "`matchsvr.1` is one instance, not a class: to reach it, use Direct"
        );
        assert_eq!(text(route(Random, "chat")), "the router knows no class `chat`");
        assert_eq!(text(route(Direct, "chat.1")), "the router knows no class `chat`");
        assert_eq!(text(route(Random, 0)), "class 0 is out of range: a class is 1 to 255");
        assert_eq!(
            text(route(Direct, "matchsvr.0")),
            "instance 0 is out of range: an instance is 1 to 16777215"
        );
    }
}
