//! Who may come in: the tokens that the configuration lists, and what a session that showed one may register.
//!
//! A session shows its token once, in Hello; the registry asks its [`Pass`] for every service, and no frame asks
//! anything. What a token's secret says is nobody's business but [`crate::secret`]'s.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_yaml::Value;
use switchboard_protocol::{Class, RefusalCode};

use crate::config::{Config, ConfigError, wrong};
use crate::policy::Policies;
use crate::registry::Refusal;
use crate::secret::Secret;

/// A token in the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Token {
    /// What people call it, in logs and refusals.
    pub name: String,
    #[serde(flatten)]
    secret: Secret,
    /// The classes, by name or number, that a node with it may register; absent: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub register: Option<Vec<String>>,
}

/// The tokens that are in force.
#[derive(Debug, Default)]
pub(crate) struct Tokens(Vec<(Secret, Pass)>);

/// What a session may register. By default everything: where no token is asked for, all are welcome.
#[derive(Debug, Clone, Default)]
pub struct Pass(Option<Arc<Grant>>);

/// What a token allows.
#[derive(Debug)]
struct Grant {
    token: String,
    classes: Option<BTreeSet<Class>>,
}

impl Token {
    /// A token for every class.
    #[must_use]
    pub fn new(name: &str, secret: &str) -> Self {
        Self { name: name.to_owned(), secret: Secret::new(secret), register: None }
    }

    /// The same, for these classes only.
    #[must_use]
    pub fn only(self, classes: &[&str]) -> Self {
        Self { register: Some(classes.iter().map(|class| (*class).to_owned()).collect()), ..self }
    }

    /// Reads an entry of the list. What is wrong with it is told without what stands there, which may be a
    /// secret in the wrong place.
    fn read(at: usize, entry: Value) -> Result<Self, String> {
        let key = format!("tokens[{at}]");
        let Value::Mapping(mut fields) = entry else {
            return Err(format!("{key}: is not a token: write {FORM}"));
        };
        let name = fields.shift_remove("name").ok_or_else(|| {
            format!("{key}: missing field `name`: a token has one, for logs; write {FORM}")
        })?;
        let name = text(&name).ok_or_else(|| format!("{key}.name: is not a text"))?;
        let key = format!("tokens.{name}");
        let register = fields.shift_remove("register").map(|classes| {
            read_classes(&classes).ok_or_else(|| {
                format!(
                    "{key}.register: is not a list of classes by name or number: write [gamesvr, 7]"
                )
            })
        });
        let secret = Secret::read(&key, fields, &FIELDS)?;
        Ok(Self { name, secret, register: register.transpose()? })
    }

    /// Checks what reading alone does not.
    fn validate(&self, config: &Config) -> Result<(), ConfigError> {
        let key = format!("tokens.{}", self.name);
        if self.name.is_empty() || self.name.contains(char::is_control) {
            return wrong("tokens", format!("`{}`", self.name.escape_debug()), "is not a name");
        }
        self.secret.validate(&key, LEAST_BYTES)?;
        for name in self.register.iter().flatten() {
            if class(config, name).is_none() {
                let rule = "is no class: take a name from `classes`, or a number, 1 to 255";
                return wrong(&format!("{key}.register"), format!("`{name}`"), rule);
            }
        }
        Ok(())
    }
}

/// Reads the list. By hand, because serde repeats what it did not expect, and that may be a secret.
pub(crate) fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Token>, D::Error> {
    let Value::Sequence(entries) = Value::deserialize(from)? else {
        let text = format!("tokens: is not a list: under it, write - {FORM}, or write [] for none");
        return Err(D::Error::custom(text));
    };
    let tokens = entries.into_iter().enumerate();
    tokens.map(|(at, entry)| Token::read(at, entry).map_err(D::Error::custom)).collect()
}

