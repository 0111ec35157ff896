//! What players do, as streams of messages. A stream is everything that one game server sends by one
//! method; its messages are numbered from 1, so that a missing or doubled one is found.

use serde::{Deserialize, Serialize};

/// A method that game servers call, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stream {
    /// A player's state goes to the shard of the player's id.
    Save,
    /// A player's state is read from there.
    Load,
    /// A statistic that any shard can answer.
    Query,
    /// A letter goes to the mail server of the user's name.
    Mail,
    /// A push note goes to the mail server with the least to do.
    Notify,
    /// A player asks the master of the match servers for a match.
    JoinMatch,
    /// A player asks it how long that will take.
    FindMatch,
    /// A player talks to one on another game server.
    Chat,
    /// News for everybody, on every other game server.
    Announce,
}

/// Whether an answer is expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// It is not, but the router tells if it can't deliver.
    OneWay,
    /// It is.
    Call,
}

/// What every message carries: who finds out what became of it reads this.
///
/// Times are the system clock's microseconds since 1970. All processes are on one machine, so they
/// read the same clock; if it is set while the cluster runs, one-way latencies are wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(u64, u64, u64)", into = "(u64, u64, u64)")]
pub struct Stamp {
    /// Its number in its stream, from 1.
    pub number: u64,
    /// Its place among all one-way messages of its sender, from 1; 0 for calls.
    pub order: u64,
    /// When it was sent.
    pub sent: u64,
}

impl Stream {
    /// All of them, in the order of the table.
    pub const ALL: [Self; 9] = [
        Self::Save,
        Self::Load,
        Self::Query,
        Self::Mail,
        Self::Notify,
        Self::JoinMatch,
        Self::FindMatch,
        Self::Chat,
        Self::Announce,
    ];

    /// The method.
    pub const fn method(self) -> &'static str {
        match self {
            Self::Save => "save",
            Self::Load => "load",
            Self::Query => "query",
            Self::Mail => "mail",
            Self::Notify => "notify",
            Self::JoinMatch => "join_match",
            Self::FindMatch => "find_match",
            Self::Chat => "chat",
            Self::Announce => "announce",
        }
    }

    /// The class that it goes to.
    pub const fn class(self) -> &'static str {
        match self {
            Self::Save | Self::Load | Self::Query => "dbagent",
            Self::Mail | Self::Notify => "mailsvr",
            Self::JoinMatch | Self::FindMatch => MATCHSVR,
            Self::Chat | Self::Announce => "gamesvr",
        }
    }

    /// How its target is picked, in the router's word for it.
    pub const fn mode(self) -> &'static str {
        match self {
            Self::Save | Self::Load | Self::Mail => "hash",
            Self::Query => "random",
            Self::Notify => "least_loaded",
            Self::JoinMatch | Self::FindMatch => "master",
            Self::Chat => "direct",
            Self::Announce => "broadcast",
        }
    }

    /// Whether an answer is expected.
    pub const fn manner(self) -> Manner {
        match self {
            Self::Load | Self::Query | Self::FindMatch => Manner::Call,
            _ => Manner::OneWay,
        }
    }

    /// Whether a call may be sent again until its deadline. An instance runs it once all the same.
    pub const fn idempotent(self) -> bool {
        matches!(self, Self::Query | Self::FindMatch)
    }

    /// How many instances get a copy of each message.
    pub const fn copies(self) -> u64 {
        match self {
            Self::Announce => GAMESVRS as u64 - 1,
            _ => 1,
        }
    }

    /// How many of [`DECK`] messages of a player are of this stream.
    const fn share(self) -> u64 {
        match self {
            Self::Save => 50,
            Self::Load | Self::Query => 10,
            Self::Mail | Self::Chat => 20,
            Self::Notify => 15,
            Self::JoinMatch => 30,
            Self::FindMatch => 24,
            Self::Announce => 1,
        }
    }

    /// The stream of a player's message: every player does everything, in shares that repeat.
    pub fn of_turn(turn: u64) -> Self {
        // A step without a common divisor visits every place of the deck, well mixed.
        let mut place = turn.wrapping_mul(STEP) % DECK;
        for stream in Self::ALL {
            match place.checked_sub(stream.share()) {
                Some(rest) => place = rest,
                None => return stream,
            }
        }
        Self::Save
    }

    /// The one-way stream that goes to a class by a mode, which is all that a report says.
    pub fn reported_as(class: &str, mode: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|stream| {
            stream.manner() == Manner::OneWay && stream.class() == class && stream.mode() == mode
        })
    }
}

impl From<(u64, u64, u64)> for Stamp {
    fn from((number, order, sent): (u64, u64, u64)) -> Self {
        Self { number, order, sent }
    }
}

impl From<Stamp> for (u64, u64, u64) {
    fn from(stamp: Stamp) -> Self {
        (stamp.number, stamp.order, stamp.sent)
    }
}

/// The class whose master is killed.
pub const MATCHSVR: &str = "matchsvr";
/// How many game servers there are.
pub const GAMESVRS: u32 = 2;
/// How many messages the shares are parts of.
const DECK: u64 = 180;
const STEP: u64 = 77;

/// Now, in microseconds since 1970.
pub fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deck_has_each_stream_by_its_share() {
        let mut dealt = std::collections::BTreeMap::new();
        for turn in 0..DECK {
            *dealt.entry(Stream::of_turn(turn)).or_insert(0) += 1;
        }
        for stream in Stream::ALL {
            assert_eq!(dealt.get(&stream), Some(&stream.share()), "{stream:?}");
        }
    }

    #[test]
    fn a_report_leads_to_one_stream() {
        for stream in Stream::ALL {
            if stream.manner() == Manner::OneWay {
                assert_eq!(Stream::reported_as(stream.class(), stream.mode()), Some(stream));
            }
        }
    }
}
