//! The text protocol of nats-server: a receiver subscribes to a subject of its own.

use anyhow::{Result, bail};

use super::{Dialect, Encoded, Found, Message, SPANS, Span, To, Who};
use crate::failure::Failure;

/// The wire of nats-server.
pub struct Nats;

impl Dialect for Nats {
    fn hello(&self, who: Who, out: &mut Vec<u8>) {
        out.extend_from_slice(b"CONNECT {\"verbose\":false,\"pedantic\":false}\r\n");
        let lines = match who {
            Who::Sender(number) => format!("SUB answers.{number} 1\r\n"),
            Who::Receiver(number) => format!("SUB to.{number} 1\r\nSUB all 2\r\n"),
            Who::Member(number) => format!("SUB member.{number} 1\r\n"),
        };
        out.extend_from_slice(lines.as_bytes());
        self.ping(out);
    }

    fn encode(&self, from: Who, to: To, length: usize, out: &mut Vec<u8>) -> Result<Encoded> {
        let line = match (to, from) {
            (To::One(receiver), _) => format!("PUB to.{receiver} {length}\r\n"),
            (To::Ask(receiver), Who::Sender(number)) => {
                format!("PUB to.{receiver} answers.{number} {length}\r\n")
            }
            (To::Ask(_), _) => bail!("only senders ask"),
            (To::All, _) => format!("PUB all {length}\r\n"),
            (To::Key(_) | To::Master, _) => {
                let what = "nats-server knows no keys and no masters";
                return Err(Failure::Usage(what.to_owned()).into());
            }
        };
        out.extend_from_slice(line.as_bytes());
        let payload = out.len();
        out.resize(payload + length, 0);
        out.extend_from_slice(b"\r\n");
        Ok(Encoded { payload, call_id: None, end: out.len() })
    }

    fn answer(&self, from: Who, message: Message<'_>, out: &mut Vec<u8>) -> Result<(), Failure> {
        // MSG to.0 1 answers.3 64
        let mut words = message.whole.split(|byte| byte.is_ascii_whitespace());
        let (subject, length) = (words.nth(3).unwrap_or_default(), words.next());
        let length = length.filter(|length| !length.is_empty() && subject.starts_with(b"answers."));
        let Some(length) = length else {
            return Err(Failure::Check(format!("{from} got a message that asks for no answer")));
        };
        for part in [b"PUB ", subject, b" ", length, b"\r\n", message.payload, b"\r\n"] {
            out.extend_from_slice(part);
        }
        Ok(())
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
                let (payload, end) = (at + payload, at + payload + length);
                found.messages.push(Span { start: at, payload, end });
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

#[cfg(test)]
mod tests {
    use super::*;

    const HEARD: &[u8] = b"INFO {\"x\":1} \r\nPONG\r\nMSG to.0 1 answers.3 5\r\nab\ncd\r\nPING\r\nMSG all 2 2\r\nhi\r\n";

    #[test]
    fn whatever_pieces_it_comes_in_the_same_messages_are_found() {
        for cut in 0..=HEARD.len() {
            let mut found = Found::default();
            let mut payloads = Vec::new();
            let mut at = 0;
            for end in [cut, HEARD.len()] {
                let bytes = &HEARD[at..end];
                at += Nats.scan(bytes, &mut found).expect("it can be read");
                let spans = std::mem::take(&mut found.messages);
                payloads.extend(spans.iter().map(|span| span.of(bytes).payload.to_vec()));
            }
            assert_eq!(at, HEARD.len(), "cut at {cut}");
            assert_eq!(payloads, [&b"ab\ncd"[..], b"hi"], "cut at {cut}");
            assert_eq!((found.answers, &*found.say), (1, &b"PONG\r\n"[..]), "cut at {cut}");
        }
    }

    #[test]
    fn an_answer_goes_where_the_message_says() {
        let mut found = Found::default();
        Nats.scan(HEARD, &mut found).expect("it can be read");
        let mut out = Vec::new();
        let who = Who::Receiver(0);
        Nats.answer(who, found.messages[0].of(HEARD), &mut out).expect("it asks");
        assert_eq!(out, b"PUB answers.3 5\r\nab\ncd\r\n");
        let nobody = Nats.answer(who, found.messages[1].of(HEARD), &mut out);
        let said = nobody.expect_err("it does not ask").to_string();
        assert_eq!(said, "receiver 0 got a message that asks for no answer");
    }

    #[test]
    fn what_the_server_complains_of_is_an_error() {
        let error = Nats.scan(b"-ERR 'Slow Consumer'\r\n", &mut Found::default());
        let said = error.expect_err("a complaint").to_string();
        assert_eq!(said, "nats-server says \"-ERR 'Slow Consumer'\"");
    }
}