/// Checks the list as a whole, and each of it.
pub(crate) fn validate(config: &Config) -> Result<(), ConfigError> {
    for (at, token) in config.tokens.iter().enumerate() {
        token.validate(config)?;
        let earlier = &config.tokens[..at];
        if earlier.iter().any(|other| other.name == token.name) {
            return wrong("tokens", format!("`{}`", token.name), "is the name of two tokens");
        }
        // Nobody could say which of the two was meant.
        if let Some(other) =
            earlier.iter().find(|other| other.secret.says_the_same_as(&token.secret))
        {
            let rule = "has the same secret: each token has one of its own";
            return wrong(&format!("tokens.{}", token.name), format!("`{}`", other.name), rule);
        }
    }
    Ok(())
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

fn read_classes(classes: &Value) -> Option<Vec<String>> {
    let class = |class: &Value| text(class).or_else(|| class.as_u64().map(|raw| raw.to_string()));
    classes.as_sequence()?.iter().map(class).collect()
}

/// A class by its name, or by its number. Names begin with a letter.
fn class(config: &Config, name: &str) -> Option<Class> {
    let named = config.classes.get(name).map(|class| class.id);
    Class::new(named.or_else(|| name.parse().ok())?).ok()
}

impl Tokens {
    /// The tokens of a configuration that has been checked.
    pub(crate) fn of(config: &Config) -> Self {
        let pass = |token: &Token| {
            let of_classes =
                |names: &Vec<String>| names.iter().filter_map(|name| class(config, name)).collect();
            let classes = token.register.as_ref().map(of_classes);
            let grant = Grant { token: token.name.clone(), classes };
            (token.secret.clone(), Pass(Some(Arc::new(grant))))
        };
        Self(config.tokens.iter().map(pass).collect())
    }

    /// What somebody may do who shows this token, or none, which is the empty text.
    pub(crate) fn admit(&self, shown: &str) -> Result<Pass, Refusal> {
        if self.0.is_empty() {
            return Ok(Pass::default());
        }
        let mut found = None;
        // No early end: how long it takes does not tell which of them it was.
        for (secret, pass) in &self.0 {
            if secret.is(shown) {
                found = Some(pass.clone());
            }
        }
        found.ok_or_else(|| {
            let text = match shown {
                "" => "a token is required: give the node one with `token`",
                _ => "the token is not one that this router knows",
            };
            Refusal::new(RefusalCode::Unauthorized, text)
        })
    }
}

impl Pass {
    /// The token's name, if one was asked for.
    pub(crate) fn token(&self) -> Option<&str> {
        self.0.as_ref().map(|grant| grant.token.as_str())
    }

    /// Whether it is for a class, and why not.
    pub(crate) fn check(&self, class: Class, policies: &Policies) -> Result<(), Refusal> {
        let Some(Grant { token, classes: Some(classes) }) = self.0.as_deref() else {
            return Ok(());
        };
        if classes.contains(&class) {
            return Ok(());
        }
        let allowed: Vec<String> = classes.iter().map(|class| policies.name(*class)).collect();
        let allowed = if allowed.is_empty() { "none".to_owned() } else { allowed.join(", ") };
        let class = policies.name(class);
        let text = format!("token `{token}` may not register class {class}; it is for {allowed}");
        Err(Refusal::new(RefusalCode::NotAllowed, text))
    }
}

/// What is shorter can be guessed.
const LEAST_BYTES: usize = 8;
const FIELDS: [&str; 5] = ["name", "env", "file", "value", "register"];
const FORM: &str = "{name: games, env: GAMES_TOKEN}";

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "s3cret-of-the-games";

    fn parse_error(tokens: &str) -> String {
        let error = Config::parse(&format!("tokens: {tokens}\n")).unwrap_err().to_string();
        assert!(!error.contains("s3cret"), "{error}");
        error
    }

    fn value_error(yaml: &str) -> String {
        let error = Config::parse(yaml).unwrap().validate().unwrap_err().to_string();
        assert!(!error.contains("s3cret"), "{error}");
        error
    }

    fn config() -> Config {
        let config = Config::default().with_class("gamesvr", 1).with_class("matchsvr", 5);
        let only = Token::new("games", SECRET).only(&["gamesvr", "7"]);
        let config = config.with_token(only).with_token(Token::new("all", "another-secret"));
        config.validate().unwrap();
        config
    }

    #[test]
    fn the_list_is_read_with_names_sources_and_classes() {
        let yaml = "
            classes: {gamesvr: {id: 1}, matchsvr: {id: 5}}
            tokens:
            - name: games
              value: s3cret-of-the-games
              register: [gamesvr, 7]
            - {name: all, value: another-secret}
        ";
        let read = Config::parse(yaml).unwrap();
        read.validate().unwrap();
        assert_eq!(read.tokens, config().tokens);
        assert_eq!(Config::parse("tokens: []").unwrap(), Config::default());
    }

    #[test]
    fn what_is_not_a_list_of_tokens_says_so_without_what_it_is() {
        let list = "tokens: is not a list: under it, write - {name: games, env: GAMES_TOKEN}, or write [] \
                    for none";
        for not_a_list in ["s3cret-of-the-games", "", "{games: s3cret-of-the-games}"] {
            assert_eq!(parse_error(not_a_list), list);
        }
        let token = "tokens[0]: is not a token: write {name: games, env: GAMES_TOKEN}";
        assert_eq!(parse_error("[s3cret-of-the-games]"), token);
        let cases = [
            (
                "[{value: s3cret-1}]",
                "tokens[0]: missing field `name`: a token has one, for logs; write {name: games, env: \
                 GAMES_TOKEN}",
            ),
            ("[{name: [s3cret], value: s3cret-1}]", "tokens[0].name: is not a text"),
            ("[{name: a}]", "tokens.a: has no secret: give one of `env`, `file` and `value`"),
            (
                "[{name: a, env: A, value: s3cret-1}]",
                "tokens.a: `env` and `value` are two secrets: give one of `env`, `file` and `value`",
            ),
            (
                "[{name: a, value: s3cret-1, regster: [1]}]",
                "tokens.a: unknown field `regster`, expected one of `name`, `env`, `file`, `value`, \
                 `register`",
            ),
            ("[{name: a, value: [s3cret-1]}]", "tokens.a.value: is not a text: put it in quotes"),
            (
                "[{name: a, value: s3cret-1, register: gamesvr}]",
                "tokens.a.register: is not a list of classes by name or number: write [gamesvr, 7]",
            ),
            (
                "[{name: a, env: NO_SUCH_VARIABLE}]",
                "tokens.a.env: `NO_SUCH_VARIABLE` is not set in the router's environment: set it to the \
                 secret",
            ),
            (
                "[{name: a, env: s3cret-1}]",
                "tokens.a.env: is not the name of a variable: it has letters, digits and _",
            ),
            (
                "[{name: a, file: /no/such/file}]",
                "tokens.a.file: `/no/such/file`: No such file or directory (os error 2)",
            ),
        ];
        for (tokens, expected) in cases {
            assert_eq!(parse_error(tokens), expected, "{tokens}");
        }
        // A number would be repeated by serde.
        assert_eq!(
            Config::parse("tokens: [{name: a, value: 123456789}]").unwrap_err().to_string(),
            "tokens.a.value: is not a text: put it in quotes"
        );
    }

    #[test]
    fn a_token_that_cannot_be_meant_says_what_would_be_right() {
        let cases = [
            (
                "tokens: [{name: a, value: s3cret}]",
                "tokens.a.value: it holds 6 bytes, and a secret has 8 to 1024",
            ),
            (
                "tokens: [{name: a, file: /dev/null}]",
                "tokens.a.file: `/dev/null` holds 0 bytes, and a secret has 8 to 1024",
            ),
            ("tokens: [{name: '', value: s3cret-1}]", "tokens: `` is not a name"),
            (
                "tokens: [{name: a, value: s3cret-1}, {name: a, value: s3cret-2}]",
                "tokens: `a` is the name of two tokens",
            ),
            (
                "tokens: [{name: a, value: s3cret-1}, {name: b, value: s3cret-1}]",
                "tokens.b: `a` has the same secret: each token has one of its own",
            ),
            (
                "tokens: [{name: a, value: s3cret-1, register: [gamsvr]}]",
                "tokens.a.register: `gamsvr` is no class: take a name from `classes`, or a number, 1 to 255",
            ),
            (
                "tokens: [{name: a, value: s3cret-1, register: [256]}]",
                "tokens.a.register: `256` is no class: take a name from `classes`, or a number, 1 to 255",
            ),
        ];
        for (yaml, expected) in cases {
            assert_eq!(value_error(yaml), expected);
        }
        let long = format!("tokens: [{{name: a, value: '{}'}}]", "s3cret".repeat(200));
        let expected = "tokens.a.value: it holds over 1024 bytes, and a secret has 8 to 1024";
        assert_eq!(value_error(&long), expected);
        // A file without an end is read no further than that.
        let expected =
            "tokens.a.file: `/dev/zero` holds over 1024 bytes, and a secret has 8 to 1024";
        assert_eq!(value_error("tokens: [{name: a, file: /dev/zero}]"), expected);
    }

    #[test]
    fn who_shows_a_token_may_do_what_it_is_for() {
        let config = config();
        let (tokens, policies) = (Tokens::of(&config), config.policies());
        let games = tokens.admit(SECRET).unwrap();
        assert_eq!(games.token(), Some("games"));
        assert_eq!(games.check(Class::of(1), &policies), Ok(()));
        assert_eq!(games.check(Class::of(7), &policies), Ok(()));
        let refusal = games.check(Class::of(5), &policies).unwrap_err();
        assert_eq!(refusal.code, RefusalCode::NotAllowed);
        let text = "token `games` may not register class matchsvr; it is for gamesvr, 7";
        assert_eq!(refusal.text, text);
        let all = tokens.admit("another-secret").unwrap();
        assert_eq!((all.token(), all.check(Class::of(5), &policies)), (Some("all"), Ok(())));
        let none = Config::default().with_token(Token::new("none", SECRET).only(&[]));
        let none = Tokens::of(&none).admit(SECRET).unwrap();
        let text = "token `none` may not register class matchsvr; it is for none";
        assert_eq!(none.check(Class::of(5), &policies).unwrap_err().text, text);
    }

    #[test]
    fn no_token_and_a_wrong_one_are_refused_in_other_words() {
        let tokens = Tokens::of(&config());
        let refused = |shown: &str| {
            let refusal = tokens.admit(shown).unwrap_err();
            assert_eq!(refusal.code, RefusalCode::Unauthorized);
            refusal.text
        };
        assert_eq!(refused(""), "a token is required: give the node one with `token`");
        let long = format!("{SECRET}!");
        for wrong in ["s", &SECRET[1..], &SECRET[..SECRET.len() - 1], &long, "S3cret-of-the-games"]
        {
            assert_eq!(refused(wrong), "the token is not one that this router knows");
        }
    }

    #[test]
    fn a_router_without_tokens_lets_everybody_in() {
        let tokens = Tokens::of(&Config::default());
        for shown in ["", SECRET] {
            let pass = tokens.admit(shown).unwrap();
            assert_eq!(pass.token(), None);
            assert_eq!(pass.check(Class::of(5), &Policies::default()), Ok(()));
        }
    }

    #[test]
    fn a_secret_is_neither_printed_nor_written() {
        let config = config();
        let printed = format!("{config:?} {:?}", Tokens::of(&config));
        assert!(printed.contains("hidden") && printed.contains("games"), "{printed}");
        assert!(!printed.contains("s3cret") && !printed.contains("another"), "{printed}");
        let written = serde_yaml::to_string(&config.tokens).unwrap();
        let expected = "- name: games\n  value: hidden\n  register:\n  - gamesvr\n  - '7'\n\
                        - name: all\n  value: hidden\n";
        assert_eq!(written, expected);
    }

    #[test]
    fn another_secret_or_other_classes_are_a_difference() {
        let one = config();
        let mut secret = one.clone();
        secret.tokens[1].secret = Secret::new("a-third-secret");
        let mut classes = one.clone();
        classes.tokens[1].register = Some(vec!["7".to_owned()]);
        for new in [secret, classes] {
            assert_eq!(one.difference(&new).applied, ["tokens"]);
        }
        assert!(one.difference(&config()).applied.is_empty());
    }
}
