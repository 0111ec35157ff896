//! Redis pub/sub: a receiver subscribes to a channel of its own, and a call names in front of its payload
//! the channel that waits for the answer.
//!
//! RESP3, in which a connection may subscribe and publish; replies to PUBLISH are turned off, which spares
//! the server writing them.

use std::ops::Range;

use anyhow::{Result, bail};

use super::{Dialect, Encoded, Found, Message, SPANS, Span, To, Who};
use crate::failure::Failure;

/// The wire of redis-server.
pub struct Redis;

impl Dialect for Redis {
    fn hello(&self, who: Who, out: &mut Vec<u8>) {
        // Of the reply only an error would be of interest, and then no push comes.
        command(&[b"CLIENT", b"REPLY", b"SKIP"], out);
        command(&[b"HELLO", b"3"], out);
        let channels = match who {
            Who::Sender(number) => vec![format!("answers.{number}")],
            Who::Receiver(number) => {
                vec![format!("to.{number}"), format!("ask.{number}"), "all".to_owned()]
            }
            Who::Member(number) => vec![format!("member.{number}")],
        };
        for channel in channels {
            command(&[b"SUBSCRIBE", channel.as_bytes()], out);
        }
        command(&[b"PING"], out);
        command(&[b"CLIENT", b"REPLY", b"OFF"], out);
    }

    fn encode(&self, from: Who, to: To, length: usize, out: &mut Vec<u8>) -> Result<Encoded> {
        let (channel, answer_to) = match (to, from) {
            (To::One(receiver), _) => (format!("to.{receiver}"), String::new()),
            (To::Ask(receiver), Who::Sender(number)) => {
                (format!("ask.{receiver}"), format!("answers.{number} "))
            }
            (To::Ask(_), _) => bail!("only senders ask"),
            (To::All, _) => ("all".to_owned(), String::new()),
            (To::Key(_) | To::Master, _) => {
                let what = "redis-server knows no keys and no masters";
                return Err(Failure::Usage(what.to_owned()).into());
            }
        };
        publish(channel.as_bytes(), answer_to.len() + length, out);
        out.extend_from_slice(answer_to.as_bytes());
        let payload = out.len();
        out.resize(payload + length, 0);
        out.extend_from_slice(b"\r\n");
        Ok(Encoded { payload, call_id: None, end: out.len() })
    }

    fn answer(&self, from: Who, message: Message<'_>, out: &mut Vec<u8>) -> Result<(), Failure> {
        // $75\r\nanswers.3 <payload>
        let head = &message.whole[..message.whole.len() - message.payload.len()];
        let channel = head.strip_suffix(b" ").and_then(|head| head.rsplit(|b| *b == b'\n').next());
        let Some(channel) = channel.filter(|channel| channel.starts_with(b"answers.")) else {
            return Err(Failure::Check(format!("{from} got a message that asks for no answer")));
        };
        publish(channel, message.payload.len(), out);
        out.extend_from_slice(message.payload);
        out.extend_from_slice(b"\r\n");
        Ok(())
    }

    fn ping(&self, out: &mut Vec<u8>) {
        command(&[b"CLIENT", b"REPLY", b"ON"], out);
        command(&[b"PING"], out);
        command(&[b"CLIENT", b"REPLY", b"OFF"], out);
    }

    fn scan(&self, bytes: &[u8], found: &mut Found) -> Result<usize> {
        let mut at = 0;
        while found.messages.len() < SPANS {
            let rest = &bytes[at..];
            if let Some(push) = rest.strip_prefix(MESSAGE) {
                let Some((asks, payload)) = message(push)? else { break };
                let (start, end) =
                    (at + MESSAGE.len() + payload.start, at + MESSAGE.len() + payload.end);
                let payload = if asks { start + inbox(&bytes[start..end])? } else { start };
                found.messages.push(Span { start: at, payload, end });
                at = end + 2;
                continue;
            }
            // It may be one that has not come as far as that.
            if MESSAGE.starts_with(rest) {
                break;
            }
            let Some(used) = other(rest, found)? else { break };
            at += used;
        }
        Ok(at)
    }
}

/// Whether a push whose first word was read asks for an answer, and where its payload is; nothing if it is
/// not whole.
#[inline]
fn message(push: &[u8]) -> Result<Option<(bool, Range<usize>)>> {
    let Some((channel, after)) = bulk(push)? else { return Ok(None) };
    let Some((payload, _)) = bulk(&push[after..])? else { return Ok(None) };
    let asks = push[channel].starts_with(b"ask.");
    Ok(Some((asks, after + payload.start..after + payload.end)))
}

/// Where the string is that begins here, and where what follows it.
#[inline]
fn bulk(bytes: &[u8]) -> Result<Option<(Range<usize>, usize)>> {
    let Some(line) = line(bytes) else { return Ok(None) };
    let Some(length) = line.strip_prefix(b"$").and_then(number) else {
        return Err(unexpected(line));
    };
    let start = line.len() + 2;
    let end = start + length;
    Ok((bytes.len() >= end + 2).then_some((start..end, end + 2)))
}

