//! The part of a request behind the question mark, and the parts of its path: what is escaped in them, and
//! what is wrong with them.

use std::fmt::Display;
use std::str::FromStr;

use super::problem::Problem;

/// What a request was asked with.
#[derive(Debug, Default)]
pub(super) struct Query(Vec<(&'static str, String)>);

impl Query {
    /// Reads a query of which only these names are known.
    pub(super) fn read(text: &str, known: &[&'static str]) -> Result<Self, Problem> {
        let mut values: Vec<(&'static str, String)> = Vec::new();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            // In a query a plus is a space.
            let unescape_both = |text: &str| unescape(&text.replace('+', " "));
            let (name, value) = (unescape_both(name)?, unescape_both(value)?);
            let Some(name) = known.iter().find(|known| **known == name) else {
                return Err(unknown(&name, known));
            };
            if values.iter().any(|(other, _)| other == name) {
                return Err(Problem::bad_request(format!("`{name}` is given twice")));
            }
            values.push((name, value));
        }
        Ok(Self(values))
    }

    /// A value as it stands there.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, value)| &**value)
    }

    /// A value of any type.
    pub(super) fn value<T: FromStr>(&self, name: &str) -> Result<Option<T>, Problem>
    where
        T::Err: Display,
    {
        let Some(text) = self.text(name) else { return Ok(None) };
        let wrong = |why| Problem::bad_request(format!("{name}: `{text}`: {why}"));
        text.parse().map(Some).map_err(wrong)
    }

    /// How many rows a page has.
    pub(super) fn limit(&self, usual: usize, most: usize) -> Result<usize, Problem> {
        match self.value("limit")? {
            None => Ok(usual),
            Some(limit) if (1..=most).contains(&limit) => Ok(limit),
            Some(limit) => {
                Err(Problem::bad_request(format!("limit: {limit} is out of range: 1 to {most}")))
            }
        }
    }
}

fn unknown(name: &str, known: &[&str]) -> Problem {
    let what = if known.is_empty() { "nothing".to_owned() } else { known.join(", ") };
    Problem::bad_request(format!("unknown parameter `{name}`: this path takes {what}"))
}

/// What stands behind the escapes of a URL.
pub(super) fn unescape(text: &str) -> Result<String, Problem> {
    let wrong = |why: &str| Problem::bad_request(format!("`{text}`: {why}"));
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || char::from(rest.next()?).to_digit(16);
        let value = digit().zip(digit()).map(|(high, low)| high * 16 + low);
        let value = value.and_then(|value| u8::try_from(value).ok());
        bytes.push(value.ok_or_else(|| wrong("a % is followed by two hexadecimal digits"))?);
    }
    String::from_utf8(bytes).map_err(|_| wrong("this is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_undone_and_what_is_none_is_refused() {
        assert_eq!(unescape("a%2Fb%C3%A9+").unwrap(), "a/bé+");
        for wrong in ["%", "%2", "%zz", "%ff", "a%+1"] {
            assert!(unescape(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_query_is_read_by_its_names() {
        let query = Query::read("key=a%26b+c&limit=7&", &["key", "limit"]).unwrap();
        assert_eq!(query.text("key"), Some("a&b c"));
        assert_eq!(query.limit(100, 10).unwrap(), 7);
        assert!(query.limit(100, 6).is_err());
        assert!(Query::read("key=1&key=2", &["key"]).is_err());
        assert!(Query::read("kex=1", &["key"]).is_err());
        assert!(Query::read("limit=many", &["limit"]).unwrap().limit(1, 2).is_err());
    }
}
