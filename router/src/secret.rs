//! A secret of the configuration: where it stands, and what it says. It is read when the configuration is, so a
//! reload reads it anew; it is compared in constant time, and shown to nobody: not in logs, not in errors, not
//! where a configuration is printed. `admin_token` is one, and each of `tokens` has one.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_yaml::{Mapping, Value};
use subtle::ConstantTimeEq;

use crate::config::{ConfigError, wrong};

/// A text that somebody has to know.
#[derive(Clone, Eq)]
pub struct Secret {
    source: Source,
    text: Box<str>,
}

/// Where a secret stands.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Source {
    /// In a variable of the router's environment.
    Env(String),
    /// In a file of its own.
    File(PathBuf),
    /// In the configuration.
    Value,
}

impl Secret {
    /// One that stands in the configuration itself.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self { source: Source::Value, text: text.into() }
    }

    /// Reads `{env: NAME}`, `{file: /path}` or `{value: ...}`; of what may stand beside it, `known` has the names
    /// too. What is wrong with it is told without what stands there, which may be a secret in the wrong place.
    pub(crate) fn read(key: &str, fields: Mapping, known: &[&str]) -> Result<Self, String> {
        let mut names = fields.keys().map(|field| field.as_str().unwrap_or("?"));
        if let Some(field) = names.find(|field| !FIELDS.contains(field)) {
            let known: Vec<String> = known.iter().map(|field| format!("`{field}`")).collect();
            let known = known.join(", ");
            return Err(format!("{key}: unknown field `{field}`, expected one of {known}"));
        }
        let mut fields = fields.into_iter().filter_map(|(field, value)| {
            let field = field.as_str()?.to_owned();
            Some((field, value))
        });
        let one = "give one of `env`, `file` and `value`";
        let (field, value) = fields.next().ok_or_else(|| format!("{key}: has no secret: {one}"))?;
        if let Some((other, _)) = fields.next() {
            return Err(format!("{key}: `{field}` and `{other}` are two secrets: {one}"));
        }
        let key = format!("{key}.{field}");
        let Value::String(value) = value else {
            return Err(format!("{key}: is not a text: put it in quotes"));
        };
        let text = match field.as_str() {
            "env" => from_environment(&value),
            "file" => from_file(Path::new(&value)),
            _ => return Ok(Self::new(&value)),
        };
        let text = text.map_err(|why| format!("{key}: {why}"))?.into();
        let source = match field.as_str() {
            "env" => Source::Env(value),
            _ => Source::File(value.into()),
        };
        Ok(Self { source, text })
    }

    /// Checks that it is as long as it should be, and not longer than anything is that people mean.
    pub(crate) fn validate(&self, key: &str, least: usize) -> Result<(), ConfigError> {
        let bytes = self.text.len();
        if (least..=MOST_BYTES).contains(&bytes) {
            return Ok(());
        }
        let held =
            if bytes > MOST_BYTES { format!("over {MOST_BYTES}") } else { bytes.to_string() };
        self.wrong(key, format!("holds {held} bytes, and a secret has {least} to {MOST_BYTES}"))
    }

    /// Checks that it can stand in a header of HTTP.
    pub(crate) fn validate_for_header(&self, key: &str) -> Result<(), ConfigError> {
        if self.text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Ok(());
        }
        self.wrong(key, "holds something else than letters, digits and signs of ASCII".to_owned())
    }

    fn wrong(&self, key: &str, rule: String) -> Result<(), ConfigError> {
        let (field, place) = match &self.source {
            Source::Env(variable) => ("env", format!("`{variable}`")),
            Source::File(path) => ("file", format!("`{}`", path.display())),
            Source::Value => ("value", "it".to_owned()),
        };
        wrong(&format!("{key}.{field}"), place, rule)
    }

    /// Whether somebody knows it. How long that takes tells its length at most.
    #[must_use]
    pub fn is(&self, shown: &str) -> bool {
        self.text.as_bytes().ct_eq(shown.as_bytes()).into()
    }

    /// Whether who knows one knows the other, wherever they stand.
    pub(crate) fn says_the_same_as(&self, other: &Self) -> bool {
        self.is(&other.text)
    }
}

