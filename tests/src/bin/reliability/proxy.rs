//! A cable that can go dead: bytes pass between a node and a router until it is cut, and from then on
//! nothing does, without either end being told.

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// A listener whose connections lead to another address.
#[derive(Debug)]
pub struct Cable {
    address: String,
    whole: Arc<watch::Sender<bool>>,
}

impl Cable {
    /// Leads to `to`.
    pub async fn to(to: String) -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        let whole = Arc::new(watch::Sender::new(true));
        let state = Arc::clone(&whole);
        tokio::spawn(async move {
            while let Ok((node, _)) = listener.accept().await {
                let state = Arc::clone(&state);
                let to = to.clone();
                tokio::spawn(async move {
                    let mut whole = state.subscribe();
                    // Over a dead cable nobody is reached.
                    if whole.wait_for(|whole| *whole).await.is_err() {
                        return;
                    }
                    let Ok(router) = TcpStream::connect(to).await else { return };
                    let _ = (node.set_nodelay(true), router.set_nodelay(true));
                    let (node_in, node_out) = node.into_split();
                    let (router_in, router_out) = router.into_split();
                    tokio::select! {
                        () = pass(node_in, router_out, state.subscribe()) => {}
                        () = pass(router_in, node_out, state.subscribe()) => {}
                    }
                });
            }
        });
        Ok(Self { address, whole })
    }

    /// Where to connect.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Nothing passes from now on.
    pub fn cut(&self) {
        self.whole.send_replace(false);
    }

    /// New connections pass again, and what waited in the old ones.
    pub fn mend(&self) {
        self.whole.send_replace(true);
    }
}

async fn pass(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    mut whole: watch::Receiver<bool>,
) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let Ok(read) = from.read(&mut buffer).await else { return };
        // What is on the cable when it is cut does not arrive before it is mended.
        if whole.wait_for(|whole| *whole).await.is_err() || read == 0 {
            return;
        }
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