/// How long the channel for the answer is, with the space behind it.
fn inbox(payload: &[u8]) -> Result<usize> {
    let start = &payload[..payload.len().min(LONGEST_INBOX)];
    let space = start.iter().position(|byte| *byte == b' ');
    space.map(|space| space + 1).ok_or_else(|| unexpected(start))
}

/// What is no message: how long it is, if it is whole.
fn other(bytes: &[u8], found: &mut Found) -> Result<Option<usize>> {
    let Some(head) = line(bytes) else { return Ok(None) };
    let after = head.len() + 2;
    match head {
        b"+PONG" => found.answers += 1,
        b"+OK" => {}
        // >3, $9, subscribe, the channel, and how many there are now.
        b">3" => {
            let Some((word, next)) = bulk(&bytes[after..])? else { return Ok(None) };
            let word = &bytes[after..][word];
            if word != b"subscribe" {
                return Err(unexpected(word));
            }
            let Some((_, end)) = bulk(&bytes[after + next..])? else { return Ok(None) };
            let count = after + next + end;
            return Ok(line(&bytes[count..]).map(|line| count + line.len() + 2));
        }
        _ => return Err(unexpected(head)),
    }
    Ok(Some(after))
}

/// The first line, without its end, if all of it is there.
#[inline]
fn line(bytes: &[u8]) -> Option<&[u8]> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    bytes[..end].strip_suffix(b"\r")
}

#[inline]
fn number(digits: &[u8]) -> Option<usize> {
    digits.iter().try_fold(0_usize, |number, digit| match digit {
        b'0'..=b'9' => Some(number * 10 + usize::from(digit - b'0')),
        _ => None,
    })
}

fn command(words: &[&[u8]], out: &mut Vec<u8>) {
    out.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
}

/// A PUBLISH up to its payload.
fn publish(channel: &[u8], length: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(b"*3\r\n$7\r\nPUBLISH\r\n$");
    digits(channel.len(), out);
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(channel);
    out.extend_from_slice(b"\r\n$");
    digits(length, out);
    out.extend_from_slice(b"\r\n");
}

fn digits(number: usize, out: &mut Vec<u8>) {
    if number > 9 {
        digits(number / 10, out);
    }
    out.push(b'0' + (number % 10) as u8);
}

fn unexpected(line: &[u8]) -> anyhow::Error {
    Failure::Check(format!("redis-server says {:?}", String::from_utf8_lossy(line))).into()
}

/// What every message begins with.
const MESSAGE: &[u8] = b">3\r\n$7\r\nmessage\r\n";
/// Longer than any of ours.
const LONGEST_INBOX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    const PUSHES: &[u8] = b">3\r\n$9\r\nsubscribe\r\n$4\r\nto.0\r\n:1\r\n+PONG\r\n\
        >3\r\n$7\r\nmessage\r\n$4\r\nto.0\r\n$3\r\none\r\n\
        >3\r\n$7\r\nmessage\r\n$5\r\nask.0\r\n$15\r\nanswers.12 a\r\nb\r\n+OK\r\n+PONG\r\n";

    fn scan(bytes: &[u8]) -> (usize, Vec<Vec<u8>>, usize) {
        let mut found = Found::default();
        let used = Redis.scan(bytes, &mut found).unwrap();
        let payloads = found.messages.iter().map(|span| span.of(bytes).payload.to_vec());
        (used, payloads.collect(), found.answers)
    }

    #[test]
    fn messages_are_found_wherever_the_bytes_are_cut() {
        let all = (PUSHES.len(), vec![b"one".to_vec(), b"a\r\nb".to_vec()], 2);
        assert_eq!(scan(PUSHES), all);
        for cut in 0..PUSHES.len() {
            let (used, mut payloads, answers) = scan(&PUSHES[..cut]);
            let (rest, more, again) = scan(&PUSHES[used..]);
            payloads.extend(more);
            assert_eq!((used + rest, payloads, answers + again), all, "cut at {cut}");
        }
    }

    #[test]
    fn a_call_is_answered_on_the_channel_before_its_payload() {
        let mut found = Found::default();
        Redis.scan(PUSHES, &mut found).unwrap();
        let mut out = Vec::new();
        Redis.answer(Who::Receiver(0), found.messages[1].of(PUSHES), &mut out).unwrap();
        let said = "*3\r\n$7\r\nPUBLISH\r\n$10\r\nanswers.12\r\n$4\r\na\r\nb\r\n";
        assert_eq!(String::from_utf8(out).unwrap(), said);
        let no_call = found.messages[0].of(PUSHES);
        let error = Redis.answer(Who::Receiver(0), no_call, &mut Vec::new()).unwrap_err();
        assert_eq!(error.to_string(), "receiver 0 got a message that asks for no answer");
    }

    #[test]
    fn an_error_of_the_server_ends_the_run() {
        let error = Redis.scan(b"-ERR no\r\n", &mut Found::default()).unwrap_err();
        assert_eq!(error.to_string(), "redis-server says \"-ERR no\"");
    }
}
