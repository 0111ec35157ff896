//! The text protocol of nats-server: a receiver subscribes to a subject of its own.

use anyhow::Result;

use super::{Dialect, Encoded, Found, SPANS, Span, To, Who};
use crate::failure::Failure;

/// The wire of nats-server.
pub struct Nats;

impl Dialect for Nats {
    fn hello(&self, who: Who, out: &mut Vec<u8>) {
        out.extend_from_slice(b"CONNECT {\"verbose\":false,\"pedantic\":false}\r\n");
        if let Who::Receiver(number) = who {
            out.extend_from_slice(format!("SUB to.{number} 1\r\n").as_bytes());
        }
        self.ping(out);
    }

    fn encode(&self, _from: Who, to: To, length: usize, out: &mut Vec<u8>) -> Result<Encoded> {
        let To::One(receiver) = to;
        out.extend_from_slice(format!("PUB to.{receiver} {length}\r\n").as_bytes());
        let payload = out.len();
        out.resize(payload + length, 0);
        out.extend_from_slice(b"\r\n");
        Ok(Encoded { payload, end: out.len() })
    }

    fn ping(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"PING\r\n");
    }

    fn scan(&self, bytes: &[u8], found: &mut Found) -> Result<usize> {
        let mut at = 0;
        while found.messages.len() < SPANS {
            let rest = &bytes[at..];
            let Some(line_end) = rest.iter().position(|byte| *byte == b'\n') else { break };
            let line = rest[..line_end].trim_ascii_end();
            let payload = line_end + 1;
            if line.starts_with(b"MSG ") {
                let length = length(line)?;
                let next = payload + length + 2;
                if rest.len() < next {
                    break;
                }
                found.messages.push(Span { payload: at + payload, end: at + payload + length });
                at += next;
                continue;
            }
            match line {
                b"PONG" => found.answers += 1,
                b"PING" => found.say.extend_from_slice(b"PONG\r\n"),
                _ if line.starts_with(b"INFO ") => {}
                _ => return Err(unexpected(line)),
            }
            at += payload;
        }
        Ok(at)
    }
}

/// How long the payload is, by the last word of the line before it.
fn length(line: &[u8]) -> Result<usize> {
    let mut length = 0;
    for byte in line.rsplit(|byte| *byte == b' ').next().unwrap_or_default() {
        match byte {
            b'0'..=b'9' => length = length * 10 + usize::from(byte - b'0'),
            _ => return Err(unexpected(line)),
        }
    }
    Ok(length)
}

fn unexpected(line: &[u8]) -> anyhow::Error {
    Failure::Check(format!("nats-server says {:?}", String::from_utf8_lossy(line))).into()
}
