//! What a frame is. Kinds 1 to 6 carry data and name the [`Mode`] by which the router picks targets.

use std::fmt;
use std::str::FromStr;

/// How a frame picks its targets among the instances of a class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Mode {
    /// The one id in the target field.
    Direct = 1,
    /// The master of the class.
    Master = 2,
    /// The instance that the key in the frame leads to.
    Hash = 3,
    /// Any instance, in proportion to the weights.
    Random = 4,
    /// Every instance of the class.
    Broadcast = 5,
    /// The instance that reports the least load.
    LeastLoaded = 6,
}

/// The kind byte of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Data from a node to other nodes; 1 to 6.
    Data(Mode),
    /// Between a node and its router; 16. The body is a [`crate::Control`].
    Control,
    /// From the router: what became of a frame; 17. The body is a [`crate::Report`].
    Report,
    /// Between routers; 18. A node never sees one.
    Relay,
}

impl Mode {
    /// All modes, in the order of their numbers.
    pub const ALL: [Self; 6] =
        [Self::Direct, Self::Master, Self::Hash, Self::Random, Self::Broadcast, Self::LeastLoaded];

    /// The word for it in metrics, logs and configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Master => "master",
            Self::Hash => "hash",
            Self::Random => "random",
            Self::Broadcast => "broadcast",
            Self::LeastLoaded => "least_loaded",
        }
    }
}

impl Kind {
    /// The kind with this byte, if there is one.
    #[must_use]
    pub const fn from_raw(raw: u8) -> Option<Self> {
        Some(match raw {
            1 => Self::Data(Mode::Direct),
            2 => Self::Data(Mode::Master),
            3 => Self::Data(Mode::Hash),
            4 => Self::Data(Mode::Random),
            5 => Self::Data(Mode::Broadcast),
            6 => Self::Data(Mode::LeastLoaded),
            16 => Self::Control,
            17 => Self::Report,
            18 => Self::Relay,
            _ => return None,
        })
    }

    /// Its byte.
    #[must_use]
    pub const fn raw(self) -> u8 {
        match self {
            Self::Data(mode) => mode as u8,
            Self::Control => 16,
            Self::Report => 17,
            Self::Relay => 18,
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A word that is not a mode.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a mode: it is one of direct, master, hash, random, broadcast and least_loaded"
)]
pub struct UnknownMode(String);

impl FromStr for Mode {
    type Err = UnknownMode;

    fn from_str(text: &str) -> Result<Self, UnknownMode> {
        Self::ALL
            .into_iter()
            .find(|mode| mode.name() == text)
            .ok_or_else(|| UnknownMode(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_one_kind_or_none() {
        let known: Vec<u8> = (0..=u8::MAX).filter(|raw| Kind::from_raw(*raw).is_some()).collect();
        assert_eq!(known, [1, 2, 3, 4, 5, 6, 16, 17, 18]);
        for raw in known {
            assert_eq!(Kind::from_raw(raw).unwrap().raw(), raw);
        }
    }

    #[test]
    fn a_mode_reads_as_its_name() {
        for mode in Mode::ALL {
            assert_eq!(mode.name().parse(), Ok(mode));
        }
        assert!("primary".parse::<Mode>().unwrap_err().to_string().contains("one of direct"));
    }
}
