//! What a node counts, for Prometheus: one page over HTTP, whatever is asked for. A service that has an HTTP
//! server already adds the page there instead.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use prometheus::{Registry, TextEncoder};
use switchboard::Node;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// Answers scrapes from now on, on the port that it returns.
pub async fn export(node: &Node) -> anyhow::Result<SocketAddr> {
    let registry = Registry::new();
    node.register_metrics(&registry)?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let registry = registry.clone();
            tokio::spawn(async move {
                // Who asks badly, slowly, or not to the end has no answer.
                let _ = timeout(PATIENCE, answer(stream, &registry)).await;
            });
        }
    });
    Ok(address)
}

async fn answer(mut stream: TcpStream, registry: &Registry) -> anyhow::Result<()> {
    let (reader, mut writer) = stream.split();
    let mut lines = BufReader::new(reader.take(LONGEST_REQUEST)).lines();
    while lines.next_line().await?.is_some_and(|line| !line.is_empty()) {}
    let page = TextEncoder::new().encode_to_string(&registry.gather())?;
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: {}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        prometheus::TEXT_FORMAT,
        page.len(),
    );
    writer.write_all((head + &page).as_bytes()).await?;
    writer.shutdown().await?;
    Ok(())
}

/// How long a scrape may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How many bytes a request may have.
const LONGEST_REQUEST: u64 = 16 << 10;
