//! The keys of [`Hash`](struct@crate::Hash): an integer is its own, text and bytes are hashed.

use switchboard_protocol::key;

/// What can be the key of [`Hash`](struct@crate::Hash): an integer is its own key (a negative one its two's complement
/// bits), text and bytes are hashed.
///
/// ```
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let config = switchboard_router::Config::local().with_class("matchsvr", 5).with_class("gamesvr", 3);
/// # let router = switchboard_router::Router::start(config)?;
/// # let address = router.listen()[0].to_string();
/// # let node = switchboard::Node::builder("matchsvr.1").router(&address).connect().await?;
/// use switchboard::{Hash, Key};
///
/// struct Guild {
///     name: String,
///     shard: u64,
/// }
///
/// impl Key for Guild {
///     fn key(&self) -> u64 {
///         self.shard
///     }
/// }
///
/// let guild = Guild { name: "night watch".to_owned(), shard: 3 };
/// node.forward(Hash(&guild), "gamesvr", "found_guild", (&guild.name,))?;
/// # Ok(())
/// # }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a key",
    note = "a key is an integer, a text or bytes"
)]
pub trait Key {
    /// The number that travels in the frame.
    fn key(&self) -> u64;
}

macro_rules! integer_keys {
    ($($integer:ty),+) => {$(
        impl Key for $integer {
            #[allow(clippy::cast_lossless, reason = "one cast for all integers")]
            fn key(&self) -> u64 {
                // Sign-extends what is signed and zero-extends what is not.
                key::of_integer(*self as i64)
            }
        }
    )+};
}

integer_keys!(u8, u16, u32, u64, usize, i8, i16, i32, i64, isize);

macro_rules! byte_keys {
    ($($bytes:ty),+) => {$(
        impl Key for $bytes {
            fn key(&self) -> u64 {
                key::of_bytes(self.as_ref())
            }
        }
    )+};
}

byte_keys!(str, String, [u8], Vec<u8>, bytes::Bytes);

impl<K: Key + ?Sized> Key for &K {
    fn key(&self) -> u64 {
        (**self).key()
    }
}

impl<const N: usize> Key for [u8; N] {
    fn key(&self) -> u64 {
        key::of_bytes(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_integer_is_its_own_key_and_text_is_hashed() {
        assert_eq!(7.key(), 7);
        assert_eq!(u64::MAX.key(), u64::MAX);
        assert_eq!((-1i8).key(), u64::MAX);
        assert_eq!(200u8.key(), 200);
        assert_eq!("guild".key(), b"guild".key());
        assert_eq!("guild".key(), String::from("guild").key());
    }
}
