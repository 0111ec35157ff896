//! The page at `/`: one document that shows what this server tells, and asks for nothing from anywhere else.
//! It lies beside this file, and is served as it is. What is in it is no secret; the token it asks for itself.

use std::sync::LazyLock;

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, ETAG, HeaderMap, HeaderName, HeaderValue,
    IF_NONE_MATCH, REFERRER_POLICY, X_FRAME_OPTIONS,
};
use sha2::{Digest, Sha256};

use super::answer::{Answered, whole};
use super::base64;
use super::query::Query;

/// What goes with the page.
struct Headers {
    etag: String,
    all: Vec<(HeaderName, HeaderValue)>,
}

/// The page, or word that the browser's copy of it is the same.
pub(super) fn show(query: &str, asked: &HeaderMap) -> Answered {
    Query::read(query, &[])?;
    let Headers { etag, all } = &*HEADERS;
    let known = asked.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    // A proxy that packs the page calls its mark weak.
    let known =
        known.flat_map(|value| value.split(',')).map(|mark| mark.trim().trim_start_matches("W/"));
    let is_known = known.into_iter().any(|mark| mark == etag || mark == "*");
    let (status, body) =
        if is_known { (StatusCode::NOT_MODIFIED, "") } else { (StatusCode::OK, DOCUMENT) };
    let mut answer = whole(status, "text/html; charset=utf-8", Bytes::from_static(body.as_bytes()));
    for (name, value) in all {
        answer.headers_mut().insert(name.clone(), value.clone());
    }
    Ok(answer)
}

/// The page's own script and style are let in by what they hash to, and nothing else is.
fn policy() -> String {
    let hash = |tag: &str| format!("'sha256-{}'", base64::encode(&Sha256::digest(inside(tag))));
    let (script, style) = (hash("script"), hash("style"));
    format!(
        "default-src 'none'; script-src {script}; style-src {style}; connect-src 'self'; img-src data:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
         require-trusted-types-for 'script'; trusted-types 'none'"
    )
}

/// What stands between the first pair of these tags.
fn inside(tag: &str) -> &'static str {
    let (open, close) = (format!("<{tag}>"), format!("</{tag}>"));
    let rest = DOCUMENT.split_once(&open).map_or("", |(_, rest)| rest);
    rest.split_once(&close).map_or("", |(inside, _)| inside)
}

static HEADERS: LazyLock<Headers> = LazyLock::new(|| {
    let etag = format!("\"{}\"", &base64::encode(&Sha256::digest(DOCUMENT))[..22]);
    let texts = [
        (ETAG, etag.clone()),
        (CONTENT_SECURITY_POLICY, policy()),
        // It may be kept, and is asked for each time.
        (CACHE_CONTROL, "no-cache".to_owned()),
        (REFERRER_POLICY, "no-referrer".to_owned()),
        (X_FRAME_OPTIONS, "DENY".to_owned()),
    ];
    let all = texts.into_iter().filter_map(|(name, text)| Some((name, text.try_into().ok()?)));
    Headers { etag, all: all.collect() }
});

const DOCUMENT: &str = include_str!("page.html");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_one_script_and_one_style_and_the_policy_names_them() {
        for tag in ["script", "style"] {
            assert_eq!(DOCUMENT.matches(&format!("<{tag}")).count(), 1, "{tag}");
            assert!(inside(tag).len() > 1_000, "{tag}");
        }
        assert!(HEADERS.all.iter().any(|(name, _)| *name == CONTENT_SECURITY_POLICY));
        assert_eq!(policy().matches("'sha256-").count(), 2);
    }

    #[test]
    fn no_text_can_become_markup_and_nothing_comes_from_elsewhere() {
        let words = [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "Function(",
            "srcdoc",
            " src=",
            "@import",
            "url(",
            " style=",
            " onclick=",
            " onload=",
        ];
        for word in words {
            assert!(!DOCUMENT.contains(word), "{word}");
        }
        // The one address in it is the name of SVG.
        let addresses = DOCUMENT
            .split("http")
            .skip(1)
            .filter(|rest| rest.starts_with("s:") || rest.starts_with(':'));
        for rest in addresses {
            assert!(rest.starts_with("://www.w3.org/2000/svg"), "{}", &rest[..40.min(rest.len())]);
        }
    }

    #[test]
    fn every_text_is_there_in_both_languages() {
        let (_, table) = DOCUMENT.split_once("const TEXTS = {\n").unwrap();
        let (table, script) = table.split_once("\n};").unwrap();
        let mut keys = Vec::new();
        for line in table.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let (key, texts) = line.split_once(": ['").expect(line);
            let texts: Vec<_> = texts.strip_suffix("'],").expect(line).split("', '").collect();
            assert!(texts.len() == 2 && texts.iter().all(|text| !text.is_empty()), "{line}");
            assert!(!keys.contains(&key), "{key} is there twice");
            keys.push(key);
        }
        let mut used = 0;
        for mark in ["(t('", " t('", "[t('", "title: '", "empty: '", "data-t=\""] {
            for rest in script.split(mark).skip(1).chain(DOCUMENT.split(mark).skip(1)) {
                let key = rest.split(['\'', '"']).next().unwrap();
                // Some are put together, such as `unit_` and a unit.
                let known = keys
                    .iter()
                    .any(|known| *known == key || key.ends_with('_') && known.starts_with(key));
                assert!(known, "there is no text `{key}`");
                used += 1;
            }
        }
        assert!(used > keys.len(), "{used} uses of {} texts", keys.len());
    }
}