fn from_environment(variable: &str) -> Result<String, String> {
    if !variable.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return Err("is not the name of a variable: it has letters, digits and _".to_owned());
    }
    let secret = std::env::var_os(variable).ok_or_else(|| {
        format!("`{variable}` is not set in the router's environment: set it to the secret")
    })?;
    secret.into_string().map_err(|_| format!("`{variable}` does not hold text, UTF-8"))
}

fn from_file(path: &Path) -> Result<String, String> {
    let shown = path.display();
    let mut secret = String::new();
    let file = File::open(path).map_err(|error| format!("`{shown}`: {error}"))?;
    // As much as is needed to know that it is too much, with the end of a line.
    let most = MOST_BYTES as u64 + 3;
    file.take(most).read_to_string(&mut secret).map_err(|error| format!("`{shown}`: {error}"))?;
    let end = ["\r\n", "\n"].into_iter().find(|end| secret.ends_with(end)).unwrap_or_default();
    secret.truncate(secret.len() - end.len());
    Ok(secret)
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source && self.says_the_same_as(other)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}, {HIDDEN}", self.source)
    }
}

/// As it stands in the file, but for what it says.
impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(Some(1))?;
        match &self.source {
            Source::Env(variable) => map.serialize_entry("env", variable)?,
            Source::File(path) => map.serialize_entry("file", &path.to_string_lossy())?,
            Source::Value => map.serialize_entry("value", HIDDEN)?,
        }
        map.end()
    }
}

/// The fields of which a secret has one.
pub(crate) const FIELDS: [&str; 3] = ["env", "file", "value"];
/// In place of a secret. It is too short to be one, so a configuration that was written out and is read again
/// is refused, and lets nobody in who should not be.
const HIDDEN: &str = "hidden";
const MOST_BYTES: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(yaml: &str) -> Result<Secret, String> {
        Secret::read("key", serde_yaml::from_str(yaml).unwrap(), &FIELDS)
    }

    #[test]
    fn a_secret_is_read_from_its_place_and_shown_to_nobody() {
        let path = std::env::temp_dir().join(format!("switchboard-secret-{}", std::process::id()));
        let yaml = format!("file: {}", path.display());
        let in_file = |text: &str| {
            std::fs::write(&path, text).unwrap();
            read(&yaml).unwrap()
        };
        let secret = in_file("0123456789abcdef\n");
        assert!(secret.is("0123456789abcdef"));
        assert!(!secret.is("0123456789abcdeF") && !secret.is("0123456789abcde") && !secret.is(""));
        let written = serde_json::to_value(&secret).unwrap();
        assert_eq!(written, serde_json::json!({ "file": path.to_str() }));
        assert!(!format!("{secret:?}").contains("0123456789abcdef"));
        assert_ne!(secret, in_file("fedcba9876543210"), "a reload finds another one");
        let here = Secret::new("0123456789abcdef");
        assert!(here.says_the_same_as(&secret) && here != secret);
        assert_eq!(read("value: 0123456789abcdef").unwrap(), here);
        std::fs::remove_file(&path).unwrap();
        assert!(read(&yaml).unwrap_err().contains("No such file"));
    }

    #[test]
    fn what_is_written_in_place_of_a_secret_is_none() {
        let written = serde_yaml::to_string(&Secret::new("0123456789abcdef")).unwrap();
        assert_eq!(written, "value: hidden\n");
        let error = read(&written).unwrap().validate("key", 8).unwrap_err();
        assert_eq!(error.to_string(), "key.value: it holds 6 bytes, and a secret has 8 to 1024");
    }

    #[test]
    fn a_header_takes_no_spaces_and_only_ascii() {
        for wrong in ["0123456789 abcdef", "0123456789abcdé", "0123456789abcdef\t"] {
            assert!(Secret::new(wrong).validate_for_header("key").is_err(), "{wrong}");
        }
        Secret::new("0123456789abcdef+/=._~-").validate_for_header("key").unwrap();
    }
}
