//! Arguments and results that are MessagePack already: for programs that encode values of another
//! language themselves.

use bytes::Bytes;

use crate::args::{self, Args, Writer};
use crate::handlers::{Answer, HandlerError};

/// Arguments in MessagePack, one after the other.
///
/// ```
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let config = switchboard_router::Config::local().with_class("matchsvr", 5).with_class("gamesvr", 3);
/// # let router = switchboard_router::Router::start(config)?;
/// # let address = router.listen()[0].to_string();
/// # let node = Node::builder("matchsvr.1").router(&address).connect().await?;
/// use switchboard::{Caller, Encoded, Node, Random};
///
/// node.on("add", async |_: Caller, (a, b): (u32, u32)| Ok(a + b));
/// let two_and_three = Encoded { count: 2, bytes: [2, 3] };
/// assert_eq!(node.call::<u32>(Random, "matchsvr", "add", two_and_three).await?, 5);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Encoded<B> {
    /// How many they are. A wrong number makes a message that its receiver refuses.
    pub count: usize,
    /// Their bytes.
    pub bytes: B,
}

impl<B: AsRef<[u8]>> Encoded<B> {
    /// The payload of a reply with these results.
    pub(crate) fn into_reply(self) -> Answer {
        args::write_results(&self)
            .map(Bytes::from)
            .map_err(|why| HandlerError::new(HandlerError::ERROR, format!("results: {why}")))
    }
}

impl<B: AsRef<[u8]>> Args for Encoded<B> {
    fn write(&self, to: &mut Writer<'_>) -> Result<(), String> {
        to.raw(self.bytes.as_ref());
        Ok(())
    }

    fn count(&self) -> usize {
        self.count
    }
}
