//! The pieces of work, each a command of `routerctl bench`, what of each is compared, and the bar.
//!
//! The amounts are such that a round takes about a second or less, so that the machine's weather changes
//! between rounds rather than between servers.

use super::Peer;
use super::bar::Condition::{self, Ahead, AtLeast, AtMost, Times, Within};
use crate::bench::figures::{CALLS_RATE, CPU, Figure, JOIN_RATE, LATENCY, MEMORY};

/// A piece of work.
#[derive(Debug)]
pub struct Piece {
    pub title: &'static str,
    /// The words behind `routerctl bench`.
    pub words: &'static str,
    /// The option for how much there is to do, and how much that is.
    pub amount: (&'static str, u64),
    pub measures: &'static [Measure],
}

/// What is compared.
#[derive(Debug)]
pub struct Measure {
    pub title: &'static str,
    pub title_zh: &'static str,
    pub figure: Figure,
    /// Any of these is enough.
    pub bar: &'static [Condition],
}

impl Piece {
    /// The words behind `routerctl bench`, with how much there is to do.
    pub fn command(&self, effort_percent: u32) -> String {
        let (option, amount) = self.amount;
        let amount = (amount * u64::from(effort_percent) / 100).max(1);
        format!("{} {option} {amount}", self.words)
    }
}

/// All of it.
pub const PROGRAMME: &[Piece] = &[
    Piece {
        title: "W1: one sender, one receiver, 64 bytes",
        words: "flood --senders 1 --receivers 1 --payload 64",
        amount: ("--messages", 5_000_000),
        measures: &[Measure {
            title: "W1: 1 sender, 1 receiver, 64 B; CPU ns per message",
            title_zh: "W1:1 发 1 收,64 字节;每条消息的 CPU 纳秒",
            figure: CPU,
            bar: &[Times(Peer::NatsServer, 8.0), AtMost(30.0)],
        }],
    },
    Piece {
        title: "W2: four senders, four receivers in turns, 64 bytes",
        words: "flood --senders 4 --receivers 4 --payload 64",
        amount: ("--messages", 5_000_000),
        measures: &[Measure {
            title: "W2: 4 senders, 4 receivers in turns, 64 B; CPU ns per message",
            title_zh: "W2:4 发 4 收,轮流发,64 字节;每条消息的 CPU 纳秒",
            figure: CPU,
            bar: &[Times(Peer::NatsServer, 8.0), AtMost(32.0)],
        }],
    },
    Piece {
        title: "W1 with 1 KiB",
        words: "flood --senders 1 --receivers 1 --payload 1024",
        amount: ("--messages", 1_000_000),
        measures: &[Measure {
            title: "W1 with 1 KiB; CPU ns per message",
            title_zh: "W1,1 KiB;每条消息的 CPU 纳秒",
            figure: CPU,
            bar: &[Within(Peer::Relay, 1.1)],
        }],
    },
    Piece {
        title: "W2 with 1 KiB",
        words: "flood --senders 4 --receivers 4 --payload 1024",
        amount: ("--messages", 1_000_000),
        measures: &[Measure {
            title: "W2 with 1 KiB; CPU ns per message",
            title_zh: "W2,1 KiB;每条消息的 CPU 纳秒",
            figure: CPU,
            bar: &[Within(Peer::Relay, 1.2)],
        }],
    },
    Piece {
        title: "W4: one sender, broadcast to 32, 64 bytes",
        words: "broadcast --senders 1 --receivers 32 --payload 64 --window 4194304",
        amount: ("--messages", 600_000),
        measures: &[Measure {
            title: "W4: broadcast to 32, 64 B; CPU ns per copy",
            title_zh: "W4:广播给 32 个,64 字节;每份拷贝的 CPU 纳秒",
            figure: CPU,
            bar: &[Times(Peer::RedisServer, 7.0), AtMost(16.0)],
        }],
    },
    Piece {
        title: "W3t: request and reply, 8 clients with 8 calls open, 64 bytes",
        words: "request --clients 8 --answerers 8 --outstanding 8 --payload 64",
        amount: ("--messages", 300_000),
        measures: &[Measure {
            title: "W3t: request and reply, 8 clients x 8 open; calls per second",
            title_zh: "W3t:请求与应答,8 个客户端各 8 个在途;每秒调用数",
            figure: CALLS_RATE,
            bar: &[Ahead(Peer::RedisServer, 1.2)],
        }],
    },
    Piece {
        title: "Ping-pong: one call at a time, 64 bytes",
        words: "ping-pong --payload 64",
        amount: ("--messages", 20_000),
        measures: &[Measure {
            title: "Ping-pong: one call at a time; p50 us",
            title_zh: "乒乓:一次一个调用;p50 微秒",
            figure: LATENCY[0],
            bar: &[Within(Peer::Relay, 1.1)],
        }],
    },
    Piece {
        title: "Connections that register, and stay",
        words: "idle --hold 1",
        amount: ("--connections", 10_000),
        measures: &[
            Measure {
                title: "Registration; connections per second",
                title_zh: "注册;每秒连接数",
                figure: JOIN_RATE,
                bar: &[AtLeast(40_000.0)],
            },
            Measure {
                title: "Idle registered connection; resident bytes",
                title_zh: "空闲的已注册连接;常驻内存字节",
                figure: MEMORY,
                bar: &[AtMost(1_100.0)],
            },
        ],
    },
];
