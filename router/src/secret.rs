//! A secret of the configuration: the file says where it is, never what it is. It is read with the file, so
//! a reload reads it anew, and it is shown to nobody.

use std::fmt;

use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

/// A text that somebody has to know.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Secret {
    source: String,
    value: String,
}

impl Secret {
    /// Whether somebody knows it. How long that takes tells its length at most.
    #[must_use]
    pub fn is(&self, shown: &str) -> bool {
        self.value.as_bytes().ct_eq(shown.as_bytes()).into()
    }
}

impl TryFrom<String> for Secret {
    type Error = String;

    fn try_from(source: String) -> Result<Self, String> {
        let read = if let Some(name) = source.strip_prefix("env:") {
            std::env::var(name)
                .map_err(|_| format!("{source}: there is no such variable, or it is not text"))
        } else if let Some(path) = source.strip_prefix("file:") {
            std::fs::read_to_string(path).map_err(|error| format!("{source}: {error}"))
        } else {
            Err("a secret does not stand in the configuration: write env:NAME or file:/path"
                .to_owned())
        };
        let value = read?.trim_end_matches(['\r', '\n']).to_owned();
        if value.len() < SHORTEST || !value.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(format!(
                "{source}: this is not a secret: it has {SHORTEST} characters or more, of ASCII, and no spaces"
            ));
        }
        Ok(Self { source, value })
    }
}

impl From<Secret> for String {
    fn from(secret: Secret) -> Self {
        secret.source
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({})", self.source)
    }
}

/// What is shorter can be guessed.
const SHORTEST: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_read_from_a_file_and_shown_to_nobody() {
        let path = std::env::temp_dir().join(format!("switchboard-secret-{}", std::process::id()));
        let source = format!("file:{}", path.display());
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            Secret::try_from(source.clone())
        };
        let secret = read("0123456789abcdef\n").unwrap();
        assert!(secret.is("0123456789abcdef"));
        assert!(!secret.is("0123456789abcdeF") && !secret.is("0123456789abcde") && !secret.is(""));
        assert_eq!(serde_json::to_value(&secret).unwrap(), source);
        assert!(!format!("{secret:?}").contains("0123456789abcdef"));
        assert_ne!(secret, read("fedcba9876543210").unwrap(), "a reload finds another one");
        for wrong in ["", "0123456789abcde", "0123456789 abcdef", "0123456789abcdé"] {
            assert!(read(wrong).unwrap_err().contains("16 characters or more"), "{wrong}");
        }
        std::fs::remove_file(&path).unwrap();
        assert!(Secret::try_from(source).unwrap_err().contains("No such file"));
        let plain = Secret::try_from("0123456789abcdef".to_owned()).unwrap_err();
        assert!(
            plain.contains("write env:NAME or file:/path") && !plain.contains("0123"),
            "{plain}"
        );
    }
}
